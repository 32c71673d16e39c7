"""`geometry compare`: families, layers or models against each other, with nulls, controls and a verdict."""

from collections.abc import Callable
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import RecordedModel, recorded_model
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import Asked, viewed, watched
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.store import ActivationStore
    from geometry.results.result import LayerResult


def compare(
    file: StoreFile,
    other: Annotated[
        Path | None,
        typer.Argument(help="A second store of the same prompts: another model's layers.", metavar="OTHER"),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(
            help="Comma-separated. Families: matched_cosine shared_share retrieval (which decide) cka cka_debiased rsa "
            "procrustes principal_angles cca svcca pwcca (which describe). Layers and stores: cka cka_debiased "
            "svcca procrustes."
        ),
    ] = "",
    between: Annotated[str, typer.Option(help="families or layers.")] = "families",
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    rows: options.RowsOfPrompts = None,
    model: RecordedModel = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Are families coded alike, layer by layer? Or: how alike are layers, of one model or of two?"""
    from geometry.between.families import DEFAULT_MEASURES, RESIDUAL, between_pairs

    measures, names = names_of(measure), options.families_of(families)
    drawn_as = options.formats_of(formats)
    if between not in {"families", "layers"}:
        raise InputError(f"--between takes families or layers; got {between!r}")
    if other is not None or between == "layers":
        if names is not None:
            raise InputError("--families goes with --between families; choose rows with --where \"family == 'digits'\"")
        folder = options.results_folder(out, f"{file.stem}-{'layers' if other is None else other.stem}")
        files = [file] if other is None else [file, other]
        found = _grids(files, measures or ["cka"], Asked(site, layers, where, rows), seed, folder, quiet=quiet)
        reports = {folder / name: (result, _grid_report(result, same=other is None)) for name, result in found.items()}
        write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)
        return
    folder = options.results_folder(out, f"{file.stem}-compare")
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        result = between_pairs(
            view,
            _pairs(view.store, names),
            measures=measures or DEFAULT_MEASURES,
            model=recorded_model(view.store, model, quiet=quiet) if view.site in RESIDUAL else None,
            seed=seed,
            loop=loop,
        )
    reports = {folder: (result, _families_report(result))}
    write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _pairs(store: "ActivationStore", names: list[str] | None) -> list[tuple[str, str]]:
    """All pairs of the families named, or of the store's."""
    from geometry.rows.analysed import families_text

    pairs = list(combinations(names or store.families, 2))
    if not pairs:
        raise InputError(
            f"a comparison needs two families that are not controls; got {len(names or store.families)} from the "
            f"store: {families_text(store)}"
        )
    return pairs


def _families_report(result: "LayerResult") -> Report:
    from geometry.between.summary import summary
    from geometry.pictures import pictures_of
    from geometry.similarity.family_measures import MEASURES
    from geometry.stats.uncertainty import LEAST_CONTROLS

    named = result.parameters["measures"]
    deciding = [name for name in named if MEASURES[name].decides]
    tables = {"summary": summary(result)} if deciding else {}
    title = "measures that describe: highest value over layers beside its controls"
    shown = Shown(_highest(result), title, ("a", "b", "measure"))
    if deciding:
        site = result.parameters["site"]
        title = f"{deciding[0]} of matched members, {site}, at the layer with the smallest p"
        shown = Shown(_short(tables["summary"]), title, ("a", "b"))
    notes, n_controls = [f"rows: {result.parameters['where']}"], int(result.table["n_controls"].min())
    if deciding and n_controls < LEAST_CONTROLS:
        hint = f"{n_controls} control families: a verdict takes {LEAST_CONTROLS}; record control:0-19 with the others"
        notes.insert(0, hint)

    return Report(lambda: drawn(result, pictures_of(result)), tables, [shown], notes)


def _short(summary: "pd.DataFrame") -> "pd.DataFrame":
    """The summary as a terminal shows it: the interval in one column, and no more than is read at a glance."""
    columns = ["a", "b", "verdict", "layer", "value", "95 %", "q", "readout_removed", "index_removed", "n_members"]
    if (summary["n_orders"] > 0).any():
        columns[3:3] = ["code"]
        columns[-1:-1] = ["reordered", "order_q"]
    short = summary.assign(**{"95 %": intervals(summary)})[columns]
    return worded(short, {"readout_removed": "no readout", "index_removed": "index lost"})


def _highest(result: "LayerResult") -> "pd.DataFrame":
    table = result.table[result.table["variant"] == "plain"].dropna(subset="value")
    best = table.loc[table.groupby(["a", "b", "measure"], sort=False)["value"].idxmax()]
    columns = ["a", "b", "measure", "layer", "value", "control_max", "control_mean", "permuted_mean", "n_members"]
    return worded(best[columns])


def _grids(
    files: list[Path], measures: list[str], asked: Asked, seed: int, folder: Path, *, quiet: bool
) -> "dict[str, LayerResult]":
    """By measure the layers of one store against each other, or against those of a second."""
    from cache.store.store import ActivationStore
    from geometry.between.layers import between_layers, between_stores

    between: Callable[..., LayerResult] = between_layers if len(files) == 1 else between_stores
    results = {}
    with ExitStack() as stack:
        stores = [stack.enter_context(ActivationStore.open(file)) for file in files]
        views = [store.view(asked.site, asked.layers, asked.where, asked.rows) for store in stores]
        for name in measures:
            with watched(None, folder / name, quiet=quiet, what=f"{name} of all layers") as loop:
                results[name] = between(*views, measure=name, seed=seed, loop=loop)
    return results


def _grid_report(result: "LayerResult", *, same: bool) -> Report:
    from geometry.pictures import pictures_of

    first = result.table.iloc[0]
    counts = numbers_in(first, "row", "member")
    title = f"{result.parameters['measure']} of {result.parameters['site']}, {counts}"
    return Report(
        draw=lambda: drawn(result, pictures_of(result)),
        shown=[Shown(_neighbours(result, same=same), title, ("layer",), "value")],
        notes=[f"rows: {result.parameters['where']}"],
    )


def _neighbours(result: "LayerResult", *, same: bool) -> "pd.DataFrame":
    """Each layer beside the next one, or beside the one of the other model that it is most like."""
    table = result.table
    if same:
        nearest = table[table["layer_b"] == table["layer"] + 1]
    else:
        nearest = table.loc[table.dropna(subset="value").groupby("layer")["value"].idxmax()]
    names = {"layer_b": "next layer" if same else "most like layer"}
    return worded(nearest[["layer", "layer_b", "value", "se", "null_max"]], names)
