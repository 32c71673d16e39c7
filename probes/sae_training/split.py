"""Which rows of a store train an SAE, and which are left out to try it on: whole documents, templates and frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.view import beyond_first_token

PARTS = ("text", "sequences", "documents", "templates", "frames")
"""What a row is for: it trains, as text or as a sequence, or is of a document, template or frame left out."""


@dataclass(frozen=True)
class Split:
    """What each row of a store is for.

    Rows of BOS and of a text's first token are in no part (`beyond_first_token`).
    Of rows whose tokens so far are the same, and so their activations, one is in a part, in one that trains if any is:
    what is left out is new, and sequences that begin alike do not outweigh others.

    Attributes:
        part: index in `PARTS` of each row, -1 for none.
        left_out: what was left out, by part: documents, templates as `frame template`, and frames.
    """

    part: Int[np.ndarray, " row"]
    left_out: Mapping[str, tuple[str, ...]]

    def rows(self, part: str) -> Int[np.ndarray, " chosen"]:
        """The numbers of a part's rows, ascending.

        Raises:
            InputError: there is no such part.
        """
        if part not in PARTS:
            raise InputError(f"part must be one of {', '.join(PARTS)}; got {part!r}")
        return np.flatnonzero(self.part == PARTS.index(part))

    def described(self) -> dict[str, Any]:
        """The split as JSON: how many rows each part has, and what was left out."""
        rows = {part: len(self.rows(part)) for part in PARTS}
        return {"rows": rows, "left_out": {part: list(names) for part, names in self.left_out.items()}}


def split_rows(
    rows: pd.DataFrame,
    *,
    documents: float = 1 / 8,
    templates: int = 1,
    frames: Sequence[str] = (),
    tokens: int | None = None,
    seed: int = 0,
) -> Split:
    """Divide a store's rows: text has no family, and its `group` is its document; all else is sequences.

    Args:
        rows: the store's `rows`.
        documents: share of documents that are left out, drawn with the seed; at least one, unless it is 0.
        templates: how many templates of each frame that trains are left out: those with the highest numbers.
        frames: frames that are left out whole.
        tokens: most rows of text that train, in whole documents as they are drawn (one at least); None for all. The
            others are in no part, so that what is left out is the same however many train.
        seed: of the draw.

    Raises:
        InputError: a frame is not there, tokens is below 1, or nothing is left to train on.

    Example:
        >>> split = split_rows(store.rows, frames=["list"])
        >>> sorted(set(store.rows["frame"][split.rows("frames")])), len(split.rows("text"))
        (['list'], 0)
    """
    text = rows["family"].to_numpy() == ""
    part = np.where(text, PARTS.index("text"), PARTS.index("sequences"))
    names, order = _documents(rows, text, documents, check_seed(seed))
    part[text & np.isin(names, order[1])] = PARTS.index("documents")
    of_frames = _frames(rows, text, frames)
    of_templates, last = _templates(rows, ~text & ~of_frames, templates)
    part[of_templates] = PARTS.index("templates")
    part[of_frames] = PARTS.index("frames")
    part[~beyond_first_token(rows)] = -1
    part[_repeated(rows, part)] = -1
    if tokens is not None:
        if tokens < 1:
            raise InputError(f"tokens must be 1 or more; got {tokens}")
        part[_too_many(part, names, order[0], tokens)] = -1
    split = Split(part, {"documents": tuple(order[1]), "templates": last, "frames": tuple(frames)})
    if not len(split.rows("text")) and not len(split.rows("sequences")):
        raise InputError("no row is left to train on; leave out fewer documents, templates or frames")
    return split


def _documents(
    rows: pd.DataFrame, text: Bool[np.ndarray, " row"], share: float, seed: int
) -> tuple[Shaped[np.ndarray, " row"], tuple[list[str], list[str]]]:
    """The document of each row; and those that train, in the order drawn, and those that are left out, in the store's.

    A text without a group is a document of its own.
    """
    if not 0 <= share < 1:
        raise InputError(f"documents must be a share from 0 to below 1; got {share}")
    group = rows["group"].astype(str).to_numpy()
    name = np.where(group != "", group, "prompt " + rows["prompt"].astype(str).to_numpy())
    known = pd.unique(name[text])
    n_out = max(1, round(share * len(known))) if share and len(known) > 1 else 0
    drawn = np.random.default_rng(seed).permutation(len(known))
    train, out = drawn[n_out:], np.sort(drawn[:n_out])
    return name, ([str(one) for one in known[train]], [str(one) for one in known[out]])


def _too_many(
    part: Int[np.ndarray, " row"], names: Shaped[np.ndarray, " row"], order: Sequence[str], tokens: int
) -> Bool[np.ndarray, " row"]:
    """Rows of text beyond the first documents that have so many together."""
    text = part == PARTS.index("text")
    counts = pd.Series(names[text]).value_counts()
    there = [name for name in order if name in counts.index]
    within = np.cumsum([counts[name] for name in there]) <= tokens
    return text & np.isin(names, [name for i, name in enumerate(there) if i and not within[i]])


def _templates(
    rows: pd.DataFrame, trains: Bool[np.ndarray, " row"], n_out: int
) -> tuple[Bool[np.ndarray, " row"], tuple[str, ...]]:
    """Rows of each frame's last templates, of frames that keep one; and which these are."""
    there = rows.loc[trains, ["frame", "template"]].drop_duplicates().sort_values(["frame", "template"])
    last = [
        (str(frame), int(template))
        for frame, of_frame in there.groupby("frame", sort=False)
        if len(of_frame) > n_out
        for template in of_frame["template"].iloc[len(of_frame) - n_out :]
    ]
    keys = pd.MultiIndex.from_frame(rows[["frame", "template"]])
    out = trains & keys.isin(last) if last else np.zeros(len(rows), dtype=bool)
    return out, tuple(f"{frame} {template}" for frame, template in last)


