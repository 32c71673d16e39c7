"""`geometry transfer|erase`: does one family's index code act in another, and is it needed there?"""

from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import check_shown
from geometry.cli.intervene.edited import Contexts, EditedSite, edited_view
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.store import ActivationStore
    from geometry.results.result import LayerResult
    from probes.receivers.roles import Roles

EditedPositions = Annotated[
    str,
    typer.Option(
        "--positions",
        help="last (each prompt's last token), members (every shown member), both; comma-separated.",
    ),
]
Rank = Annotated[int, typer.Option("--rank", help="Directions that are removed.")]
ErasureNulls = Annotated[
    int, typer.Option("--nulls", help="Unrelated subspaces; p is at least 1 / (1 + this), and q at least that.")
]
TransferNulls = Annotated[
    int, typer.Option("--nulls", help="Null donors for each pair; p is at least 1 / (1 + this); 0: none, and no p.")
]


def transfer(
    file: StoreFile,
    families: options.FamilyNames = None,
    layers: options.SpreadLayers = "spread",
    positions: EditedPositions = "last",
    contexts: Contexts = 4,
    nulls: TransferNulls = 19,
    model: NeededModel = None,
    site: EditedSite = "resid_post",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Add a family's step from index to index in another's prompts: how often is the answer the one moved to?"""
    from probes.transfer.steps import transfer_matrix
    from probes.transfer.table import strongest

    folder = options.results_folder(out, f"{file.stem}-transfer")
    drawn_as, few = options.formats_of(formats), options.layers_shown(layers_shown)
    with edited_view(file, model, site, layers, folder, quiet=quiet) as (view, loaded, loop):
        check_shown(view, few)
        roles = _roles(view.store, families, positions, contexts)
        result = transfer_matrix(view, loaded, roles, n_null=nulls, seed=seed, loop=loop)
        short = _short(result, "success", ["success_when_right", "effect"])
        shown = ["success", "ci_low", "ci_high", "effect", "null_mean", "null_max", "p", "p_layers", "q"]
        tables = {"summary": short, "pairs": strongest(result.table, shown)}
        reports = {folder: (result, _report(result, tables, few))}
        write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def erase(
    file: StoreFile,
    families: options.FamilyNames = None,
    layers: options.SpreadLayers = "spread",
    positions: EditedPositions = "last",
    contexts: Contexts = 4,
    rank: Rank = 4,
    nulls: ErasureNulls = 99,
    model: NeededModel = None,
    site: EditedSite = "resid_post",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove a family's index subspace in another's prompts: how often is the answer still right?"""
    from probes.transfer.erasure import erasure_matrix
    from probes.transfer.table import strongest

    folder = options.results_folder(out, f"{file.stem}-erase")
    drawn_as, few = options.formats_of(formats), options.layers_shown(layers_shown)
    with edited_view(file, model, site, layers, folder, quiet=quiet) as (view, loaded, loop):
        check_shown(view, few)
        roles = _roles(view.store, families, positions, contexts)
        result = erasure_matrix(view, loaded, roles, rank=rank, n_null=nulls, seed=seed, loop=loop)
        short = _short(result, "left", ["unedited", "null_mean", "necessary"])
        shown = ["left", "ci_low", "ci_high", "unedited", "null_low", "within_low", "controls_min"]
        shown += ["p", "p_layers", "q", "necessary"]
        tables = {"summary": short, "pairs": strongest(result.table, shown, falling=True)}
        reports = {folder: (result, _report(result, tables, few))}
        write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _roles(store: "ActivationStore", families: str | None, positions: str, n_contexts: int) -> "Roles":
    """The named families receive and give, and the store's first controls give beside them."""
    from probes.receivers.roles import N_CONTROLS, Roles

    names, sets = options.families_of(families), names_of(positions)
    if not sets:
        raise InputError("--positions takes last, members, both; got none")
    if names is None:
        return Roles(positions=sets, n_contexts=n_contexts)
    controls = [name for name in store.controls if name not in names]
    return Roles(names, [*names, *controls[:N_CONTROLS]], sets, n_contexts)


def _short(result: "LayerResult", value: str, beside: list[str]) -> "pd.DataFrame":
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
        for name in (value, "ci_low", "ci_high", *beside, "n_members"):
            line[f"own {name}" if name == value else name] = own[name].iloc[0] if len(own) else float("nan")
        line |= {donor: families.get(donor, float("nan")) for donor in donors}
        line |= {"controls min": controls.min(), "controls max": controls.max()}
        lines.append(line)
    return pd.DataFrame(lines)


def _report(result: "LayerResult", tables: "dict[str, pd.DataFrame]", layers_shown: int | str | None) -> Report:
    from probes.pictures import pictures_of

    contexts = numbers_in(result.table.iloc[0], "template", template="context")
    what = f"{result.name} of {result.parameters['site']}: {contexts} edited"
    notes = _at_floor(result)
    if result.table["p"].isna().all() and result.parameters["n_null"]:
        notes.insert(0, "no p values: nulls are drawn from 10 control families or more; record control:0-19")
    return Report(
        draw=lambda: drawn(result, pictures_of(result), layers_shown),
        tables=tables,
        shown=[_by_layer(tables["summary"], what), _pairs(tables["pairs"])],
        notes=notes,
    )


def _by_layer(summary: "pd.DataFrame", title: str) -> Shown:
    """The summary as a terminal shows it: a receiver's own edit, the controls', then the other families'."""
    lowest = "own left" in summary
    own = "own left" if lowest else "own success"
    beside = ["unedited", "controls min"] if lowest else ["controls max"]
    last = ["null_mean", "controls max"] if lowest else ["controls min"]
    ends = {"95 %": intervals(summary)}
    columns = list(summary)
    donors = columns[columns.index("n_members") + 1 : -2]
    keys = ["layer", *_sets(summary), "receiver"]
    lines = summary.assign(**ends)[[*keys, own, "95 %", *beside, *donors, *last, "n_members"]]
    lines = lines.rename(columns={"null_mean": "null mean", "n_members": "members"})
    return Shown(lines, title, tuple(keys), own, lowest)


def _pairs(pairs: "pd.DataFrame") -> Shown:
    keys = [*_sets(pairs), "receiver", "donor"]
    value = "left" if "left" in pairs else "success"
    first = [*keys, "layer", value, "95 %", *(["necessary"] if "necessary" in pairs else ["effect"]), "p_layers", "q"]
    rest = [name for name in pairs if name not in {*first, "positions", "ci_low", "ci_high"}]
    lines = pairs.assign(**{"95 %": intervals(pairs)})[[*first, *rest]]
    title = "each pair of families at the layer where it stands out most"
    return Shown(worded(lines, {"p_layers": "p over layers"}), title, tuple(keys))


def _sets(table: "pd.DataFrame") -> list[str]:
    """The column of position sets, where there are several."""
    return ["positions"] if table["positions"].nunique() > 1 else []


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
