"""Relations: families of words that belong together pair by pair, in the texts that show them."""

import difflib
from dataclasses import dataclass
from types import MappingProxyType

from cache.errors import InputError

RELATION_PREFIX = "relation:"
"""How a relation is named in a data set: `relation:plural`."""


@dataclass(frozen=True)
class Side:
    """One of the families of a relation.

    Attributes:
        family: the label that prompts and tables carry.
        words: its members; the k-th belongs to the k-th of the other sides.
        answers: what the model is expected to go on with, one a word; empty where nothing is.
    """

    family: str
    words: tuple[str, ...]
    answers: tuple[str, ...] = ()

    def answer(self, k: int) -> str:
        """What follows the k-th word; one answer is that of all."""
        return self.answers[k % len(self.answers)] if self.answers else ""


@dataclass(frozen=True)
class Relation:
    """Families whose members belong together, and the texts in which all of them stand.

    Attributes:
        name: as in `relation:plural`, and the frame of its prompts.
        sides: the families.
        texts: each has one `{}`, the member's place.
    """

    name: str
    sides: tuple[Side, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(side.words) for side in self.sides}
        if len(counts) > 1 or any(len(set(side.words)) < len(side.words) for side in self.sides):
            raise InputError(f"the sides of relation {self.name!r} need as many words as each other, all different")
        if any(len(side.answers) not in (0, 1, *counts) for side in self.sides):
            raise InputError(f"a side of relation {self.name!r} needs no answer, one for all words, or one a word")
        if any(text.count("{}") != 1 for text in self.texts):
            raise InputError(f"every text of relation {self.name!r} needs one {{}}, where its member stands")

    def records(self) -> list[dict[str, str]]:
        """The prompts, as records of one's own: a text, a pair and a side each."""
        first = self.sides[0].words
        return [
            {
                "text": text.format(side.words[k]),
                "family": side.family,
                "member": side.words[k],
                "pair": f"{self.name} {word}",
                "answer": side.answer(k),
                "frame": self.name,
                "template": text,
            }
            for text in self.texts
            for k, word in enumerate(first)
            for side in self.sides
        ]


def _sides(families: str, rows: str, *answers: str) -> tuple[Side, ...]:
    """Families side by side, a pair a row; of each the answers, if any."""
    given = [tuple(f" {word}" for word in side.split()) for side in answers] or [()] * len(families.split())
    columns = zip(*(row.split() for row in rows.split(",")), strict=True)
    return tuple(Side(*side) for side in zip(families.split(), columns, given, strict=True))


_LANGUAGES = "French Italian Spanish Japanese German Russian Chinese Arabic Greek Polish Swedish Portuguese"
_SIZES = "small small small small small big big big big big"

