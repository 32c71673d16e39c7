"""Which model of a user's was wrapped before: loaded again while that is in use, it is the same one."""

import weakref
from typing import Any

import torch

from cache.models.model import LoadedModel

_WRAPPED: "weakref.WeakKeyDictionary[torch.nn.Module, tuple[Any, weakref.ref[LoadedModel]]]" = (
    weakref.WeakKeyDictionary()  # keeps nothing alive: neither the user's models nor what was made of them
)


def wrapped_before(model: torch.nn.Module, content: Any) -> LoadedModel | None:
    """What was made of this very object when all that it depends on was the same, if anybody still has it.

    Args:
        model: the user's model.
        content: all that depends on: weights, configuration, tokenizer, what was asked for.
    """
    before, made = _WRAPPED.get(model, (None, None))
    return made() if made is not None and before == content else None


def remember(model: torch.nn.Module, content: Any, made: LoadedModel) -> LoadedModel:
    """Note what was made of a user's model, in the place of what was made of it before; gives it back."""
    _WRAPPED[model] = (content, weakref.ref(made))
    return made
