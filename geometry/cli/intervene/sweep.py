"""`geometry sweep`: steer one family into another over layers, strengths and positions, with controls."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel, needed_model
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.terminal import console
from geometry.cli.console.viewed import Asked, opened_store, watched
from geometry.cli.intervene.direction import Source, Target
from geometry.cli.intervene.edited import NamedSAE, SAEName, view_and_sae
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from geometry.results.result import LayerResult

_METHODS = ["method", "success", "95 %", "layer", "alpha", "positions", "chosen", "worst_answer", "hindsight"]
_METHODS += ["earliest_layer", "old_rank", "se"]
_ANSWERS = ["success", "top1_after", "probability_moved", "old_rank", "layer", "alpha", "positions", "within_families"]
_ANSWERS += ["n_rows"]
_OTHERS = ["texts", "kl", "kl_random", "top1_changed", "kl_se", "layer", "alpha", "positions", "n_texts"]


def sweep(
    file: StoreFile,
    source: Source,
    target: Target,
    site: Annotated[str, typer.Option(help="resid_post (with the embedding) or resid_pre.")] = "resid_post",
    layers: options.Layers = "all",
    where: options.Where = None,
    alphas: Annotated[str, typer.Option(help="Strengths in units of the direction's own step.")] = "0.5,1,1.5,2,3,5",
    positions: Annotated[str, typer.Option(help="Of last, members, both and all; comma-separated.")] = "last,all",
    sae: SAEName = None,
    sae_id: options.SAEId = None,
    features: Annotated[
        int | None,
        typer.Option(help="With --sae: only so many features, those that differ most; default: all that differ."),
    ] = None,
    model: NeededModel = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn every prompt of one family into another's answer, by directions that have not seen that answer."""
    from probes.pictures import pictures_of
    from probes.steering.cells import before_and_after, nested_cells, sweep_summary
    from probes.steering.collateral import collateral
    from probes.steering.settings import Grid
    from probes.steering.sweep import sweep as run_sweep

    if features is not None and sae is None:
        raise InputError("--features says how many of an SAE's features are used; give it with --sae")
    grid = Grid(options.numbers(alphas, float, "--alphas takes numbers such as 0.5,1,2"), positions)
    folder = options.results_folder(out, options.file_stem(file.stem, source, target))
    drawn_as = options.formats_of(formats)
    with opened_store(file, quiet=quiet) as store:
        view, basis = view_and_sae(store, Asked(site, layers, where), NamedSAE(sae, sae_id), quiet=quiet)
        grid = replace(grid, basis=basis, n_features=features)
        loaded = needed_model(store, model, quiet=quiet)
        with watched(len(view.hooks), folder, quiet=quiet, passes=2) as loop:
            result = run_sweep(view, loaded, source, target, grid, seed=seed, loop=loop)
            with console(quiet=quiet).status("what it does to other texts"):
                spilled = collateral(view, loaded, result, seed=seed)
            tables = {
                "summary": sweep_summary(result),
                "answers": nested_cells(result),
                "before_after": before_and_after(result),
                "collateral": spilled,
            }
            report = Report(
                lambda: drawn(result, pictures_of(result)), tables, _shown(result, tables), records=tables["summary"]
            )
            write_results({folder: (result, report)}, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _shown(result: "LayerResult", tables: "dict[str, pd.DataFrame]") -> list[Shown]:
    """Tables to print."""
    from probes.directions.contrasts import unit_name

    unit = unit_name(result.rows)
    counts = numbers_in(result.table.iloc[0], "row", "member", "template", row="prompt", member=unit)
    title = (
        f"{result.parameters['source']} -> {result.parameters['target']}: {counts}; all at the cells that "
        f"mean_difference chose without the {unit}"
    )
    summary = tables["summary"].assign(**{"95 %": intervals(tables["summary"])})
    one = tables["before_after"][~result.rows["unit"].duplicated()].drop(columns="answer")
    by_unit = tables["answers"].assign(top1_after=tables["answers"]["top1_after"].map(repr, na_action="ignore"))
    one = one.assign(**{name: one[name].map(repr) for name in ("prompt", "before", "after", "wanted")})
    other = "other texts at the best cell: divergence of the next token, in nats"
    return [
        Shown(worded(summary[_METHODS]), title, ("method",)),
        Shown(worded(by_unit[[unit, *_ANSWERS]]), f"mean_difference, {unit} by {unit}", (unit,)),
        Shown(worded(tables["collateral"][_OTHERS], {"n_texts": "number"}), other, ("texts",)),
        Shown(one, f"one prompt for each {unit}", ("prompt",)),
    ]
