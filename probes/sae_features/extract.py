"""Extraction: the active features of an SAE at every row of a store, in a sealed file that survives being killed."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.errors import FingerprintError, NumbersError, StoppedError
from cache.sealed.lock import writer_lock
from cache.sealed.writer import SealedWriter, create_sealed, open_writer
from cache.shown.progress import progress_bar
from cache.store.store import ActivationStore
from cache.store.view import Where
from probes.sae.basis import SAEBasis, Transcoder
from probes.sae.coding import slots_of
from probes.sae_features.features import NUMBER, VALUE, FeatureActivations, open_features
from probes.sae_features.plan import Extraction, layout, looked_at, plan_extraction

Told = Callable[[int, int], None]


def extract_features(
    sae: SAEBasis | Transcoder,
    store: ActivationStore,
    out: str | Path,
    where: Where = None,
    features: Iterable[SupportsIndex] | None = None,
    *,
    overwrite: bool = False,
    on_block: Told | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FeatureActivations:
    """Write the active features of an SAE at a store's rows to a file, or go on with that; gives it open.

    Rows have as many slots as the row with the most active features needs. These are counted first, so that the SAE
    reads all rows twice, unless it keeps a fixed number of features. Named features are in slots as all are: what is
    not active takes no room, and a file of some is read as one of all is.

    Args:
        sae: the SAE, or a transcoder, which is read where it reads.
        store: the store, complete.
        out: the HDF5 file. If it is there and is of the same SAE, store, rows and features, what is missing is
            extracted; a complete one is left as it is.
        where: which rows, as for `store.load`; None for all. BOS and a text's first token may have many times the
            active features of others, and all rows then as many slots: `position > 0` leaves them out.
        features: numbers of the features that are wanted; None for all.
        overwrite: begin anew, whatever is at `out`.
        on_block: called after every block with how many are done, and how many there are, of those that are counted
            too; by default a bar is shown where somebody looks.
        should_stop: asked before every block; true ends the extraction there.

    Raises:
        InputError: the store is not complete, or has no such site, width or row; or the SAE has no such feature.
        FingerprintError: the SAE is of another model; or the file is of something else, the message names what.
        LockedError: another process is writing it.
        NoSpaceError: it does not fit; found before its first block.
        NumbersError: a value is not finite.
        StoppedError: `should_stop` said so; the same call goes on.

    Example:
        >>> with extract_features(load_sae("sae", store=store), store, "features/two.h5", features=[3, 17]) as two:
        ...     two.columns([17, 3], "is_last").shape, two.extracted.tolist()
        (torch.Size([105, 2]), [3, 17])
    """
    extraction = plan_extraction(sae, store, out, where, features, overwrite=overwrite)
    if not extraction.complete:
        total = extraction.n_blocks * (1 + extraction.counts)
        with progress_bar("extracting", total, show=on_block is None) as tell:
            carry_out(extraction, on_block=on_block or (lambda done, _: tell(done)), should_stop=should_stop)
    return open_features(extraction.path)


def carry_out(extraction: Extraction, *, on_block: Told, should_stop: Callable[[], bool]) -> None:
    """Extract what `plan_extraction` looked at, and looks at again only if it has changed since.

    Raises:
        GeometryError: as for `extract_features`.
    """
    with writer_lock(extraction.path), torch.inference_mode():
        now = looked_at(extraction)
        before, total = now.n_blocks * now.counts, now.n_blocks * (1 + now.counts)
        stamp = now.stamp
        if now.log is None:
            n_slots = _n_slots(now, lambda done: on_block(done, total), should_stop)
            stamp = create_sealed(now.path, layout(now, n_slots))
        else:
            n_slots = now.log.sites[NUMBER].row_shape[0]
        with open_writer(now.path, stamp) as writer:
            run = partial(_write, now, writer, n_slots)
            writer.fill(run, lambda _, done: on_block(before + done, total), should_stop)


def _n_slots(extraction: Extraction, on_block: Callable[[int], None], should_stop: Callable[[], bool]) -> int:
    """Active features of the row with the most, of those that are wanted; at least 1."""
    k, most = extraction.sae.nonlinearity.k, 1
    if k is not None:
        return min(k, len(extraction.features))
    for block in range(extraction.n_blocks):
        if should_stop():
            raise StoppedError(f"stopped after {block} of {extraction.n_blocks} blocks were counted, none written")
        most = max(most, int((_values(extraction, block) != 0).sum(dim=1).max()))
        on_block(block + 1)
    return most


def _values(extraction: Extraction, block: int) -> Float[Tensor, "row feature"]:
    """The wanted features' values at a block's rows."""
    n_rows, store = int(extraction.hard["rows a block"]), extraction.store
    mine = extraction.rows[block * n_rows : (block + 1) * n_rows]
    mask = np.zeros(len(store.rows), dtype=bool)
    mask[mine] = True
    values = extraction.sae.encode(store.load(extraction.hook, mask))
    if values.shape[1] != len(extraction.features):
        values = values[:, torch.from_numpy(extraction.features)]
    if not values.isfinite().all():
        row, feature = (~values.isfinite()).nonzero()[0].tolist()
        name, value = extraction.sae.origin.name, float(values[row, feature])
        raise NumbersError(
            f"feature {extraction.features[feature]} of {name} is {value} at row {mine[row]} of the store"
        )
    return values


def _write(extraction: Extraction, writer: SealedWriter, n_slots: int, block: int) -> dict[str, int]:
    """Write a block's active features; gives the checksums."""
    values = _values(extraction, block)
    most = int((values != 0).sum(dim=1).max())
    if most > n_slots:
        raise FingerprintError(
            f"{extraction.path} has {n_slots} slots a row, and a row has {most} active features: it was begun where "
            "numbers come out otherwise (another machine or library); extract anew with --overwrite"
        )
    slots, active = slots_of(values, n_slots)
    columns = slots.numpy()
    numbers = np.where(columns < 0, -1, extraction.features[columns]).astype(np.int32)
    return {NUMBER: writer.write(block, NUMBER, numbers), VALUE: writer.write(block, VALUE, active.numpy())}
