"""What is recorded and in which order: all that a recording depends on besides the model's weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool, Int

from cache.errors import InputError
from cache.models.hooks import Hook, Layers, select_hooks
from cache.models.model import LoadedModel, check_loaded
from cache.models.tokens import TokenizedPrompts, bos_token_id
from cache.prompts.datasets import load_dataset
from cache.windows import WINDOW_TOKENS, tokenize_windows

POSITIONS = ("all", "members", "last")
STORAGE_DTYPES = ("float32", "float16")
DEFAULT_SITES = "resid,heads,mlp"


@dataclass(frozen=True)
class RecordingPlan:
    """All that a recording depends on besides the model; the fingerprint hashes it.

    Attributes:
        tokenized: the prompts in tokens.
        hooks: the sites, in the order of a forward pass.
        positions: which tokens are kept: `all` (BOS included), `members` (the last token of each shown member,
            and the last token of the text), or `last`.
        dtype: what is stored: `float32` or `float16`.
        batch_tokens: token slots, padding included, that a forward pass takes at most (a longer prompt runs
            alone).
        blocks: indices of the prompts of each forward pass, ascending; prompts of similar length run together.
    """

    tokenized: TokenizedPrompts
    hooks: tuple[Hook, ...]
    positions: str
    dtype: str
    batch_tokens: int
    blocks: tuple[tuple[int, ...], ...]

    @property
    def bos(self) -> bool:
        """Whether BOS stands before every text."""
        return self.tokenized.bos is not None

    def kept(self, prompt: int) -> Bool[np.ndarray, "pos"]:
        """Which tokens of a prompt are stored; BOS, where there is one, is index 0."""
        members = self.tokenized.members[prompt]
        keep = np.ones(len(members), dtype=bool) if self.positions == "all" else members >= 0
        if self.positions == "last":
            keep = np.zeros(len(members), dtype=bool)
        keep[-1] = True
        return np.concatenate([np.full(int(self.bos), self.positions == "all"), keep])

    @property
    def n_tokens(self) -> int:
        """Tokens that the model will see, padding left out."""
        return int(self.tokenized.lengths.sum())


class Choices(TypedDict, total=False):
    """What `plan_recording` lets one choose."""

    sites: str | Iterable[str] | None
    layers: Layers
    positions: str
    dtype: str
    batch_tokens: int
    window: int
    max_tokens: int | None


def plan_recording(
    model: LoadedModel,
    prompts: Any,
    *,
    sites: str | Iterable[str] | None = None,
    layers: Layers = "all",
    positions: str = "all",
    dtype: str = "float32",
    batch_tokens: int = 256,
    window: int = WINDOW_TOKENS,
    max_tokens: int | None = None,
) -> RecordingPlan:
    """Plan a recording; nothing is run or written.

    Args:
        model: the model, which gives the tokenizer, BOS and the sites there are.
        prompts: a list of texts, or whatever else `load_dataset` takes; or what this model's tokenizer made of prompts.
        sites: groups, kinds, hook names or wildcards (`select_hooks`); by default `resid,heads,mlp`, as far as the
            model shows them.
        layers: `all`, numbers, or a string of layers and ranges such as `0,4-7,-1`.
        positions: `all`, `members` or `last`.
        dtype: `float32` or `float16`.
        batch_tokens: token slots a forward pass takes at most; 256 is best on a CPU, more on a GPU.
        window: tokens, BOS included, of the windows that running text is cut into (`tokenize_windows`).
        max_tokens: of running text, so many tokens at most, in windows drawn with the seed; None for all.

    Raises:
        InputError: a choice does not exist, the model's architecture lacks a site, these are no prompts, prompts
            that were tokenized have another BOS than the model, or text cannot be cut into such windows.
        NotAvailableError: a site that is named was found not to be what its name says.

    Example:
        >>> plan = plan_recording(model, ["1,2,3,", "one,two,"], sites="resid", layers="0,-1", positions="last")
        >>> [hook.name for hook in plan.hooks]
        ['blocks.0.hook_resid_pre', 'blocks.0.hook_resid_post', 'blocks.2.hook_resid_post']
    """
    for given, choices, what in ((positions, POSITIONS, "positions"), (dtype, STORAGE_DTYPES, "dtype")):
        if given not in choices:
            raise InputError(f"{what} must be one of {', '.join(choices)}; got {given!r}")
    check_loaded(model)
    hooks = select_hooks(DEFAULT_SITES if sites is None else sites, layers, model.n_layers)
    if sites is None:
        hooks = tuple(hook for hook in hooks if model.shows(hook))
    for hook in hooks:
        model.row_shape(hook)  # refuses what the model does not show
    if not hooks:
        raise InputError(f"{model.name} (type {model.model_type}) shows none of {DEFAULT_SITES}; name other sites")
    if not isinstance(prompts, TokenizedPrompts):
        prompts, _ = tokenize_windows(model, load_dataset(prompts), window=window, max_tokens=max_tokens)
    bos = bos_token_id(model.tokenizer, bos=model.bos)
    if prompts.bos != bos:
        raise InputError(f"the prompts were tokenized with BOS {prompts.bos}, and the model takes {bos}")
    check_texts(model, prompts)
    blocks = plan_blocks(prompts.lengths, batch_tokens)
    return RecordingPlan(prompts, hooks, positions, dtype, batch_tokens, blocks)


def plan_blocks(lengths: Int[np.ndarray, "prompt"], batch_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Prompts sorted by length and cut so that no padded batch exceeds `batch_tokens` slots.

    Raises:
        InputError: `batch_tokens` is below 1.
    """
    if batch_tokens < 1:
        raise InputError(f"batch_tokens must be 1 or more; got {batch_tokens}")
    blocks: list[list[int]] = []
    for prompt in np.argsort(lengths, kind="stable"):
        if not blocks or (len(blocks[-1]) + 1) * int(lengths[prompt]) > batch_tokens:
            blocks.append([])
        blocks[-1].append(int(prompt))
    return tuple(tuple(sorted(block)) for block in blocks)


def check_texts(model: LoadedModel, tokenized: TokenizedPrompts) -> None:
    """Refuse prompts that are longer than the model's context, or whose tokens it does not have.

    Raises:
        InputError: one is; the message has its text.
    """
    longest, highest = int(tokenized.lengths.argmax()), int(np.argmax([ids.max() for ids in tokenized.ids]))
    for prompt in (longest, highest):
        text = tokenized.prompts[prompt].text
        model.check_text(tokenized.seen(prompt).tolist(), f"prompt {prompt} ({text!r:.60})")
