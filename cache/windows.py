"""Documents as windows of a model's tokens: whole in sequence, each within one document, and none twice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from cache.errors import InputError
from cache.models.model import LoadedModel
from cache.models.tokens import TokenizedPrompts, bos_token_id, tokenize
from cache.prompts.prompt import DOCUMENT, TEXT, Prompt, Prompts
from cache.prompts.text import WINDOW

WINDOW_TOKENS = 128
"""Tokens of a window, BOS included, unless others are asked for: two fill a forward pass of 256."""

_AT_ONCE = 1_000_000  # characters of documents that are tokenized together

Window = tuple[Prompt, Int[np.ndarray, "_"]]
"""A window as a prompt, and its tokens without BOS."""


@dataclass(frozen=True)
class Cut:
    """What became of documents.

    Attributes:
        n_documents: documents.
        n_windows: windows that are recorded.
        n_tokens: their tokens, BOS left out.
        window: tokens that a window has at most, BOS included; the last one of a document may be shorter.
        n_repeated: windows left out since their tokens are those of one before.
        n_not_drawn: windows left out since they are more than `max_tokens`.
        n_unlike: windows whose text by itself would make other tokens than it has in its document.
    """

    n_documents: int
    n_windows: int
    n_tokens: int
    window: int
    n_repeated: int
    n_not_drawn: int
    n_unlike: int


def tokenize_windows(
    model: LoadedModel, prompts: Prompts, *, window: int = WINDOW_TOKENS, max_tokens: int | None = None
) -> tuple[TokenizedPrompts, Cut | None]:
    """What `tokenize` makes of prompts, and windows in the place of documents, after all other prompts.

    A document's windows, one after the other, are its tokens. They end between words where they can, never inside a
    character, so that the text of each by itself makes the same tokens; if it does not, its tokens are the document's.

    Args:
        model: the model, for its tokenizer, BOS and longest text.
        prompts: the prompts, those of kind `document` among them.
        window: tokens of a window at most, BOS included.
        max_tokens: tokens of text in all, BOS left out: windows are drawn with the prompts' seed, up to so many.

    Returns:
        The prompts in tokens, and what became of the documents; None where there are none.

    Raises:
        InputError: a window is too short for a token, or longer than the model takes; a document holds BOS, or a
            character of more tokens than a window; `max_tokens` is less than a window.
    """
    texts = [prompt for prompt in prompts if prompt.kind == DOCUMENT]
    others = [prompt for prompt in prompts if prompt.kind != DOCUMENT]
    rest = tokenize(Prompts(tuple(others), prompts.seed), model.tokenizer, bos=model.bos) if others else None
    if not texts:
        assert rest is not None
        return rest, None
    _check_window(model, window)
    every = list(cut_documents(texts, model, window - model.bos))
    first: dict[bytes, Window] = {}
    for one in every:
        first.setdefault(one[1].tobytes(), one)
    unique = list(first.values())
    drawn = unique if max_tokens is None else _drawn(unique, max_tokens, prompts.seed)
    numbered = [(replace(prompt, template=number), ids) for number, (prompt, ids) in enumerate(drawn)]
    found = _tokenized(numbered, model, prompts.seed)
    cut = Cut(
        n_documents=len(texts),
        n_windows=len(drawn),
        n_tokens=sum(len(ids) for _, ids in drawn),
        window=window,
        n_repeated=len(every) - len(unique),
        n_not_drawn=len(unique) - len(drawn),
        n_unlike=_n_unlike(numbered, model.tokenizer),
    )
    return (found if rest is None else _joined(rest, found)), cut


def _check_window(model: LoadedModel, window: int) -> None:
    if window < 1 + model.bos:
        raise InputError(f"a window takes {1 + model.bos} tokens or more{', BOS included' * model.bos}; got {window}")
    if model.n_ctx and window > model.n_ctx:
        raise InputError(f"{model.name} takes {model.n_ctx} tokens; got windows of {window}")


def cut_documents(texts: Sequence[Prompt], model: LoadedModel, room: int) -> Iterator[Window]:
    """The windows of documents in their order, of at most `room` tokens each, repeated ones among them.

    Raises:
        InputError: as for `tokenize_windows`.
    """
    bos, start = bos_token_id(model.tokenizer, bos=model.bos), 0
    sizes = np.cumsum([len(prompt.text) for prompt in texts])
    while start < len(texts):
        before = int(sizes[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(sizes, before + _AT_ONCE, side="right")))
        batch = texts[start:stop]
        encoded = _encoded(batch, model.tokenizer)
        for number, prompt in enumerate(batch):
            ids = np.array(encoded["input_ids"][number], dtype=np.int64)
            if not len(ids):
                raise InputError(f"the tokenizer makes no token of document {prompt.group!r}")
            if bos in ids:
                raise InputError(
                    f"document {prompt.group!r} holds {model.tokenizer.decode([bos])!r}, the BOS token, which is put "
                    "before every window: leave it out of the text, or use --no-bos (bos=False)"
                )
            offsets = np.array(encoded["offset_mapping"][number], dtype=np.int64)
            yield from _cut(prompt, ids, offsets, _words(encoded, number), room)
        start = stop


def _encoded(texts: Sequence[Prompt], tokenizer: Any) -> Any:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("this model has a slow tokenizer, which cannot say where a token stands in its text")
    return tokenizer(
        [prompt.text for prompt in texts], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )


def _words(encoded: Any, number: int) -> Int[np.ndarray, " pos"]:
    """The number of the tokenizer's word that each token is part of, across whose ends nothing is merged."""
    return np.array([-1 if word is None else word for word in encoded.word_ids(number)], dtype=np.int64)


