"""The task table: which sequences a model continues rightly, before anything is said about how."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from cache.errors import InputError
from cache.loading.load import load_model
from cache.models.model import LoadedModel
from cache.models.tokens import TokenizedPrompts, continuations, drop_unusable, token_faults, tokenize
from cache.prompts.prompt import DOCUMENT, Prompts
from cache.shares import exact_interval
from cache.store.plan import check_texts, plan_blocks

_KEYS = ["frame", "family", "kind"]


@dataclass(frozen=True)
class TaskTable:
    """How a model does on prompts.

    Attributes:
        table: one row a frame, family and kind: `member_tokens` and `answer_tokens` (the most that any takes),
            `n_prompts` measured, `n_members` (different answers), `n_dropped`, `dropped_why`, `accuracy` (share
            of prompts whose top-1 token over the whole vocabulary is the answer's), `ci_low` and `ci_high` (its 95 %
            Clopper-Pearson interval with as many trials as different answers, since prompts with the same answer are
            not independent; missing below 5), `answer_probability` (mean), `distractor_rate` (share whose
            top-1 is the distractor: a model that copies the last member has 1 here).
        answers: one row a measured prompt: its index among those given, `top1`, `correct`, `is_distractor`
            and `probability`.
    """

    table: pd.DataFrame
    answers: pd.DataFrame


def task_table(
    model: Any,
    prompts: Prompts,
    *,
    batch_tokens: int = 256,
    on_batch: Callable[[int], None] = lambda n_tokens: None,
) -> TaskTable:
    """Measure accuracy and answer probability of every frame, family and kind.

    Members or answers of several tokens cannot be measured: those prompts are counted as dropped. Prompts
    without an answer are left out.

    Args:
        model: a `LoadedModel`, or anything that `load_model` takes.
        prompts: the prompts.
        batch_tokens: token slots a forward pass takes at most.
        on_batch: called after every batch with its number of tokens.

    Raises:
        InputError: no prompt can be measured.

    Example:
        >>> table = task_table(model, prompts).table  # one row a frame, family and kind
        >>> len(table), bool(table["accuracy"].between(0, 1).all())
        (6, True)
    """
    loaded = load_model(model)
    if not any(prompt.answer for prompt in prompts):
        raise InputError("no prompt has an answer; label them, or use families")
    given = [number for number, prompt in enumerate(prompts) if prompt.kind != DOCUMENT]
    prompts = prompts.subset(given)
    tokenized = tokenize(prompts, loaded.tokenizer, bos=loaded.bos)
    check_texts(loaded, tokenized)
    drop_unusable(tokenized)
    answers = _measure(loaded, tokenized, batch_tokens, on_batch)
    if not len(answers):
        first = next(fault for fault in token_faults(tokenized) if fault)
        raise InputError(f"no prompt can be measured: {first}")
    answers = answers.join(prompts.table()[[*_KEYS, "answer", "distractor"]], on="prompt")
    table = _summary(tokenized, answers)
    return TaskTable(table, answers.assign(prompt=np.array(given)[answers["prompt"]]))


def _measure(
    model: LoadedModel, tokenized: TokenizedPrompts, batch_tokens: int, on_batch: Callable[[int], None]
) -> pd.DataFrame:
    """Top-1 token and the answer's probability, in batches of equal length."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, (length, fault) in enumerate(zip(tokenized.lengths, token_faults(tokenized), strict=True)):
        if fault is None and tokenized.prompts[index].answer:
            by_length[int(length)].append(index)
    wrong = continuations(tokenized, [prompt.distractor for prompt in tokenized.prompts], model.tokenizer)
    rows = []
    for length, members in sorted(by_length.items()):
        for block in plan_blocks(np.full(len(members), length), batch_tokens):
            batch = [members[i] for i in block]
            tokens = torch.from_numpy(np.stack([tokenized.seen(i) for i in batch]))
            with torch.inference_mode():
                probabilities = model.last_logits(tokens).softmax(dim=-1)
            for i, row in zip(batch, probabilities, strict=True):
                top, answer = int(row.argmax()), tokenized.answers[i][0]
                rows.append((i, model.tokenizer.decode([top]), top == answer, (top,) == wrong[i], float(row[answer])))
            on_batch(tokens.numel())
    return pd.DataFrame(rows, columns=["prompt", "top1", "correct", "is_distractor", "probability"])


def _summary(tokenized: TokenizedPrompts, answers: pd.DataFrame) -> pd.DataFrame:
    every = tokenized.prompts.table()[[*_KEYS, "answer"]].assign(
        member_tokens=[max(counts, default=0) for counts in tokenized.member_tokens],
        answer_tokens=[len(answer) for answer in tokenized.answers],
        fault=pd.Series(token_faults(tokenized), dtype=object),
    )
    every = every[every["answer"] != ""]
    measured = dict(list(answers.groupby(_KEYS)))
    rows = []
    for key, group in every.groupby(_KEYS, sort=False):
        mine = measured.get(key, answers.iloc[:0])
        why = group["fault"].dropna()
        accuracy = float(mine["correct"].mean()) if len(mine) else float("nan")
        low, high = exact_interval(accuracy, mine["answer"].nunique())
        rows.append(
            {
                **dict(zip(_KEYS, key, strict=True)),
                "member_tokens": group["member_tokens"].max(),
                "answer_tokens": group["answer_tokens"].max(),
                "n_prompts": len(mine),
                "n_members": mine["answer"].nunique(),
                "n_dropped": len(why),
                "dropped_why": "; ".join(why.unique()[:2]) + ("; ..." if why.nunique() > 2 else ""),
                "accuracy": accuracy,
                "ci_low": low,
                "ci_high": high,
                "answer_probability": mine["probability"].mean() if len(mine) else np.nan,
                "distractor_rate": mine["is_distractor"].mean() if len(mine) else np.nan,
            }
        )
    return pd.DataFrame(rows)
