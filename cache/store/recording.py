"""Recording: one forward pass a block, each site written to the store as its hook fires."""

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch

from cache.errors import CorruptFileError, FingerprintError, InputError
from cache.loading.hashes import check_unchanged
from cache.loading.load import load_model
from cache.models.model import LoadedModel
from cache.sealed.footer import Stamp
from cache.sealed.layout import SealedLayout
from cache.sealed.lock import writer_lock
from cache.sealed.log import Log, read_log
from cache.sealed.opening import read_attribute, safe_open, stamp_at
from cache.sealed.path import check_replaceable, prepare_path
from cache.sealed.writer import check_space, create_sealed, open_writer
from cache.shown.progress import progress_bar
from cache.store.manifest import differences, fingerprint_of, hard_fields
from cache.store.plan import Choices, RecordingPlan, plan_recording
from cache.store.sink import Sink
from cache.store.store import ActivationStore
from cache.store.tables import read_manifest, store_layout


@dataclass(frozen=True)
class Progress:
    """How far a recording is.

    Attributes:
        done_blocks: blocks that are safe on disk.
        n_blocks: blocks in all.
        new_tokens: tokens of the block just finished, padding left out.
    """

    done_blocks: int
    n_blocks: int
    new_tokens: int


@dataclass(frozen=True)
class Recording:
    """A recording before its first forward pass: planned, laid out, and its path looked at (`prepare_recording`).

    Attributes:
        model: the model.
        plan: what is recorded of it.
        path: the file.
        layout: all that is in the file but activations.
        overwrite: whether it begins anew, whatever store is at `path`.
        log: of the file at `path`, if that is gone on with.
        stamp: that file's, from before its log was read.
    """

    model: LoadedModel
    plan: RecordingPlan
    path: Path
    layout: SealedLayout
    overwrite: bool
    log: Log | None = None
    stamp: Stamp | None = None

    @property
    def nbytes(self) -> int:
        """Size of the file, or what it will be at most."""
        return self.layout.nbytes if self.log is None else self.path.stat().st_size

    @property
    def n_pending(self) -> int:
        """Blocks that are still to be recorded."""
        return len(self.plan.blocks) if self.log is None else int((~self.log.committed).sum())

    @property
    def complete(self) -> bool:
        """Nothing is left to record."""
        return self.log is not None and self.n_pending == 0 and self.log.mark == "right"


def prepare_recording(
    model: LoadedModel, plan: RecordingPlan, path: str | Path, *, overwrite: bool = False, known: Stamp | None = None
) -> Recording:
    """Look before recording: how large it is, and how much is there already. Nothing is written but the folder.

    Args:
        model: the model.
        plan: what is to be recorded of it.
        path: the HDF5 file.
        overwrite: begin anew, whatever store is at `path`.
        known: the stamp of the file at `path` from before it was checked (`check_path`), if it was.

    Raises:
        FingerprintError: the file at `path` was made by another configuration.
        NoSpaceError: the file is not there yet and does not fit.
        InputError, NotAvailableError, CorruptFileError: the path cannot be a store.
        FingerprintError: the model is the user's own, and its weights have changed since it was loaded.
    """
    path = prepare_path(path)
    check_unchanged(model)
    layout = store_layout(model, plan, command=shlex.join(sys.argv))
    recording = _looked_at(Recording(model, plan, path, layout, overwrite, stamp=known))
    if recording.log is None:
        check_space(path.parent, layout.nbytes)
    return recording