def _cut(
    prompt: Prompt,
    ids: Int[np.ndarray, " pos"],
    offsets: Int[np.ndarray, "pos 2"],
    words: Int[np.ndarray, " pos"],
    room: int,
) -> Iterator[Window]:
    """A document's windows: each ends as late as it can between words, or, where there is no such end, characters."""
    text = prompt.text
    ends = offsets[:, 1]  # what stands before a token's own characters, such as a space, is its own as well
    whole = np.append(ends[:-1] <= offsets[1:, 0], True)  # no character goes on in the next token
    spaced = np.array([text[end - 1 : end].isspace() for end in ends])
    before_space = np.array([text[end : end + 1].isspace() for end in ends])
    between = whole & ~spaced & (np.append(words[1:] != words[:-1], True) | before_space)
    start = at = number = 0
    while start < len(ids):
        if len(ids) - start <= room:
            stop, end = len(ids), len(text)
        else:
            stop = start + _last_end(prompt, between, whole & (ends > at), start, room)
            end = int(ends[stop - 1])
        labels = (*prompt.labels, (WINDOW, number))
        yield replace(prompt, text=text[at:end], kind=TEXT, labels=labels), ids[start:stop]
        start, at, number = stop, end, number + 1


def _last_end(prompt: Prompt, between: Any, whole: Any, start: int, room: int) -> int:
    """How many tokens the next window has: the latest end between words in its second half, else within it."""
    words = np.flatnonzero((between & whole)[start : start + room]) + 1
    if len(words) and 2 * words[-1] > room:
        return int(words[-1])
    characters = np.flatnonzero(whole[start : start + room]) + 1
    if not len(characters):
        raise InputError(
            f"document {prompt.group!r} has a character of more than {room} tokens; give windows more tokens (window)"
        )
    return int(characters[-1])


def _drawn(windows: list[Window], max_tokens: int, seed: int) -> list[Window]:
    """Windows drawn with the seed until the next would be too much, in their order."""
    order = np.random.default_rng([seed, 2]).permutation(len(windows))
    sizes = np.cumsum([len(windows[i][1]) for i in order])
    kept = order[: int(np.searchsorted(sizes, max_tokens, side="right"))]
    if not len(kept):
        raise InputError(f"max_tokens must leave a window of {sizes[0]} tokens; got {max_tokens}")
    return [windows[i] for i in sorted(kept)]


def _n_unlike(windows: Sequence[Window], tokenizer: Any) -> int:
    found = tokenizer([prompt.text for prompt, _ in windows], add_special_tokens=False, verbose=False)["input_ids"]
    return sum(alone != ids.tolist() for alone, (_, ids) in zip(found, windows, strict=True))


def _tokenized(windows: Sequence[Window], model: LoadedModel, seed: int) -> TokenizedPrompts:
    return TokenizedPrompts(
        prompts=Prompts(tuple(prompt for prompt, _ in windows), seed),
        ids=tuple(ids for _, ids in windows),
        members=tuple(np.full(len(ids), -1, dtype=np.int64) for _, ids in windows),
        member_tokens=((),) * len(windows),
        answers=((),) * len(windows),
        bos=bos_token_id(model.tokenizer, bos=model.bos),
    )


def _joined(first: TokenizedPrompts, then: TokenizedPrompts) -> TokenizedPrompts:
    lists = ("ids", "members", "member_tokens", "answers")
    both: dict[str, Any] = {name: getattr(first, name) + getattr(then, name) for name in lists}
    return replace(first, prompts=Prompts((*first.prompts, *then.prompts), first.prompts.seed), **both)
