"""The split of variance into shared index, family and template, at every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from cache import Hook
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.seeds import check_seed
from cache.store.view import View
from geometry.bases.demixing import N_DRAWS, PARTS, demix
from geometry.layers.order_effect import set_apart
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult, Named, layer_result, stacked
from geometry.rows.cells import Balance, CellPlan, balance, complete_controls, load_cells, plan_cells, take
from geometry.similarity.pair_evidence import enough_controls
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.unrelated_codes import draw_directions, draw_weights, mean_code


@dataclass(frozen=True)
class _Split:
    """What is split: families' cells in common, and the control families that have them too."""

    plan: CellPlan
    names: Sequence[str]
    common: Balance
    controls: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        """Controls, members, contexts and rows, as every table carries them."""
        grid = np.ix_(list(map(self.plan.families.index, self.names)), self.common.contexts, self.common.members)
        return {
            "n_controls": len(self.controls),
            "n_members": len(self.common.members),
            "n_templates": len(self.common.contexts),
            "n_rows": int(self.plan.counts[grid].sum()),
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
        families: which; None for all but the controls.
        k: most index directions.
        seed: seeds the draws.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays `share` over (hook, part), `null`, `p` and `p_layers` of the shared index (with 10 control families or
        more), `index_directions`, `stability` and `captured`; nan where all activations are equal.

    Raises:
        InputError: no such family, or too few families, contexts or members in common.
    """
    seed, split = check_seed(seed), _split(view, families)
    k = min(k, len(split.common.members) - 1)
    parameters: dict[str, Any] = {
        "site": view.site,
        "layers": view.layers,
        "where": view.noted(),
        "families": list(split.names),
    }
    parameters |= {"families": list(split.names), "k": k, "seed": seed, "controls": list(split.controls)}
    parameters["members"] = [split.plan.members[i] for i in split.common.members]
    weights = _weights(len(split.names), len(split.common.members), len(split.controls), seed)
    analysis = Analysis("demix", parameters, view.store.fingerprint)
    arrays = stacked(over(view.hooks, lambda hook: _parts(view, hook, split, k, weights), analysis, loop))
    share, null = arrays["share"][1], arrays["null"][1]
    if np.isnan(share).all():
        raise InputError(f"all activations of {view.site} are equal for {view.noted()!r}; there is nothing to split")
    arrays = {**arrays, "p_layers": (("hook",), rank_p_over_layers(np.column_stack([share[:, 0], null])))}
    return layer_result(
        "demix",
        view.hooks,
        arrays,
        parameters=parameters,
        source=view.store.fingerprint,
        table=_table(view.hooks, arrays, split.counts),
        labels={"part": PARTS},
    )


def _split(view: View, families: Sequence[str] | None) -> _Split:
    own = plan_cells(view, families).families
    plan = set_apart(plan_cells(view))
    names = [name for name in own if families is not None or not name.startswith(CONTROL_PREFIX)]
    if len(names) < 2:
        raise InputError(f"demix needs 2 families that are not controls; got {len(names)}")
    common = balance(plan, names)
    return _Split(plan, names, common, [name for name in complete_controls(plan, common) if name not in names])


def _parts(
    view: View, hook: Hook, split: _Split, k: int, weights: Float[np.ndarray, "draw member row"] | None
) -> Named:
    """The parts at one site; nan where all activations are equal."""
    cells = load_cells(view.store, hook, split.plan)
    x = torch.stack([take(cells, split.plan, name, split.common) for name in split.names])
    codes = [mean_code(take(cells, split.plan, name, split.common)) for name in split.controls]
    directions = None if weights is None else draw_directions(codes, weights)
    if (x != x[:1, :1, :1]).any():
        one = demix(x, k=k, directions=directions)
        found = [one.share, one.null, np.array(one.p), one.stability, one.captured, one.index.directions.numpy()]
    else:
        n_draws = 0 if weights is None else 2 * N_DRAWS
        shapes = ((len(PARTS),), (n_draws,), (), (k,), (k,), (k, x.shape[-1]))
        found = [np.full(shape, np.nan) for shape in shapes]
    axes = (("part",), ("draw",), (), ("component",), ("component",), ("component", "d"))
    names = ("share", "null", "p", "stability", "captured", "index_directions")
    return {name: (along, values) for name, along, values in zip(names, axes, found, strict=True)}


def _weights(
    n_families: int, n_members: int, n_controls: int, seed: int
) -> Float[np.ndarray, "draw member row"] | None:
    """Weights of unrelated codes, for every family but the first; None with too few controls."""
    if not enough_controls(n_controls):
        return None
    return draw_weights(N_DRAWS * (n_families - 1), n_members, n_members * n_controls, seed=seed)


def _table(hooks: Sequence[Hook], arrays: Named, counts: dict[str, int]) -> pd.DataFrame:
    lines = []
    for h, hook in enumerate(hooks):
        share, null, p, p_layers = (arrays[name][1][h] for name in ("share", "null", "p", "p_layers"))
        for i, name in enumerate(PARTS):
            line: dict[str, object] = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "part": name}
            tested = name == "shared index" and len(null) > 0 and not np.isnan(share).all()
            beside = (null.mean(), null.max(), p, p_layers, 1 / (1 + len(null))) if tested else [np.nan] * 5
            line["share"] = float(share[i])
            line |= dict(zip(("null_mean", "null_max", "p", "p_layers", "p_floor"), map(float, beside), strict=True))
            lines.append(line | counts)
    return pd.DataFrame(lines)
