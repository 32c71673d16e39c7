"""Cells of a printed table: numbers as a person writes them, and nothing where nothing is known."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard

from geometry.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_DIGITS = 3
_MOST_DECIMALS = 4
_LARGEST = 1e6
"""What is larger and no whole number is written with a power of ten."""


def cells(column: "pd.Series[Any]") -> list[str]:
    """What stands in each cell of a column.

    Whole numbers have no point, whatever type holds them; other numbers of a column have equally many decimals, so that
    the largest has about three digits, and what would be all zeros has a power of ten: 2e-4. Missing values are blank.
    """
    values = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    decimals = _decimals([float(one) for one in values if _is_number(one)])
    return [_cell(value, decimals) for value in values]


def worded(frame: "pd.DataFrame", names: Mapping[str, str] = MappingProxyType({})) -> "pd.DataFrame":
    """The frame with headings in words: those named; else `null max` for `null_max`, `members` for `n_members`.

    For columns of ours alone: families keep their names.
    """
    return frame.rename(columns=lambda name: names.get(name, name.removeprefix("n_").replace("_", " ")))


def is_numeric(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers alone, some at least."""
    present = column.dropna().tolist()
    return bool(present) and all(map(_is_number, present))


def intervals(table: "pd.DataFrame", name: str = "ci") -> list[str]:
    """The 95 % interval of each line, between `<name>_low` and `<name>_high`; blank where there is none."""
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["" if low != low or high != high else f"{low:.2f} to {high:.2f}" for low, high in ends]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _decimals(values: "Sequence[float]") -> int:
    """With how many decimals the numbers of a column are written: no more than all of them need."""
    sizes = [abs(one) for one in values if one and math.isfinite(one)]
    if not sizes:
        return 0
    largest = max(sizes)
    most = _DIGITS if 1 <= largest < 1 + 1e-6 else _DIGITS - 1 - math.floor(math.log10(largest))
    if most > _MOST_DECIMALS + 1:
        return 0  # each has a power of ten, and the others are 0
    most = min(max(most, 2 if min(sizes) < 1 else 0), _MOST_DECIMALS)
    return next(n for n in range(most + 1) if n == most or all(_is_exact(one, n) for one in sizes))


def _is_exact(size: float, decimals: int) -> bool:
    """Whether a number is written in full with so many decimals, but for what 32 bits cannot hold of it."""
    return abs(size - round(size, decimals)) <= 1e-7 * size


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    return _number(float(value), decimals) if isinstance(value, Real) else printable(str(value))


def _number(value: float, decimals: int) -> str:
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() and size < (_LARGEST if decimals else 1e15):
        return f"{value + 0:.{decimals}f}"
    if size >= _LARGEST:
        return _with_power(f"{value:.2e}")
    return _with_power(f"{value:.1e}") if size < 0.95 * 10.0**-decimals else f"{value:.{decimals}f}"


def _with_power(text: str) -> str:
    mantissa, power = text.split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
