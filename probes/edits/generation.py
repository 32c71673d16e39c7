"""Generation: how a model goes on with a text, edited or not."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Int
from torch import Tensor

from cache import LoadedModel
from cache.errors import InputError
from cache.models.model import check_loaded
from cache.models.tokens import tokenize
from cache.prompts.prompt import Prompts
from probes.edits.edit import Edit
from probes.edits.hooks import edited
from probes.edits.positions import Positions


def text_tokens(model: LoadedModel, text: str) -> Int[Tensor, "1 pos"]:
    """A text's tokens as the model reads them, BOS before them if the model was loaded with it.

    Raises:
        InputError: the text is empty or longer than the model's context.
    """
    check_loaded(model)
    tokenized = tokenize(Prompts.from_texts([text]), model.tokenizer, bos=model.bos)
    ids = tokenized.seen(0).tolist()
    model.check_text(ids)
    return torch.tensor([ids])


def generate(
    model: LoadedModel,
    text: str,
    n_tokens: int,
    *,
    edits: Sequence[Edit] = (),
    positions: Positions = "last",
    use_cache: bool = True,
) -> list[int]:
    """The tokens with which a model greedily continues a text, under edits; it stops after an end-of-text token.

    Positions count in the text as it was given and go on in what is generated; `last` is the given text's last token.
    Edits of a surrounding `with steer(...)` block act too (without a cache, each of its passes is a text of its own).

    Args:
        model: the model.
        text: the text.
        n_tokens: how many at most.
        edits: edits made while generating.
        positions: where.
        use_cache: reuse keys and values; the tokens are the same without, and take longer. Models that give other
            tokens with their cache than without are run without.

    Raises:
        InputError: the text is empty, with the new tokens longer than the context, or an edit cannot be made.

    Example:
        >>> tokens = generate(model, "1,2,3,", 4)
        >>> len(tokens), generate(model, "1,2,3,", 4, use_cache=False) == tokens
        (4, True)
    """
    tokens = text_tokens(model, text)
    _check_room(model, tokens.shape[1], n_tokens)
    length = tokens.shape[1] - int(model.bos)
    where = [length - 1] if positions == "last" else positions
    beyond = [one for one in where if isinstance(one, int) and one >= length + n_tokens]
    if beyond:
        raise InputError(
            f"with {n_tokens} more tokens the text has positions 0 to {length + n_tokens - 1}; got {beyond[0]}"
        )
    with edited(model, edits, where) if edits else nullcontext():
        return _continue(model, tokens, n_tokens, use_cache=use_cache)


def _check_room(model: LoadedModel, length: int, n_tokens: int) -> None:
    limit = model.n_ctx
    if limit and length >= limit:
        raise InputError(f"the text has {length} tokens and {model.name} takes {limit}, so nothing can follow it")
    if n_tokens < 1 or (limit and length + n_tokens > limit):
        most = f" to {limit - length}" if limit else ""
        raise InputError(
            f"the text has {length} tokens and {model.name} takes {limit or 'any number'}: ask for 1{most} more; got "
            f"{n_tokens}"
        )


def _continue(model: LoadedModel, tokens: Int[Tensor, "1 pos"], n_tokens: int, *, use_cache: bool) -> list[int]:
    found: list[int] = []
    past, given = None, tokens
    use_cache = use_cache and not model.findings["generation"].fault
    with torch.inference_mode():
        for _ in range(n_tokens):
            logits, past = model.step(given, past, use_cache=use_cache)
            best = logits.argmax(dim=-1, keepdim=True)
            found.append(int(best))
            if found[-1] == model.tokenizer.eos_token_id:
                break
            given = best if use_cache else torch.cat([given, best], dim=1)
    return found
