"""A query over the rows of a table: comparisons and words, read here and never run as Python.

The grammar is the part of a pandas query that names columns. There is no call, attribute or arithmetic to run, so that
a query from anywhere can do no more than choose rows, in a time that its length bounds.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from cache.errors import InputError

LONGEST = 1000
"""Characters of the longest query."""

DEEPEST = 50
"""So many brackets, `not`s and signs may stand inside each other."""

Literal = str | int | float | bool
Value = Shaped[np.ndarray, " row"] | Literal

_TAKES = "comparisons, and, or, not, in, .isin([...]), .str.contains('...'), .str.startswith and .str.endswith"
_NO_TRUTH = "it gives no true or false for each row (equality is written ==)"
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*")
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>[=!<>]=|[<>()\[\],.~&|+-])
    )""",
    re.VERBOSE,
)
_ESCAPES = re.compile(r"""[^\\]|\\(?:[\\'"ntr]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})""")
_WORDS = MappingProxyType({"&": "and", "|": "or"})  # in a pandas query they bind as the words do
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
    }
)
_TEXT_METHODS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {"startswith": str.startswith, "endswith": str.endswith, "contains": operator.contains}
)


def evaluate(query: str, table: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    """The rows of a table for which a query holds, as a mask.

    Text is compared with text, and numbers (or true and false, which are 1 and 0) with numbers, exactly; a text never
    equals a number. `contains` looks for plain text, not for a pattern.

    Raises:
        InputError: the query is no such query; the message is the reason alone.
    """
    tree = _parse(query)
    try:
        found = _truth(tree, table)
    except TypeError as error:
        raise InputError("it compares a column that holds both texts and numbers") from error
    except OverflowError as error:
        raise InputError("a number is too large to be compared with a column of fractions") from error
    if not any(isinstance(node, ast.Name) for node in ast.walk(tree)):
        raise InputError(_NO_TRUTH)
    return found


def names_in(query: str) -> frozenset[str]:
    """The columns that a query names.

    Raises:
        InputError: it cannot be read.
    """
    return frozenset(node.id for node in ast.walk(_parse(query)) if isinstance(node, ast.Name))


def _parse(query: str) -> ast.expr:
    if not query.strip():
        raise InputError("it is empty")
    if len(query) > LONGEST:
        raise InputError(f"it has {len(query):,} characters; a query has at most {LONGEST:,}")
    tokens = _tokens(query)
    brackets = accumulate((token in ("(", "[")) - (token in (")", "]")) for token in tokens)
    try:
        tree = ast.parse(" ".join(tokens), mode="eval").body if max(brackets) <= DEEPEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"invalid syntax; a query takes {_TAKES}") from error
    if tree is None or _deeper(tree, DEEPEST):
        raise InputError(f"it is nested more than {DEEPEST} deep")
    return tree


def _tokens(query: str) -> list[str]:
    """The query's tokens; all that is not in the grammar, such as `@`, is refused before Python's parser sees it."""
    tokens: list[str] = []
    start, end = 0, len(query.rstrip())
    while start < end:
        match = _TOKEN.match(query, start)
        if match is None:
            raise InputError(_unreadable(query[start:].lstrip()[0]))
        token = match[match.lastgroup or ""]
        if match["text"] and _ESCAPES.sub("", token):
            raise InputError(r"a backslash in a text begins \n \t \r \xHH or \uHHHH, or stands before \ or a quote")
        if match["text"] and tokens and tokens[-1][0] in "'\"":
            raise InputError("two texts stand side by side; put a comma or a sign between them")
        tokens.append(_WORDS.get(token, token))
        start = match.end()
    return tokens


def _unreadable(mark: str) -> str:
    if mark in "'\"":
        return "a text has no closing quote"
    return _NO_TRUTH if mark == "=" else f"{mark!r} has no meaning; a query takes {_TAKES}"


def _deeper(tree: ast.AST, most: int) -> bool:
    level: Sequence[ast.AST] = [tree]
    for _ in range(most):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


