"""The directions of a sweep: each trial gets its own, estimated without its answer and without its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.store.view import View
from geometry.bases.basis import FeatureBasis
from probes.directions.contrasts import Contrast, contrast, load_pairs, unit_name
from probes.directions.direction import unembedding_directions
from probes.directions.estimators import METHODS, Estimator, mean_difference, mean_differences, random_steps
from probes.steering.features import FEATURE_DIFFERENCE, RANDOM_FEATURES, feature_step

CONTROLS = ("sign_flipped", "wrong_target", "control_difference", "random")
"""Directions that must not work: half the differences reversed, another target, two unrelated families, noise."""


@dataclass(frozen=True)
class Folds:
    """For every trial the pairs that its direction may be estimated on.

    Attributes:
        strict: not its template, not its unit (answer, or pair), and no prompt that shows it.
        loose: not its template and not its unit.
    """

    strict: Bool[np.ndarray, "trial pair"]
    loose: Bool[np.ndarray, "trial pair"]


def make_folds(pairs: Contrast) -> Folds:
    """Leave each trial's unit (`Contrast`) and template out.

    Raises:
        InputError: nothing is left for a trial, because there is one template or too few units.
    """
    table = pairs.table
    context, unit, source = (table[name].to_numpy() for name in ("context", "unit", "source_unit"))
    loose = (context[:, None] != context[None]) & (unit[:, None] != unit[None]) & (source[:, None] != source[None])
    words = [{own, answer.strip()} for own, answer in zip(unit, table["answer"], strict=True)]
    shows = np.array([[not mine.isdisjoint(shown) for shown in table["shown"]] for mine in words])
    strict = loose & ~shows
    if not strict.any(axis=1).all():
        name = unit_name(table)
        raise InputError(
            f"leaving out a trial's {name} and template leaves nothing to estimate {pairs.source} -> {pairs.target} "
            f"on: there are {len(set(context))} templates and {len(set(unit))} {name}s; record more, "
            "or show fewer members a prompt"
        )
    return Folds(strict, loose)


@dataclass(frozen=True)
class Material:
    """What directions at every layer are made from.

    Attributes:
        store: the store.
        pairs: the trials' pairs.
        folds: what each trial may use.
        wrong: pairs from the source to another family, None if there is none.
        unrelated: pairs between two control families, None if the store has fewer than two.
        words: for each trial its unembedding difference, None if words have no single token.
        seed: seeds the controls.
        basis: whose features directions are made of too; None for none.
        n_features: how many of them, those that differ most; None for all.
    """

    store: ActivationStore = field(repr=False)
    pairs: Contrast
    folds: Folds
    wrong: Contrast | None
    unrelated: Contrast | None
    words: Float[Tensor, "trial d_model"] | None
    seed: int
    basis: FeatureBasis | None = field(default=None, repr=False)
    n_features: int | None = None

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that can be made from this store and basis."""
        there = {"wrong_target": self.wrong is not None, "control_difference": self.unrelated is not None}
        others = (RANDOM_FEATURES,) if self.basis is not None and len(self.basis.directions) > 1 else ()
        return tuple(name for name in CONTROLS if there.get(name, True)) + others


def gather_material(
    view: View,
    model: LoadedModel,
    pairs: Contrast,
    features: tuple[FeatureBasis | None, int | None] = (None, None),
    *,
    seed: int,
) -> Material:
    """Find what a view has to make directions and controls from; `features` are those of a `Grid`.

    Raises:
        InputError: the trials cannot be left out (`make_folds`).
    """
    store = view.store
    families = [name for name in dict.fromkeys(store.rows["family"]) if name not in ("", pairs.source, pairs.target)]
    others = [name for name in families if not name.startswith("control:")]
    unrelated = [name for name in families if name.startswith("control:")][:2]
    folds = make_folds(pairs)
    return Material(
        store=store,
        pairs=pairs,
        folds=folds,
        wrong=next((one for name in others if (one := _contrast(view, pairs.source, name))), None),
        unrelated=_contrast(view, unrelated[0], unrelated[1]) if len(unrelated) == 2 else None,
        words=_word_differences(model, pairs, folds),
        seed=seed,
        basis=features[0],
        n_features=features[1],
    )


