"""`geometry sae train`: SAEs trained by sae-lens on what a store holds."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.shown.counts import number_of
from geometry.cli.console import options
from geometry.cli.console.terminal import console, print_json, print_tables, progress
from geometry.cli.features.sae import COLUMNS
from geometry.cli.record.cache import gone_on_with
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from probes.sae_training.plan import SAEPlan


Sites = Annotated[
    str, typer.Option(help="Sites, comma-separated: blocks.15.hook_resid_post,blocks.20.hook_resid_post.")
]
Architecture = Annotated[str, typer.Option(help="batchtopk topk jumprelu matryoshka.")]
K = Annotated[int, typer.Option("--k", help="Active features a row, on average (topk: of every row).")]
Steps = Annotated[int, typer.Option(help="Batches.")]
BatchSize = Annotated[int, typer.Option(help="Rows a batch.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Adam's learning rate.")]
Seeds = Annotated[int, typer.Option(help="SAEs a site, with seeds from --seed on.")]
LeftOutFrames = Annotated[
    str, typer.Option(help="Frames that no SAE is trained on, to try it on them; comma-separated.")
]
LeftOutTemplates = Annotated[int, typer.Option(help="The last templates of every frame that no SAE is trained on.")]
LeftOutDocuments = Annotated[float, typer.Option(help="Share of documents of text that no SAE is trained on.")]


def train(
    file: StoreFile,
    hook: Sites,
    architecture: Architecture = "batchtopk",
    width: Annotated[int, typer.Option(help="Features of each SAE.")] = 2048,
    k: K = 32,
    steps: Steps = 2000,
    batch_size: BatchSize = 1024,
    lr: LearningRate = 3e-3,
    sequences: Annotated[
        float, typer.Option(help="Share of each batch that is sequences, where the store has text too.")
    ] = 0.2,
    tokens: Annotated[
        int | None, typer.Option(help="Most tokens of text that train, in whole documents; default all.")
    ] = None,
    seeds: Seeds = 1,
    leave_out_frames: LeftOutFrames = "",
    leave_out_templates: LeftOutTemplates = 1,
    leave_out_documents: LeftOutDocuments = 0.125,
    out: Annotated[Path | None, typer.Option(help="Folder; default saes/<file>.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train SAEs by sae-lens on a store, at several sites and with several seeds in one reading of it."""
    from cache.store.store import ActivationStore
    from cache.whole_files import check_folder

    folder = out or Path("saes") / options.file_stem(file.stem)
    check_folder(folder)
    with ActivationStore.open(file) as store:
        from probes.sae_training.plan import plan_training

        plan = plan_training(
            store,
            names_of(hook),
            architecture=architecture,
            width=width,
            k=k,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            sequences=sequences,
            tokens=tokens,
            seeds=tuple(range(seed, seed + seeds)),
            documents=leave_out_documents,
            templates=leave_out_templates,
            frames=tuple(names_of(leave_out_frames)),
        )
        _say(plan, store, folder, quiet=quiet)
        places = _train(store, plan, folder, quiet=quiet)
    _tell(folder, places, file, as_json=as_json, quiet=quiet)


def _say(plan: "SAEPlan", store: "ActivationStore", folder: Path, *, quiet: bool) -> None:
    """What is going to be done, and on how much."""
    split = plan.split(store)
    rows = ", ".join(f"{count} {part}" for part, count in split.described()["rows"].items() if count)
    drawn = ", ".join(f"{size} of {part}" for part, (_, size) in plan.pools(split).items())
    saes = number_of(len(plan.hooks) * len(plan.seeds), "SAE")
    console(quiet=quiet).print(
        f"{saes} of {plan.width} features, {plan.steps} batches of {drawn} -> {folder}\nrows: {rows}"
    )


def _train(store: "ActivationStore", plan: "SAEPlan", folder: Path, *, quiet: bool) -> list[Path]:
    from probes.sae_training.train import train_saes

    stop: list[int] = []
    with gone_on_with(stop), progress(quiet=quiet) as bar:
        task = bar.add_task("training", total=plan.steps, speed="")

        def on_step(done: int, told: dict[str, float]) -> None:
            explained = f"explained {told['explained_variance']:.3f}, L0 {told['l0']:.1f}"
            bar.update(task, completed=done, speed=explained)

        return train_saes(store, plan, folder, on_step=on_step, should_stop=lambda: bool(stop))


def _tell(folder: Path, places: list[Path], file: Path, *, as_json: bool, quiet: bool) -> None:
    """How training ended, on the batches that it was training on; and how the SAEs do on what was left out."""
    import pandas as pd

    curve: Any = pd.read_csv(folder / "curve.csv")
    last = curve[curve["step"] == curve["step"].max()].drop(columns="step")
    left_out = pd.read_csv(folder / "left_out.csv")
    if as_json:
        told = {"last": last, "left_out": left_out}
        records = {name: json.loads(table.to_json(orient="records")) for name, table in told.items()}
        print_json({"folders": [str(place) for place in places], **records})
        return
    tables = [Shown(last.rename(columns=COLUMNS), "the last batch of training", ("sae",))]
    if len(left_out):
        tables += [Shown(left_out.rename(columns=COLUMNS), "what was left out of training", ("sae", "part"))]
    print_tables(tables, full=False, quiet=quiet)
    first = shlex.quote(str(places[0]))
    console(quiet=quiet).print(
        f"{folder}/{', '.join(sorted(path.name for path in folder.glob('*.*') if path.suffix in ('.csv', '.json')))}\n"
        f"next: geometry sae info {first} --store {shlex.quote(str(file))}"
    )
