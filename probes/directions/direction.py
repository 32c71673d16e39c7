"""Directions: how to get from one group of prompts to another at one site of a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError
from cache.models.hooks import HookLike, as_hook
from cache.repeatable import check_seed
from cache.shown.cards import card
from cache.store.store import check_open
from geometry.stats.linalg import check_finite
from geometry.weights.readout import readout_map
from probes.directions.contrasts import Contrast, load_pairs
from probes.directions.estimators import METHODS, mean_difference

UNIT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Direction:
    """A direction at one site, and where it came from.

    Attributes:
        hook: the site; of an attention head where it names one.
        vector: of unit length.
        norm: its natural size: `norm * vector` is the average step from the source to the target.
        method: how it was found.
        source: the group that it starts from.
        target: the group that it leads to.
        fingerprint: of the store it was estimated on; empty if of none.
        weights: content hash of the model's weights; steering another model along it is refused. Empty if of none.
        seed: what random parts were drawn with.

    Raises:
        InputError: the vector is not of unit length, or the norm is negative or not finite.

    Example:
        >>> up = Direction(Hook("resid_post", 1), torch.tensor([0.0, 1.0]), norm=3.0, method="by hand")
        >>> up.step, (-up).step
        (tensor([0., 3.]), tensor([-0., -3.]))
    """

    hook: Hook
    vector: Float[Tensor, " d"] = field(repr=False)
    norm: float
    method: str
    source: str = ""
    target: str = ""
    fingerprint: str = ""
    weights: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hook", as_hook(self.hook))  # a name, or kind and layer, would only fail later
        if not abs(float(self.vector.norm()) - 1) <= UNIT_TOLERANCE:  # nan is not either
            raise InputError(f"a direction's vector has length 1; got {float(self.vector.norm()):.4g}")
        if not (np.isfinite(self.norm) and self.norm >= 0):
            raise InputError(f"a direction's norm is finite and not negative; got {self.norm}")
        check_seed(self.seed)

    @property
    def step(self) -> Float[Tensor, " d"]:
        """`norm * vector`: what alpha 1 adds."""
        return self.norm * self.vector

    def _repr_html_(self) -> str:
        way = f"from {self.source} to {self.target}" if self.source or self.target else ""
        facts = {
            "way": way,
            "found by": self.method,
            "natural size": f"{self.norm:.3g}",
            "model": f"weights {self.weights[:8]}" if self.weights else "",
        }
        title = f"a direction at {self.hook.name}, {len(self.vector)} wide"
        then = (
            "steer(model, direction, alpha=1)",
            "ablate(model, direction)",
            'save_direction(direction, "d.safetensors")',
        )
        return card(title, facts, None, then)

    def __add__(self, other: "Direction") -> "Direction":
        check_same_site(self, other)
        return _combined(self, other, 1, (self.source, other.target))

    def __sub__(self, other: "Direction") -> "Direction":
        check_same_site(self, other)
        return _combined(self, other, -1, (other.target, self.target))

    def __neg__(self) -> "Direction":
        return replace(self, vector=-self.vector, source=self.target, target=self.source)


def direction_of(
    step: ArrayLike,
    hook: HookLike,
    method: str,
    *,
    norm: float | None = None,
    source: str = "",
    target: str = "",
    fingerprint: str = "",
    weights: str = "",
    seed: int = 0,
) -> Direction:
    """A direction along a vector (d,) of any length, whose length is its norm unless one is given.

    Raises:
        InputError: the vector is zero.
        NumbersError: the vector is not finite.
    """
    seed = check_seed(seed)
    site = as_hook(hook)
    step = as_rows(step, "the step", axes=("d",))
    length = float(step.double().norm())
    if length == 0:
        raise InputError(f"{method} from {source or 'the source'} to {target or 'the target'} is zero at {site.name}")
    vector = (step.double() / length).float()
    size = length if norm is None else norm
    return Direction(site, vector, size, method, source, target, fingerprint, weights, seed)


def find_direction(
    store: ActivationStore, pairs: Contrast, hook: HookLike, method: str = "mean_difference"
) -> Direction:
    """The direction between two groups at one site.

    Its norm is the length of the mean difference whatever the method (of `mean_only`, the mean's own), so that alpha
    means the same for all of them.

    Args:
        store: the store.
        pairs: matched rows (`contrast`).
        hook: the site: a `Hook`, its name, or kind and layer (-1 is the last one recorded).
        method: one of `METHODS`.

    Raises:
        InputError: no such method, or the groups do not differ.
        NumbersError: activations are not finite.

    Example:
        >>> from probes.directions.contrasts import contrast
        >>> found = find_direction(store, contrast(view, "digits", "numwords"), ("resid_post", -1))
        >>> found.source, found.target, found.hook.name
        ('digits', 'numwords', 'blocks.2.hook_resid_post')
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}; known are {', '.join(METHODS)}, unembedding_difference")
    check_open(store)
    given: object = pairs
    if not isinstance(given, Contrast):
        what = f"contrast(store, 'digits', 'numwords'); got {given!r:.60}"
        raise InputError(f"a direction is found between matched rows, as from {what}")
    hook = store.site(hook)
    x, y = load_pairs(store, hook, pairs)
    check_finite(x, y)
    return direction_of(
        METHODS[method](x, y),
        hook,
        method,
        source=pairs.source,
        target=pairs.target,
        fingerprint=store.fingerprint,
        weights=store.weights,
    )


