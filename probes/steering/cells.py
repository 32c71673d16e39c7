"""What a sweep says once its cell is chosen without the answer that it is judged on."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS, share_error, share_interval
from probes.directions.contrasts import unit_name

SUCCESSFUL = 0.9
GRID = "mean_difference"
EVERYWHERE = (GRID, "unembedding_difference")
"""Methods that are tried at every layer and alpha."""


Cells = list[set[tuple[float, str]]]
"""At each site some (alpha, positions)."""


def compared_cells(result: LayerResult, *, every: int) -> tuple[Cells, Cells]:
    """Where other methods must be tried to be compared at the same strengths, site by site.

    Args:
        result: the mean difference's grid.
        every: at every so many layers the alphas that `success_by_layer` compares at.

    Returns:
        (alpha, positions) of `nested_cells`, and of the thinned layers, for each site.
    """
    layers = [hook.table_layer for hook in result.hooks]

    def cells(find: Callable[..., pd.DataFrame]) -> Cells:
        found: Cells = [set() for _ in layers]
        for positions in result.parameters["positions"]:
            chosen = find(result, positions=[positions])
            for layer, alpha in zip(chosen["layer"].tolist(), chosen["alpha"].tolist(), strict=True):
                found[layers.index(layer)].add((alpha, positions))
        return found

    thinned = [one if number % every == 0 else set() for number, one in enumerate(cells(success_by_layer))]
    return cells(nested_cells), thinned


def nested_cells(result: LayerResult, method: str = GRID, positions: Sequence[str] | None = None) -> pd.DataFrame:
    """For each answer the cell where the mean difference does best on the others, and how a method fares there.

    Every method is judged at the same layer, alpha and positions, which the mean difference chose without the answer.
    Ties go to the cell that moves the other answers' probability more. Of own prompts that name pairs the unit is the
    pair, not the answer (`unit_name`).

    Args:
        result: of `sweep`.
        method: the one that is judged.
        positions: which cells to choose among; None for all tried.

    Returns:
        One line an answer (or pair): `answer` (or `pair`), `layer, alpha, positions, success, within_families,
        probability_moved, old_rank, top1_after` (the most frequent), `n_rows`; outcomes are missing where the method
        was not tried at the cell.
    """
    chosen = _settings(result, GRID, positions)
    units, name = result.rows["unit"].to_numpy(), unit_name(result.rows)
    lines = []
    for unit in dict.fromkeys(units):
        hook, setting = _best(result, chosen, units != unit)
        lines.append({name: unit, **_outcome(result, hook, setting, units == unit, method)})
    return pd.DataFrame(lines)


def modal_cell(cells: pd.DataFrame) -> tuple[int, float, str]:
    """The layer, alpha and positions that most answers chose together; of equals the one that succeeds most.

    Args:
        cells: of `nested_cells`.
    """
    by_cell = cells.groupby(["layer", "alpha", "positions"])["success"].agg(["size", "mean"])
    layer, alpha, positions = by_cell.sort_values(["size", "mean"], ascending=False, kind="stable").index[0]
    return int(layer), float(alpha), str(positions)


def success_by_layer(result: LayerResult, method: str = GRID, positions: Sequence[str] | None = None) -> pd.DataFrame:
    """Success of each answer (or pair) at every layer, at the alpha where the mean difference does best on the others.

    Returns:
        One line a layer and answer: `layer, unit, alpha, positions, success, n_rows`, of the layers where the method
        was tried at the alphas of all answers.
    """
    chosen = _settings(result, GRID, positions)
    units = result.rows["unit"].to_numpy()
    lines = []
    for number, hook in enumerate(result.hooks):
        for unit in dict.fromkeys(units):
            _, setting = _best(result, chosen, units != unit, hook=number)
            outcome = _outcome(result, number, setting, units == unit, method)
            kept = {name: outcome[name] for name in ("alpha", "positions", "success", "n_rows")}
            lines.append({"layer": hook.table_layer, "unit": unit, **kept})
    frame = pd.DataFrame(lines)
    return frame[~frame["layer"].isin(frame.loc[frame["success"].isna(), "layer"])].reset_index(drop=True)


def earliest_layer(result: LayerResult, method: str = GRID, positions: Sequence[str] | None = None) -> int | None:
    """The first layer at which the mean over answers reaches 90 % in `success_by_layer`; None if none does."""
    means = success_by_layer(result, method, positions).groupby("layer")["success"].mean()
    reached = means[means >= SUCCESSFUL]
    return int(reached.index.min()) if len(reached) else None


def sweep_summary(result: LayerResult) -> pd.DataFrame:
    """One line a method and position set, all methods of a set at the same cells: those of `nested_cells`.

    Returns:
        `method, positions, success` (mean over answers), `se, ci_low, ci_high` (over answers; missing below 5, the
        error also at 0 and 1), `worst_answer`, `hindsight` (the highest of any cell, for the two methods that are tried
        at every layer and alpha: no fair comparison, but what the unembedding difference could do at its own best),
        `layer` and `alpha` (the cell that most answers chose), `chosen` (how many did), `earliest_layer` (at 90 %, of
        the same two), `old_rank` (of the old answer, median), `n_members, n_templates, n_rows`.

    Example:
        >>> grid = Grid(alphas=[1.0], positions="last", methods="pca")
        >>> table = sweep_summary(sweep(store.view(layers="2"), model, "digits", "numwords", grid))
        >>> {"mean_difference", "pca", "unembedding_difference"} <= set(table["method"])
        True
    """
    tried = dict.fromkeys((method, positions) for method, _, positions in result.parameters["settings"])
    lines = []
    for method, positions in tried:
        cells = nested_cells(result, method, [positions])
        n, success = len(cells), cells["success"]
        if success.isna().any():
            continue
        layer, alpha, _ = modal_cell(nested_cells(result, positions=[positions]))
        se = float(success.std(ddof=1) / n**0.5) if n >= LEAST_MEMBERS else np.nan
        low, high = share_interval(float(success.mean()), se, n)
        mine = _settings(result, method, [positions])
        means = result.values("trial_success")[:, mine].mean(axis=2)
        lines.append(
            {
                "method": method,
                "positions": positions,
                "success": success.mean(),
                "se": share_error(float(success.mean()), se),
                "ci_low": low,
                "ci_high": high,
                "worst_answer": success.min(),
                "hindsight": np.nanmax(means) if method in EVERYWHERE else np.nan,
                "layer": layer,
                "alpha": alpha,
                "chosen": int(((cells["layer"] == layer) & (cells["alpha"] == alpha)).sum()),
                "earliest_layer": earliest_layer(result, method, [positions]) if method in EVERYWHERE else None,
                "old_rank": cells["old_rank"].median(),
                "n_members": n,
                "n_templates": result.rows["context"].nunique(),
                "n_rows": len(result.rows),
            }
        )
    return pd.DataFrame(lines).astype({"earliest_layer": "Int64"})


def before_and_after(result: LayerResult, method: str = GRID) -> pd.DataFrame:
    """Each prompt with the model's next token before and after, at the cell chosen without its answer.

    Returns:
        Columns `prompt, answer, before, after, wanted` (texts) and `layer, alpha, positions` of the cell.
    """
    cells = nested_cells(result, method).set_index(unit_name(result.rows))
    settings = result.parameters["settings"]
    after = []
    for trial, unit in enumerate(result.rows["unit"]):
        cell = cells.loc[unit]
        hook = [hook.table_layer for hook in result.hooks].index(cell["layer"])
        setting = settings.index([method, cell["alpha"], cell["positions"]])
        after.append(result.parameters["tokens"][str(result.values("trial_top1")[hook, setting, trial])])
    return pd.DataFrame(
        {
            "prompt": result.rows["text"],
            "answer": result.rows["source_answer"],
            "before": result.rows["before"],
            "after": after,
            "wanted": result.rows["answer"],
            **{name: result.rows["unit"].map(cells[name]) for name in ("layer", "alpha", "positions")},
        }
    )


def _settings(result: LayerResult, method: str, positions: Sequence[str] | None) -> Int[np.ndarray, " chosen"]:
    settings = result.parameters["settings"]
    wanted = [name == method and (positions is None or where in positions) for name, _, where in settings]
    return np.flatnonzero(wanted)


def _best(
    result: LayerResult,
    chosen: Int[np.ndarray, " chosen"],
    others: Bool[np.ndarray, " trial"],
    hook: int | None = None,
) -> tuple[int, int]:
    """The layer and setting with the highest success on some trials."""
    names, layers = ("trial_success", "trial_probability_moved"), slice(hook, None if hook is None else hook + 1)
    success, moved = (result.values(name)[layers, chosen][:, :, others].mean(axis=2) for name in names)
    score = np.where(np.isnan(success), -np.inf, success + 1e-6 * moved)
    best = np.unravel_index(int(score.argmax()), score.shape)
    return int(best[0]) if hook is None else hook, int(chosen[best[1]])


def _outcome(
    result: LayerResult, hook: int, setting: int, mine: Bool[np.ndarray, " trial"], method: str
) -> dict[str, str | float | int]:
    """What a method does at the cell of a setting; nan where it was not tried there."""
    _, alpha, positions = result.parameters["settings"][setting]
    cell = {"layer": result.hooks[hook].table_layer, "alpha": alpha, "positions": positions}
    wanted = [method, alpha, positions]
    at = result.parameters["settings"].index(wanted) if wanted in result.parameters["settings"] else None
    tried = at is not None and not np.isnan(result.values("trial_success")[hook, at, mine]).any()
    names = ("success", "within_families", "probability_moved")
    means = {name: float(result.values(f"trial_{name}")[hook, at, mine].mean()) if tried else np.nan for name in names}
    top1 = pd.Series(result.values("trial_top1")[hook, at, mine] if tried else [-1]).mode().iloc[0]
    return cell | {
        **means,
        "old_rank": float(np.median(result.values("trial_old_rank")[hook, at, mine])) if tried else np.nan,
        "top1_after": str(result.parameters["tokens"].get(str(top1), "")),
        "n_rows": int(mine.sum()),
    }
