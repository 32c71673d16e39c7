"""The split of variance into shared index, family and template, at every layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.bases.demixing import N_DRAWS, PARTS, demix
from geometry.layers.order_effect import set_apart
from geometry.results.dataset import Named, on_sites, stacked
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.cells import Balance, CellPlan, balance, complete_controls, load_cells, plan_cells, take
from geometry.similarity.pair_evidence import directions_of, weights_for
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.unrelated_codes import Directions


@dataclass(frozen=True)
class Material:
    """The families that are split, what they have in common, and the controls that have it too."""

    plan: CellPlan
    families: tuple[str, ...]
    common: Balance
    controls: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """What every line of the table carries."""
        mine = self.plan.counts[[self.plan.families.index(name) for name in self.families]]
        cells = mine[np.ix_(range(len(self.families)), self.common.contexts, self.common.members)]
        return {
            "n_controls": len(self.controls),
            "n_members": len(self.common.members),
            "n_templates": len(self.common.contexts),
            "n_rows": int(cells.sum()),
        }


def demix_by_layer(
    view: View, families: Sequence[str] | None = None, *, k: int = 4, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """The variance of several families split into parts at every site of a view.

    Contexts and members are those that all the families have without a gap. The shared index is set against codes of
    unrelated families with the same member-by-member structure, drawn from the store's control families at all layers
    at once.

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        families: which; None for all that the view has rows of, but the controls.
        k: most index directions.
        seed: seeds the draws.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, part): `share`, and of the shared index alone, with 10 control families or more, `null_mean`,
        `null_max`, `p`, `p_layers` and `p_floor`; its draws `null`, `studentised` (it and they, each in its own spread,
        as they are ranked), `index_directions`, `stability` and `captured`; nan where all activations are equal.

    Raises:
        InputError: no such family, or too few families, contexts or members in common.

    Example:
        >>> result = demix_by_layer(view, "digits,numwords")
        >>> result.values("share").shape  # (hook, part)
        (4, 5)
        >>> bool(abs(result.values("share").sum(axis=1) - 1).max() < 1e-6)
        True
    """
    seed = check_seed(seed)
    material = _material(view, families)
    names, plan, common, controls = material.families, material.plan, material.common, material.controls
    k = min(k, len(common.members) - 1)
    parameters = {"site": view.site, "layers": view.layers, "where": view.noted(), "families": list(names), "k": k}
    parameters |= {"seed": seed, "controls": list(controls), "members": [plan.members[i] for i in common.members]}
    parameters["weights"] = view.store.weights
    # of unrelated codes for every family but the first
    weights = weights_for(N_DRAWS * (len(names) - 1), len(common.members), len(controls), seed=seed)

    def unit(hook: Hook) -> Named:
        cells = load_cells(view.store, hook, plan)
        x = torch.stack([take(cells, plan, name, common) for name in names])
        return _split(x, k, directions_of([take(cells, plan, name, common) for name in controls], weights))

    arrays = stacked(over(view.hooks, unit, Analysis("demix", parameters, view.source), loop))
    share, null = arrays["share"][1], arrays["null"][1]
    if np.isnan(share).all():
        raise InputError(f"all activations of {view.site} are equal for {view.noted()!r}; there is nothing to split")
    p, n_draws = arrays["p"][1], null.shape[1]
    tested = {
        "null_mean": null.mean(axis=1) if n_draws else p,
        "null_max": null.max(axis=1) if n_draws else p,
        "p": p,
        "p_layers": rank_p_over_layers(arrays["studentised"][1]),
        "p_floor": np.where(np.isnan(p), np.nan, 1 / (1 + n_draws)),
    }
    first = {"share": arrays["share"]} | {name: _of_shared_index(values) for name, values in tested.items()}
    dataset = on_sites(view.hooks, view.site, {**first, **arrays, **first}, material.counts, {"part": PARTS})
    return LayerResult("demix", dataset, parameters, view.store.fingerprint, lines=("hook", "part"))


def _of_shared_index(values: Float[np.ndarray, " hook"]) -> tuple[tuple[str, str], Float[np.ndarray, "hook part"]]:
    """Values of the shared index, which comes first; nan for the other parts."""
    others = np.full((len(values), len(PARTS) - 1), np.nan)
    return ("hook", "part"), np.column_stack([values, others])


def _material(view: View, families: Sequence[str] | None) -> Material:
    own = plan_cells(view, families).families
    plan = set_apart(plan_cells(view))
    counted = {name: counts.any() for name, counts in zip(plan.families, plan.counts, strict=True)}
    names = tuple(name for name in own if families is not None or (counted[name] and name not in view.store.controls))
    if len(names) < 2:
        raise InputError(f"demix needs 2 families that are not controls; got {len(names)}")
    common = balance(plan, names)
    return Material(plan, names, common, tuple(c for c in complete_controls(plan, common) if c not in names))


def _split(x: Float[Tensor, "family context member d"], k: int, directions: Directions | None) -> Named:
    """The split at one site; nan where all activations are equal."""
    if not (x != x[:1, :1, :1]).any():
        k, n_draws = min(k, x.shape[3]), 0 if directions is None else 2 * N_DRAWS
        missing = (len(PARTS),), (n_draws,), (n_draws + (n_draws > 0),), (), (k,), (k,), (k, x.shape[3])
        share, null, studentised, p, stability, captured, index = (np.full(shape, np.nan) for shape in missing)
    else:
        one = demix(x, k=k, directions=directions)
        share, null, studentised, p, stability, captured = (
            one.share,
            one.null,
            one.studentised,
            np.array(one.p),
            one.stability,
            one.captured,
        )
        index = one.index.directions.numpy()
    return {
        "share": (("part",), share),
        "null": (("draw",), null),
        "studentised": (("score",), studentised),
        "p": ((), p),
        "stability": (("component",), stability),
        "captured": (("component",), captured),
        "index_directions": (("component", "d"), index),
    }
