"""Sequence prompts: which members are shown in which order, and what would continue them."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.families.family import Family
from cache.prompts.frames import FRAMES, Frame
from cache.prompts.prompt import Prompt, Prompts
from cache.prompts.rules import Drawn, Rule, expand_kinds, increasing, order_number, rule_of
from cache.repeatable import check_seed

MOST_TEMPLATES = 10_000
_ATTEMPTS = 50


@dataclass(frozen=True)
class SequenceDesign:
    """Which sequences to show: every combination of the fields, or a seeded sample of them.

    Attributes:
        families: the families to draw members from.
        frames: names of frames (`FRAMES`). Those without names and objects have one template.
        kinds: rules of the sequence: `increasing`, `decreasing`, `step:K` (constant difference K),
            `repeated` (one member again and again), `copy` (each member twice; the answer repeats the last
            one shown), `wrap` (over the end of a cyclic family), `mixed` (two families in turn),
            `reordered:K` (in the K-th seeded order of the ordinals that all families have: what precedes,
            cyclically, the member that the increasing window ends at; the answer is what follows there;
            `reordered:0-19` names twenty). Without a rule,
            labelled with the answer of the increasing sequence over the same window: `permuted` (its members in
            another order, another one last), `shuffled-same-last` (the same one last), `random` (distinct
            members; the last one shown is not the answer's predecessor).
        lengths: how many members are shown.
        starts: ordinals of the window's first member; None for all that fit.
        templates: how many draws of names and objects. Template t uses the same words, in the same order, for
            every family, kind and start, so that it is a factor crossed with the members.
        sample: keep that many pair keys, drawn with the seed, the same ones in all families; None keeps all.
        seed: seeds words, orders and the sample.

    Example:
        >>> from cache.families.family import FAMILIES
        >>> design = SequenceDesign((FAMILIES["numwords"],), frames=("list",), lengths=(3,), starts=(1,))
        >>> [prompt.text for prompt in load_dataset("numwords,months", design)]
        ['one,two,three,', 'January,February,March,']
    """

    families: tuple[Family, ...]
    frames: tuple[str, ...] = ("quote", "list")
    kinds: tuple[str, ...] = ("increasing",)
    lengths: tuple[int, ...] = (4,)
    starts: tuple[int, ...] | None = None
    templates: int = 4
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("families", "frames", "kinds", "lengths"):
            if not getattr(self, name):
                raise InputError(f"{name} must name at least one; got none")
        check_seed(self.seed)
        unknown = [frame for frame in self.frames if frame not in FRAMES]
        if unknown:
            raise InputError(f"no frame {unknown[0]!r}; known are {', '.join(FRAMES)}")
        for kind in expand_kinds(self.kinds):
            if kind != "mixed":
                rule_of(kind, self.seed)
        longest = min(len(FRAMES[f].words) for f in self.frames) if all(FRAMES[f].words for f in self.frames) else 50
        if min(self.lengths) < 1 or max(self.lengths) >= longest:
            raise InputError(f"lengths must be 1 to {longest - 1} members; got {self.lengths}")
        for name, number in (("templates", self.templates), ("sample", self.sample)):
            if number is not None and number < 1:
                raise InputError(f"{name} must be 1 or more; got {number}")
        if self.templates > MOST_TEMPLATES:
            raise InputError(f"templates must be {MOST_TEMPLATES:,} or fewer; got {self.templates:,}")


def make_prompts(design: SequenceDesign) -> Prompts:
    """The prompts of a design: by kind, then family, frame, length, start and template.

    Raises:
        InputError: no window of that kind and length fits any of the families.
    """
    pool = _common(design.families)
    prompts = [
        prompt
        for kind in expand_kinds(design.kinds)
        for families in _castings(kind, design.families)
        for prompt in _casting_prompts(design, kind, families, pool)
    ]
    if not prompts:
        names = ", ".join(family.name for family in design.families)
        raise InputError(
            f"no window of length {design.lengths} and kind {', '.join(design.kinds)} fits {names}; "
            "try a shorter length or other starts"
        )
    if design.sample is not None:
        keys = sorted({prompt.pair_key for prompt in prompts})
        rng = np.random.default_rng([design.seed, 1])
        kept = set(rng.permutation(keys)[: design.sample])
        prompts = [prompt for prompt in prompts if prompt.pair_key in kept]
    return Prompts(tuple(prompts), design.seed)


def _castings(kind: str, families: tuple[Family, ...]) -> list[tuple[Family, ...]]:
    """The families that take turns in a prompt: one, or for `mixed` every ordered pair without controls."""
    if kind != "mixed":
        return [(family,) for family in families]
    ordered = [family for family in families if not family.name.startswith(CONTROL_PREFIX)]
    if len(ordered) < 2:
        raise InputError(f"kind mixed needs two families that are not controls; got {len(ordered)}")
    return list(itertools.permutations(ordered, 2))


def _casting_prompts(design: SequenceDesign, kind: str, families: tuple[Family, ...], pool: range) -> Iterator[Prompt]:
    rule = increasing if kind == "mixed" else rule_of(kind, design.seed)
    ordinals = _common(families)
    if kind == "wrap" and not families[0].cyclic:
        return
    for frame_name, length in itertools.product(design.frames, design.lengths):
        frame = FRAMES[frame_name]
        starts = ordinals if design.starts is None else sorted(set(design.starts) & set(ordinals))
        templates = range(design.templates if frame.words else 1)
        choices = ordinals if len(pool) < length + 2 and order_number(kind) is None else pool
        reach = range(min(f.first for f in design.families), max(f.ordinals.stop for f in design.families))
        draws = [_draws(rule, kind, length, (reach, choices), [design.seed, template]) for template in templates]
        for start, template in itertools.product(starts, templates):
            drawn = draws[template](start)
            if drawn and _fits(drawn, ordinals, wrap=kind == "wrap"):
                words = template_words(frame, template, design.seed)
                yield _prompt(frame, words, kind, families, drawn, template)


def _common(families: tuple[Family, ...]) -> range:
    """The ordinals that all these families have."""
    return range(max(f.ordinals.start for f in families), min(f.ordinals.stop for f in families))


def _draws(
    rule: Rule, kind: str, length: int, ranges: tuple[range, range], seeds: list[int]
) -> Callable[[int], Drawn | None]:
    """What a rule shows from each start, the same for every family, and no two starts the same.

    `ranges` are the starts of all families together and the ordinals to draw members from.
    Sequences without a rule of their own are drawn again if they come out with a constant difference.
    """
    starts, pool = ranges
    if kind not in ("permuted", "shuffled-same-last", "random"):
        return lambda start: rule(start, length, pool, _generator(seeds, start, length, kind, 0))
    found: dict[int, Drawn] = {}
    for start in starts:
        for attempt in range(_ATTEMPTS):
            drawn = rule(start, length, pool, _generator(seeds, start, length, kind, attempt))
            if drawn is None:
                break
            steps = set(np.diff(drawn[0]).tolist())
            if (length < 3 or len(steps) > 1) and all(drawn[0] != other[0] for other in found.values()):
                found[start] = drawn
                break
    return found.get


def _generator(seeds: list[int], start: int, length: int, kind: str, attempt: int) -> np.random.Generator:
    return np.random.default_rng([*seeds, start, length, zlib.crc32(kind.encode()), attempt])


def _fits(drawn: Drawn, ordinals: range, *, wrap: bool) -> bool:
    values, answer, _ = drawn
    if wrap:
        return answer >= ordinals.stop and len(values) < len(ordinals)
    return all(value in ordinals for value in (*values, answer))


def template_words(frame: Frame, template: int, seed: int) -> list[str]:
    """The names or objects of a template, in the order in which a prompt uses them up."""
    return [str(word) for word in np.random.default_rng([seed, template]).permutation(frame.words)]


def _prompt(
    frame: Frame, words: list[str], kind: str, families: tuple[Family, ...], drawn: Drawn, template: int
) -> Prompt:
    values, answer, distractor = drawn
    turn = [families[i % len(families)] for i in range(len(values) + 1)]
    members = tuple(family.member(value) for family, value in zip(turn, values, strict=False))
    text, spans = frame.compose(members, words)
    if kind == "mixed":
        wrong = families[(len(values) + 1) % 2].member(answer)
    else:
        inside = turn[-1].cyclic or distractor in turn[-1].ordinals
        wrong = turn[-1].member(distractor if inside else answer - 1)
    return Prompt(
        text=text,
        family="+".join(family.name for family in families),
        frame=frame.name,
        template=template,
        kind=kind,
        values=tuple((v - turn[0].first) % len(turn[0].members) + turn[0].first for v in values)
        if kind == "wrap"
        else values,
        members=members,
        spans=spans,
        answer=frame.answer_lead + turn[-1].member(answer),
        distractor=frame.answer_lead + wrong,
    )
