"""What `geometry transfer|erase` write and print: tables of a matrix, and of it as an SAE reads it beside."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cache.shown.counts import numbers_in
from geometry.cli.console.results import Report, drawn
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from geometry.results.result import LayerResult

_BESIDE = {"success": ["success_when_right", "effect"], "left": ["unedited", "null_mean", "necessary"]}
_PAIRS = {
    "success": ["ci_low", "ci_high", "effect", "null_mean", "null_max", "p", "p_layers", "q"],
    "left": "ci_low ci_high unedited null_low within_low controls_min p p_layers q necessary".split(),
}
"""Columns beside the measured value, of a receiver's own edit and of pairs."""


def matrix_reports(
    results: "Mapping[str, LayerResult]", folder: Path, few: int | str | None
) -> "dict[Path, tuple[LayerResult, Report]]":
    """What is written and printed: a folder for each result, and tables of all beside each other in the first."""
    found = {}
    for number, (method, result) in enumerate(results.items()):
        table = result.table.assign(method=method) if len(results) > 1 else None
        report = _report(result, results, few) if not number else _report_beside(result, few)
        found[folder if not number else folder / method] = (result, replace(report, records=table))
    return found


def _tables(results: "Mapping[str, LayerResult]") -> "dict[str, pd.DataFrame]":
    """A line a layer and receiver, and one a pair of families; of several methods each in a line of its own."""
    from probes.transfer.table import strongest

    value = "left" if results["mean"].name == "erasure" else "success"
    summaries = {method: _short(result, value) for method, result in results.items()}
    columns = [value, *_PAIRS[value]]
    pairs = {method: strongest(one.table, columns, falling=value == "left") for method, one in results.items()}
    return {"summary": _beside(summaries, "receiver"), "pairs": _beside(pairs, "donor")}


def _beside(tables: "Mapping[str, pd.DataFrame]", after: str) -> "pd.DataFrame":
    """Tables of the same lines, line by line, the method named after a column; the table itself where there is one."""
    import pandas as pd

    if len(tables) == 1:
        return next(iter(tables.values()))
    for method, one in tables.items():
        one.insert(1 + list(one).index(after), "method", method)
    return pd.concat(tables.values()).sort_index(kind="stable").reset_index(drop=True)


def _short(result: "LayerResult", value: str) -> "pd.DataFrame":
    """A line a layer and receiver: its own edit, that of each other family, and the controls' least and most."""
    import pandas as pd

    giving = result.table[result.table["donor_kind"].isin(["own", "family"])]
    donors = [name for name in result.parameters["donors"] if name in set(giving["donor"])]
    lines = []
    for (layer, positions, receiver), mine in result.table.groupby(["layer", "positions", "receiver"], sort=False):
        own = mine[mine["donor_kind"] == "own"]
        families = mine.loc[mine["donor_kind"] == "family"].set_index("donor")[value]
        controls = mine.loc[mine["donor_kind"] == "control", value]
        line: dict[str, object] = {"layer": layer, "positions": positions, "receiver": receiver}
        for name in (value, "ci_low", "ci_high", *_BESIDE[value], "n_members"):
            line[f"own {name}" if name == value else name] = own[name].iloc[0] if len(own) else float("nan")
        line |= {donor: families.get(donor, float("nan")) for donor in donors}
        line |= {"controls min": controls.min(), "controls max": controls.max()}
        lines.append(line)
    return pd.DataFrame(lines)


def _report(result: "LayerResult", results: "Mapping[str, LayerResult]", layers_shown: int | str | None) -> Report:
    contexts = numbers_in(result.table.iloc[0], "template", template="context")
    what = f"{result.name} of {result.parameters['site']}: {contexts} edited"
    notes, tables = [note for one in results.values() for note in _at_floor(one)], _tables(results)
    if result.table["p"].isna().all() and result.parameters["n_null"]:
        notes.insert(0, "no p values: nulls are drawn from 10 control families or more; record control:0-19")
    if "sae" in results:
        notes.insert(0, f"method sae: what {results['sae'].parameters['basis']} carry; mean: activations as they are")
    return replace(
        _report_beside(result, layers_shown),
        tables=tables,
        shown=[_by_layer(tables["summary"], what), _pairs(tables["pairs"])],
        notes=notes,
    )


def _report_beside(result: "LayerResult", layers_shown: int | str | None) -> Report:
    """The pictures alone: of a result whose lines stand in another's tables."""
    from probes.pictures import pictures_of

    return Report(lambda: drawn(result, pictures_of(result), layers_shown))


def _by_layer(summary: "pd.DataFrame", title: str) -> Shown:
    """The summary as a terminal shows it: a receiver's own edit, the controls', then the other families'."""
    lowest = "own left" in summary
    own = "own left" if lowest else "own success"
    beside = ["unedited", "controls min"] if lowest else ["controls max"]
    last = ["null_mean", "controls max"] if lowest else ["controls min"]
    ends = {"95 %": intervals(summary)}
    columns = list(summary)
    donors = columns[columns.index("n_members") + 1 : -2]
    keys = ["layer", *_sets(summary), "receiver", *_methods(summary)]
    lines = summary.assign(**ends)[[*keys, own, "95 %", *beside, *donors, *last, "n_members"]]
    lines = lines.rename(columns={"null_mean": "null mean", "n_members": "members"})
    return Shown(lines, title, tuple(keys), own, lowest)


def _pairs(pairs: "pd.DataFrame") -> Shown:
    keys = [*_sets(pairs), "receiver", "donor", *_methods(pairs)]
    value = "left" if "left" in pairs else "success"
    first = [*keys, "layer", value, "95 %", *(["necessary"] if "necessary" in pairs else ["effect"]), "p_layers", "q"]
    rest = [name for name in pairs if name not in {*first, "positions", "ci_low", "ci_high"}]
    lines = pairs.assign(**{"95 %": intervals(pairs)})[[*first, *rest]]
    title = "each pair of families at the layer where it stands out most"
    return Shown(worded(lines, {"p_layers": "p over layers"}), title, tuple(keys))


def _sets(table: "pd.DataFrame") -> list[str]:
    """The column of position sets, where there are several."""
    return ["positions"] if table["positions"].nunique() > 1 else []


def _methods(table: "pd.DataFrame") -> list[str]:
    """The column of methods, where there are several."""
    return [name for name in table if name == "method"]


def _at_floor(result: "LayerResult") -> list[str]:
    """A sentence where p is as small as the draws allow and q is still above .05."""
    at_floor = result.table[(result.table["p_layers"] <= result.table["p_floor"]) & (result.table["q"] > 0.05)]
    if not len(at_floor):
        return []
    case = ["positions", "receiver", "donor"]
    n = len(result.table.loc[result.table["q"].notna(), case].drop_duplicates())
    pairs = len(at_floor.drop_duplicates(case))
    pairs_text = f"{pairs} of {n} pairs have the least p there can be, and q above .05"
    return [f"{pairs_text}: --nulls {20 * n - 1} decides each"]
