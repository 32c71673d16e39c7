"""`geometry svd|pca|nmf|demix|umap`: what lies in the rows of one site, at every layer, with pictures."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from geometry.cli.console import options
from geometry.cli.console.recorded_model import RecordedModel, recorded_model
from geometry.cli.console.results import Page, show
from geometry.cli.console.viewed import viewed
from geometry.cli.record.store import StoreFile

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cache import ActivationStore
    from geometry.results.result import LayerResult


def pca(
    file: StoreFile,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    components: options.Components = 5,
    model: RecordedModel = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Principal components at every layer: scatter, spectra, the variance they explain, and what they stand for."""
    from geometry.layers.principal import pca_by_layer

    folder = options.results_folder(out, f"{file.stem}-pca")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = pca_by_layer(view, k=components, seed=seed, loop=loop)
        tables = {"loadings": _loadings(view.store, result, model, quiet=quiet)}
    _show(result, tables, folder, _shares(result), as_json=as_json, quiet=quiet)


def svd(
    file: StoreFile,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    components: options.Components = 5,
    model: RecordedModel = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Singular vectors at every layer, no mean removed: as pca, the first one being mostly the mean."""
    from geometry.layers.principal import svd_by_layer

    folder = options.results_folder(out, f"{file.stem}-svd")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = svd_by_layer(view, k=components, seed=seed, loop=loop)
        tables = {"loadings": _loadings(view.store, result, model, quiet=quiet)}
    _show(result, tables, folder, _shares(result), as_json=as_json, quiet=quiet)


def nmf(
    file: StoreFile,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    components: options.Components = 5,
    model: RecordedModel = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Non-negative factors at every layer; signed activations are split by sign. At home on mlp_post."""
    from geometry.layers.nmf import nmf_by_layer

    folder = options.results_folder(out, f"{file.stem}-nmf")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = nmf_by_layer(view, k=components, seed=seed, loop=loop)
        tables = {"loadings": _loadings(view.store, result, model, quiet=quiet)}
    columns = ["layer", "component", "explained_variance_ratio", "null_max", "agreement", "stability"]
    _show(result, tables, folder, result.table[columns], as_json=as_json, quiet=quiet)


def demix(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    components: options.Components = 4,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Variance split into shared index, index x family, family and template, at every layer, cross-validated."""
    from geometry.layers.demix import demix_by_layer

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-demix")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = demix_by_layer(view, names, k=components, seed=seed, loop=loop)
    wide = result.table.pivot_table(index="layer", columns="part", values="share", sort=False, dropna=False)
    shared = result.table[result.table["part"] == "shared index"].set_index("layer")
    short = wide.assign(**{"index p over layers": shared["p_layers"]}).reset_index()
    _show(result, {}, folder, short, as_json=as_json, quiet=quiet)


def umap(
    file: StoreFile,
    site: options.Site = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """UMAP pictures at every layer, on 50 principal components; seeded, and so on one thread. No evidence."""
    from geometry.layers.umap import umap_by_layer

    folder = options.results_folder(out, f"{file.stem}-umap")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = umap_by_layer(view, seed=seed, loop=loop)
    short = result.table[["layer", "trustworthiness", "n_members", "n_rows"]]
    _show(result, {}, folder, short, as_json=as_json, quiet=quiet)


def _loadings(store: "ActivationStore", result: "LayerResult", name: str | None, *, quiet: bool) -> "pd.DataFrame":
    from geometry.layers.loadings import loadings

    return loadings(result, recorded_model(store, name, quiet=quiet))


def _figures(result: "LayerResult", tables: "Mapping[str, pd.DataFrame]") -> "dict[str, Callable[[], Figure]]":
    from geometry.figures.loadings import loading_table
    from geometry.figures.scatter import explained_variance_by_layer, scatter_by_layer
    from geometry.figures.spectra import demixed_by_layer, spectra_by_layer

    by_name = {"demix": {"demixed": demixed_by_layer}}.get(result.name, {"scatter": scatter_by_layer})
    if result.name in {"pca", "svd"}:
        by_name |= {"explained_variance": explained_variance_by_layer, "spectra": spectra_by_layer}
    figures: dict[str, Callable[[], Figure]] = {name: partial(draw, result) for name, draw in by_name.items()}
    if "loadings" in tables:
        title = f"{result.parameters['site']}: what {result.name} components stand for"
        figures["loadings"] = partial(loading_table, tables["loadings"], title=title)
    return figures


def _show(
    result: "LayerResult",
    tables: "Mapping[str, pd.DataFrame]",
    folder: Path,
    short: "pd.DataFrame",
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    counts = result.table.iloc[0]
    what = f"{counts['n_rows']} rows, {counts['n_members']} members, {counts['n_templates']} templates"
    title = f"{result.name} of {result.parameters['site']}: {what}"
    notes = [f"rows: {result.parameters['where']}"]
    page = Page(result, folder, _figures(result, tables), tables, {title: short}, notes)
    show(page, as_json=as_json, quiet=quiet)


def _shares(result: "LayerResult") -> "pd.DataFrame":
    from geometry.figures.scatter import SHORT

    wide = result.table.pivot_table(index="layer", columns="component", values="explained_variance_ratio", dropna=False)
    first = result.table[result.table["component"] == 0].set_index("layer")
    short = SHORT[result.name]
    wide.columns = [f"{short}{number}" for number in range(1, wide.shape[1] + 1)]
    wide.insert(1, f"{short}1 se", first["se"])
    wide["null max"] = first["null_max"]
    wide[f"{short}1 stability"] = first["stability"]
    wide["participation"] = first["participation_ratio"]
    return wide.reset_index()
