"""Recording: one forward pass a block, each site written to the store as its hook fires."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cache.errors import (
    CorruptFileError,
    FingerprintError,
    StoppedError,
)
from cache.loading.load import load_model
from cache.models.model import LoadedModel
from cache.prompts.prompt import Prompts
from cache.sealed.lock import writer_lock
from cache.sealed.log import Log, read_log
from cache.sealed.opening import safe_open
from cache.sealed.path import check_replaceable, prepare_path
from cache.sealed.writer import SealedWriter, check_space, create_sealed, open_writer
from cache.store.manifest import differences, hard_fields
from cache.store.plan import RecordingPlan, plan_recording
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
class RecordingState:
    """What a recording would find at its path.

    Attributes:
        nbytes: size of the file.
        free: bytes free on its file system.
        n_pending: blocks that are still to be recorded.
        finished: whether the file is marked complete.
    """

    nbytes: int
    free: int
    n_pending: int
    finished: bool

    @property
    def complete(self) -> bool:
        """Nothing is left to record."""
        return self.n_pending == 0 and self.finished


def recording_state(
    model: LoadedModel, plan: RecordingPlan, path: str | Path, *, overwrite: bool = False
) -> RecordingState:
    """Look before recording: size, free space, and how much is there already. Nothing is written but the folder.

    Raises:
        FingerprintError: the file at `path` was made by another configuration.
        NoSpaceError: the file is not there yet and does not fit.
        InputError, NotAvailableError, CorruptFileError: the path cannot be a store.
    """
    path = prepare_path(path)
    free = shutil.disk_usage(path.parent).free
    if overwrite or not path.exists():
        check_replaceable(path)
        need = store_layout(model, plan).nbytes
        check_space(path.parent, need)
        return RecordingState(need, free, len(plan.blocks), finished=False)
    log = _checked_log(path, model, plan)
    pending = int((~log.committed).sum())
    return RecordingState(path.stat().st_size, free, pending, finished=log.mark == "right")


def record(
    model: Any,
    prompts: RecordingPlan | Prompts | Iterable[str],
    path: str | Path,
    *,
    overwrite: bool = False,
    on_block: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ActivationStore:
    """Record what a model computes on prompts, or go on with a recording that was broken off.

    Args:
        model: a `LoadedModel`, or anything that `load_model` takes.
        prompts: a plan, or prompts or plain strings to be recorded with the defaults of `plan_recording`.
        path: the HDF5 file. If it is there and was made by the same configuration, what is missing is
            recorded; a complete one is left as it is.
        overwrite: begin anew, whatever store is at `path`.
        on_block: called after every block that is safe on disk.
        should_stop: asked after every block; true ends the recording there.

    Returns:
        The complete store, opened.

    Raises:
        FingerprintError: the file at `path` has another configuration; the message names the fields.
        LockedError: another process is writing it.
        NoSpaceError: it does not fit; found before the first forward pass.
        NumbersError: a value is not finite or too large for float16; names hook, prompt and position.
        StoppedError: `should_stop` said so; the same call goes on.

    Example:
        >>> recorded = record(model, ["1,2,3,", "one,two,"], "activations/two.h5")
        >>> with ActivationStore.open("activations/two.h5") as store:
        ...     len(store.prompts), store.complete
        (2, True)
    """
    loaded = load_model(model)
    plan = prompts if isinstance(prompts, RecordingPlan) else plan_recording(loaded, prompts)
    path = prepare_path(path)
    with writer_lock(path):
        if overwrite or not path.exists():
            check_replaceable(path)
            create_sealed(path, store_layout(loaded, plan, command=shlex.join(sys.argv)))
        else:
            _checked_log(path, loaded, plan)
        with open_writer(path) as writer:
            _record_blocks(loaded, plan, writer, on_block, should_stop)
    return ActivationStore.open(path)


def check_same_recording(path: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to mix two configurations in one store.

    Raises:
        FingerprintError: a field differs; the message names every one.
    """
    fields = differences(stored, asked)
    if fields:
        raise FingerprintError(
            f"{path} was recorded with another {', '.join(fields)}; choose another --out, or --overwrite"
        )


def _checked_log(path: Path, model: LoadedModel, plan: RecordingPlan) -> Log:
    """The log of a file that this recording can go on with."""
    with safe_open(path) as file:
        check_same_recording(path, read_manifest(file)["hard"], hard_fields(model, plan))
        log = read_log(file)
    layout = store_layout(model, plan)
    sites = [(name, (site.row_shape, site.dtype.name)) for name, site in log.sites.items()]
    same = sites == list(layout.sites.items()) and log.block.tobytes() == layout.block.tobytes()
    if not same or len(log.committed) != len(plan.blocks):
        raise CorruptFileError(f"{path} has other sites or rows than its manifest; record it anew with --overwrite")
    return log


def _record_blocks(
    model: LoadedModel,
    plan: RecordingPlan,
    writer: SealedWriter,
    on_block: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> None:
    pending = [number for number, committed in enumerate(writer.committed) if not committed]
    done = len(plan.blocks) - len(pending)
    sink = Sink(model, plan, writer)
    with sink.attached(), torch.inference_mode():
        for number in pending:
            if should_stop():
                raise StoppedError(f"stopped after {done} of {len(plan.blocks)} blocks")
            writer.commit(number, sink.run(number))
            done += 1
            on_block(Progress(done, len(plan.blocks), int(plan.tokenized.lengths[list(plan.blocks[number])].sum())))
    writer.finish()
