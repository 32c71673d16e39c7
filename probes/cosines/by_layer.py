"""Which directions are the same: cosines between halves that share no phrasing, and whether two steps make a third."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.store.view import View, check_view
from geometry.results.dataset import Named, on_sites
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import unit_of_rows
from geometry.rows.names import pairs_of
from geometry.stats.linalg import check_finite
from probes.directions.contrasts import Contrast, contrast, load_pairs
from probes.directions.estimators import METHODS

Pair = tuple[str, str]


def cosines_by_layer(
    view: View, pairs: Sequence[Sequence[str]], *, method: str = "mean_difference", loop: Loop = ALONE
) -> LayerResult:
    """Cosines between all directions, and between composed and direct ones, at every site of a view.

    One direction is estimated on the even contexts (frame and template) and the other on the odd ones, then the other
    way round, and the two cosines averaged: names and phrasing cannot make a match, and a direction's cosine with
    itself is its reliability. All directions are estimated at the same places of the same windows.

    Where a -> b, b -> c and a -> c are all asked for, the sum of the first two on one half is set against a -> c on
    the other. Of `mean_difference` the sum is a -> c by algebra, so this is the reliability of a -> c.

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        pairs: source and target of each direction: families, or groups.
        method: one of `METHODS`.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, comparison), which are of two directions (`kind`, `first`, `second`) or of a sum and the
        direct one; nan where groups do not differ: `cosine`, `corrected` (the cosine over the root of both
        reliabilities, nan unless both are positive) and `norm_ratio` (the first step's length over the second's).
        `n_rows` counts those of one direction.

    Raises:
        InputError: no such method or group, no place or only one context in common, a pair is given twice,
            or the groups differ nowhere.
        NumbersError: activations are not finite.
    """
    wanted = pairs_of(pairs)
    _check(wanted, method)
    check_view(view)
    contrasts = _at_common_places(view.store, [contrast(view, *pair) for pair in wanted])
    even = _even_contexts(contrasts[0])
    triples = _triples(wanted)
    directions = [f"{source} -> {target}" for source, target in wanted]
    paths = [f"{directions[i]} -> {wanted[j][1]}" for i, j, _ in triples]
    parameters: dict[str, object] = {"site": view.site, "layers": view.layers, "where": view.noted(), "method": method}
    parameters |= {"pairs": directions, "compositions": paths}

    def unit(hook: Hook) -> dict[str, Float[np.ndarray, "first second"]]:
        steps = _halves(view.store, hook, contrasts, even, method)
        sums = torch.stack([steps[:, i] + steps[:, j] for i, j, _ in triples], dim=1) if triples else steps[:, :0]
        return _compared(torch.cat([steps, sums], dim=1))

    found = over(view.hooks, unit, Analysis("direction cosines", parameters, view.source), loop)
    if all(np.isnan(one["cosine"]).all() for one in found):
        raise InputError(f"the groups differ nowhere at {view.site} for {view.noted()!r}, so there is no direction")
    n, names = len(wanted), [*directions, *paths]
    compared = [(i, j, "directions") for i in range(n) for j in range(i, n)]
    compared += [(n + i, k, "composition") for i, (_, _, k) in enumerate(triples)]
    first, second, kinds = (list(one) for one in zip(*compared, strict=True))
    arrays: Named = {
        name: (("hook", "comparison"), np.stack([one[name][first, second] for one in found])) for name in found[0]
    }
    labels = pd.DataFrame({"kind": kinds, "first": [names[i] for i in first], "second": [names[j] for j in second]})
    counts = _counts(view.store, contrasts[0])
    dataset = on_sites(view.hooks, view.site, arrays, counts, {"comparison": labels})
    return LayerResult("direction cosines", dataset, parameters, view.store.fingerprint, lines=("hook", "comparison"))


def _check(pairs: Sequence[Pair], method: str) -> None:
    if method not in METHODS:
        raise InputError(f"no method {method!r}; known are {', '.join(METHODS)}")
    if not pairs:
        raise InputError("no pair of groups is given; give at least one, as (digits, numwords)")
    if len(set(pairs)) < len(pairs):
        twice = next(pair for pair in pairs if list(pairs).count(pair) > 1)
        raise InputError(f"{twice[0]} -> {twice[1]} is given twice")


def _triples(pairs: Sequence[Pair]) -> list[tuple[int, int, int]]:
    """The numbers of a -> b, b -> c and a -> c, wherever all three are among the pairs."""
    return [
        (pairs.index((a, b)), pairs.index((start, c)), pairs.index((a, c)))
        for (a, b), (start, c) in itertools.permutations(pairs, 2)
        if start == b and (a, c) in pairs
    ]


def _at_common_places(store: ActivationStore, contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The contrasts' pairs at the places (of prompts matched by pair key) that all of them have."""
    labels = store.rows[["pair_key", "member", "is_last"]]
    places = [list(labels.iloc[one.rows[:, 1]].itertuples(index=False, name=None)) for one in contrasts]
    common = set(places[0]).intersection(*places[1:])
    if not common:
        raise InputError("the pairs of groups have no place in common: record them with the same frames and windows")
    kept = [
        one.subset(np.array([place in common for place in mine])) for one, mine in zip(contrasts, places, strict=True)
    ]
    contexts = kept[0].table["context"].unique()
    if len(contexts) < 2:
        raise InputError(
            f"the pairs of groups have one context in common ({contexts[0]}); directions are compared across halves of "
            "the contexts, which needs 2: record more frames, or a frame with several templates"
        )
    return kept


