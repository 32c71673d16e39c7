"""`geometry compare`: families, layers or models against each other, with nulls, controls and a verdict."""

import sys
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.recorded_model import RecordedModel, recorded_model
from geometry.cli.console.terminal import console, drawing, print_table, progress
from geometry.cli.record.store import StoreFile

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
    model: RecordedModel = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Are families coded alike, layer by layer? Or: how alike are layers, of one model or of two?"""
    from cache.store.store import ActivationStore

    measures = [part.strip() for part in measure.split(",") if part.strip()]
    names = options.families_of(families)
    if between not in {"families", "layers"}:
        raise InputError(f"--between takes families or layers; got {between!r}")
    if other is not None or between == "layers":
        if names is not None:
            raise InputError("--families goes with --between families; choose rows with --where \"family == 'digits'\"")
        _grids(file, other, measures or ["cka"], site, layers, where, out, seed, as_json=as_json, quiet=quiet)
        return
    folder = options.results_folder(out, f"{file.stem}-compare")
    with ActivationStore.open(file) as store:
        result = _families(store, names, measures, site, layers, where, model, seed, quiet=quiet)
    _write_families(result, folder, as_json=as_json, quiet=quiet)


def _families(
    store: "ActivationStore",
    names: list[str] | None,
    measures: list[str],
    site: str,
    layers: str,
    where: str | None,
    model: str | None,
    seed: int,
    *,
    quiet: bool,
) -> "LayerResult":
    from geometry.between.families import DEFAULT_MEASURES, RESIDUAL, between_pairs
    from geometry.results.result import site_hooks
    from geometry.rows.analysed import families_text
    from geometry.rows.cells import CONTROL_PREFIX

    known = [name for name in dict.fromkeys(store.rows["family"]) if name and not name.startswith(CONTROL_PREFIX)]
    pairs = list(combinations(names or known, 2))
    if not pairs:
        raise InputError(
            f"a comparison needs two families that are not controls; got {len(names or known)} from the store: "
            f"{families_text(store)}"
        )
    hooks = site_hooks(store, site, layers)
    loaded = recorded_model(store, model, quiet=quiet) if site in RESIDUAL else None
    with progress("layers", quiet=quiet) as bar:
        task = bar.add_task("layers", total=len(hooks), speed="")
        return between_pairs(
            store,
            pairs,
            measures=measures or DEFAULT_MEASURES,
            site=site,
            layers=layers,
            where=where,
            model=loaded,
            seed=seed,
            on_hook=lambda _: bar.advance(task),
        )


def _write_families(result: "LayerResult", folder: Path, *, as_json: bool, quiet: bool) -> None:
    from geometry.between.summary import summary
    from geometry.figures.compare import described_by_layer, shared_index_by_layer
    from geometry.report import write_report
    from geometry.similarity.family_measures import MEASURES
    from geometry.stats.uncertainty import LEAST_CONTROLS

    say = console(quiet=quiet)
    named = result.parameters["measures"]
    deciding = [name for name in named if MEASURES[name].decides]
    describing = [name for name in named if not MEASURES[name].decides]
    with drawing(quiet=quiet):
        figures = {name: shared_index_by_layer(result, measure=name) for name in deciding}
        if describing:
            figures["described"] = described_by_layer(result, describing)
        tables = {"summary": summary(result)} if deciding else {}
        paths = write_report(result, figures, folder, tables)
    if as_json:
        sys.stdout.write(result.table.to_json(orient="records", indent=2) + "\n")
    elif deciding:
        site = result.parameters["site"]
        print_table(
            _short(tables["summary"]),
            title=f"{deciding[0]} of matched members, {site}, at the layer with the smallest p",
        )
    else:
        print_table(_highest(result), title="measures that describe: highest value over layers beside its controls")
    n_controls = int(result.table["n_controls"].min())
    if deciding and n_controls < LEAST_CONTROLS:
        hint = f"{n_controls} control families: a verdict takes {LEAST_CONTROLS}; record control:0-19 with the others"
        say.print(hint, markup=False)
    say.print(f"rows: {result.parameters['where']}\n" + "\n".join(str(path) for path in paths), markup=False)


def _short(summary: "pd.DataFrame") -> "pd.DataFrame":
    """The summary as a terminal shows it: the interval in one column, and no more than is read at a glance."""
    ends = zip(summary["ci_low"], summary["ci_high"], strict=True)
    interval = ["" if low != low else f"{low:.2f} to {high:.2f}" for low, high in ends]
    columns = ["a", "b", "verdict", "layer", "value", "95 %", "q", "readout_removed", "index_removed", "n_members"]
    if (summary["n_orders"] > 0).any():
        columns[3:3] = ["code"]
        columns[-1:-1] = ["reordered", "order_q"]
    short = summary.assign(**{"95 %": interval})[columns]
    return short.rename(columns={"readout_removed": "no readout", "index_removed": "index lost", "n_members": "n"})


def _highest(result: "LayerResult") -> "pd.DataFrame":
    table = result.table[result.table["variant"] == "plain"].dropna(subset="value")
    best = table.loc[table.groupby(["a", "b", "measure"], sort=False)["value"].idxmax()]
    columns = ["a", "b", "measure", "layer", "value", "permuted_mean", "control_mean", "control_max", "n_members"]
    return best[columns]


def _grids(
    file: Path,
    other: Path | None,
    measures: list[str],
    site: str,
    layers: str,
    where: str | None,
    out: Path | None,
    seed: int,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    import pandas as pd

    from cache.store.store import ActivationStore
    from geometry.between.layers import between_layers, between_stores
    from geometry.figures.compare import layer_heatmap
    from geometry.report import write_report

    say = console(quiet=quiet)
    folder = options.results_folder(out, f"{file.stem}-{'layers' if other is None else other.stem}")
    results = []
    with ActivationStore.open(file) as a, ActivationStore.open(other) if other else nullcontext() as b:
        for name in measures:
            with say.status(f"{name} of all layers"):
                results.append(
                    between_layers(a, measure=name, site=site, layers=layers, where=where, seed=seed)
                    if b is None
                    else between_stores(a, b, measure=name, site=site, layers=layers, where=where, seed=seed)
                )
    with drawing(quiet=quiet):
        paths = [
            path
            for name, result in zip(measures, results, strict=True)
            for path in write_report(result, {"grid": layer_heatmap(result)}, folder / name)
        ]
    if as_json:
        table = pd.concat([result.table for result in results], ignore_index=True)
        sys.stdout.write(table.to_json(orient="records", indent=2) + "\n")
    else:
        for name, result in zip(measures, results, strict=True):
            print_table(_neighbours(result, same=other is None), title=f"{name} of {site}, {_counts(result)}")
    say.print(f"rows: {results[0].parameters['where']}\n" + "\n".join(str(path) for path in paths), markup=False)


def _neighbours(result: "LayerResult", *, same: bool) -> "pd.DataFrame":
    """Each layer beside the next one, or beside the one of the other model that it is most like."""
    table = result.table
    if same:
        nearest = table[table["layer_b"] == table["layer"] + 1]
    else:
        nearest = table.loc[table.dropna(subset="value").groupby("layer")["value"].idxmax()]
    return nearest[["layer", "layer_b", "value", "se", "null_max"]]


def _counts(result: "LayerResult") -> str:
    first = result.table.iloc[0]
    return f"{first['n_rows']} rows, {first['n_members']} members"
