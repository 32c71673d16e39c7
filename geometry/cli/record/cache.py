"""`geometry cache`: record a model's activations."""

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich import filesize

from cache.errors import StoppedError
from geometry.cli.console import options
from geometry.cli.console.terminal import console, load_model_aloud, progress, say_own_prompts, this_command
from geometry.cli.record.finished import is_finished

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.models.tokens import TokenizedPrompts
    from cache.prompts.prompt import Prompts
    from cache.store.recording import Progress, Recording
    from cache.windows import Cut


def cache(
    model: options.ModelName,
    dataset: options.Dataset = "digits,numwords,months",
    frame: options.FrameNames = "quote,list",
    kind: options.KindNames = "increasing",
    length: options.Lengths = "4",
    starts: options.Starts = "all",
    templates: options.Templates = 4,
    sample: options.Sample = None,
    sites: Annotated[
        str | None,
        typer.Option(
            help="Groups (resid heads mlp neurons), kinds (resid_mid q k v ...), hook names or wildcards "
            "(blocks.*.hook_mlp_out); comma-separated. Default: resid,heads,mlp, as far as the model shows them."
        ),
    ] = None,
    layers: options.Layers = "all",
    positions: Annotated[str, typer.Option(help="Tokens to keep: all members last.")] = "all",
    dtype: Annotated[str, typer.Option(help="What is stored: float32 float16.")] = "float32",
    out: Annotated[Path | None, typer.Option(help="The HDF5 file; default activations/<model>.h5.")] = None,
    device: options.Device = "auto",
    bos: options.Bos = True,
    revision: options.Revision = None,
    processing: options.Processing = "none",
    batch_tokens: options.BatchTokens = 256,
    window: Annotated[int, typer.Option(help="Of text:FILE, tokens of a window at most, BOS included.")] = 128,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of text:FILE, so many tokens at most, in windows drawn with the seed.")
    ] = None,
    seed: options.Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever store is in the file.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Record activations of matched sequence prompts to one HDF5 file.

    The same command again goes on where it was broken off. Ctrl-C finishes the block at hand.
    """
    design = options.sequence_design(
        frame=frame, kind=kind, length=length, starts=starts, templates=templates, sample=sample, seed=seed
    )
    path = out or Path("activations") / f"{Path(model).stem if Path(model).exists() else model.replace('/', '--')}.h5"
    with _before_recording():
        from cache.prompts.datasets import load_dataset
        from cache.sealed.path import check_path

        known = check_path(path, overwrite=overwrite)

        prompts = load_dataset(dataset, design)
        say_own_prompts(prompts, quiet=quiet)
        if not overwrite and is_finished(path, sys.argv[1:], model, revision, prompts):
            say_finished(path, quiet=quiet)
            return
        loaded = load_model_aloud(model, device=device, bos=bos, revision=revision, processing=processing, quiet=quiet)
        from cache.store.plan import plan_recording
        from cache.store.recording import prepare_recording

        plan = plan_recording(
            loaded,
            _usable(prompts, loaded, (window, max_tokens), quiet=quiet),
            sites=sites,
            layers=layers,
            positions=positions,
            dtype=dtype,
            batch_tokens=batch_tokens,
        )
    if sites is None:
        _say_left_out(loaded, layers, quiet=quiet)
    _record(prepare_recording(loaded, plan, path, overwrite=overwrite, known=known), path, quiet=quiet)


def say_finished(path: Path, *, quiet: bool) -> None:
    """Tell that all is there already."""
    console(quiet=quiet).print(f"{path} is complete: nothing to do (geometry info {shlex.quote(str(path))})")


def _say_left_out(model: "LoadedModel", layers: str, *, quiet: bool) -> None:
    """Name the sites recorded by default that this model does not show."""
    from cache.models.hooks import layers_by_kind, select_hooks
    from cache.store.plan import DEFAULT_SITES

    missing = [hook for hook in select_hooks(DEFAULT_SITES, layers, model.n_layers) if not model.shows(hook)]
    for kind, where in layers_by_kind(missing).items():
        numbers = "all layers" if len(where) == model.n_layers else f"layers {', '.join(map(str, where))}"
        text = f"left out: {kind} of {numbers} (geometry models --check {model.name} says why)"
        console(quiet=quiet).print(text)


def _usable(
    prompts: "Prompts", model: "LoadedModel", windows: tuple[int, int | None], *, quiet: bool
) -> "TokenizedPrompts":
    """The prompts that this tokenizer does not spoil, in tokens; says which it does, and what becomes of text."""
    from cache.models.tokens import drop_unusable
    from cache.windows import tokenize_windows

    tokenized, cut = tokenize_windows(model, prompts, window=windows[0], max_tokens=windows[1])
    for text in _told(cut) if cut else ():
        console(quiet=quiet).print(text)
    kept, dropped = drop_unusable(tokenized)
    for (family, frame), group in dropped.groupby(["family", "frame"], sort=False):
        reasons = "; ".join(group["reason"].iloc[:2]) + ("; ..." if len(group) > 2 else "")
        text = f"dropped {group['n_prompts'].sum()} prompts of {family} in frame {frame}: {reasons}"
        console(quiet=quiet).print(text)
    return kept


def _told(cut: "Cut") -> list[str]:
    """What became of documents, a sentence each."""
    sentences = {
        "windows left out as repeated: {:,}": cut.n_repeated,
        "windows that were not drawn (--max-tokens): {:,}": cut.n_not_drawn,
        "windows with other tokens, which are recorded, than their text makes by itself: {:,}": cut.n_unlike,
    }
    documents, windows = (
        f"{n:,} {name}{'s' * (n != 1)}" for n, name in ((cut.n_documents, "document"), (cut.n_windows, "window"))
    )
    whole = (
        f"text: {cut.n_tokens:,} tokens of {documents}, in {windows} of at most {cut.window} tokens; a document's last "
        "may be shorter"
    )
    return [whole, *(sentence.format(n) for sentence, n in sentences.items() if n)]


def _record(recording: "Recording", path: Path, *, quiet: bool) -> None:
    from cache.store.recording import carry_out

    say = console(quiet=quiet)
    plan, n_pending = recording.plan, recording.n_pending
    if recording.complete:
        say_finished(path, quiet=quiet)
        return
    free = shutil.disk_usage(recording.path.parent).free
    say.print(
        f"{len(plan.tokenized.prompts)} prompts, {plan.n_tokens} tokens, {len(plan.hooks)} sites -> {path}: "
        f"{filesize.decimal(recording.nbytes)} ({filesize.decimal(free)} free), "
        f"{n_pending} of {len(plan.blocks)} forward passes to do"
    )
    started = time.monotonic()
    tokens = [0]
    stop: list[int] = []
    with gone_on_with(stop), progress(quiet=quiet) as bar:
        task = bar.add_task("recording", total=len(plan.blocks), completed=len(plan.blocks) - n_pending, speed="")

        def on_block(done: "Progress") -> None:
            tokens[0] += done.new_tokens
            speed = f"{tokens[0] / (time.monotonic() - started):.0f} tok/s"
            bar.update(task, completed=done.done_blocks, speed=speed)

        carry_out(recording, on_block=on_block, should_stop=lambda: bool(stop))
    seconds = time.monotonic() - started
    if not tokens[0]:
        say.print(f"nothing was missing but the mark of a complete file, which {path} has again")
        return
    say.print(
        f"recorded {tokens[0]} tokens in {seconds:.0f} s ({tokens[0] / seconds:.0f} tokens/s) -> {path}\n"
        f"next: geometry info {shlex.quote(str(path))}, geometry pca {shlex.quote(str(path))}"
    )


@contextmanager
def _before_recording() -> Iterator[None]:
    """Work that leaves nothing behind: a signal ends it at once, in one line."""
    stop: list[int] = []
    try:
        with noted_signals(stop, at_once=True):
            yield
    except KeyboardInterrupt:
        if not stop:
            raise
    if stop:  # also where a library that was being imported swallowed the exception
        stopped = StoppedError(f"stopped before recording began; begin with: {this_command()}")
        stopped.exit_code = 128 + stop[0]
        raise stopped


@contextmanager
def gone_on_with(stop: list[int]) -> Iterator[None]:
    """Work that is stopped by a signal, which `stop` receives, and says which command goes on with it."""
    try:
        with noted_signals(stop):
            yield
    except StoppedError as error:
        stopped = StoppedError(f"{error}; nothing is lost; go on with: {this_command(without='--overwrite')}")
        stopped.exit_code = 128 + stop[0]
        raise stopped from error


@contextmanager
def noted_signals(received: list[int], *, at_once: bool = False) -> Iterator[None]:
    """Have `received` receive the numbers of SIGINT, SIGTERM and SIGHUP.

    With `at_once` they also raise KeyboardInterrupt; without, only a second SIGINT does.
    """

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if at_once or (len(received) > 1 and number == signal.SIGINT):
            raise KeyboardInterrupt

    complain = sys.unraisablehook

    def complain_of_others(unraisable: "sys.UnraisableHookArgs") -> None:
        # Python cannot raise within a destructor and prints instead; a signal is noted, and told later in one line
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            complain(unraisable)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, note) for number in signals]
    sys.unraisablehook = complain_of_others
    try:
        yield
    finally:
        sys.unraisablehook = complain
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
