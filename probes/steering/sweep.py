"""The steering sweep: one family's prompts turned into another's answers, over layers, strengths and positions."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.models.hooks import Layers, layers_text
from cache.models.restart import first_block
from cache.seeds import check_seed
from cache.store.store import check_source
from cache.store.view import Where, where_text
from geometry.results.result import LayerResult, Named, site_hooks
from geometry.rows.names import names_of
from geometry.stats.uncertainty import LEAST_MEMBERS, share_error
from probes.directions.contrasts import contrast
from probes.directions.estimators import METHODS
from probes.steering.cells import GRID, compared_cells
from probes.steering.directions import Material, gather_material, steps_at
from probes.steering.settings import EVERY, Setting, plan_settings
from probes.steering.trials import POSITION_SETS, Trials, edited_logits, set_up_trials

ALPHAS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
_OUTCOMES = ("success", "within_families", "probability_moved", "old_rank", "top1")


def sweep(
    store: ActivationStore,
    model: LoadedModel,
    source: str,
    target: str,
    *,
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    alphas: Sequence[float] = ALPHAS,
    positions: Sequence[str] = ("last", "all"),
    methods: Sequence[str] = tuple(METHODS),
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """Steer every prompt of `source` towards `target`'s answer with a direction that has not seen that answer.

    A trial is a matched pair of prompts; its direction is estimated without its template, its answer, and prompts that
    merely show its answer. `mean_difference` is tried over the whole grid of layers, alphas and positions, and chooses
    for each answer the cell where it does best on the others. All other methods and controls are tried at those very
    cells, so that methods are compared at the same strengths; beside them `mean_difference_loose`, which may see
    prompts that show the answer. Controls are also tried at every third layer, at the alphas that the mean difference
    would choose there; the unembedding difference at every layer and alpha, so that its best in hindsight is known too.

    Args:
        store: recorded prompts of both groups (families, or groups of own prompts).
        model: the model that it was recorded from.
        source: the group that is steered.
        target: the group whose answers are wanted.
        site: `resid_post`, with the embedding as layer -1, or `resid_pre`.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: rows that directions are estimated on; None for each prompt's last token.
        alphas: strengths, in units of each direction's own step.
        positions: `last`, `all` (BOS excepted), `members`.
        methods: of `METHODS`.
        seed: seeds the controls.
        on_hook: called after every layer.

    Returns:
        Arrays `(hook, setting, trial)`: `success` (top-1 over the whole vocabulary is the target's answer),
        `within_families` (top-1 among the answers of both groups is), `probability_moved` (the answer's probability
        after, less before), `old_rank` (tokens above the source's answer), `top1` (token); nan or -1 where a
        setting was not tried. `rows` are the trials, `table` has one line a layer and setting.

    Raises:
        InputError: a choice does not exist, the groups do not match, or leaving out leaves nothing.
        FingerprintError: the model is not the one recorded.
    """
    positions, methods = names_of(positions), names_of(methods)
    seed = check_seed(seed)
    check_choices(alphas, positions, methods)
    check_source(store, model)
    alphas, positions = tuple(dict.fromkeys(alphas)), tuple(positions)
    hooks = site_hooks(store, site, layers)
    for hook in hooks:
        first_block(hook)
    trials = set_up_trials(store, model, contrast(store, source, target, where))
    material = gather_material(store, model, trials.pairs, where=where, seed=seed)
    before = _outcomes(trials, [batch.clean.logits for batch in trials.batches])
    grid = [Setting(GRID, float(alpha), where) for where in positions for alpha in alphas]
    found = []
    for hook in hooks:
        found.append(_at_hook(trials, material, hook, grid, range(len(grid)), before))
        on_hook(hook)
    rows = trials.pairs.table[["context", "answer", "source_answer", "source_prompt", "target_prompt"]]
    nested, thinned = compared_cells(_grid_result(hooks, grid, found, rows, positions), every=EVERY)
    rest = plan_settings(material, methods, grid, nested, thinned)
    more = [
        _at_hook(
            trials, material, hook, list(rest), [i for i, wanted in enumerate(rest.values()) if n in wanted], before
        )
        for n, hook in enumerate(hooks)
    ]
    settings = [*grid, *rest]
    arrays: Named = {
        name: (
            ("hook", "setting", "trial"),
            np.stack([np.concatenate([a[name], b[name]]) for a, b in zip(found, more, strict=True)]),
        )
        for name in _OUTCOMES
    }
    rows = rows.assign(
        text=store.prompts["text"].iloc[trials.pairs.table["source_prompt"]].tolist(),
        before=[model.tokenizer.decode([int(token)]) for token in before["top1"]],
    )
    parameters = {
        "source": source,
        "target": target,
        "site": site,
        "layers": layers_text(layers),
        "where": where_text(where),
        "alphas": list(map(float, alphas)),
        "positions": list(positions),
        "methods": list(methods),
        "settings": [[one.method, one.alpha, one.positions] for one in settings],
        "wrong_target": material.wrong.target if material.wrong else "",
        "model": model.name,
        "tokens": {str(token): model.tokenizer.decode([token]) for token in np.unique(arrays["top1"][1]) if token >= 0},
        "seed": seed,
    }
    return LayerResult(
        name="sweep",
        hooks=hooks,
        arrays=arrays,
        rows=rows,
        parameters=parameters,
        source=store.fingerprint,
        table=_table(hooks, settings, arrays, rows),
    )


def _grid_result(
    hooks: Sequence[Hook],
    grid: Sequence[Setting],
    found: Sequence[dict[str, Shaped[np.ndarray, "setting trial"]]],
    rows: pd.DataFrame,
    positions: Sequence[str],
) -> LayerResult:
    """The mean difference's outcomes, as cells are chosen from them."""
    arrays: Named = {name: (("hook", "setting", "trial"), np.stack([one[name] for one in found])) for name in _OUTCOMES}
    settings = [[one.method, one.alpha, one.positions] for one in grid]
    parameters = {"settings": settings, "positions": list(positions), "tokens": {}}
    return LayerResult("sweep", tuple(hooks), arrays, rows, parameters, "", pd.DataFrame())


def check_choices(alphas: Sequence[float], positions: Sequence[str], methods: Sequence[str] = tuple(METHODS)) -> None:
    """Refuse what a sweep cannot try, before any work.

    Raises:
        InputError: an alpha is not finite, or a position set or method does not exist; or none is given.
    """
    for given, known, what in ((positions, POSITION_SETS, "positions"), (methods, tuple(METHODS), "methods")):
        unknown = [one for one in given if one not in known]
        if unknown or not given:
            raise InputError(f"{what} must be of {', '.join(known)}; got {unknown[0] if unknown else 'none'}")
    if np.ndim(alphas) != 1 or not len(alphas) or not np.isfinite(alphas).all():
        raise InputError(f"alphas must be finite numbers in a list; got {alphas}")


def _at_hook(
    trials: Trials,
    material: Material,
    hook: Hook,
    settings: Sequence[Setting],
    chosen: Sequence[int],
    before: dict[str, Shaped[np.ndarray, " trial"]],
) -> dict[str, Shaped[np.ndarray, "setting trial"]]:
    """Outcomes of all settings at one site; settings not chosen stay empty."""
    methods = list(dict.fromkeys(settings[i].method for i in chosen))
    steps = steps_at(material, hook, methods) if methods else {}
    empty = {"top1": np.full((len(settings), len(trials)), -1, dtype=np.int64)}
    out = {name: empty.get(name, np.full((len(settings), len(trials)), np.nan)) for name in _OUTCOMES}
    for positions in dict.fromkeys(settings[i].positions for i in chosen):
        mine = [i for i in chosen if settings[i].positions == positions]
        added = torch.stack([settings[i].alpha * steps[settings[i].method] for i in mine])
        by_batch = [edited_logits(batch, hook, added[:, list(batch.numbers)], positions) for batch in trials.batches]
        for i, *logits in zip(mine, *by_batch, strict=True):
            after = _outcomes(trials, logits)
            for name in _OUTCOMES:
                out[name][i] = after[name] - before[name] if name == "probability_moved" else after[name]
    return out


def _outcomes(trials: Trials, logits: Sequence[Float[Tensor, "_ d_vocab"]]) -> dict[str, Shaped[np.ndarray, " trial"]]:
    """What the model says in every trial; `probability_moved` is the answer's probability as it is."""
    out: dict[str, Shaped[np.ndarray, " trial"]] = {name: np.empty(len(trials)) for name in _OUTCOMES}
    out["top1"] = np.empty(len(trials), dtype=np.int64)
    for batch, one in zip(trials.batches, logits, strict=True):
        numbers = list(batch.numbers)
        target, source = trials.target_tokens[numbers, None], trials.source_tokens[numbers, None]
        scores = one.cpu()
        best = scores.argmax(dim=1)
        among = trials.family_tokens[scores[:, trials.family_tokens].argmax(dim=1)]
        wanted = scores.gather(1, target)
        out["top1"][numbers] = best.numpy()
        out["success"][numbers] = (best == target[:, 0]).numpy()
        out["within_families"][numbers] = (among == target[:, 0]).numpy()
        out["probability_moved"][numbers] = (wanted[:, 0] - scores.logsumexp(dim=1)).exp().numpy()
        out["old_rank"][numbers] = (scores > scores.gather(1, source)).sum(dim=1).numpy()
    return out


def _table(hooks: Sequence[Hook], settings: Sequence[Setting], arrays: Named, rows: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for h, hook in enumerate(hooks):
        for s, setting in enumerate(settings):
            success = arrays["success"][1][h, s]
            if np.isnan(success).all():
                continue
            by_answer = pd.Series(success).groupby(rows["answer"].to_numpy()).mean()
            se = by_answer.std(ddof=1) / len(by_answer) ** 0.5 if len(by_answer) >= LEAST_MEMBERS else np.nan
            lines.append(
                {
                    "layer": hook.table_layer,
                    "method": setting.method,
                    "alpha": setting.alpha,
                    "positions": setting.positions,
                    "success": success.mean(),
                    "se": share_error(float(by_answer.mean()), se),
                    "worst_answer": by_answer.min(),
                    "within_families": arrays["within_families"][1][h, s].mean(),
                    "probability_moved": arrays["probability_moved"][1][h, s].mean(),
                    "old_rank": float(np.median(arrays["old_rank"][1][h, s])),
                    "n_members": rows["answer"].nunique(),
                    "n_templates": rows["context"].nunique(),
                    "n_rows": len(rows),
                }
            )
    return pd.DataFrame(lines)
