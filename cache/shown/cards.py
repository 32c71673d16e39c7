"""What a notebook shows of a value: what it is, the first lines of its table, and what can be done with it next."""

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_LINES = 6
_LONGEST = 70  # characters of a cell
_COLUMNS = 10


def card(title: str, facts: Mapping[str, object], table: "pd.DataFrame | None" = None, then: Iterable[str] = ()) -> str:
    """HTML without colours of its own, for light and dark pages; every text is escaped.

    Args:
        title: what the value is, and its size.
        facts: what else is to be known, by name; what is empty is left out.
        table: a table of it, of which the first lines and columns are shown.
        then: what to write next, as code.
    """
    parts = [f"<p><b>{_escaped(title)}</b></p>"]
    known = [f"{_escaped(name)}: {_escaped(value)}" for name, value in facts.items() if str(value)]
    if known:
        parts.append(f"<p>{'<br>'.join(known)}</p>")
    if table is not None and len(table):
        parts.append(_table(table))
    code = [f"<code>{html.escape(line)}</code>" for line in then]
    if code:
        parts.append(f"<p>next: {' · '.join(code)}</p>")
    return f"<div>{''.join(parts)}</div>"


def _table(table: "pd.DataFrame") -> str:
    cells = table.head(_LINES).map(_cell)
    filled = [name for name in table.columns if cells[name].any()]
    names = filled[:_COLUMNS]
    lines = cells[names].to_numpy().tolist()
    head = "".join(f"<th>{_escaped(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    more = [f"{len(table) - _LINES} more lines"] if len(table) > _LINES else []
    more += [f"{len(filled) - _COLUMNS} more columns"] if len(filled) > _COLUMNS else []
    note = f"<p><small>{' and '.join(more)}</small></p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _cell(value: object) -> str:
    """A number as a person writes it, a text as it stands, cut where it is endless; nothing for what is missing."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return _escaped(value)


def _escaped(value: object) -> str:
    """A text as it stands, without its middle where it is long: prompts that belong together differ at their ends."""
    text, half = str(value), _LONGEST // 2
    return html.escape(text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}")
