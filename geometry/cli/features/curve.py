"""`geometry sae curve`: what SAEs gain by more text, more features, and other shares of sequences."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import number_of
from geometry.cli.console import options
from geometry.cli.console.results import asked_command
from geometry.cli.console.terminal import console, print_json, print_tables, progress
from geometry.cli.features import train as of_training
from geometry.cli.features.sae import COLUMNS
from geometry.cli.record.cache import gone_on_with
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.store import ActivationStore
    from probes.sae_curve.curve import Curve
    from probes.sae_training.plan import SAEPlan

_KEYS = ["tokens", "width", "sequences", "sae", "part"]
_SHORT = [*_KEYS, "explained_variance", "index_variance", "l0", "dead", "seconds"]


def curve(
    file: StoreFile,
    hook: of_training.Sites,
    tokens: Annotated[
        str, typer.Option(help="Tokens of text that train, in whole documents, comma-separated: 50000,150000,all.")
    ] = "all",
    widths: Annotated[str, typer.Option(help="Features, comma-separated.")] = "1024,2048",
    sequences: Annotated[str, typer.Option(help="Shares of a batch that are sequences, comma-separated.")] = "0.2",
    architecture: of_training.Architecture = "batchtopk",
    k: of_training.K = 32,
    steps: of_training.Steps = 1000,
    batch_size: of_training.BatchSize = 1024,
    lr: of_training.LearningRate = 3e-3,
    seeds: of_training.Seeds = 1,
    leave_out_frames: of_training.LeftOutFrames = "",
    leave_out_templates: of_training.LeftOutTemplates = 1,
    leave_out_documents: of_training.LeftOutDocuments = 0.125,
    out: Annotated[Path | None, typer.Option(help="Folder; default saes/<file>-curve.")] = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train SAEs on less and more text, of several widths, with several shares of sequences: what each explains.

    All are measured on the same documents, templates and frames, which none was trained on.
    """
    from cache.store.store import ActivationStore
    from cache.whole_files import check_folder

    folder, drawn_as = out or Path("saes") / options.file_stem(file.stem, "curve"), options.formats_of(formats)
    check_folder(folder)
    varied = _varied(tokens, widths, sequences)
    with ActivationStore.open(file) as store:
        from probes.sae_training.plan import plan_training

        plan = plan_training(
            store,
            names_of(hook),
            architecture=architecture,
            width=max(varied.widths),
            k=k,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            seeds=tuple(range(seed, seed + seeds)),
            documents=leave_out_documents,
            templates=leave_out_templates,
            frames=tuple(names_of(leave_out_frames)),
        )
        table, source = _trained(store, plan, varied, folder, quiet=quiet), store.fingerprint
    paths = _draw(table, plan, source, folder, drawn_as)
    if as_json:
        print_json(json.loads(table.to_json(orient="records")))
    else:
        lines = table[_SHORT].rename(columns=COLUMNS)
        print_tables([Shown(lines, "what was left out of training", tuple(_KEYS))], full=full, quiet=quiet)
    console(quiet=quiet).print("\n".join(map(str, [folder / "curve.csv", *paths])))


def _draw(table: "pd.DataFrame", plan: "SAEPlan", source: str, folder: Path, formats: list[str]) -> list[Path]:
    from geometry.report import own_style, write_figures
    from geometry.results.described import provenance
    from probes.sae_curve.figures import explained_by_cost

    varied = ("width", "tokens", "sequences", "hooks")
    fixed = {name: value for name, value in plan.__dict__.items() if name not in varied}
    made_from = provenance({"hooks": [hook.name for hook in plan.hooks], **fixed}, source, asked_command())
    with own_style():
        return write_figures({"curve": explained_by_cost(table)}, folder, made_from, formats=formats, salt=source)


def _varied(tokens: str, widths: str, sequences: str) -> "Curve":
    """What is varied, from what was typed."""
    from probes.sae_curve.curve import Curve

    try:
        return Curve(
            tuple(None if one == "all" else int(one) for one in names_of(tokens)),
            tuple(map(int, names_of(widths))),
            tuple(map(float, names_of(sequences))),
        )
    except ValueError as error:
        raise InputError(
            "--tokens and --widths are whole numbers (tokens also: all), --sequences shares, comma-separated; got "
            f"{tokens!r}, {widths!r}, {sequences!r}"
        ) from error


def _trained(
    store: "ActivationStore", plan: "SAEPlan", varied: "Curve", folder: Path, *, quiet: bool
) -> "pd.DataFrame":
    from probes.sae_curve.curve import training_curve

    n_points = len(list(varied.plans(plan)))
    saes = number_of(n_points * len(plan.hooks) * len(plan.seeds), "SAE")
    console(quiet=quiet).print(f"{number_of(n_points, 'point')}, {saes}, {plan.steps} steps each -> {folder}")
    stop: list[int] = []
    with gone_on_with(stop), progress(quiet=quiet) as bar:
        task = bar.add_task("training", total=n_points * plan.steps, speed="")

        def on_step(point: int, done: int, told: dict[str, float]) -> None:
            explained = f"point {point + 1} of {n_points}, explained {told['explained_variance']:.3f}"
            bar.update(task, completed=point * plan.steps + done, speed=explained)

        return training_curve(store, plan, varied, folder, on_step=on_step, should_stop=lambda: bool(stop))
