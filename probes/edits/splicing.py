"""What a model still does with a basis's reconstruction in the place of the activations: its loss, and its task."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache import Hook, LoadedModel
from cache.models.model import check_loaded
from cache.models.tokens import TokenizedPrompts, token_faults, tokenize
from cache.prompts.prompt import Prompts
from geometry.bases.basis import FeatureBasis, LinearBasis
from probes.edits.edit import Change, Edit
from probes.edits.hooks import edited


@dataclass(frozen=True, eq=False)
class Spliced:
    """What a model does with each prompt: as it is (`clean`), with a reconstruction, and with zeros in its place.

    Attributes:
        n_tokens: tokens of each prompt that have one before them, over which losses are summed.
        loss: three lines, clean, spliced and zeros: the summed cross-entropy of each prompt's tokens, in nats.
        right: two lines, clean and spliced: whether the likeliest next token is the answer's; nan where a prompt has no
            answer of one token.
    """

    n_tokens: Int[np.ndarray, " prompt"]
    loss: Float[np.ndarray, "3 prompt"]
    right: Float[np.ndarray, "2 prompt"]

    def recovered(self, chosen: np.ndarray | slice = slice(None)) -> float:
        """The share of the loss that zeros cost and the reconstruction does not, over chosen prompts; 1 is all."""
        clean, spliced, zeros = self.loss[:, chosen].sum(axis=1)
        return float((zeros - spliced) / (zeros - clean)) if zeros != clean else float("nan")


def splice(basis: FeatureBasis) -> Edit:
    """Puts what the basis makes of activations in their place: its error term goes, and all else that it leaves out.

    Raises:
        InputError: the basis does not know its site.

    Example:
        >>> from probes.directions.features import basis_at
        >>> x = store.load(("resid_post", 1), "is_last")
        >>> basis = basis_at(store, ("resid_post", 1), pca(x, k=3).basis)
        >>> bool(torch.allclose(x + splice(basis).difference(x), basis.decode(basis.encode(x)), atol=1e-4))
        True
    """
    return _of_the_whole(basis, lambda x: basis.decode(basis.encode(x)) - x)


def splice_effects(model: LoadedModel, basis: FeatureBasis, prompts: Prompts, *, batch_tokens: int = 256) -> Spliced:
    """Run prompts as they are, with the reconstruction at every token but BOS and a text's first, and with zeros there.

    Args:
        model: the model.
        basis: the features, at a site that can be edited.
        prompts: the prompts.
        batch_tokens: token slots that a forward pass takes at most.

    Raises:
        InputError: the basis does not know its site, or it cannot be edited.
        FingerprintError: it comes from a model with other weights.
    """
    check_loaded(model)
    ways = (None, splice(basis), _of_the_whole(basis, torch.neg))
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    texts = [torch.from_numpy(tokenized.seen(i)) for i in range(len(prompts))]
    for text in texts:
        model.check_text(text.tolist())
    answers = _answers(tokenized)
    later = list(range(1, max(map(len, texts), default=1)))  # first tokens are many times as long as others, as BOS is
    loss, right = np.zeros((3, len(texts))), np.full((3, len(texts)), np.nan)
    for number, edit in enumerate(ways):
        with edited(model, [edit], later) if edit else nullcontext():
            loss[number], top = _losses(model, texts, batch_tokens)
        right[number] = np.where(answers < 0, np.nan, top == answers)
    return Spliced(np.array([len(text) - 1 for text in texts]), loss, right[:2])


def _of_the_whole(basis: FeatureBasis, change: Change) -> Edit:
    """An edit of activations themselves, each dimension being a feature."""
    width = basis.directions.shape[1]
    every = torch.eye(width)
    hook: Hook | None = basis.hook
    return Edit(LinearBasis(torch.zeros(width), every, every, hook, basis.weights), change)


def _losses(
    model: LoadedModel, texts: Sequence[Int[Tensor, " pos"]], batch_tokens: int
) -> tuple[Float[np.ndarray, " text"], Int[np.ndarray, " text"]]:
    """The summed cross-entropy of each text's tokens but the first, and the likeliest token after it."""
    loss, top = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    lengths = np.array([len(text) for text in texts])
    for length in np.unique(lengths):
        of_length = np.flatnonzero(lengths == length)
        for batch in np.array_split(of_length, -(-len(of_length) * length // batch_tokens)):
            tokens = torch.stack([texts[i] for i in batch])
            with torch.inference_mode():
                said = model.logits(tokens).log_softmax(dim=-1)
            loss[batch] = -said[:, :-1].gather(-1, tokens[:, 1:, None]).sum(dim=(1, 2)).double().numpy()
            top[batch] = said[:, -1].argmax(dim=-1).numpy()
    return loss, top


def _answers(tokenized: TokenizedPrompts) -> Int[np.ndarray, " prompt"]:
    """Each prompt's answer as a token; -1 where the task table would not measure it."""
    asked = zip(tokenized.prompts, tokenized.answers, token_faults(tokenized), strict=True)
    return np.array([answer[0] if prompt.answer and fault is None else -1 for prompt, answer, fault in asked])
