"""Features of an SAE at a store's rows, as they were extracted: read back as rows, columns, or a sparse array."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import CorruptFileError, InputError
from cache.models.hooks import Hook
from cache.store.file import FileGroup, StoreFile, joined_tables, open_rows_file
from cache.store.manifest import FEATURES
from cache.store.view import Where, row_mask
from probes.sae.basis import Origin, feature_numbers

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NUMBER, VALUE = "features/number", "features/value"
"""The datasets (row, slot): numbers of active features, ascending, then -1; and their values, then 0."""

STORE_ROW, OF_SAE = FEATURES.further
"""The number in the store of each row; and which of the SAE's features were extracted."""

_AT_ONCE = 1 << 21  # slots in memory

Piece = tuple[slice, Int[np.ndarray, "row slot"], Float[np.ndarray, "row slot"]]


@dataclass(frozen=True, eq=False)
class FeatureActivations:
    """Features of an SAE at rows of a store, as `extract_features` wrote them; what is not active is 0.

    Attributes:
        path: the file.
        origin: what the SAE's files say of it.
        hook: the site that it read.
        n_features: how many features the SAE has.
        extracted: numbers of those that the file has, ascending.
        rows: the rows, with the columns of a store's, and `row`, the row's number in the store. Of a file that is not
            complete they are those that are there.
        prompts: all of the store's prompts.
        store: the store's fingerprint.
        complete: whether all rows are there.
        file: the open file.

    Example:
        >>> from probes.sae_features.extract import extract_features
        >>> sae = load_sae("sae", store=store)
        >>> with extract_features(sae, store, "features/last.h5", "is_last") as features:
        ...     digits = features.to_csr("family == 'digits'")
        ...     seven = features.column(7, "family == 'digits'")
        >>> digits.shape, torch.equal(seven, sae.encode(store.load(sae.hook, "is_last and family == 'digits'"))[:, 7])
        ((30, 66), True)
    """

    path: Path
    origin: Origin
    hook: Hook
    n_features: int
    extracted: Int[np.ndarray, " feature"] = field(repr=False)
    rows: pd.DataFrame = field(repr=False)
    prompts: pd.DataFrame = field(repr=False)
    store: str
    complete: bool
    file: StoreFile = field(repr=False)

    def active(self, where: Where = None) -> tuple[Int[Tensor, "chosen slot"], Float[Tensor, "chosen slot"]]:
        """Numbers and values of the active features of each row, as `SAEBasis.decode_active` takes them.

        Args:
            where: which rows: a query over `rows`, or a mask; None for all.

        Raises:
            InputError: `where` is no such thing.
            CorruptFileError: a block that holds one of the rows is not what was written.
        """
        pieces = list(self._pieces(where))
        empty = [(slice(0), *self._room(0))]
        numbers, values = (np.concatenate([piece[i] for piece in pieces or empty]) for i in (1, 2))
        return torch.from_numpy(numbers), torch.from_numpy(values)

    def to_csr(self, where: Where = None) -> "csr_array":
        """A sparse (row, feature) array, its columns numbered as the SAE's features; arguments as of `active`."""
        from scipy.sparse import csr_array

        counts, indices, data = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for _, numbers, values in self._pieces(where):
            active = numbers >= 0
            counts.append(active.sum(axis=1))
            indices.append(numbers[active])
            data.append(values[active])
        ends = np.concatenate(counts).cumsum()
        return csr_array((np.concatenate(data), np.concatenate(indices), ends), (len(ends) - 1, self.n_features))

    def column(self, feature: int, where: Where = None) -> Float[Tensor, " chosen"]:
        """One feature's values; arguments as of `active`, and a feature that was not extracted is an InputError."""
        return self.columns([feature], where)[:, 0]

    def columns(self, features: Iterable[SupportsIndex], where: Where = None) -> Float[Tensor, "chosen feature"]:
        """Values of some features, in the order given; arguments and errors as of `column`."""
        wanted, order = np.unique(self._known(features), return_inverse=True)
        place = np.full(self.n_features + 1, -1)
        place[wanted] = np.arange(len(wanted))
        out = np.zeros((int(row_mask(self.rows, where).sum()), len(wanted)), np.float32)
        for rows, numbers, values in self._pieces(where):
            columns = place[numbers]  # of -1 the last one, which no feature has
            row, slot = (columns >= 0).nonzero()
            out[rows][row, columns[row, slot]] = values[row, slot]
        return torch.from_numpy(out[:, order])

    def n_active(self, where: Where = None) -> Int[Tensor, " chosen"]:
        """How many features are active in each row (its L0); arguments as of `active`."""
        counts = [np.zeros(0, np.int64), *((numbers >= 0).sum(axis=1) for _, numbers, _ in self._pieces(where))]
        return torch.from_numpy(np.concatenate(counts))

    def frequency(self, where: Where = None) -> Float[Tensor, " feature"]:
        """The share of rows in which each feature is active; nan for what was not extracted. Arguments as of `active`.

        Raises:
            InputError: no row is chosen.
        """
        n_rows, counts = 0, np.zeros(self.n_features + 1)
        for _, numbers, _ in self._pieces(where):
            n_rows += len(numbers)
            counts += np.bincount(numbers.ravel() + 1, minlength=self.n_features + 1)
        if not n_rows:
            raise InputError("no row is chosen to count how often features are active in it")
        shares = np.full(self.n_features, np.nan)
        shares[self.extracted] = counts[1:][self.extracted] / n_rows
        return torch.from_numpy(shares)

    def close(self) -> None:
        """Close the file; tables and arrays already read stay."""
        self.file.reader.close()

    def __enter__(self) -> "FeatureActivations":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self, features: Iterable[SupportsIndex]) -> Int[np.ndarray, " wanted"]:
        numbers = feature_numbers(features, self.n_features)
        absent = np.setdiff1d(numbers, self.extracted)
        if len(absent):
            raise InputError(f"{self.path.name} has {len(self.extracted)} features, and {absent[0]} is none of them")
        return numbers

    def _room(self, n_rows: int) -> tuple[Int[np.ndarray, "row slot"], Float[np.ndarray, "row slot"]]:
        shape = n_rows, *self.file.log.sites[NUMBER].row_shape
        return np.empty(shape, np.int32), np.empty(shape, np.float32)

    def _pieces(self, where: Where) -> Iterator[Piece]:
        """Which of the chosen rows, and numbers and values of their active features."""
        chosen = self.file.recorded[row_mask(self.rows, where)]
        at_once = max(_AT_ONCE // self.file.log.sites[NUMBER].row_shape[0], 1)
        for start in range(0, len(chosen), at_once):
            if self.file.reader.closed:
                raise InputError(f"{self.path.name} is closed; open it again")
            rows = chosen[start : start + at_once]
            numbers, values = self._room(len(rows))
            self.file.reader.read(NUMBER, None, rows, numbers)
            self.file.reader.read(VALUE, None, rows, values)
            ascending = ((numbers[:, 1:] > numbers[:, :-1]) | (numbers[:, 1:] == -1)).all()
            known = numbers.min() >= -1 and numbers.max() < self.n_features
            if not ascending or not known or not np.isfinite(values).all():
                raise CorruptFileError(f"{self.path} has something else than features of an SAE in its rows")
            yield slice(start, start + len(rows)), numbers, values


def open_features(path: str | Path) -> FeatureActivations:
    """Open what `extract_features` wrote; use `with`, or `close` it.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is another, or is damaged.

    Example:
        >>> from probes.sae_features.extract import extract_features
        >>> extract_features(load_sae("sae", store=store), store, "features/all.h5").close()
        >>> with open_features("features/all.h5") as features:
        ...     features.hook.name, features.n_features, len(features.rows) == len(store.rows)
        ('blocks.1.hook_resid_post', 66, True)
    """
    file = open_rows_file(Path(path), FEATURES)
    try:
        return _of_file(file)
    except BaseException:
        file.reader.close()
        raise


def _of_file(file: StoreFile) -> FeatureActivations:
    hard, extracted = file.manifest["hard"], file.further[OF_SAE]
    number, value = (file.log.sites.get(name) for name in (NUMBER, VALUE))
    fits = (
        number is not None
        and value is not None
        and (number.dtype, value.dtype) == (np.dtype("<i4"), np.dtype("<f4"))
        and number.row_shape == value.row_shape
        and len(number.row_shape) == 1
        and len(file.log.sites) == 2
        and len(file.further[STORE_ROW]) == file.n_rows
        and 0 < len(extracted) <= hard["n features"] < 1 << 31
        and 0 <= extracted[0] <= extracted[-1] < hard["n features"]
        and (np.diff(extracted) > 0).all()
    )
    if not fits:
        raise CorruptFileError(f"{file.path} has something else than features of an SAE in its rows")
    prompts, rows = joined_tables([FileGroup((file,), file.recorded)])
    return FeatureActivations(
        path=file.path,
        origin=_origin(file),
        hook=_hook(file),
        n_features=hard["n features"],
        extracted=extracted,
        rows=rows.assign(row=file.further[STORE_ROW][file.recorded]),
        prompts=prompts,
        store=hard["store"],
        complete=len(rows) == file.n_rows,
        file=file,
    )


def _hook(file: StoreFile) -> Hook:
    name, head = (file.manifest["hard"][field] for field in ("hook", "head"))
    try:
        hook = Hook.parse(name)
        return hook if head < 0 else Hook(hook.kind, hook.layer, head)
    except InputError as error:
        raise CorruptFileError(f"{file.path} is of a site of an unknown name: {error}") from error


def _origin(file: StoreFile) -> Origin:
    told = file.manifest["soft"].get("origin")
    known = [one.name for one in fields(Origin)]
    if not isinstance(told, dict) or set(told) != set(known):
        raise CorruptFileError(f"{file.path} does not tell which SAE its features are of")
    return Origin(**told)
