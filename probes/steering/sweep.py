"""The steering sweep: one family's prompts turned into another's answers, over layers, strengths and positions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import Hook, LoadedModel
from cache.models.restart import first_block
from cache.repeatable import check_seed
from cache.store.store import check_source
from cache.store.view import View, check_view
from geometry.results.dataset import Named, on_sites
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS, share_error
from probes.directions.contrasts import contrast
from probes.directions.features import check_read
from probes.steering.cells import compared_cells
from probes.steering.directions import Material, gather_material, steps_at
from probes.steering.settings import EVERY, WHOLE, Grid, Setting, plan_settings
from probes.steering.trials import Trials, edited_logits, set_up_trials

Outcomes = dict[str, Shaped[np.ndarray, "setting trial"]]
_OUTCOMES = ("success", "within_families", "probability_moved", "old_rank", "top1")
_AXES = ("hook", "setting", "trial")


@dataclass(frozen=True)
class _Steered:
    """The prompts that are steered, what with, and what the model says unsteered.

    Attributes:
        trials: the prompts, run.
        material: what directions are made from.
        before: outcomes without a direction.
    """

    trials: Trials
    material: Material
    before: dict[str, Shaped[np.ndarray, " trial"]]

    @property
    def rows(self) -> pd.DataFrame:
        """What is known of each trial."""
        return self.trials.pairs.table[["context", "answer", "source_answer", "unit", "source_prompt", "target_prompt"]]

    def at(self, hook: Hook, settings: Sequence[Setting], chosen: Sequence[int]) -> Outcomes:
        """Outcomes of all settings at one site; settings not chosen stay empty."""
        methods = list(dict.fromkeys(settings[i].method for i in chosen))
        steps = steps_at(self.material, hook, methods) if methods else {}
        n = len(self.trials)
        empty = {"top1": np.full((len(settings), n), -1, dtype=np.int64)}
        out = {name: empty.get(name, np.full((len(settings), n), np.nan)) for name in _OUTCOMES}
        for positions in dict.fromkeys(settings[i].positions for i in chosen):
            mine = [i for i in chosen if settings[i].positions == positions]
            added = torch.stack([settings[i].alpha * steps[settings[i].method] for i in mine])
            by_batch = [edited_logits(one, hook, added[:, list(one.numbers)], positions) for one in self.trials.batches]
            for i, *logits in zip(mine, *by_batch, strict=True):
                after = _outcomes(self.trials, logits)
                for name in _OUTCOMES:
                    out[name][i] = after[name] - self.before[name] if name == "probability_moved" else after[name]
        return out


def sweep(
    view: View,
    model: LoadedModel,
    source: str,
    target: str,
    grid: Grid = WHOLE,
    *,
    seed: int = 0,
    loop: Loop = ALONE,
) -> LayerResult:
    """Steer every prompt of `source` towards `target`'s answer with a direction that has not seen that answer.

    A trial is a matched pair of prompts; its direction is estimated without its template, its answer, and prompts that
    merely show its answer (of own prompts that name pairs, its pair: many may have one answer). `mean_difference` is
    tried over the whole grid of layers, alphas and positions, and chooses for each answer the cell where it does best
    on the others. All other methods and controls are tried at those very cells, so that methods are compared at the
    same strengths; beside them `mean_difference_loose`, which may see prompts that show the answer. Controls are also
    tried at every third layer, at the alphas that the mean difference would choose there; the unembedding difference at
    every layer and alpha, so that its best in hindsight is known too.

    Args:
        view: sites between blocks (`resid_post`, with the embedding as layer -1, or `resid_pre`), and the rows that
            directions are estimated on, one a prompt; each prompt's last token where it asks for none.
        model: the model that it was recorded from.
        source: the group that is steered: a family, or a group of own prompts.
        target: the group whose answers are wanted.
        grid: strengths, positions and methods; with a basis the view is of its site alone.
        seed: seeds the controls.
        loop: who watches (each site twice: the grid comes first), and where finished sites are kept.

    Returns:
        Arrays over (hook, setting), their names with `trial_` before them over (hook, setting, trial): `success` (top-1
        over the whole vocabulary is the target's answer), `within_families` (top-1 among the answers of both groups
        is), `probability_moved` (the answer's probability after, less before), `old_rank` (tokens above the source's
        answer); `trial_top1` (token); nan or -1 where a setting was not tried. `rows` are the trials.

    Raises:
        InputError: the groups do not match, leaving out leaves nothing, or a site is not between blocks, or not the
            basis's.
        FingerprintError: the model is not the one recorded, or the basis is of another.

    Example:
        >>> result = sweep(store.view(layers="1-2"), model, "digits", "numwords", Grid(alphas=[1.0], positions="last"))
        >>> result.dataset["success"].dims
        ('hook', 'setting')
    """
    seed = check_seed(seed)
    check_view(view)
    check_source(view.store, model)
    for hook in view.hooks:
        first_block(hook)
    check_read(grid.basis, view)
    trials = set_up_trials(view.store, model, contrast(view, source, target))
    before = _outcomes(trials, [batch.clean.logits for batch in trials.batches])
    of_features = (grid.basis, grid.n_features)
    steered = _Steered(trials, gather_material(view, model, trials.pairs, of_features, seed=seed), before)
    parameters: dict[str, Any] = {
        "source": source,
        "target": target,
        "site": view.site,
        "layers": view.layers,
        "where": view.noted(),
    }
    parameters |= grid.parameters
    analysis = Analysis("sweep", parameters | {"seed": seed} | model.identity, view.source, "grid-", many_threads=True)
    settings, outcomes = _tried(view, steered, grid, analysis, loop)
    tried = {name: np.stack([one[name] for one in outcomes]) for name in _OUTCOMES}
    wrong, tokens = steered.material.wrong, np.unique(tried["top1"])
    parameters |= {
        "settings": [[one.method, one.alpha, one.positions] for one in settings],
        "wrong_target": wrong.target if wrong else "",
        "model": model.name,
        "tokens": {str(token): model.tokenizer.decode([token]) for token in tokens if token >= 0},
        "seed": seed,
    }
    texts = view.store.prompts["text"].iloc[steered.rows["source_prompt"]].tolist()
    said = [model.tokenizer.decode([int(token)]) for token in before["top1"]]
    labels = pd.DataFrame(map(asdict, settings))
    arrays: Named = {name: (_AXES[:2], values) for name, values in _by_setting(tried, steered.rows).items()}
    arrays = {**arrays, **_of_trials(tried)}
    dataset = on_sites(view.hooks, view.site, arrays, labels={"setting": labels, "trial": steered.rows})
    rows = steered.rows.assign(text=texts, before=said)
    return LayerResult("sweep", dataset, parameters, view.store.fingerprint, rows, _AXES[:2])


def _of_trials(outcomes: Mapping[str, Shaped[np.ndarray, "hook setting trial"]]) -> Named:
    return {f"trial_{name}": (_AXES, values) for name, values in outcomes.items()}


def _tried(
    view: View, steered: _Steered, grid: Grid, analysis: Analysis, loop: Loop
) -> tuple[list[Setting], list[Outcomes]]:
    """All settings, and their outcomes at every site: first the grid, then what is compared with it at its cells."""
    first = grid.settings
    found = over(view.hooks, lambda hook: steered.at(hook, first, range(len(first))), analysis, loop)
    arrays = _of_trials({name: np.stack([one[name] for one in found]) for name in _OUTCOMES})
    noted = {
        "settings": [[one.method, one.alpha, one.positions] for one in first],
        "positions": grid.positions,
        "tokens": {},
    }
    so_far = LayerResult("sweep", on_sites(view.hooks, view.site, arrays), noted, "", steered.rows)
    planned = plan_settings(steered.material, grid, *compared_cells(so_far, every=EVERY))
    chosen = {hook: [i for i, at in enumerate(planned.values()) if n in at] for n, hook in enumerate(view.hooks)}
    rest = replace(analysis, part="rest-")
    more = over(view.hooks, lambda hook: steered.at(hook, list(planned), chosen[hook]), rest, loop)
    both = zip(found, more, strict=True)
    return [*first, *planned], [{name: np.concatenate([a[name], b[name]]) for name in _OUTCOMES} for a, b in both]


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


def _by_setting(
    outcomes: Mapping[str, Shaped[np.ndarray, "hook setting trial"]], rows: pd.DataFrame
) -> dict[str, Shaped[np.ndarray, "hook setting"]]:
    """Outcomes over all trials; errors are over units. `n_rows` is 0 where a setting was not tried."""
    unit, context = rows["unit"].to_numpy(), rows["context"].to_numpy()
    success, units = outcomes["success"], np.unique(unit)
    by_unit = np.stack([success[..., unit == one].mean(axis=-1) for one in units], axis=-1)
    enough = len(units) >= LEAST_MEMBERS
    se = by_unit.std(axis=-1, ddof=1) / len(units) ** 0.5 if enough else np.full(success.shape[:2], np.nan)
    tried = ~np.isnan(success).all(axis=-1)
    return {
        "success": success.mean(axis=-1),
        "se": share_error(by_unit.mean(axis=-1), se),
        "worst_answer": by_unit.min(axis=-1),
        "within_families": outcomes["within_families"].mean(axis=-1),
        "probability_moved": outcomes["probability_moved"].mean(axis=-1),
        "old_rank": np.median(outcomes["old_rank"], axis=-1),
        "n_members": np.where(tried, len(units), 0),
        "n_templates": np.where(tried, len(np.unique(context)), 0),
        "n_rows": np.where(tried, len(rows), 0),
    }
