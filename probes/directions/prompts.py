"""Prompts of a store, and the contexts that they put members in."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from jaxtyping import Int

from cache import ActivationStore
from cache.prompts.prompt import Prompt, Prompts


def stored_prompts(store: ActivationStore, numbers: Sequence[int] | Int[np.ndarray, " prompt"]) -> Prompts:
    """Prompts of a store, by their row numbers in `store.prompts`."""
    names = [field.name for field in fields(Prompt) if field.name != "labels"]
    lines = store.prompts.iloc[list(numbers)][names].to_dict(orient="records")
    return Prompts(tuple(Prompt(**{str(name): value for name, value in line.items()}) for line in lines))


def contexts_of(prompts: pd.DataFrame) -> list[str]:
    """The context of each prompt among those of one kind and length: frame and template, as `quote|3`."""
    return [f"{frame}|{template}" for frame, template in zip(prompts["frame"], prompts["template"], strict=True)]


def frame_of(context: str) -> str:
    """The frame of a context."""
    return context.rsplit("|", 1)[0]
