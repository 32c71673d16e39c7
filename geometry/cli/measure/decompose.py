"""`geometry svd|pca|nmf|demix|umap`: what lies in the rows of one site, at every layer, with pictures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import RecordedModel, recorded_model
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import Asked, check_shown, viewed
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import worded
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.view import View
    from geometry.results.result import LayerResult


def _components(method: str, explanation: str) -> Callable[..., None]:
    """The command of a method that finds components at every layer: such commands differ in nothing else."""

    def command(
        file: StoreFile,
        families: options.FamilyNames = None,
        site: options.Site = "resid_post",
        layers: options.Layers = "all",
        where: options.Where = None,
        rows: options.RowsOfPrompts = None,
        components: options.Components = 5,
        model: RecordedModel = None,
        color: options.Colors = "family",
        layers_shown: options.LayersShown = None,
        out: options.Out = None,
        formats: options.Formats = "png,svg",
        seed: options.Seed = 0,
        full: options.Full = False,
        as_json: options.AsJson = False,
        quiet: options.Quiet = False,
    ) -> None:
        import geometry

        by_layer = getattr(geometry, f"{method}_by_layer")
        folder = options.results_folder(out, f"{file.stem}-{method}")
        drawn_as, colors = options.formats_of(formats), options.colors_of(color)
        shown = options.layers_shown(layers_shown)
        with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
            check_shown(view, shown)
            _check_colors(view, colors)
            result = by_layer(view, options.families_of(families), k=components, seed=seed, loop=loop)
            loadings = geometry.loadings(result, recorded_model(view.store, model, quiet=quiet))
        pictures = _pictures(result, colors, loadings)
        report = _report(result, _short(result), {"loadings": loadings}, lambda: drawn(result, pictures, shown))
        write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)

    command.__name__, command.__doc__ = method, explanation
    return command


pca = _components(
    "pca", "Principal components at every layer: scatter, spectra, the variance they explain, and what they stand for."
)
svd = _components(
    "svd", "Singular vectors at every layer, no mean removed: as pca, the first one being mostly the mean."
)
nmf = _components(
    "nmf", "Non-negative factors at every layer; signed activations are split by sign. At home on mlp_post."
)


def demix(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    rows: options.RowsOfPrompts = None,
    components: options.Components = 4,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Variance split into shared index, index x family, family and template, at every layer, cross-validated."""
    from geometry.layers.demix import demix_by_layer
    from geometry.pictures import pictures_of

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-demix")
    drawn_as = options.formats_of(formats)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        result = demix_by_layer(view, names, k=components, seed=seed, loop=loop)
    wide = result.table.pivot_table(index="layer", columns="part", values="share", sort=False, dropna=False)
    shared = result.table[result.table["part"] == "shared index"].set_index("layer")
    wide.insert(1, "index p over layers", shared["p_layers"])
    short = Shown(wide.reset_index(), keys=("layer",), best="shared index")
    report = _report(result, short, {}, lambda: drawn(result, pictures_of(result)))
    write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def umap(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    rows: options.RowsOfPrompts = None,
    color: options.Colors = "family",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """UMAP pictures at every layer, on 50 principal components; seeded, and so on one thread. No evidence."""
    from geometry.layers.umap import umap_by_layer

    folder = options.results_folder(out, f"{file.stem}-umap")
    drawn_as, colors = options.formats_of(formats), options.colors_of(color)
    shown = options.layers_shown(layers_shown)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        check_shown(view, shown)
        _check_colors(view, colors)
        result = umap_by_layer(view, options.families_of(families), seed=seed, loop=loop)
    short = worded(result.table[["layer", "trustworthiness", "n_members", "n_rows"]])
    pictures, best = _pictures(result, colors), "trustworthiness"
    report = _report(result, Shown(short, keys=("layer",), best=best), {}, lambda: drawn(result, pictures, shown))
    write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _check_colors(view: "View", colors: list[str]) -> None:
    """Refuse labels that rows do not have, before they are analysed."""
    from geometry.figures.scatter import check_label

    for label in colors:
        check_label(label, [*view.store.rows.columns, "unit"])


def _pictures(
    result: "LayerResult", colors: list[str], loadings: "pd.DataFrame | None" = None
) -> dict[str, Callable[..., Any]]:
    """The pictures of a result: its scatter in each of the colours, and what its components stand for."""
    from geometry.figures.loadings import loading_table
    from geometry.pictures import pictures_of

    pictures = dict(pictures_of(result))
    scatter, found = pictures.pop("scatter"), dict[str, Callable[..., Any]]()
    for label in colors:
        name = "scatter" if label == "family" else options.file_stem("scatter", label)
        found[name] = partial(scatter, color=label)
    if loadings is not None:
        title = f"{result.parameters['site']}: what {result.name} components stand for"
        pictures["loadings"] = partial(loading_table, loadings, title=title)
    return found | pictures


def _report(
    result: "LayerResult", short: Shown, tables: "Mapping[str, pd.DataFrame]", draw: Callable[[], Mapping[str, Any]]
) -> Report:
    what = numbers_in(result.table.iloc[0], "row", "member", "template")
    return Report(
        draw=draw,
        tables=tables,
        shown=[replace(short, title=f"{result.name} of {result.parameters['site']}: {what}")],
        notes=[f"rows: {result.parameters['where']}"],
    )


def _short(result: "LayerResult") -> Shown:
    """The table of components as a terminal shows it: a line a layer with their shares; of nmf a line a component."""
    from geometry.figures.captions import SHORT

    if result.name == "nmf":
        names = ["layer", "component", "explained_variance_ratio", "null_max", "agreement", "stability"]
        lines = worded(result.table[names], {"explained_variance_ratio": "explained"})
        return Shown(lines, keys=("layer",), best="explained")
    wide = result.table.pivot_table(index="layer", columns="component", values="explained_variance_ratio", dropna=False)
    first = result.table[result.table["component"] == 0].set_index("layer")
    short = SHORT[result.name]
    wide.columns = [f"{short}{number}" for number in range(1, wide.shape[1] + 1)]
    wide.insert(1, f"{short}1 se", first["se"])
    wide.insert(2, "null max", first["null_max"])
    wide.insert(3, f"{short}1 stability", first["stability"])
    wide["participation"] = first["participation_ratio"]
    return Shown(wide.reset_index(), keys=("layer",), best=f"{short}1")
