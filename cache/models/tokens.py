"""Prompts as a model's tokens: where each member stands, and which prompts a tokenizer spoils."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from cache.errors import InputError
from cache.prompts.prompt import AS_THEY_ARE, Prompt, Prompts


@dataclass(frozen=True)
class TokenizedPrompts:
    """Prompts in a tokenizer's tokens; position p of a text is index p of its arrays, without BOS.

    Attributes:
        prompts: the prompts, one for each array below.
        ids: token ids of each text; of a window those that its document has there (`cache.windows`).
        members: for each token the index of the shown member whose last token it is, else -1.
        member_tokens: for each prompt and shown member the number of tokens it takes; 0 where a token that it
            is part of reaches into its neighbours.
        answers: token ids of each answer as it continues its text; empty without an answer.
        bos: the id put before every text, or None.
    """

    prompts: Prompts
    ids: tuple[Int[np.ndarray, "_"], ...]
    members: tuple[Int[np.ndarray, "_"], ...]
    member_tokens: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    bos: int | None

    @cached_property  # a recording asks for it block by block
    def lengths(self) -> Int[np.ndarray, "prompt"]:
        """Tokens that the model sees of each prompt, BOS included."""
        return np.array([len(ids) + (self.bos is not None) for ids in self.ids], dtype=np.int64)

    def seen(self, prompt: int) -> Int[np.ndarray, "pos"]:
        """The token ids that the model sees of a prompt, BOS included."""
        return self.ids[prompt] if self.bos is None else np.concatenate([[self.bos], self.ids[prompt]])

    def subset(self, indices: Sequence[int]) -> "TokenizedPrompts":
        """The prompts at these indices, in the order given."""
        lists = ("ids", "members", "member_tokens", "answers")
        chosen: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in indices) for name in lists}
        return replace(self, prompts=self.prompts.subset(indices), **chosen)


def bos_token_id(tokenizer: Any, *, bos: bool) -> int | None:
    """The id to put before every text, or None where `bos` is off.

    Raises:
        InputError: BOS is wanted and the tokenizer has none.
    """
    if bos and tokenizer.bos_token_id is None:
        raise InputError("this model's tokenizer has no BOS token; use --no-bos (bos=False)")
    return int(tokenizer.bos_token_id) if bos else None


def tokenize(prompts: Prompts, tokenizer: Any, *, bos: bool) -> TokenizedPrompts:
    """The tokens of every text and the last token of every shown member.

    Special tokens that the tokenizer would add of itself are left out; BOS is added if `bos` says so.

    Raises:
        InputError: the tokenizer cannot say which characters a token covers, makes no token of a text, or makes BOS of
            its beginning where BOS is put before it.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("this model has a slow tokenizer, which cannot say where a token stands in its text")
    bos_id = bos_token_id(tokenizer, bos=bos)
    texts = [prompt.text for prompt in prompts]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    ids = [np.array(tokens, dtype=np.int64) for tokens in encoded["input_ids"]]
    empty = [text for text, tokens in zip(texts, ids, strict=True) if not len(tokens)]
    if empty:
        raise InputError(f"the tokenizer makes no token of the prompt {empty[0]!r:.60}")
    doubled = [text for text, tokens in zip(texts, ids, strict=True) if tokens[0] == bos_id]
    if doubled:
        raise InputError(
            f"the prompt {doubled[0]!r:.60} begins with the BOS token, which is put before every text: leave it out of "
            "the text, or use --no-bos (bos=False)"
        )
    pairs = list(zip(prompts, encoded["offset_mapping"], strict=True))
    tokenized = TokenizedPrompts(
        prompts=prompts,
        ids=tuple(ids),
        members=tuple(_member_of_token(prompt, spans) for prompt, spans in pairs),
        member_tokens=tuple(_tokens_a_member(prompt, spans) for prompt, spans in pairs),
        answers=(),
        bos=bos_id,
    )
    return replace(tokenized, answers=continuations(tokenized, [prompt.answer for prompt in prompts], tokenizer))


