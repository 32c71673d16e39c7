"""What is recorded and in which order: all that a recording depends on besides the model's weights."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from cache.errors import InputError
from cache.hooks import Hook, select_hooks
from cache.models import LoadedModel
from cache.prompts import Prompts
from cache.tokens import TokenizedPrompts, tokenize

POSITIONS = ("all", "members", "last")
STORAGE_DTYPES = ("float32", "float16")


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

    @property
    def n_slots(self) -> int:
        """Tokens that the model will compute, padding included."""
        lengths = self.tokenized.lengths
        return sum(len(block) * int(lengths[list(block)].max()) for block in self.blocks)


def plan_recording(
    model: LoadedModel,
    prompts: Prompts | Iterable[str],
    *,
    sites: str | Iterable[str] = "resid,heads,mlp",
    layers: str = "all",
    positions: str = "all",
    dtype: str = "float32",
    batch_tokens: int = 256,
) -> RecordingPlan:
    """Plan a recording; nothing is run or written.

    Args:
        model: the model, which gives the tokenizer, BOS and the sites there are.
        prompts: prompts, or plain strings.
        sites: groups, kinds, hook names or wildcards (`select_hooks`).
        layers: `all`, or a list of layers and ranges such as `0,4-7,-1`.
        positions: `all`, `members` or `last`.
        dtype: `float32` or `float16`.
        batch_tokens: token slots a forward pass takes at most; 256 is best on a CPU, more on a GPU.

    Raises:
        InputError: a choice does not exist, or the model's architecture lacks a site.
    """
    for given, choices, what in ((positions, POSITIONS, "positions"), (dtype, STORAGE_DTYPES, "dtype")):
        if given not in choices:
            raise InputError(f"{what} must be one of {', '.join(choices)}; got {given!r}")
    prompts = prompts if isinstance(prompts, Prompts) else Prompts.from_texts(prompts)
    hooks = select_hooks(sites, layers, model.n_layers)
    for hook in hooks:
        model.row_shape(hook)
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    check_context(model, tokenized)
    blocks = plan_blocks(tokenized.lengths, batch_tokens)
    return RecordingPlan(tokenized, hooks, positions, dtype, batch_tokens, blocks)


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


def check_context(model: LoadedModel, tokenized: TokenizedPrompts) -> None:
    """Refuse prompts that are longer than the model's context.

    Raises:
        InputError: one is; the message gives its length and text.
    """
    longest = int(tokenized.lengths.argmax())
    limit = int(getattr(model.bridge.cfg, "n_ctx", 0) or 0)
    if limit and tokenized.lengths[longest] > limit:
        raise InputError(
            f"{model.name} takes {limit} tokens; prompt {longest} has {tokenized.lengths[longest]}: "
            f"{tokenized.prompts[longest].text!r:.60}"
        )