def _even_contexts(pairs: Contrast) -> Mapping[str, bool]:
    """Every other context, in the order of the store."""
    return {context: i % 2 == 0 for i, context in enumerate(pairs.table["context"].unique())}


def _halves(
    store: ActivationStore, hook: Hook, contrasts: Sequence[Contrast], even: Mapping[str, bool], method: str
) -> Float[Tensor, "2 direction d"]:
    """Every direction's step, on the even and on the odd contexts; nan where its groups do not differ."""
    steps = []
    for pairs in contrasts:
        x, y = load_pairs(store, hook, pairs)
        check_finite(x, y)
        mine = np.array([even[context] for context in pairs.table["context"]])
        steps.append(torch.stack([_step(x, y, half, method) for half in (mine, ~mine)]))
    return torch.stack(steps, dim=1)


def _step(
    x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], half: Bool[np.ndarray, " pair"], method: str
) -> Float[Tensor, " d"]:
    x, y = x[torch.from_numpy(half)], y[torch.from_numpy(half)]
    if torch.equal(x, y) and method != "mean_only":
        return torch.full((x.shape[1],), torch.nan, dtype=torch.float64)
    return METHODS[method](x, y).double()


def _compared(steps: Float[Tensor, "2 direction d"]) -> dict[str, Float[np.ndarray, "first second"]]:
    """Cosines and ratios of lengths of every two directions, each from the other half, both ways averaged."""
    even, odd = steps
    lengths = steps.norm(dim=2)
    cosines = (even @ odd.T) / (lengths[0][:, None] * lengths[1])
    cosine = (cosines + cosines.T).numpy() / 2
    reliability = np.diag(cosine).copy()
    with np.errstate(invalid="ignore"):
        both = np.where(reliability > 0, reliability, np.nan)
        corrected = cosine / np.sqrt(both[:, None] * both)
    ratio = (lengths[0][:, None] / lengths[1] + lengths[1][:, None] / lengths[0]).numpy() / 2
    return {"cosine": cosine, "corrected": corrected, "norm_ratio": ratio}


def _counts(store: ActivationStore, pairs: Contrast) -> dict[str, int]:
    units = unit_of_rows(store, store.rows.iloc[pairs.rows[:, 1]])
    return {
        "n_members": len(set(units)),
        "n_templates": int(pairs.table["context"].nunique()),
        "n_rows": 2 * len(pairs),
    }
