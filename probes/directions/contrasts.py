"""Matched rows of two groups of prompts: what a direction from one to the other is estimated on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache import ActivationStore
from cache.errors import InputError
from cache.models.hooks import HookLike
from cache.prompts.prompt import OWN, TEXT
from cache.store.view import View, check_view
from probes.directions.prompts import contexts_of


@dataclass(frozen=True)
class Contrast:
    """Pairs of rows that are the same but for their group.

    Attributes:
        source: the group that a direction starts from.
        target: the group that it leads to.
        rows: rows of the store, of `source` and of `target`.
        table: one line a pair: `context` (`contexts_of`), `answer` (the target prompt's), `source_answer`,
            `unit` and `source_unit` (what is left out together: the answers; of own prompts that name pairs or members,
            the target's member of the pair), `shown` (the members that the target prompt shows), `source_prompt` and
            `target_prompt` (row numbers in `store.prompts`).
    """

    source: str
    target: str
    rows: Int[np.ndarray, "pair 2"]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, keep: Bool[np.ndarray, " pair"]) -> "Contrast":
        """The pairs where `keep` is true."""
        return Contrast(self.source, self.target, self.rows[keep], self.table[keep].reset_index(drop=True))


def contrast(view: View, source: str, target: str) -> Contrast:
    """Match the rows of two families, or of two groups of a user's own prompts.

    Rows match if their prompts have the same pair key (frame, template, kind, shown ordinals; of own prompts those of
    `pair`, `ordinal` or `member`) and they are the same place in it.

    Args:
        view: which rows; each prompt's last token where it asks for none. Its sites do not matter.
        source: a family, or a group.
        target: another.

    Raises:
        InputError: a label is not there, both are the same, or no rows match.

    Example:
        >>> pairs = contrast(view, "digits", "numwords")
        >>> pairs.source, pairs.target, len(pairs) > 0
        ('digits', 'numwords', True)
    """
    if source == target:
        raise InputError(f"a direction leads from one group to another; got {source!r} twice")
    check_view(view)
    store = view.store
    left, right = (_labelled(view, label) for label in (source, target))
    keys = ["pair_key", "member", "is_last"]
    for label, rows in ((source, left), (target, right)):
        if rows.duplicated(keys).any():
            raise InputError(
                f"rows of {label!r} repeat a place of a prompt for {view.noted()!r}; choose one row a "
                "prompt, as is_last or member == 0 do"
            )
    pairs = left.reset_index(names="row").merge(
        right.reset_index(names="row"), on=keys, suffixes=("_source", "_target")
    )
    if not len(pairs):
        raise InputError(
            f"no row of {source!r} matches one of {target!r}: matched prompts share frame, template, kind and shown "
            "ordinals; own prompts say by a column pair, ordinal or member what belongs together"
        )
    prompts = store.prompts.iloc[pairs["prompt_target"]]
    answers = [store.prompts["answer"].iloc[pairs[f"prompt_{side}"]].tolist() for side in ("target", "source")]
    units = _pairs_named(prompts)
    table = pd.DataFrame(
        {
            "context": contexts_of(prompts),
            "answer": answers[0],
            "source_answer": answers[1],
            "unit": units or answers[0],
            "source_unit": units or answers[1],
            "shown": prompts["members"].tolist(),
            "source_prompt": pairs["prompt_source"].to_numpy(),
            "target_prompt": pairs["prompt_target"].to_numpy(),
        }
    )
    return Contrast(source, target, pairs[["row_source", "row_target"]].to_numpy(), table)


def unit_name(table: pd.DataFrame) -> str:
    """What is left out together in a table with columns `unit` and `answer`: an `answer`, or a `pair`."""
    return "answer" if (table["unit"] == table["answer"]).all() else "pair"


def _pairs_named(prompts: pd.DataFrame) -> list[str]:
    """The pair of each of a user's own prompts, by its first member; none where prompts show no single member."""
    if not (prompts["kind"].eq(OWN) & prompts["values"].map(len).eq(1)).all():
        return []
    first: dict[int, str] = {}
    for (ordinal,), (member,) in zip(prompts["values"], prompts["members"], strict=True):
        first.setdefault(ordinal, member)
    alike = len(set(first.values())) < len(first)  # one word may belong to several pairs
    return [f"{ordinal} {first[ordinal]}" if alike else first[ordinal] for (ordinal,) in prompts["values"]]


def load_pairs(
    store: ActivationStore, hook: HookLike, pairs: Contrast
) -> tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"]]:
    """Activations of both sides of every pair at one site, in the pairs' order."""
    x, y = (load_rows(store, hook, pairs.rows[:, side]) for side in (0, 1))
    return x, y


def load_rows(store: ActivationStore, hook: HookLike, rows: Int[np.ndarray, " row"]) -> Float[Tensor, "row d"]:
    """Activations of rows of a store at one site, in any order; a row may come several times."""
    wanted, place = np.unique(rows, return_inverse=True)
    mask = np.zeros(len(store.rows), dtype=bool)
    mask[wanted] = True
    return store.load(hook, mask)[place]


def _labelled(view: View, label: str) -> pd.DataFrame:
    store = view.store
    rows = store.rows[view.chosen()]
    mine = rows[rows["family"] == label]
    mine = mine if len(mine) else rows[rows["group"] == label]
    if not len(mine):
        told = store.prompts[store.prompts["kind"] != TEXT]
        known = sorted({*told["family"], *told["group"]} - {""})
        if label in known:
            raise InputError(f"the query leaves no row of {label!r}; it is over the columns {', '.join(rows.columns)}")
        there = ", ".join(known) or "neither; give your prompts a column family or group"
        raise InputError(f"no family or group {label!r} among the chosen rows; the store has {there}")
    return mine[["prompt", "pair_key", "member", "is_last"]]
