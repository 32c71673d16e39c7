"""`geometry sae extract`: an SAE's features at the rows of a store, in a file of their own."""

import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import filesize

from cache.shown.counts import number_of
from geometry.cli.console import options
from geometry.cli.console.terminal import console, print_json, progress
from geometry.cli.features.sae import look_at_other_sites
from geometry.cli.record.cache import gone_on_with, say_finished
from geometry.cli.record.store import StoreFile

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from probes.sae.basis import SAEBasis, Transcoder
    from probes.sae_features.features import FeatureActivations
    from probes.sae_features.plan import Extraction


def extract(
    file: StoreFile,
    sae: Annotated[
        str,
        typer.Option(
            help="A folder with cfg.json and sae_weights.safetensors, or sae-lens's name of a release.",
        ),
    ],
    sae_id: options.SAEId = None,
    features: Annotated[
        str | None, typer.Option(help="Numbers of features, comma-separated; default: all that are active.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Rows, as a query over their columns: \"position >= 0 and frame == 'list'\"; default: all."),
    ] = None,
    called: Annotated[
        str | None, typer.Option(help="The name that the SAE's files give the store's model, where it has two.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HDF5 file; default features/<file>-<site>-<sae>.h5.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever is in the file.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the active features of an SAE at a store's rows to one HDF5 file.

    The same command again goes on where it was broken off. Ctrl-C finishes the block at hand.
    """
    from probes.sae.sources import find_sae

    numbers = None if features is None else options.numbers(features, int, "--features takes numbers such as 3,17")
    find_sae(sae, sae_id)  # what is not there is told before torch is imported

    from cache.store.store import ActivationStore
    from probes.sae.load import matched, read_sae
    from probes.sae_features.features import open_features
    from probes.sae_features.plan import plan_extraction

    with ActivationStore.open(file) as store:
        found = matched(read_sae(sae, sae_id), store, called)
        path = out or Path("features") / f"{options.file_stem(file.stem, _site_of(found), Path(sae).name)}.h5"
        extraction = plan_extraction(found, store, path, where, numbers, overwrite=overwrite)
        if extraction.complete:
            say_finished(path, quiet=quiet)
        else:
            _warn(found, store, quiet=quiet)
            _extract(extraction, path, quiet=quiet)
    with open_features(path) as features_there:
        _tell(features_there, path, as_json=as_json, quiet=quiet)


def _site_of(found: "SAEBasis | Transcoder") -> str:
    from probes.sae.basis import Transcoder

    hook = found.reads if isinstance(found, Transcoder) else found.hook
    return "" if hook is None else hook.name if hook.head is None else f"{hook.name}.{hook.head}"


def _warn(found: "SAEBasis | Transcoder", store: "ActivationStore", *, quiet: bool) -> None:
    """Tell of an SAE that does not explain what it is to read."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        look_at_other_sites(found, store)
    for one in warned:
        console(quiet=quiet).print(f"warning: {one.message}")


def _extract(extraction: "Extraction", path: Path, *, quiet: bool) -> None:
    from probes.sae_features.extract import carry_out

    n_features = len(extraction.features)
    twice = ", read twice: active features are counted first" if extraction.counts else ""
    console(quiet=quiet).print(
        f"{number_of(n_features, 'feature')} of {extraction.sae.origin.name} at {extraction.hook.name}, "
        f"{number_of(len(extraction.rows), 'row')}{twice} -> {path}"
    )
    stop: list[int] = []
    with gone_on_with(stop), progress(quiet=quiet) as bar:
        task = bar.add_task("extracting", total=None, speed="")

        def on_block(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        carry_out(extraction, on_block=on_block, should_stop=lambda: bool(stop))


def _tell(found: "FeatureActivations", path: Path, *, as_json: bool, quiet: bool) -> None:
    """How many features are active, and at how many rows."""
    shares, counts = found.frequency().nan_to_num(), found.n_active()
    told: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sae": found.origin.name,
        "site": found.hook.name,
        "rows": len(found.rows),
        "features": len(found.extracted),
        "ever active": int((shares > 0).sum()),
        "active a row": round(float(counts.double().mean()), 3),
        "slots": found.file.log.sites["features/number"].row_shape[0],
    }
    if as_json:
        print_json(told)
        return
    console(quiet=quiet).print(
        f"{told['ever active']} of {number_of(told['features'], 'feature')} are active at any of "
        f"{number_of(told['rows'], 'row')}, {told['active a row']:.1f} a row, at most {counts.max()}: "
        f"{filesize.decimal(told['bytes'])}\nnext: geometry info {shlex.quote(str(path))}"
    )
    later = counts[(found.rows["position"] > 0).to_numpy()]
    if len(later) and 2 * later.max() < counts.max():
        console(quiet=quiet).print(
            f"after the first token of a text at most {later.max()} are active: --where 'position > 0' leaves BOS and "
            "it out, and makes a smaller file"
        )
