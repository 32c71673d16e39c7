"""`geometry query`: does the last token code the member shown last, or the answer to come?"""

from typing import TYPE_CHECKING, Annotated

import typer

from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import Asked
from geometry.cli.intervene.edited import Contexts, EditedSite, edited_view
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ["layer", "family", "kind", "as last", "last 95 %", "as answer", "answer 95 %", "unchanged"]
_SHOWN += ["last over answer", "donor accuracy", "members"]


def query(
    file: StoreFile,
    families: options.FamilyNames = None,
    kinds: Annotated[
        str | None, typer.Option("--kinds", help="Kinds of the donors; default: decreasing and step:K of the store.")
    ] = None,
    layers: options.SpreadLayers = "spread",
    contexts: Contexts = 4,
    model: NeededModel = None,
    site: EditedSite = "resid_post",
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Give the last token the code of a prompt of another kind: is it read as its last member, or as its answer?"""
    from probes.pictures import pictures_of
    from probes.transfer.query_position import last_or_answer

    names, donors = options.families_of(families), None if kinds is None else names_of(kinds)
    folder = options.results_folder(out, f"{file.stem}-query")
    drawn_as = options.formats_of(formats)
    with edited_view(file, model, Asked(site, layers), folder, quiet=quiet) as edited:
        view, loaded, loop = edited.view, edited.model, edited.loop
        result = last_or_answer(view, loaded, families=names, kinds=donors, n_contexts=contexts, seed=seed, loop=loop)
        contexts_text = numbers_in(result.table.iloc[0], "template", template="context")
        title = f"last member or answer at {site}: {contexts_text} edited"
        shown = Shown(_short(result.table), title, ("layer", "family", "kind"), "as answer")
        report = Report(lambda: drawn(result, pictures_of(result)), shown=[shown])
        write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _short(table: "pd.DataFrame") -> "pd.DataFrame":
    ends = {f"{name} 95 %": intervals(table, f"as_{name}_ci") for name in ("last", "answer")}
    return worded(table.assign(**ends))[_SHOWN]
