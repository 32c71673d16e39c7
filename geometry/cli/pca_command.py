"""`geometry pca`: principal components at every layer, with pictures."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geometry.cli import options
from geometry.cli.store_commands import StoreFile
from geometry.cli.terminal import console, print_table, progress

if TYPE_CHECKING:
    import pandas as pd

    from geometry.layerwise import LayerResult


def pca(
    file: StoreFile,
    site: Annotated[
        str, typer.Option(help="Kind of site: resid_post (with the embedding), mlp_out, z ...")
    ] = "resid_post",
    layers: options.Layers = "all",
    where: Annotated[
        str | None,
        typer.Option(help="Rows, as a query over their columns: \"family == 'digits' and is_last\"."),
    ] = None,
    components: Annotated[int, typer.Option(help="How many components.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and tables; default figures/<file>-pca.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Principal components at every layer: a scatter panel each, and the variance they explain."""
    from cache.store import ActivationStore
    from geometry.figures import explained_variance_by_layer, scatter_by_layer
    from geometry.layerwise import site_hooks
    from geometry.layerwise_pca import pca_by_layer
    from geometry.report import write_report

    folder = out or Path("figures") / f"{file.stem}-pca"
    say = console(quiet=quiet)
    with ActivationStore.open(file) as store:
        if not store.complete:
            say.print(f"{file} is not complete: {len(store.rows)} rows are recorded so far", markup=False)
        with progress("layers", quiet=quiet) as bar:
            task = bar.add_task("layers", total=len(site_hooks(store, site, layers)), speed="")
            result = pca_by_layer(
                store,
                site,
                layers=layers,
                where=where,
                k=components,
                seed=seed,
                on_hook=lambda _: bar.advance(task),
            )
    with say.status("drawing"):
        figures = {
            "scatter": scatter_by_layer(result),
            "explained_variance": explained_variance_by_layer(result),
        }
        paths = write_report(result, figures, folder)
    if as_json:
        sys.stdout.write(result.table.to_json(orient="records", indent=2) + "\n")
    else:
        print_table(_short(result), title=f"explained variance ratio of {site}: {_counts(result)}")
    say.print(f"rows: {result.parameters['where']}\n" + "\n".join(str(path) for path in paths), markup=False)


def _counts(result: "LayerResult") -> str:
    counts = result.table.iloc[0]
    return f"{counts['n_rows']} rows, {counts['n_members']} members, {counts['n_templates']} templates"


def _short(result: "LayerResult") -> "pd.DataFrame":
    wide = result.table.pivot_table(index="layer", columns="component", values="explained_variance_ratio")
    first = result.table[result.table["component"] == 0].set_index("layer")
    wide.columns = [f"PC{number}" for number in range(1, wide.shape[1] + 1)]
    wide.insert(1, "PC1 se", first["se"])
    wide["null max"] = first["null_max"]
    return wide.reset_index()
