"""`geometry cosines`: are the steps between families the same direction, layer by layer?"""

from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import Asked, check_shown, viewed
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.store import ActivationStore


def cosines(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.SpreadLayers = "spread",
    where: options.Where = None,
    rows: options.RowsOfPrompts = None,
    method: Annotated[
        str, typer.Option(help="mean_difference pca logistic lda mean_only, as for direction.")
    ] = "mean_difference",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Cosines between the directions from each family to each after it, and of two steps with the third they make."""
    from probes.cosines.by_layer import cosines_by_layer
    from probes.pictures import pictures_of

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-cosines")
    drawn_as, few = options.formats_of(formats), options.layers_shown(layers_shown)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        check_shown(view, few)
        pairs = _pairs(view.store, names)
        result = cosines_by_layer(view, pairs, method=method, loop=loop)
        counts = result.table.iloc[0]
        what = numbers_in(counts, "member", "template")
        notes = [f"rows: {result.parameters['where']}"]
        if not set(pairs[-1]) <= set(view.store.controls):
            notes.insert(0, "no direction between controls beside them: record control:0-1")
        title = f"cosines of {method} directions at {site}, by layer: {what}"
        report = Report(
            draw=lambda: drawn(result, pictures_of(result), few),
            shown=[Shown(_by_layer(result.table), title, ("first", "second"), across=True)],
            notes=notes,
        )
        write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _pairs(store: "ActivationStore", names: list[str] | None) -> list[tuple[str, str]]:
    """Every two families in their order; beside them the store's first two controls."""
    from geometry.rows.analysed import families_text

    wanted = store.families if names is None else names
    if len(wanted) < 2:
        raise InputError(f"a direction leads from one family to another; got {len(wanted)}: {families_text(store)}")
    return [*combinations(wanted, 2), *combinations([one for one in store.controls if one not in wanted][:2], 2)]


def _by_layer(table: "pd.DataFrame") -> "pd.DataFrame":
    """One line a pair of directions, with its cosine at every layer."""
    wide = table.pivot_table(index=["first", "second"], columns="layer", values="cosine", sort=False, dropna=False)
    return wide.dropna(how="all").reset_index().rename(columns=str)
