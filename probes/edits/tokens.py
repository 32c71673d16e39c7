"""Which tokens of a prompt: the last one, those that end a shown member, both, or all."""

import torch
from jaxtyping import Bool
from torch import Tensor

from cache.errors import InputError
from probes.directions.codes import LAST

POSITION_SETS = ("last", "members", "both", "all")
"""The last token; the last token of every shown member; both; every token of the text, which BOS is not."""


def tokens_of(positions: str, members: Bool[Tensor, "batch pos"], *, bos: bool) -> Bool[Tensor, "batch pos"]:
    """The tokens of a position set, in texts of equal length.

    Args:
        positions: one of `POSITION_SETS`.
        members: which tokens end a shown member.
        bos: whether BOS stands first.

    Raises:
        InputError: there is no such set.
    """
    _check(positions, POSITION_SETS)
    number = torch.arange(members.shape[1]).expand_as(members)
    last, text = number == members.shape[1] - 1, number >= int(bos)
    return {"last": last, "members": members, "both": members | last, "all": text}[positions]


def places_of(positions: str, length: int) -> tuple[int, ...]:
    """The places of a position set, for prompts that show `length` members; other tokens than theirs have none.

    Raises:
        InputError: there is no such set, or it is `all`.
    """
    _check(positions, POSITION_SETS[:-1])
    members = () if positions == "last" else tuple(range(length))
    return members if positions == "members" else (*members, LAST)


def _check(positions: str, known: tuple[str, ...]) -> None:
    if positions not in known:
        raise InputError(f"no position set {positions!r}; there are {', '.join(known)}")
