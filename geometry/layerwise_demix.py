"""The split of variance into shared index, family and template, at every layer."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.hooks import Layers, layers_text
from cache.rows import Where, where_text
from cache.seeds import check_seed
from geometry.cells import CONTROL_PREFIX, balance, load_cells, plan_cells, take
from geometry.demixing import N_PERMUTATIONS, PARTS, Demixed, demix
from geometry.evidence import interval
from geometry.layerwise import LayerResult, site_hooks


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

    Contexts and members are those that all the families have without a gap.

    Args:
        store: the store.
        families: which; None for all but the controls.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for each prompt's last token.
        k: most index directions.
        seed: seeds the permutations.
        on_hook: called after every layer.

    Returns:
        Arrays `share` and `se` over (hook, part), `null` and `p` of the shared index, `index_directions`, `stability`
        and `captured`; nan where all activations are equal.

    Raises:
        InputError: no such family, site or layer, or too few families, contexts or members in common.
    """
    seed = check_seed(seed)
    hooks = site_hooks(store, site, layers)
    plan = plan_cells(store, families, where)
    names = [name for name in plan.families if families is not None or not name.startswith(CONTROL_PREFIX)]
    if len(names) < 2:
        raise InputError(f"demix needs 2 families that are not controls; got {len(names)}")
    common = balance(plan, names)
    k = min(k, len(common.members) - 1)
    found = []
    for hook in hooks:
        cells = load_cells(store, hook, plan)
        x = torch.stack([take(cells, plan, name, common) for name in names])
        found.append(demix(x, k=k, seed=seed) if (x != x[:1, :1, :1]).any() else None)
        on_hook(hook)
    if all(one is None for one in found):
        raise InputError(f"all activations of {site} are equal for {where_text(where)!r}; there is nothing to split")
    width = next(one.index.directions.shape[1] for one in found if one is not None)
    counts = {"n_members": len(common.members), "n_templates": len(common.contexts)}
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
    parameters["members"] = [plan.members[i] for i in common.members]
    return LayerResult(
        name="demix",
        hooks=hooks,
        arrays={
            "share": (("hook", "part"), _stacked(found, lambda one: one.share, (len(PARTS),))),
            "se": (("hook", "part"), _stacked(found, lambda one: one.se, (len(PARTS),))),
            "null": (("hook", "permutation"), _stacked(found, lambda one: one.null, (N_PERMUTATIONS,))),
            "p": (("hook",), _stacked(found, lambda one: np.array(one.p), ())),
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
            [line for hook, one in zip(hooks, found, strict=True) for line in _lines(hook, one, counts)]
        ),
    )


def _stacked(
    found: Sequence[Demixed | None], part: Callable[[Demixed], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    return np.stack([np.full(shape, np.nan) if one is None else part(one) for one in found])


def _lines(hook: Hook, one: Demixed | None, counts: dict[str, int]) -> list[dict[str, object]]:
    lines = []
    for i, name in enumerate(PARTS):
        value, se = (np.nan, np.nan) if one is None else (float(one.share[i]), float(one.se[i]))
        ci_low, ci_high = interval(value, se, counts["n_members"])
        line: dict[str, object] = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "part": name}
        line |= {"share": value, "se": se, "ci_low": ci_low, "ci_high": ci_high}
        tested = one is not None and name == "shared index"
        line["null_mean"] = float(one.null[1:].mean()) if one is not None and tested else np.nan
        line["null_max"] = float(one.null[1:].max()) if one is not None and tested else np.nan
        line["p"] = one.p if one is not None and tested else np.nan
        line["p_floor"] = 1 / N_PERMUTATIONS if tested else np.nan
        lines.append(line | counts)
    return lines
