"""`geometry svd|pca|nmf|demix|umap`: what lies in the rows of one site, at every layer, with pictures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import RecordedModel, recorded_model
from geometry.cli.console.results import Report, write_results
from geometry.cli.console.viewed import Asked, viewed
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
        layers_shown: options.LayersShown = "8",
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
        drawn_as, shown = options.formats_of(formats), options.layers_shown(layers_shown)
        with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
            _check_shown(view, shown)
            result = by_layer(view, options.families_of(families), k=components, seed=seed, loop=loop)
            n_heads = _n_heads(view)
            loadings = geometry.loadings(result, recorded_model(view.store, model, quiet=quiet))
        report = _report(result, _short(result), {"loadings": loadings}, shown, n_heads)
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

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-demix")
    drawn_as = options.formats_of(formats)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        result = demix_by_layer(view, names, k=components, seed=seed, loop=loop)
    wide = result.table.pivot_table(index="layer", columns="part", values="share", sort=False, dropna=False)
    shared = result.table[result.table["part"] == "shared index"].set_index("layer")
    wide.insert(1, "index p over layers", shared["p_layers"])
    report = _report(result, Shown(wide.reset_index(), keys=("layer",), best="shared index"), {})
    write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def umap(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    rows: options.RowsOfPrompts = None,
    layers_shown: options.LayersShown = "8",
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
    drawn_as, shown = options.formats_of(formats), options.layers_shown(layers_shown)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        _check_shown(view, shown)
        result = umap_by_layer(view, options.families_of(families), seed=seed, loop=loop)
    short = worded(result.table[["layer", "trustworthiness", "n_members", "n_rows"]])
    report = _report(result, Shown(short, keys=("layer",), best="trustworthiness"), {}, shown)
    write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _check_shown(view: "View", shown: int | str) -> None:
    """Refuse layers to show that are not analysed, before they are."""
    from geometry.figures.panels import shown_layers

    shown_layers([hook.table_layer for hook in view.hooks], shown)


def _n_heads(view: "View") -> int:
    """How many heads stand side by side in a row of a site; 1 where there are none."""
    hook = view.hooks[0]
    return view.store.width(hook) // view.store.width(replace(hook, head=0)) if hook.has_heads else 1


def _figures(
    result: "LayerResult", tables: "Mapping[str, pd.DataFrame]", shown: int | str = 8, n_heads: int = 1
) -> dict[str, Any]:
    from geometry.figures.loadings import heads_by_layer, loading_table
    from geometry.figures.scatter import scatter_by_layer
    from geometry.figures.spectra import demixed_by_layer, explained_variance_by_layer, spectra_by_layer

    if result.name == "demix":
        return {"demixed": demixed_by_layer(result)}
    figures = {"scatter": scatter_by_layer(result, layers=shown)}
    if result.name in {"pca", "svd"}:
        figures |= {"explained_variance": explained_variance_by_layer(result), "spectra": spectra_by_layer(result)}
    if "loadings" in tables:
        title = f"{result.parameters['site']}: what {result.name} components stand for"
        figures["loadings"] = loading_table(tables["loadings"], title=title, layers=shown)
    if n_heads > 1:
        figures["heads"] = heads_by_layer(result, n_heads)
    return figures


def _report(
    result: "LayerResult",
    short: Shown,
    tables: "Mapping[str, pd.DataFrame]",
    shown: int | str = 8,
    n_heads: int = 1,
) -> Report:
    what = numbers_in(result.table.iloc[0], "row", "member", "template")
    return Report(
        draw=lambda: _figures(result, tables, shown, n_heads),
        tables=tables,
        shown=[replace(short, title=f"{result.name} of {result.parameters['site']}: {what}")],
        notes=[f"rows: {result.parameters['where']}"],
    )


def _short(result: "LayerResult") -> Shown:
    """The table of components as a terminal shows it: a line a layer with their shares; of nmf a line a component."""
    from geometry.figures.scatter import SHORT

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