def unembedding_directions(model: LoadedModel, words: Iterable[str]) -> dict[str, Float[Tensor, " d_model"]]:
    """Each word's unembedding direction, as the residual stream meets it; words that are not one token are left out.

    A word counts in each form that is one token, by itself and after a space, and has their mean.
    """
    readout = readout_map(model)
    found = {}
    for word in filter(None, dict.fromkeys(word.strip() for word in words)):
        forms = [model.tokenizer.encode(form, add_special_tokens=False) for form in (word, " " + word)]
        tokens = sorted({ids[0] for ids in forms if len(ids) == 1})
        if tokens:
            found[word] = readout[:, tokens].mean(dim=1)
    return found


def unembedding_difference(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> Float[Tensor, " d_model"]:
    """The mean difference of the unembedding directions of words: what merely makes the target words likelier.

    Args:
        model: the model.
        pairs: source words and their target words; pairs with a word of several tokens are left out.

    Raises:
        InputError: no pair is of one-token words.

    Example:
        >>> unembedding_difference(model, [("3", "three"), ("4", "four")]).shape  # (d_model,)
        torch.Size([33])
    """
    unique = list(dict.fromkeys((source.strip(), target.strip()) for source, target in pairs))
    known = unembedding_directions(model, [word for pair in unique for word in pair])
    sides = [(known[a], known[b]) for a, b in unique if a in known and b in known]
    if not sides:
        raise InputError("no pair of words is one token each, so they have no unembedding difference")
    sources, targets = (torch.stack(side) for side in zip(*sides, strict=True))
    return mean_difference(sources, targets)


def cosine(a: Direction, b: Direction) -> float:
    """Cosine between two directions at one site, in [-1, 1].

    Raises:
        InputError: the sites differ.

    Example:
        >>> round(cosine(direction, direction), 4), round(cosine(direction, -direction), 4)
        (1.0, -1.0)
    """
    check_same_site(a, b)
    return float(torch.dot(a.vector.double(), b.vector.double()))


def check_same_site(a: Direction, b: Direction, what: str = "set against each other") -> None:
    """Make sure that two directions belong to one site.

    Raises:
        InputError: the sites or the widths differ.
    """
    if a.hook != b.hook:
        names = [one.hook.name + (f", head {one.hook.head}" if one.hook.head is not None else "") for one in (a, b)]
        raise InputError(f"directions at one site can be {what}; got {names[0]} and {names[1]}")
    if len(a.vector) != len(b.vector):
        raise InputError(f"directions at one site have the same width; got {len(a.vector)} and {len(b.vector)}")
    if a.weights and b.weights and a.weights != b.weights:
        raise InputError(f"directions of one model can be {what}; these come from models with other weights")


def _combined(a: Direction, b: Direction, sign: int, ends: tuple[str, str]) -> Direction:
    step = a.step.double() + sign * b.step.double()
    method = f"{a.method} {'+' if sign > 0 else '-'} {b.method}"
    prints = "+".join(dict.fromkeys(one for both in (a, b) for one in both.fingerprint.split("+") if one))
    weights = a.weights or b.weights
    return direction_of(step, a.hook, method, source=ends[0], target=ends[1], fingerprint=prints, weights=weights)