def record(
    model: Any,
    prompts: Any,
    out: str | Path | None = None,
    *,
    tokenizer: Any = None,
    overwrite: bool = False,
    on_block: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    **choices: Unpack[Choices],
) -> ActivationStore:
    """Record what a model computes on prompts, or go on with a recording that was broken off; gives it open.

    Args:
        model: a `LoadedModel`, or anything that `load_model` takes.
        prompts: a list of texts, or whatever else `load_dataset` takes (`"digits,months"`, a table); or a plan.
        out: the HDF5 file. If it is there and was made by the same configuration, what is missing is recorded; a
            complete one is left as it is. By default `activations/<model>-<fingerprint>.h5`, the same for the same
            call.
        tokenizer: for a Hugging Face model in memory, its tokenizer.
        overwrite: begin anew, whatever store is at `out`.
        on_block: called after every block that is safe on disk; by default a bar is shown where somebody looks.
        should_stop: asked after every block; true ends the recording there.
        choices: `sites`, `layers`, `positions`, `dtype`, `batch_tokens`, `window` and `max_tokens`, as
            `plan_recording` takes them; a plan has them already.

    Raises:
        InputError: as for `plan_recording`.
        FingerprintError: the file at `out` has another configuration; the message names the fields.
        LockedError: another process is writing it.
        NoSpaceError: it does not fit; found before the first forward pass.
        NumbersError: a value is not finite or too large for float16; names hook, prompt and position.
        StoppedError: `should_stop` said so; the same call goes on.

    Example:
        >>> store = record(model, ["1,2,3,", "one,two,"], sites="resid", layers="1-2", out="activations/two.h5")
        >>> len(store.prompts), store.load(("resid_post", 1), "is_last").shape
        (2, torch.Size([2, 33]))
    """
    loaded = load_model(model, tokenizer=tokenizer)
    if isinstance(prompts, RecordingPlan) and choices:
        raise InputError(f"a plan has its own {', '.join(choices)}; choose in plan_recording, or give the prompts")
    plan = prompts if isinstance(prompts, RecordingPlan) else plan_recording(loaded, prompts, **choices)
    path = prepare_path(_default_path(loaded, plan) if out is None else out)
    with writer_lock(path):
        recording = prepare_recording(loaded, plan, path, overwrite=overwrite)
        if not recording.complete:
            with progress_bar("recording", len(plan.blocks), show=on_block is None) as tell:
                _record_locked(recording, on_block or (lambda done: tell(done.done_blocks)), should_stop)
    return ActivationStore.open(path)


def _default_path(model: LoadedModel, plan: RecordingPlan) -> Path:
    """Where a recording lies that nobody gave a place: each configuration has its own file."""
    name = re.sub(r"[^\w.-]+", "--", Path(model.name).stem if Path(model.name).exists() else model.name)
    return Path("activations") / f"{name}-{fingerprint_of(hard_fields(model, plan))[:8]}.h5"


def carry_out(recording: Recording, *, on_block: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
    """Record what `prepare_recording` looked at, and looks at again only if it has changed since.

    Raises:
        FingerprintError, LockedError, NoSpaceError, NumbersError, StoppedError: as for `record`.
    """
    with writer_lock(recording.path):
        _record_locked(_looked_at(recording), on_block, should_stop)


def _looked_at(recording: Recording) -> Recording:
    """The recording with the log of the file that is at its path now."""
    path = recording.path
    if recording.overwrite or not path.exists():
        check_replaceable(path)
        return replace(recording, log=None, stamp=None)
    stamp = stamp_at(path)
    if recording.log is not None and recording.stamp == stamp:
        return recording
    return replace(recording, log=_checked_log(recording), stamp=stamp)


def _checked_log(recording: Recording) -> Log:
    """The log of a file that this recording can go on with."""
    path, layout = recording.path, recording.layout
    with safe_open(path, recording.stamp) as file:
        stored = read_manifest(file)
        ours = read_attribute(file, "fingerprint") == layout.attributes["fingerprint"]
        unlike = [] if ours else differences(stored["hard"], hard_fields(recording.model, recording.plan))
        if unlike:
            told = ", ".join(unlike)
            raise FingerprintError(f"{path} was recorded with another {told}; choose another --out, or --overwrite")
        log = read_log(file)
    sites = [(name, (site.row_shape, site.dtype.name)) for name, site in log.sites.items()]
    same = sites == list(layout.sites.items()) and log.block.tobytes() == layout.block.tobytes()
    if not same or len(log.committed) != len(recording.plan.blocks):
        raise CorruptFileError(f"{path} has other sites or rows than its manifest; record it anew with --overwrite")
    return log


def _record_locked(recording: Recording, on_block: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
    plan = recording.plan
    stamp = create_sealed(recording.path, recording.layout) if recording.log is None else recording.stamp

    def tell(number: int, done: int) -> None:
        n_tokens = int(plan.tokenized.lengths[list(plan.blocks[number])].sum())
        on_block(Progress(done, len(plan.blocks), n_tokens))

    with open_writer(recording.path, stamp) as writer:
        sink = Sink(recording.model, plan, writer)
        with sink.attached(), torch.inference_mode():
            writer.fill(sink.run, tell, should_stop)
