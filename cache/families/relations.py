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


def _words(text: str, answers: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(text.split()), tuple(f" {word}" for word in answers.split())


_LANGUAGES = (
    Side("french", *_words("un deux trois quatre cinq six sept huit neuf dix")),
    Side("spanish", *_words("uno dos tres cuatro cinco seis siete ocho nueve diez")),
    Side("german", *_words("eins zwei drei vier fünf sechs sieben acht neun zehn")),
)
_TONGUES = "French Italian Spanish Japanese German Russian Chinese Arabic Greek Polish Swedish Portuguese"
_COLD = "small cold low short slow weak poor light narrow shallow empty thin"
_HOT = "big hot high long fast strong rich heavy wide deep full thick"
_KINDS = "bird insect fish gem tool flower fruit vegetable tree furniture clothing instrument"

RELATIONS = MappingProxyType(
    {
        relation.name: relation
        for relation in (
            Relation(
                "plural",
                (
                    Side(
                        "singular", *_words("boy girl book tree house horse door king road student teacher game", "is")
                    ),
                    Side(
                        "plural",
                        *_words(
                            "boys girls books trees houses horses doors kings roads students teachers games", "are"
                        ),
                    ),
                ),
                ("The {} near the window", "I think the {} on the left", "Everyone knows that the {} in the picture"),
            ),
            Relation(
                "gender",
                (
                    Side("male", *_words("king man boy father brother son uncle husband actor prince lord Tom", "he")),
                    Side(
                        "female",
                        *_words("queen woman girl mother sister daughter aunt wife actress princess lady Mary", "she"),
                    ),
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
                (
                    Side(
                        "country",
                        *_words(
                            "France Italy Spain Japan Germany Russia China Egypt Greece Poland Sweden Portugal",
                            _TONGUES,
                        ),
                    ),
                    Side(
                        "capital",
                        *_words(
                            "Paris Rome Madrid Tokyo Berlin Moscow Beijing Cairo Athens Warsaw Stockholm Lisbon",
                            _TONGUES,
                        ),
                    ),
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
                (
                    Side("plain", *_words("small large tall old strong fast cheap deep dark rich soft loud", "and")),
                    Side(
                        "comparative",
                        *_words(
                            "smaller larger taller older stronger faster cheaper deeper darker richer softer louder",
                            "than",
                        ),
                    ),
                ),
                ("This one is {}", "The first of them was {}", "Everyone says that it is {}"),
            ),
            Relation(
                "antonyms",
                (Side("word", *_words(_HOT, _COLD)), Side("opposite", *_words(_COLD, _HOT))),
                ("The opposite of {} is", "If it is not {}, it is", "Some of them are {} and others are"),
            ),
            Relation(
                "greater",
                (
                    Side(
                        "greater",
                        *_words(
                            "more bigger higher longer older heavier faster stronger wider richer harder brighter",
                            "than",
                        ),
                    ),
                    Side(
                        "less",
                        *_words(
                            "less smaller lower shorter younger lighter slower weaker closer poorer softer darker",
                            "than",
                        ),
                    ),
                ),
                ("The first one is {}", "This year it was {}", "Nothing here is {}"),
            ),
            Relation(
                "kinds",
                (
                    Side(
                        "thing",
                        *_words("eagle ant salmon diamond hammer rose apple carrot oak chair shirt piano", _KINDS),
                    ),
                    Side("kind", *_words(_KINDS)),
                ),
                ("The {} is a kind of", "They call the {} a sort of", "Like every {}, it is some"),
            ),
            Relation(
                "sizes",
                (
                    Side(
                        "animal",
                        *_words("ant bee mouse rat cat fox wolf bear elephant whale", f"{'small ' * 5}{'big ' * 5}"),
                    ),
                    Side(
                        "thing",
                        *_words("seed coin ring cup book chair table car bus castle", f"{'small ' * 5}{'big ' * 5}"),
                    ),
                ),
                ("Compared with a person, the {} is very", "To a child the {} looks so", "The {} over there is too"),
            ),
            Relation(
                "languages",
                (Side("english", *_words("one two three four five six seven eight nine ten")), *_LANGUAGES),
                ("They counted up to {}", "The word on the wall was {}", "Her number is {}"),
            ),
            Relation(
                "scripts",
                (
                    Side("western", tuple("123456789")),
                    Side("arabic", tuple("١٢٣٤٥٦٧٨٩")),
                    Side("devanagari", tuple("१२३४५६७८९")),
                    Side("chinese", tuple("一二三四五六七八九")),
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
