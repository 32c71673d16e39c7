"""A table to print: which of its lines and columns are shown, and a sentence about the others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geometry.cli.tables.fitting import Column, columns_of, evenly, set_in, that_fit, wrapped
from geometry.printable import printable

if TYPE_CHECKING:
    import pandas as pd

_MOST_LAYERS = 8
_MOST_LINES = 24
"""Of a table by layer: about so many lines are read at a glance; three layers are always there."""


@dataclass(frozen=True)
class Shown:
    """A table and how it is made shorter and narrower.

    Attributes:
        frame: the table, its columns in order of importance.
        title: what it is; None for no title.
        keys: the columns that name a line, which stand first; of a table by layer one is `layer`.
        best: of a table by layer, the column whose best line is always shown, for each of the other keys.
        lowest: whether its least value is the best.
        most: of a table by something else, how many lines are shown; None for all.
        across: whether the columns after the keys are layers, of which some are shown in equal steps.
    """

    frame: "pd.DataFrame"
    title: str | None = None
    keys: tuple[str, ...] = ()
    best: str | None = None
    lowest: bool = False
    most: int | None = None
    across: bool = False


def lines_of(table: Shown, width: int | None, *, full: bool) -> list[str]:
    """The lines of a table as they are printed, none longer than the width.

    Args:
        table: what is printed.
        width: cells of a line; None where lines may be of any length: then nothing is left out.
        full: whether every line and column is printed, those that do not fit in further tables below.
    """
    frame, notes = (table.frame, []) if full or width is None else _shortened(table)
    columns, n_keys = columns_of(frame), len(table.keys)
    title = [] if table.title is None else wrapped(printable(table.title), width or len(table.title) * 10)
    if width is None:
        return [*title, *set_in(columns, None)]
    if full:
        parts = [set_in(part, width) for part in _in_parts(columns, n_keys, width)]
        return [*title, *(line for number, part in enumerate(parts) for line in ([""] * bool(number) + part))]
    filled = [one for number, one in enumerate(columns) if number < n_keys or any(one.cells) or not len(frame)]
    chosen, note = (_spread if table.across else _first)(filled, n_keys, width)
    notes += [note] if note else []
    below = wrapped("; ".join([*notes, "--full shows all"]), width) if notes else []
    return [*title, *set_in(chosen, width), *below]


def _shortened(table: Shown) -> "tuple[pd.DataFrame, list[str]]":
    """The lines that are read at a glance, and what they are of all."""
    frame = table.frame.reset_index(drop=True)
    if "layer" in table.keys:
        return _by_layer(table, frame)
    if table.most is None or len(frame) <= table.most:
        return frame, []
    return frame.head(table.most), [f"the first {table.most} of {len(frame)} lines"]


def _by_layer(table: Shown, frame: "pd.DataFrame") -> "tuple[pd.DataFrame, list[str]]":
    """Layers in equal steps, with the first, the last and the best."""
    layers = list(dict.fromkeys(frame["layer"]))
    a_layer = -(-len(frame) // max(len(layers), 1))
    places = evenly(len(layers), max(3, min(_MOST_LAYERS, _MOST_LINES // max(a_layer, 1))))
    if len(places) == len(layers) or len(frame) <= _MOST_LINES // 2 + 4:
        return frame, []
    step, kept = places[1] - places[0], {layers[place] for place in places}
    told = f"every {_ordinal(step)} of {len(layers)} layers" + (" and the last" if places[-1] % step else "")
    best, which = _best(table, frame)
    return frame[frame["layer"].isin(kept) | frame.index.isin(best)], [told + which]


def _best(table: Shown, frame: "pd.DataFrame") -> tuple[list[int], str]:
    """The best line for each of the keys but the layer, and what is said of it."""
    if table.best is None or not len(known := frame.dropna(subset=[table.best])):
        return [], ""
    others = [name for name in table.keys if name != "layer" and known[name].nunique(dropna=False) > 1]
    ranked = known.sort_values(table.best, ascending=table.lowest, kind="stable")
    best = ranked.drop_duplicates(others) if others else ranked.head(1)
    found = set(best[list(table.keys)].itertuples(index=False, name=None))
    where = f"for each {' and '.join(others)}" if others else f"layer {best['layer'].iloc[0]}"
    keys = frame[list(table.keys)].itertuples(index=False, name=None)
    lines = [number for number, key in enumerate(keys) if key in found]
    return lines, f", and the {'least' if table.lowest else 'largest'} {table.best} ({where})"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _first(columns: list[Column], n_keys: int, width: int) -> tuple[list[Column], str]:
    """The first columns, as many as fit."""
    n = that_fit(columns, width)
    return columns[:n], f"not shown: {', '.join(one.name for one in columns[n:])}" if n < len(columns) else ""


def _spread(columns: list[Column], n_keys: int, width: int) -> tuple[list[Column], str]:
    """The keys, and of the layers beside them some in equal steps, as many as fit."""
    keys, layers = columns[:n_keys], columns[n_keys:]
    for kept in range(len(layers), 1, -1):
        chosen = [*keys, *(layers[place] for place in evenly(len(layers), kept))]
        if that_fit(chosen, width) == len(chosen):
            shown = len(chosen) - n_keys
            return chosen, f"{shown} of {len(layers)} layers" if shown < len(layers) else ""
    return _first(columns, n_keys, width)


def _in_parts(columns: list[Column], n_keys: int, width: int) -> list[list[Column]]:
    """All columns in tables that fit, each with the keys before it where they leave room."""
    parts, rest = [], columns
    while rest:
        n = that_fit(rest, width)
        parts.append(rest[:n])
        keys, rest = columns[:n_keys], rest[n:]
        if rest and that_fit([*keys, rest[0]], width) == n_keys + 1 and n > n_keys:
            rest = [*keys, *rest]
    return parts