def _frames(rows: pd.DataFrame, text: Bool[np.ndarray, " row"], frames: Sequence[str]) -> Bool[np.ndarray, " row"]:
    there = list(dict.fromkeys(rows["frame"][~text]))
    missing = [frame for frame in frames if frame not in there]
    if missing:
        raise InputError(f"no prompt has the frame {missing[0]!r}; there are {', '.join(there) or 'none'}")
    return ~text & rows["frame"].isin(frames).to_numpy()


def _repeated(rows: pd.DataFrame, part: Int[np.ndarray, " row"]) -> Int[np.ndarray, " repeated"]:
    """Rows whose tokens up to them stand in another row too, but for one of them, of the part that comes first."""
    order = np.lexsort((np.arange(len(rows)), np.where(part < 0, len(PARTS), part)))
    _, first = np.unique(_beginnings(rows)[order], return_index=True)
    again = np.ones(len(rows), dtype=bool)
    again[order[first]] = False
    return np.flatnonzero(again)


def _beginnings(rows: pd.DataFrame) -> Int[np.ndarray, " row"]:
    """A number of each row's tokens so far; of its own where not all of these are rows, or are not known."""
    number = np.arange(len(rows))
    if "token" not in rows:
        return number
    prompt, position, token = (rows[name].to_numpy() for name in ("prompt", "position", "token"))
    if token.min(initial=0) < 0:  # of activations recorded elsewhere
        return number
    after = np.concatenate([[False], (np.diff(prompt) == 0) & (np.diff(position) == 1)])
    begins = np.maximum.accumulate(np.where(after, 0, number))
    place_of = np.where((position == position.min(initial=0))[begins], number - begins, -1)
    for place in range(place_of.max(initial=-1) + 1):
        mine = np.flatnonzero(place_of == place)
        before = number[mine - 1] if place else np.full(len(mine), -1)
        _, first, same = np.unique(
            np.column_stack([before, token[mine]]), axis=0, return_index=True, return_inverse=True
        )
        number[mine] = mine[first][same.ravel()]
    return number
