"""Which tokens of a text are edited: counted in the text's own tokens, BOS apart, with or without a key/value cache."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cache import LoadedModel
from cache.errors import InputError
from cache.models.model import check_loaded
from cache.models.restart import Prefix
from cache.models.tokens import tokenize
from cache.prompts.prompt import Prompts

Positions = str | Sequence[int] | Sequence[Sequence[int]]
"""`last`, `all`, positions for every text (`[0, 3]`), or for each text its own (`[[0, 3], [5]]`)."""


def check_positions(positions: Positions) -> None:
    """Refuse what are no positions.

    Raises:
        InputError: a word other than `last` and `all`, a negative number, or something else.
    """
    if isinstance(positions, str):
        if positions == "members":
            raise InputError("where members stand depends on the prompts: give member_positions(model, prompts)")
        if positions not in ("last", "all"):
            raise InputError(f"positions must be last, all, or numbers counted in the text's tokens; got {positions!r}")
        return
    rows = positions if any(isinstance(one, Sequence) for one in positions) else [positions]
    numbers = [number for row in rows for number in (row if isinstance(row, Sequence) else [row])]
    wrong = [one for one in numbers if not isinstance(one, int) or isinstance(one, bool) or one < 0]
    if wrong:
        raise InputError(f"positions count a text's tokens from 0 (BOS is not counted); got {wrong[0]!r}")


def member_positions(model: LoadedModel, prompts: Prompts) -> list[list[int]]:
    """For each prompt the position of every shown member's last token."""
    check_loaded(model)
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    return [[int(position) for position in (members >= 0).nonzero()[0]] for members in tokenized.members]


def text_positions(
    arguments: Mapping[str, Any], new: int, *, bos: bool, layer: int = 0
) -> tuple[Int[Tensor, "texts new"], bool]:
    """Where the tokens of a pass through a block stand in their text, and whether the text ends with the last of them.

    Args:
        arguments: what the block is given.
        new: tokens in the pass.
        bos: whether BOS, which has position -1, stands before the text.
        layer: the block, whose own cached tokens count where a model does not tell it the positions.

    Returns:
        Positions of one or of all texts of the batch. The text does not end there where cached tokens precede: then
        the pass continues it (a restart's cache, which is the text's own beginning, excepted).
    """
    given = (arguments.get(name) for name in ("past_key_values", "layer_past"))
    cache = next((one for one in given if hasattr(one, "get_seq_length")), None)
    places = arguments.get("position_ids")
    if places is None:
        cached = 0 if cache is None else int(cache.get_seq_length(layer))
        places = torch.arange(cached, cached + new)[None]
    places = places.reshape(-1, new) - int(bos)
    begins = bool((places[:, 0] <= 0).any())
    return places, begins or isinstance(cache, Prefix)


def edited_slots(
    positions: Positions, places: Int[Tensor, "texts new"], batch: int, *, ends: bool
) -> Bool[Tensor, "batch new"]:
    """Which token slots of a pass are edited.

    Raises:
        InputError: positions are given text by text, for another number of texts than the batch has.
    """
    if positions == "last":
        slots = torch.zeros(batch, places.shape[1], dtype=torch.bool, device=places.device)
        slots[:, -1] = ends
        return slots
    if positions == "all":
        return (places >= 0).expand(batch, -1)
    if not any(isinstance(one, Sequence) for one in positions):
        wanted = torch.tensor(list(positions), device=places.device)
        return torch.isin(places, wanted).expand(batch, -1)
    if batch % len(positions):
        raise InputError(f"positions are given for {len(positions)} texts; the batch has {batch}")
    places = places.expand(len(positions), -1) if len(places) != batch else places[: len(positions)]
    rows = [row if isinstance(row, Sequence) else [row] for row in positions]
    own = [torch.isin(line, torch.tensor(row)) for line, row in zip(places.cpu(), rows, strict=True)]
    return torch.stack(own).to(places.device).repeat(batch // len(positions), 1)
