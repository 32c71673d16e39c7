"""What is extracted, and how much of it is there: all that is known before the first row is read."""

import hashlib
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int

from cache.errors import CorruptFileError, FingerprintError, InputError
from cache.models.hooks import Hook
from cache.sealed.footer import SEALED_VERSION, Stamp
from cache.sealed.layout import SealedLayout
from cache.sealed.log import Log, read_log
from cache.sealed.opening import safe_open, stamp_at
from cache.sealed.path import check_replaceable, prepare_path
from cache.sealed.writer import check_space
from cache.store.manifest import FEATURES, attributes_of, differences, digest, soft_fields
from cache.store.store import ActivationStore, check_open
from cache.store.tables import copied_tables, read_manifest
from cache.store.view import Where, row_mask, where_text
from probes.sae.basis import SAEBasis, Transcoder, feature_numbers, of_features, sae_hash
from probes.sae.load import check_origin, place_of, site_at
from probes.sae_features.features import NUMBER, OF_SAE, STORE_ROW, VALUE

_AT_ONCE = 1 << 23
"""Values of features in memory: rows of a block times features."""


@dataclass(frozen=True, eq=False)
class Extraction:
    """An extraction before its first block: checked, and its path looked at (`plan_extraction`).

    Attributes:
        sae: the SAE, matched to the store; of those that read each feature by itself, with the wanted ones alone.
        store: the store.
        hook: the site that is read.
        path: the file.
        rows: numbers of the store's rows that are read.
        features: numbers of the features that are wanted.
        hard: what the file's fingerprint covers.
        soft: what it does not.
        overwrite: whether it begins anew, whatever is at `path`.
        log: of the file at `path`, if that is gone on with.
        stamp: that file's, from before its log was read.
    """

    sae: SAEBasis | Transcoder
    store: ActivationStore
    hook: Hook
    path: Path
    rows: Int[np.ndarray, " row"] = field(repr=False)
    features: Int[np.ndarray, " feature"] = field(repr=False)
    hard: Mapping[str, Any] = field(repr=False)
    soft: Mapping[str, Any] = field(repr=False)
    overwrite: bool = False
    log: Log | None = field(default=None, repr=False)
    stamp: Stamp | None = field(default=None, repr=False)

    @property
    def n_blocks(self) -> int:
        """How many blocks of rows there are."""
        return -(-len(self.rows) // int(self.hard["rows a block"]))

    @property
    def counts(self) -> bool:
        """Whether active features are counted before any is written, for the file to have as many slots a row."""
        return self.log is None and self.sae.nonlinearity.k is None

    @property
    def complete(self) -> bool:
        """Nothing is left to extract."""
        return self.log is not None and bool(self.log.committed.all()) and self.log.mark == "right"


def plan_extraction(
    sae: SAEBasis | Transcoder,
    store: ActivationStore,
    out: str | Path,
    where: Where = None,
    features: Iterable[SupportsIndex] | None = None,
    *,
    overwrite: bool = False,
) -> Extraction:
    """Look before extracting: whether it can be done, and how much is there already. Nothing is written but the folder.

    Arguments and errors are those of `extract_features`.
    """
    check_open(store)
    if not store.complete:
        raise InputError(f"{store.paths[0].name} is not complete; finish its recording first")
    hook = _site(sae, store)
    rows = np.flatnonzero(mask := row_mask(store.rows, where))
    if not len(rows):
        raise InputError("no row is chosen to extract features of")
    n_features = len(sae.directions)
    wanted = np.arange(n_features) if features is None else np.unique(feature_numbers(features, n_features))
    narrow = of_features(sae, wanted)
    hard = {
        "format version": SEALED_VERSION,
        "store": store.fingerprint,
        "rows": hashlib.sha256(mask.tobytes()).hexdigest(),
        "hook": hook.name,
        "head": -1 if hook.head is None else hook.head,
        "sae": sae_hash(sae),
        "n features": n_features,
        "features": "all" if len(wanted) == n_features else digest(wanted.tolist()),
        "rows a block": max(_AT_ONCE // max(sae.encoder.shape), 16),
    }
    told = {"model": str(store.manifest["soft"].get("model", "")), "where": where_text(where, "all")}
    soft = {**soft_fields(None), **told, "origin": asdict(sae.origin)}
    path = prepare_path(out)
    extraction = looked_at(Extraction(narrow, store, hook, path, rows, wanted, hard, soft, overwrite))
    if extraction.log is None:
        check_space(path.parent, layout(extraction, 1).nbytes)
    return extraction


def _site(sae: SAEBasis | Transcoder, store: ActivationStore) -> Hook:
    """The site of the store that an SAE reads, and that it may."""
    place = place_of(store)
    if sae.weights and place.weights and sae.weights != place.weights:
        raise FingerprintError(
            f"{sae.origin.name} belongs to other weights than those of {place.name} ({sae.weights[:8]} and "
            f"{place.weights[:8]})"
        )
    if not sae.weights:
        check_origin(sae.origin, place)
    reads = sae.reads if isinstance(sae, Transcoder) else sae.hook
    return site_at(sae.origin, place, reads, len(sae.encoder))


def looked_at(extraction: Extraction) -> Extraction:
    """The extraction with the log of the file that is at its path now."""
    path = extraction.path
    if extraction.overwrite or not path.exists():
        check_replaceable(path)
        return replace(extraction, log=None, stamp=None)
    stamp = stamp_at(path)
    if extraction.log is not None and extraction.stamp == stamp:
        return extraction
    with safe_open(path) as file:
        unlike = differences(read_manifest(file, FEATURES)["hard"], extraction.hard)
        if unlike:
            told = ", ".join(unlike)
            raise FingerprintError(f"{path} was extracted with another {told}; choose another --out, or --overwrite")
        log = read_log(file)
    if [*log.sites] != [NUMBER, VALUE] or log.block.tobytes() != _blocks(extraction).tobytes():
        raise CorruptFileError(f"{path} has other rows than its manifest; extract them anew with --overwrite")
    return replace(extraction, log=log, stamp=stamp)


def _blocks(extraction: Extraction) -> Int[np.ndarray, " row"]:
    return np.arange(len(extraction.rows), dtype=np.int32) // np.int32(extraction.hard["rows a block"])


def layout(extraction: Extraction, n_slots: int) -> SealedLayout:
    """All that is in the file but features."""
    store = extraction.store
    tables = copied_tables(store.prompts, store.rows.iloc[extraction.rows])
    numbers = {STORE_ROW: extraction.rows.astype(np.int32), OF_SAE: extraction.features.astype(np.int32)}
    attributes = attributes_of(FEATURES, extraction.hard, extraction.soft, shlex.join(sys.argv))
    sites = {NUMBER: ((n_slots,), "int32"), VALUE: ((n_slots,), "float32")}
    return SealedLayout(sites, tables | numbers, _blocks(extraction), attributes)
