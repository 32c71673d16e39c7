"""Arrays of the user's own: numpy, torch, a data frame, whatever numpy can read; or one sentence on why not.

What a public function is given goes through `as_rows` once. Everything behind it takes finite tensors on the CPU.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import InputError, NumbersError


@runtime_checkable
class SupportsArray(Protocol):
    """What numpy can read by itself, such as an xarray DataArray or a jax array."""

    def __array__(self) -> NDArray[Any]:
        """The numbers."""
        ...


ArrayLike = Tensor | NDArray[Any] | pd.DataFrame | SupportsArray | Sequence[Any]
"""Rows of numbers: a tensor of any float type, with or without grad, on any device; a numpy array; a data frame with
numeric columns; anything else that `numpy.asarray` reads, such as a list of lists or an xarray DataArray."""

ROWS = ("row", "d")
_RAGGED = "lines of different lengths are no array; give as many numbers in each"
_KEPT = (torch.float32, torch.float64)


def as_rows(x: ArrayLike, name: str = "x", *, axes: tuple[str, ...] = ROWS) -> Float[Tensor, "..."]:
    """An array as a tensor on the CPU without grad: float64 stays, smaller floats are float32, whole numbers float64.

    Nothing is copied that is such a tensor already.

    Args:
        x: the array.
        name: what the sentence calls it.
        axes: the axes wanted; one called `...` stands for any number of them.

    Raises:
        InputError: it is no array of real numbers, or has other axes, or none along one of them.
        NumbersError: a value is not finite; the message says where.

    Example:
        >>> as_rows([[1, 2], [3, 4]])
        tensor([[1., 2.],
                [3., 4.]], dtype=torch.float64)
    """
    found = _tensor(x, name)
    _check_axes(found, name, axes)
    if not torch.isfinite(found).all():
        raise NumbersError(_where_not_finite(found, name, axes[0]))
    return found


def as_pair(
    x: ArrayLike,
    y: ArrayLike,
    names: tuple[str, str] = ("x", "y"),
    *,
    axes: tuple[str, ...] = ROWS,
    same_shape: bool = False,
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Two arrays of the same rows, in the same order, as `as_rows` gives them.

    Args:
        x: one array.
        y: the other.
        names: what a sentence calls them.
        axes: the axes wanted of both.
        same_shape: all their axes must be as long, and not the first alone.

    Raises:
        InputError: as for `as_rows`; or they differ in rows, or two data frames have the same row names in another
            order.
        NumbersError: a value is not finite.
    """
    if isinstance(x, pd.DataFrame) and isinstance(y, pd.DataFrame) and in_another_order(x.index, y.index):
        raise InputError(f"{names[1]}: the rows of {names[0]} in another order; y.loc[x.index] puts them right")
    left, right = (as_rows(one, name, axes=axes) for one, name in zip((x, y), names, strict=True))
    if len(left) != len(right):
        raise InputError(f"{names[0]} and {names[1]} need the same {axes[0]}s; got {len(left)} and {len(right)}")
    if same_shape and left.shape != right.shape:
        raise InputError(f"{names[0]} and {names[1]} need the same shape; got {(*left.shape,)} and {(*right.shape,)}")
    return left, right


def as_tensor(x: ArrayLike, name: str = "x") -> Float[Tensor, "*rows d"]:
    """A tensor as it is, wherever it lies and with its grad; of anything else what `as_rows` makes of it.

    Raises:
        InputError, NumbersError: as for `as_rows`.
    """
    return x if isinstance(x, Tensor) else as_rows(x, name, axes=("...", "d"))


def in_another_order(a: pd.Index, b: pd.Index) -> bool:
    """Whether two data frames have the same names of rows, and not in the same order."""
    return len(a) == len(b) and not a.equals(b) and set(a) == set(b)


def _tensor(x: Any, name: str) -> Shaped[Tensor, "..."]:
    if isinstance(x, Tensor):
        if x.is_complex() or x.layout != torch.strided:
            raise InputError(f"{name}: real numbers in a dense tensor are wanted; got {x.dtype}, {x.layout}")
        wide = x.detach().to("cpu")
        return wide if wide.dtype in _KEPT else wide.float() if wide.is_floating_point() else wide.double()
    if isinstance(x, list | tuple) and x and all(isinstance(one, Tensor) for one in x):
        return _stacked([_tensor(one, name) for one in x], name)
    values = _of_frame(x, name) if isinstance(x, pd.DataFrame) else _of_others(x, name)
    wide_enough = values.dtype in (np.float32, np.float64) and values.dtype.isnative
    target = values.dtype if wide_enough else np.float32 if values.dtype == np.float16 else np.float64
    # torch reads neither backward strides nor memory that may not be written without a word
    return torch.from_numpy(np.require(values, target, ["C", "W"]))


def _stacked(lines: list[Tensor], name: str) -> Shaped[Tensor, "..."]:
    if len({line.shape for line in lines}) > 1:
        raise InputError(f"{name}: {_RAGGED}")
    return torch.stack(lines)


def _of_frame(x: pd.DataFrame, name: str) -> NDArray[Any]:
    unlike = [column for column, dtype in x.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if unlike:
        raise InputError(
            f"{name}: the column {unlike[0]!r} holds {x[unlike[0]].dtype}, not numbers; "
            "frame.select_dtypes('number') leaves such columns out"
        )
    return x.to_numpy(dtype=float, na_value=np.nan)


def _of_others(x: Any, name: str) -> NDArray[Any]:
    if hasattr(x, "toarray") and not hasattr(x, "__array__"):
        raise InputError(f"{name}: a sparse matrix is not read; x.toarray() is dense")
    try:
        values = np.ma.filled(x.astype(float), np.nan) if isinstance(x, np.ma.MaskedArray) else np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {_RAGGED}") from error
    if values.dtype.kind not in "fiub":
        given = type(x).__name__ if values.ndim == 0 else f"{type(x).__name__} of {values.dtype}"
        raise InputError(f"{name}: numbers in an array, a tensor or a data frame are wanted; got {given}")
    return values


def _check_axes(x: Shaped[Tensor, "..."], name: str, axes: tuple[str, ...]) -> None:
    wanted, shape = ", ".join(axes), tuple(x.shape)
    n_least = len(axes) - ("..." in axes)
    if x.ndim < n_least or ("..." not in axes and x.ndim != n_least):
        hint = ""
        if axes == ROWS and x.ndim == 3:
            hint = f"; x.reshape(-1, {shape[-1]}) makes each position a row, x[:, -1] takes the last"
        if axes == ROWS and x.ndim == 1:
            hint = "; x[None] is one row, x[:, None] one dimension"
        raise InputError(f"{name}: the axes ({wanted}) are wanted; got {x.ndim}, of the shape {shape}{hint}")
    if 0 in shape:
        raise InputError(f"{name}: something along each of the axes ({wanted}) is wanted; got the shape {shape}")


def _where_not_finite(x: Float[Tensor, "..."], name: str, axis: str) -> str:
    bad = ~torch.isfinite(x)
    place = tuple(bad.nonzero()[0].tolist())
    n_bad = int(bad.reshape(len(x), -1).any(dim=1).sum())
    counted = axis[:-1] + "ies" if axis.endswith("y") else axis + "s"
    return (
        f"{name}: not all finite; {float(x[place])} at {list(place)}, and such in {n_bad} of {len(x)} {counted}: "
        "leave these out (of a store, geometry verify says whether its file is sound)"
    )
