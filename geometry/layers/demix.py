"""The split of variance into shared index, family and template, at every layer."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.models.hooks import Layers, layers_text
from cache.seeds import check_seed
from cache.store.view import Where, where_text
from geometry.bases.demixing import N_DRAWS, PARTS, Demixed, demix
from geometry.layers.order_effect import set_apart
from geometry.results.result import LayerResult, site_hooks
from geometry.rows.cells import CONTROL_PREFIX, balance, complete_controls, load_cells, plan_cells, take
from geometry.similarity.pair_evidence import enough_controls
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.unrelated_codes import draw_directions, draw_weights, mean_code


def demix_by_layer(
    store: ActivationStore,
    families: Sequence[str] | None = None,
    *,
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    k: int = 4,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """The variance of several families split into parts at every layer of one site.

    Contexts and members are those that all the families have without a gap. The shared index is set against codes of
    unrelated families with the same member-by-member structure, drawn from the store's control families at all layers
    at once.

    Args:
        store: the store.
        families: which; None for all but the controls.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for each prompt's last token.
        k: most index directions.
        seed: seeds the draws.
        on_hook: called after every layer.

    Returns:
        Arrays `share` over (hook, part), `null`, `p` and `p_layers` of the shared index (with 10 control families or
        more), `index_directions`, `stability` and `captured`; nan where all activations are equal.

    Raises:
        InputError: no such family, site or layer, or too few families, contexts or members in common.
    """
    seed = check_seed(seed)
    hooks = site_hooks(store, site, layers)
    own = plan_cells(store, families, where).families
    plan = set_apart(plan_cells(store, None, where))
    names = [name for name in own if families is not None or not name.startswith(CONTROL_PREFIX)]
    if len(names) < 2:
        raise InputError(f"demix needs 2 families that are not controls; got {len(names)}")
    common = balance(plan, names)
    k = min(k, len(common.members) - 1)
    controls = [name for name in complete_controls(plan, common) if name not in names]
    weights = _weights(len(names), len(common.members), len(controls), seed)
    found = []
    for hook in hooks:
        cells = load_cells(store, hook, plan)
        x = torch.stack([take(cells, plan, name, common) for name in names])
        codes = [mean_code(take(cells, plan, name, common)) for name in controls]
        directions = None if weights is None else draw_directions(codes, weights)
        found.append(demix(x, k=k, directions=directions) if (x != x[:1, :1, :1]).any() else None)
        on_hook(hook)
    if all(one is None for one in found):
        raise InputError(f"all activations of {site} are equal for {where_text(where)!r}; there is nothing to split")
    width = next(one.index.directions.shape[1] for one in found if one is not None)
    counts = {"n_controls": len(controls), "n_members": len(common.members), "n_templates": len(common.contexts)}
    counts["n_rows"] = int(
        plan.counts[[plan.families.index(name) for name in names]][
            np.ix_(range(len(names)), common.contexts, common.members)
        ].sum()
    )
    parameters = {
        "site": site,
        "layers": layers_text(layers),
        "where": where_text(where),
        "families": names,
        "k": k,
        "seed": seed,
    }
    parameters["controls"] = controls
    parameters["members"] = [plan.members[i] for i in common.members]
    n_draws = 0 if weights is None else 2 * N_DRAWS
    null = _stacked(found, lambda one: one.null, (n_draws,))
    share = _stacked(found, lambda one: one.share, (len(PARTS),))
    p_layers = rank_p_over_layers(np.column_stack([share[:, 0], null]))
    return LayerResult(
        name="demix",
        hooks=hooks,
        arrays={
            "share": (("hook", "part"), share),
            "null": (("hook", "draw"), null),
            "p": (("hook",), _stacked(found, lambda one: np.array(one.p), ())),
            "p_layers": (("hook",), p_layers),
            "stability": (("hook", "component"), _stacked(found, lambda one: one.stability, (k,))),
            "captured": (("hook", "component"), _stacked(found, lambda one: one.captured, (k,))),
            "index_directions": (
                ("hook", "component", "d"),
                _stacked(found, lambda one: one.index.directions.numpy(), (k, width)),
            ),
        },
        rows=pd.DataFrame(),
        parameters=parameters,
        source=store.fingerprint,
        table=pd.DataFrame(
            [
                line
                for hook, one, p in zip(hooks, found, p_layers, strict=True)
                for line in _lines(hook, one, float(p), counts)
            ]
        ),
    )


def _stacked(
    found: Sequence[Demixed | None], part: Callable[[Demixed], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    return np.stack([np.full(shape, np.nan) if one is None else part(one) for one in found])


def _weights(
    n_families: int, n_members: int, n_controls: int, seed: int
) -> Float[np.ndarray, "draw member row"] | None:
    """Weights of unrelated codes, for every family but the first; None with too few controls."""
    if not enough_controls(n_controls):
        return None
    return draw_weights(N_DRAWS * (n_families - 1), n_members, n_members * n_controls, seed=seed)


def _lines(hook: Hook, one: Demixed | None, p_layers: float, counts: dict[str, int]) -> list[dict[str, object]]:
    lines = []
    for i, name in enumerate(PARTS):
        line: dict[str, object] = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "part": name}
        line["share"] = np.nan if one is None else float(one.share[i])
        tested = one is not None and name == "shared index" and len(one.null) > 0
        line["null_mean"] = float(one.null.mean()) if one is not None and tested else np.nan
        line["null_max"] = float(one.null.max()) if one is not None and tested else np.nan
        line["p"] = one.p if one is not None and tested else np.nan
        line["p_layers"] = p_layers if tested else np.nan
        line["p_floor"] = 1 / (1 + len(one.null)) if one is not None and tested else np.nan
        lines.append(line | counts)
    return lines