def steps_at(material: Material, hook: Hook, methods: Sequence[str]) -> Mapping[str, Float[Tensor, "trial d"]]:
    """What alpha 1 adds in every trial, for each method; all are as long as that trial's mean difference.

    `mean_only` and `wrong_target` keep their own lengths.

    Args:
        material: what they are made from.
        hook: the site.
        methods: of `METHODS`, `mean_difference_loose`, `unembedding_difference` and `CONTROLS`; with a basis
            `feature_difference` and `random_features` (`feature_step`).
    """
    x, y = load_pairs(material.store, hook, material.pairs)
    mean = mean_differences(x, y, material.folds.strict)
    lengths = mean.norm(dim=1, keepdim=True)
    steps = {}
    for method in methods:
        if method == "mean_difference":
            step = mean
        elif method == "mean_difference_loose":
            step = mean_differences(x, y, material.folds.loose)
        elif method == "mean_only":
            step = mean_differences(torch.zeros_like(y), y, material.folds.strict)
        elif method == "unembedding_difference":
            if material.words is None:
                raise InputError("the answers are not one token each, so they have no unembedding difference")
            step = _as_long(material.words.double(), lengths)
        elif method in (FEATURE_DIFFERENCE, RANDOM_FEATURES):
            step = _as_long(_through_features(material, method, (x, y)), lengths)
        elif method in CONTROLS:
            step = _control(material, method, hook, (x, y), lengths)
        else:
            step = _fitted(METHODS[method], x, y, material.folds.strict)
        steps[method] = step.float()
    return MappingProxyType(steps)


def _through_features(
    material: Material, method: str, xy: tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"]]
) -> Float[Tensor, "trial d"]:
    if material.basis is None:
        raise InputError(f"{method} is of a basis's features; give a basis")
    return feature_step(method, material.basis, xy, material.folds.strict, material.n_features, material.seed)


def _control(
    material: Material,
    method: str,
    hook: Hook,
    xy: tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"]],
    lengths: Float[Tensor, "trial 1"],
) -> Float[Tensor, "trial d"]:
    rng = np.random.default_rng([material.seed, CONTROLS.index(method)])
    x, y = (one.double() for one in xy)
    if method == "sign_flipped":
        return _as_long(_balanced_signs(material.folds.strict, rng) @ (y - x), lengths)
    if method == "random":
        return _as_long(random_steps(x, y, len(x), rng), lengths)
    pairs = material.wrong if method == "wrong_target" else material.unrelated
    if pairs is None:
        raise InputError(f"the store has no families to make {method} from; it has {', '.join(material.controls)}")
    left, right = load_pairs(material.store, hook, pairs)
    mine = material.pairs.table["context"].to_numpy()[:, None] != pairs.table["context"].to_numpy()[None]
    step = mean_differences(left, right, mine)
    return step if method == "wrong_target" else _as_long(step, lengths)


def _balanced_signs(keep: Bool[np.ndarray, "trial pair"], rng: np.random.Generator) -> Float[Tensor, "trial pair"]:
    """As many pluses as minuses among each trial's pairs (one is left out of an odd number).

    Signs drawn one by one would leave a share of the mean, which bringing the step to full length would restore.
    """
    signs = np.zeros(keep.shape)
    for line, mask in zip(signs, keep, strict=True):
        order = rng.permutation(np.flatnonzero(mask))
        half = len(order) // 2
        line[order[:half]], line[order[half : 2 * half]] = 1.0, -1.0
    return torch.from_numpy(signs)


def _fitted(
    estimator: Estimator, x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], keep: Bool[np.ndarray, "trial pair"]
) -> Float[Tensor, "trial d"]:
    """An estimator's answer for every trial; trials with the same pairs share one fit.

    Where both sides are the same (a query token's embedding), nothing leads from one to the other: the step is zero.
    """
    patterns, which = np.unique(keep, axis=0, return_inverse=True)
    sides = [(x[torch.from_numpy(mask)], y[torch.from_numpy(mask)]) for mask in patterns]
    found = [torch.zeros(x.shape[1]) if torch.equal(a, b) else estimator(a, b) for a, b in sides]
    return torch.stack(found)[which.ravel()]


def _word_differences(model: LoadedModel, pairs: Contrast, folds: Folds) -> Float[Tensor, "trial d_model"] | None:
    """For each trial the mean over the answers it may use, each answer counted once; None if words have no token."""
    answers = [(a.strip(), b.strip()) for a, b in zip(pairs.table["source_answer"], pairs.table["answer"], strict=True)]
    known = unembedding_directions(model, [word for pair in answers for word in pair])
    chosen = [sorted({answers[i] for i in np.flatnonzero(mask)}) for mask in folds.strict]
    if any(word not in known for pair in answers for word in pair):
        return None
    sides = [[torch.stack([known[pair[side]] for pair in words]) for side in (0, 1)] for words in chosen]
    return torch.stack([mean_difference(*one) for one in sides])


def _contrast(view: View, source: str, target: str) -> Contrast | None:
    try:
        return contrast(view, source, target)
    except InputError:
        return None


def _as_long(step: Float[Tensor, "trial d"], lengths: Float[Tensor, "trial 1"]) -> Float[Tensor, "trial d"]:
    return step * (lengths / step.norm(dim=1, keepdim=True).clamp_min(1e-300))
