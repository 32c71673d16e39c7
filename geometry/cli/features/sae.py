"""`geometry sae`: what an SAE is, and how it does on a store."""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.recorded_model import needed_model
from geometry.cli.console.terminal import console, print_json, print_tables
from geometry.cli.tables.shown import Shown
from geometry.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from cache.store.store import ActivationStore
    from probes.sae.basis import SAEBasis, Transcoder
    from probes.sae.quality import SAEQuality

_SHORT = ["set", "explained", "L0", "dead", "task", "spliced", "loss recovered", "without largest", "median dimension"]
COLUMNS = {
    "explained_variance": "explained",
    "without_largest": "without largest",
    "median_dimension": "median dimension",
    "l0": "L0",
    "accuracy": "task",
    "spliced_accuracy": "spliced",
    "loss_recovered": "loss recovered",
    "index_variance": "index",
    "index_variance_last": "index, last token",
}

sae = typer.Typer(no_args_is_help=True, help="Sparse autoencoders: what one is, and how it does on a store.")


@sae.callback()
def _group() -> None:
    """Sparse autoencoders: what one is, and how it does on a store."""


@sae.command()
def info(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_RELEASE",
            help="A folder with cfg.json and sae_weights.safetensors, or sae-lens's name of a release "
            "(gpt2-small-res-jb).",
        ),
    ],
    sae_id: options.SAEId = None,
    store: Annotated[
        Path | None, typer.Option(help="An .h5 file of geometry cache: how the SAE does on its rows.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --store: the model recorded, for its loss and task with the reconstruction spliced in."
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="With --store: rows, as a query over their columns: \"frame == 'list'\".")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="With --store: the column of prompts that makes sets; default family (controls together) or group."
        ),
    ] = None,
    called: Annotated[
        str | None, typer.Option(help="The name that the SAE's files give the store's model, where it has two.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="With --model: how many prompts it runs, as many of each set.")] = 128,
    out: Annotated[
        Path | None, typer.Option(help="Folder for sae.json and quality.csv; default with --store figures/<file>-sae.")
    ] = None,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what an SAE is and belongs to; with a store how much of it is explained, by how many features, by set."""
    from cache.whole_files import check_folder
    from probes.sae.sources import find_sae

    if store is None and (model or where or by or called):
        raise InputError("--model, --where, --by and --called say more of a store; give one with --store")
    folder = out or (None if store is None else Path("figures") / options.file_stem(store.stem, "sae"))
    if folder is not None:
        check_folder(folder)
    find_sae(source, sae_id)  # what is not there is told before torch is imported

    from probes.sae.load import read_sae

    found = read_sae(source, sae_id)
    facts, quality = _facts(found), None
    if store is not None:
        quality, faults = _measured(found, store, model, called, quiet=quiet, where=where, by=by, n_prompts=prompts)
        facts["faults"] = faults
        for fault in faults:
            console(quiet=quiet).print(f"warning: {fault}")
    paths = [] if folder is None else _write(folder, facts, quality)
    if as_json:
        print_json({**facts, "quality": [] if quality is None else _records(quality.table)})
    else:
        _print(facts, quality, full=full, quiet=quiet)
    if paths:
        console(quiet=quiet).print("\n".join(map(str, paths)))


def _facts(found: "SAEBasis | Transcoder") -> dict[str, Any]:
    """What is known of an SAE by itself."""
    from probes.sae.basis import Transcoder

    origin, form = found.origin, found.nonlinearity
    reads = found.reads if isinstance(found, Transcoder) else found.hook
    facts: dict[str, Any] = {"name": origin.name, "architecture": origin.architecture, "form": form.name}
    facts |= {} if form.k is None else {"k": form.k}
    facts |= {} if form.threshold is None else {"median threshold": float(form.threshold.median())}
    facts |= {"features": len(found.directions), "width": len(found.encoder)}
    facts |= {"site": origin.site or None, "head": reads.head if reads is not None else None}
    if isinstance(found, Transcoder):
        facts |= {"writes": None if found.writes is None else found.writes.name, "width written": len(found.offset)}
    return {**facts, "model": origin.model or None, "bos": origin.bos}


def _measured(
    found: "SAEBasis | Transcoder", file: Path, model: str | None, called: str | None, *, quiet: bool, **asked: Any
) -> "tuple[SAEQuality, list[str]]":
    """The SAE's quality on a store, and what is to be warned of."""
    from cache.store.store import ActivationStore
    from probes.sae.load import matched
    from probes.sae.quality import sae_quality

    with ActivationStore.open(file) as store, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        there = matched(found, store, called)
        loaded = None if model is None else needed_model(store, model, quiet=quiet)
        with console(quiet=quiet).status(f"reading {file.name}"):
            quality = sae_quality(there, store, model=loaded, **asked)
            if not quality.faults:
                look_at_other_sites(there, store)
    return quality, [str(one.message) for one in warned if one.category is UserWarning]


def look_at_other_sites(found: "SAEBasis | Transcoder", store: "ActivationStore") -> None:
    """Warn of an SAE that does not explain a sample of the store's rows, or explains another site better."""
    from probes.sae.basis import SAEBasis
    from probes.sae.quality import warn_of_sample

    if isinstance(found, SAEBasis):
        warn_of_sample(found, store)


def _write(folder: Path, facts: Mapping[str, Any], quality: "SAEQuality | None") -> list[Path]:
    import json

    from cache.whole_files import write_whole

    paths = [write_whole(folder / "sae.json", json.dumps(facts, indent=2) + "\n")]
    if quality is not None:
        table = quality.table.to_csv(index=False, float_format="%.6g")
        paths.append(write_whole(folder / "quality.csv", table))
    return paths


def _records(table: "pd.DataFrame") -> Any:
    import json

    return json.loads(table.to_json(orient="records"))


def _print(facts: Mapping[str, Any], quality: "SAEQuality | None", *, full: bool, quiet: bool) -> None:
    told = {name: value for name, value in facts.items() if name != "faults" and value is not None}
    indent = max(map(len, told)) + 2
    for name, value in () if quiet else told.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        sys.stdout.write(f"{name.ljust(indent)}{printable(shown)}\n")
    if quality is None or quiet:
        return
    lines = quality.table.rename(columns=COLUMNS)
    kept = [name for name in (*_SHORT, "n_rows", "n_prompts", "loss", "spliced_loss") if name in lines]
    sys.stdout.write("\n")
    print_tables([Shown(lines[kept], "how the SAE does, by set of rows", ("set",))], full=full, quiet=quiet)