def continuations(tokenized: TokenizedPrompts, added: Sequence[str], tokenizer: Any) -> tuple[tuple[int, ...], ...]:
    """For each text the tokens that a continuation adds to it; empty where it adds none or changes the text's."""
    texts = {i: tokenized.prompts[i].text + more for i, more in enumerate(added) if more}
    continued = tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"] if texts else []
    found = {i: _continuation(tokenized.ids[i].tolist(), ids) for i, ids in zip(texts, continued, strict=True)}
    return tuple(found.get(i, ()) for i in range(len(added)))


def drop_unusable(tokenized: TokenizedPrompts) -> tuple[TokenizedPrompts, pd.DataFrame]:
    """The prompts whose members and answer are one token each, and a table of the others with the reasons.

    A user's own texts (`AS_THEY_ARE`) are all kept. A prompt dropped from one family takes its pairs along, since
    `Prompts.pairs` matches what is left.

    Returns:
        The kept prompts in tokens, and a frame with columns `family, frame, kind, reason, n_prompts`.

    Raises:
        InputError: none is left; the message gives the most frequent reason.
    """
    table = tokenized.prompts.table().assign(reason=pd.Series(token_faults(tokenized), dtype=object))
    unusable = table["reason"].notna() & ~table["kind"].isin(AS_THEY_ARE)
    columns = ["family", "frame", "kind", "reason"]
    dropped = table[unusable].groupby(columns, sort=False).size().rename("n_prompts").reset_index()
    if unusable.all():
        worst = dropped.sort_values("n_prompts", kind="stable").iloc[-1]
        raise InputError(
            f"no prompt is left: all {len(table)} have a member or answer of several tokens, for example "
            f"{worst['reason']} in frame {worst['frame']}; try frames without a space before the member "
            "(quote, list, lines, paren, eq)"
        )
    return tokenized.subset(np.flatnonzero(~unusable).tolist()), dropped


def _member_of_token(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Int[np.ndarray, "pos"]:
    members = np.full(len(offsets), -1, dtype=np.int64)
    for index, (_, end) in enumerate(prompt.spans):
        # a character of several tokens gives each of them its whole span; the last one ends the member
        ends = [position for position, (first, last) in enumerate(offsets) if first < end <= last]
        if ends:
            members[ends[-1]] = index
    return members


def _continuation(text_ids: list[int], continued_ids: list[int]) -> tuple[int, ...]:
    """What the answer adds to the text's tokens; empty where it changes them or there is no answer."""
    if continued_ids[: len(text_ids)] != text_ids:
        return ()
    return tuple(continued_ids[len(text_ids) :])


def _tokens_a_member(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    counts = []
    for member, (start, end) in zip(prompt.members, prompt.spans, strict=True):
        covering = [(first, last) for first, last in offsets if first < end and last > start]
        whole = covering and prompt.text[covering[0][0] : covering[-1][1]].strip() == member
        counts.append(len(covering) if whole else 0)
    return tuple(counts)


def token_faults(tokenized: TokenizedPrompts) -> list[str | None]:
    """For each prompt why its answer cannot be measured as one next token after one-token members, or None."""
    return [_fault(tokenized, i) for i in range(len(tokenized.prompts))]


def _fault(tokenized: TokenizedPrompts, index: int) -> str | None:
    prompt, answer = tokenized.prompts[index], tokenized.answers[index]
    for member, count in zip(prompt.members, tokenized.member_tokens[index], strict=True):
        if count != 1 and prompt.kind not in AS_THEY_ARE:
            return f"member {member!r} " + (f"is {count} tokens" if count else "shares a token with its neighbours")
    if len(answer) != 1:
        tokens = f"is {len(answer)} tokens" if answer else "merges with the text before it"
        return f"answer {prompt.answer!r} {tokens}"
    return None