def _truth(node: ast.expr, table: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    """What has to be true or false for each row."""
    found = _value(node, table)
    if isinstance(found, bool):
        return np.full(len(table), found)
    if not isinstance(found, np.ndarray) or found.dtype != bool:
        raise InputError(_NO_TRUTH)
    return found


def _value(node: ast.expr, table: pd.DataFrame) -> Value:
    match node:
        case ast.Constant() | ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return _literal(node)
        case ast.Name():
            return _column(node.id, table)
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            return ~_truth(node.operand, table)
        case ast.BoolOp():
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return join.reduce([_truth(part, table) for part in node.values])
        case ast.Compare():
            sides = zip(node.ops, [node.left, *node.comparators], node.comparators, strict=False)
            return np.logical_and.reduce([_compared(*one, table) for one in sides])
        case ast.Call():
            return _called(node, table)
    raise InputError(_foreign(node))


def _foreign(node: ast.expr) -> str:
    return f"{ast.unparse(node)!r:.60} is not part of a query, which takes {_TAKES}"


def _column(name: str, table: pd.DataFrame) -> Shaped[np.ndarray, " row"]:
    if name not in table.columns:
        raise InputError(f"name {name!r} is not defined")
    column = table[name]
    return column.to_numpy() if column.dtype.kind in "biuf" else column.to_numpy(dtype=object)


def _literal(node: ast.expr) -> Literal:
    match node:
        case ast.Constant(value=str() | int() | float() as value):
            # a whole float is compared as an integer, exactly, and not an integer as a float
            return int(value) if isinstance(value, float) and value.is_integer() else value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _literal(operand)
            if not isinstance(number, str | bool):
                return -number if isinstance(sign, ast.USub) else number
    raise InputError(f"{ast.unparse(node)!r:.60} is neither a text nor a number nor True nor False")


def _compared(sign: ast.cmpop, left: ast.expr, right: ast.expr, table: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    items = tuple(map(_literal, right.elts)) if isinstance(right, ast.List | ast.Tuple) else None
    if items is None and type(sign) in _COMPARE:
        return _holds(sign, _value(left, table), _value(right, table), len(table))
    if items is not None and isinstance(sign, ast.In | ast.Eq):
        return _among(_value(left, table), items, len(table))
    if items is not None and isinstance(sign, ast.NotIn | ast.NotEq):
        return ~_among(_value(left, table), items, len(table))
    raise InputError("in and not in take a list such as ['digits', 'months'] after them, and is has no meaning")


def _holds(sign: ast.cmpop, left: Value, right: Value, n_rows: int) -> Bool[np.ndarray, " row"]:
    if _is_text(left) == _is_text(right):
        found = _COMPARE[type(sign)](_as_number(left), _as_number(right))
        return np.broadcast_to(np.asarray(found, dtype=bool), n_rows)
    if isinstance(sign, ast.Eq | ast.NotEq):
        return np.full(n_rows, isinstance(sign, ast.NotEq))
    raise InputError("a text and a number have no order; put quotes around a text, and none around a number")


def _among(left: Value, items: Sequence[Literal], n_rows: int) -> Bool[np.ndarray, " row"]:
    if isinstance(left, np.ndarray) and _is_text(left):
        texts = {item for item in items if isinstance(item, str)}
        return np.fromiter((one in texts for one in left), dtype=bool, count=n_rows)
    none = np.zeros(n_rows, dtype=bool)
    return np.logical_or.reduce([none, *(_holds(ast.Eq(), left, item, n_rows) for item in items)])


def _called(node: ast.Call, table: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    """`column.isin([...])`, or `column.str.contains('...')` and its like."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="isin"), args=[given], keywords=[]):
            return _compared(ast.In(), ast.Name(name), given, table)
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="str"), attr=method),
            args=[ast.Constant(value=str() as text)],
            keywords=[],
        ) if method in _TEXT_METHODS:
            column = _column(name, table)
            if not _is_text(column):
                raise InputError(f"{name} is no column of texts, so it has no .str.{method}")
            return np.fromiter((_TEXT_METHODS[method](one, text) for one in column), dtype=bool, count=len(column))
    raise InputError(_foreign(node))


def _is_text(value: Value) -> bool:
    return value.dtype == object if isinstance(value, np.ndarray) else isinstance(value, str)


def _as_number(value: Value) -> Value:
    """True and false as 1 and 0; all else as it is."""
    if isinstance(value, np.ndarray):
        return value.astype(np.int64) if value.dtype == bool else value
    return int(value) if isinstance(value, bool) else value