RELATIONS = MappingProxyType(
    {
        relation.name: relation
        for relation in (
            Relation(
                "plural",
                _sides(
                    "singular plural",
                    "boy boys, girl girls, book books, tree trees, house houses, horse horses, door doors, king kings, "
                    "road roads, student students, teacher teachers, game games",
                    "is",
                    "are",
                ),
                ("The {} near the window", "I think the {} on the left", "Everyone knows that the {} in the picture"),
            ),
            Relation(
                "gender",
                _sides(
                    "male female",
                    "king queen, man woman, boy girl, father mother, brother sister, son daughter, uncle aunt, "
                    "husband wife, actor actress, prince princess, lord lady, dad mom",
                    "he",
                    "she",
                ),
                (
                    "The {} went home because",
                    "The {} is happy because",
                    "The {} was late because",
                    "The {} left the room because",
                ),
            ),
            Relation(
                "capitals",
                _sides(
                    "country capital",
                    "France Paris, Italy Rome, Spain Madrid, Japan Tokyo, Germany Berlin, Russia Moscow, "
                    "China Beijing, Egypt Cairo, Greece Athens, Poland Warsaw, Sweden Stockholm, Portugal Lisbon",
                    _LANGUAGES,
                    _LANGUAGES,
                ),
                (
                    "Most people in {} speak",
                    "Everyone who was born in {} speaks",
                    "The main language in {} is",
                    "The signs in {} are written in",
                ),
            ),
            Relation(
                "comparatives",
                _sides(
                    "plain comparative",
                    "small smaller, large larger, tall taller, old older, strong stronger, fast faster, cheap cheaper, "
                    "deep deeper, dark darker, rich richer, soft softer, loud louder",
                    "and",
                    "than",
                ),
                ("This one is {}", "The first of them was {}", "Everyone says that it is {}"),
            ),
            Relation(
                "antonyms",
                _sides(
                    "word opposite",
                    "big small, hot cold, high low, long short, fast slow, strong weak, rich poor, heavy light, "
                    "wide narrow, deep shallow, full empty, thick thin",
                    "small cold low short slow weak poor light narrow shallow empty thin",
                    "big hot high long fast strong rich heavy wide deep full thick",
                ),
                ("The opposite of {} is", "If it is not {}, it is", "Some of them are {} and others are"),
            ),
            Relation(
                "greater",
                _sides(
                    "greater less",
                    "more less, bigger smaller, higher lower, longer shorter, older younger, heavier lighter, "
                    "faster slower, stronger weaker, hotter colder, richer poorer, harder softer, brighter darker",
                    "than",
                    "than",
                ),
                ("The first one is {}", "This year it was {}", "Nothing here is {}"),
            ),
            Relation(
                "kinds",
                _sides(
                    "thing kind",
                    "eagle bird, ant insect, salmon fish, diamond gem, hammer tool, rose flower, apple fruit, "
                    "carrot vegetable, oak tree, chair furniture, shirt clothing, piano instrument",
                    "bird insect fish gem tool flower fruit vegetable tree furniture clothing instrument",
                    "",
                ),
                ("The {} is a kind of", "They call the {} a sort of", "Like every {}, it is some"),
            ),
            Relation(
                "sizes",
                _sides(
                    "animal thing",
                    "ant seed, bee coin, mouse ring, rat cup, cat book, fox chair, wolf table, bear car, elephant bus, "
                    "whale castle",
                    _SIZES,
                    _SIZES,
                ),
                ("Compared with a person, the {} is very", "To a child the {} looks so", "The {} over there is too"),
            ),
            Relation(
                "languages",
                _sides(
                    "english french spanish german",
                    "one un uno eins, two deux dos zwei, three trois tres drei, four quatre cuatro vier, "
                    "five cinq cinco fünf, six six seis sechs, seven sept siete sieben, eight huit ocho acht, "
                    "nine neuf nueve neun, ten dix diez zehn",
                ),
                ("They counted up to {}", "The word on the wall was {}", "Her number is {}"),
            ),
            Relation(
                "scripts",
                _sides(
                    "western arabic devanagari chinese",
                    "1 ١ १ 一, 2 ٢ २ 二, 3 ٣ ३ 三, 4 ٤ ४ 四, 5 ٥ ५ 五, 6 ٦ ६ 六, 7 ٧ ७ 七, 8 ٨ ८ 八, 9 ٩ ९ 九",  # noqa: RUF001
                ),
                ('The sign says "{}', "Her number is ({}", "The list begins:\n{}"),
            ),
        )
    }
)
"""The relations that can be asked for by name.

Words are one token after a space in GPT-2's and SmolLM2's vocabularies, but for number words of other languages than
English and digits of other scripts than ours, which are several in both.
"""


def parse_relation(name: str) -> Relation:
    """The relation that a data set names, as in `relation:plural`.

    Raises:
        InputError: there is no such relation; the message suggests the nearest.

    Example:
        >>> parse_relation("relation:plural").records()[1]["text"]
        'The boys near the window'
    """
    known = name.removeprefix(RELATION_PREFIX)
    if known not in RELATIONS:
        near = difflib.get_close_matches(known, RELATIONS, n=2) or RELATIONS
        raise InputError(
            f"no relation {known!r}; known are {', '.join(near)}, and a file with a column pair holds one of your own"
        )
    return RELATIONS[known]
