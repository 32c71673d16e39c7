"""Prompts that index edits are made in, run once, to be restarted with every edit; and what the model says then."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.models.restart import CleanRun, clean_run, first_block
from cache.models.tokens import TokenizedPrompts, tokenize
from cache.prompts.prompt import Prompts
from cache.store.view import View, check_view
from geometry.stats.uncertainty import LEAST_MEMBERS, jackknife, share_error, share_interval
from probes.directions.codes import LAST, CodePlan
from probes.directions.prompts import frame_of, stored_prompts
from probes.edits.copies import edited_copies

_ROWS = 512  # rows of logits held at a time


@dataclass(frozen=True)
class ReceiverBatch:
    """Prompts of one family and of equal length in tokens, and their run.

    Attributes:
        clean: the run.
        contexts: of each prompt.
        members: the index of each prompt.
        slots: token slot (BOS counted) of each prompt's places.
        answers: token of the family's answer after each index of its plan, as it continues this prompt's context.
        own: which of the answers is the prompt's own.
    """

    clean: CleanRun = field(repr=False)
    contexts: tuple[str, ...]
    members: tuple[int, ...]
    slots: Int[Tensor, "batch place"]
    answers: Int[Tensor, "batch answer"]
    own: Int[Tensor, " batch"]

    def said(self) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch answer"]]:
        """The likeliest token after each prompt without an edit, and the logits of its family's answers."""
        logits = self.clean.logits
        return logits.argmax(dim=-1).cpu(), logits.cpu().gather(1, self.answers)

    @property
    def right(self) -> Bool[Tensor, " batch"]:
        """Which prompts the model continues rightly without an edit."""
        return self.said()[0] == self.answers.gather(1, self.own[:, None])[:, 0]

    def at(self, hook: Hook, places: Sequence[int]) -> Float[Tensor, "batch place d"]:
        """The unedited residual stream at some of the places (numbers on the place axis), float64 on the CPU."""
        slots = self.slots[:, list(places)]
        return self.clean.streams[first_block(hook)].cpu().double()[torch.arange(len(slots))[:, None], slots]

    def edited(
        self, hook: Hook, places: Sequence[int], change: Float[Tensor, "copy batch place d"]
    ) -> tuple[Int[Tensor, "copy batch"], Float[Tensor, "copy batch answer"]]:
        """The likeliest token after each edited copy, and the logits of the family's answers.

        Args:
            hook: the site, between two blocks.
            places: numbers on the place axis.
            change: what is added there.
        """
        step = max(1, _ROWS // len(self.members))
        parts = [self._edited(hook, places, part) for part in torch.split(change, step)]
        return torch.cat([top for top, _ in parts]), torch.cat([logits for _, logits in parts])

    def _edited(
        self, hook: Hook, places: Sequence[int], change: Float[Tensor, "copy batch place d"]
    ) -> tuple[Int[Tensor, "copy batch"], Float[Tensor, "copy batch answer"]]:
        slots = self.slots[:, list(places)]
        texts = torch.arange(len(slots))[:, None].expand_as(slots)
        with torch.inference_mode():
            logits = self.clean.model.logits_of(edited_copies(self.clean, hook, (texts, slots), change))
            answers = self.answers.to(logits.device).expand(len(change), -1, -1)
            return logits.argmax(dim=-1).cpu(), logits.gather(2, answers).cpu()


def check_edited(view: View) -> None:
    """Make sure that index edits can be made at a view's sites.

    Raises:
        InputError: the sites are not between two blocks, or the view asks for some rows.
    """
    check_view(view)
    if view.site not in ("resid_post", "resid_pre"):
        raise InputError(f"index edits are made between blocks, at resid_post or resid_pre; got {view.site!r}")
    if view.where is not None:
        raise InputError(
            f"index codes are of whole contexts, so an index edit takes no choice of rows; got {view.noted()!r}"
        )


def choose_contexts(plan: CodePlan, n: int, seed: int) -> tuple[str, ...]:
    """Contexts that edits are made in: one of each frame in turn, templates drawn with the seed, in the store's order.

    Raises:
        InputError: fewer than 1 is asked for.
    """
    if n < 1:
        raise InputError(f"edits are made in 1 context or more; got {n}")
    by_frame: dict[str, list[str]] = defaultdict(list)
    for context in plan.contexts:
        by_frame[frame_of(context)].append(context)
    rng = np.random.default_rng(seed)
    turns = [(turn, f, c) for f, names in enumerate(by_frame.values()) for turn, c in enumerate(rng.permutation(names))]
    drawn = {str(context) for _, _, context in sorted(turns)[:n]}
    return tuple(context for context in plan.contexts if context in drawn)


def run_receivers(
    store: ActivationStore, model: LoadedModel, plan: CodePlan, contexts: Sequence[str], *, by_index: bool = False
) -> tuple[ReceiverBatch, ...]:
    """Run a family's prompts in some contexts, those of equal length (and, if so asked, of one index) together.

    Raises:
        InputError: an answer is not one token.
    """
    prompts = stored_prompts(store, plan.prompts[[plan.contexts.index(c) for c in contexts]].ravel())
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    answers = _answer_tokens(tokenized).reshape(len(contexts), len(plan.members))
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, ids in enumerate(tokenized.ids):
        groups[len(ids), number % len(plan.members) if by_index else 0].append(number)
    return tuple(_batch(model, plan, contexts, tokenized, answers, numbers) for numbers in groups.values())


def mean_over_members(
    values: Float[np.ndarray, " row"], members: Int[np.ndarray, "row end"]
) -> tuple[float, float, int]:
    """A mean, its jackknife error over members and their number: all rows that a member has part in go together.

    Args:
        values: one a row.
        members: the members that a row depends on: one, or where an edit leads from and to.

    Returns:
        Mean, standard error (nan below 5 members, and where nothing is left without one) and number of members.
    """
    found = np.unique(members)
    if not len(values):
        return float("nan"), float("nan"), 0
    if len(found) < LEAST_MEMBERS:
        return float(values.mean()), float("nan"), len(found)
    kept = [values[(members != member).all(axis=1)] for member in found]
    left_out = np.array([one.mean() if len(one) else np.nan for one in kept])
    return float(values.mean()), float(jackknife(left_out)), len(found)


def share_over_members(
    hits: Bool[np.ndarray, " row"], members: Int[np.ndarray, "row end"]
) -> tuple[float, float, float, float]:
    """A share, its jackknife error over members (nan at 0 and 1) and the ends of its 95 % interval, exact there.

    Args:
        hits: one a row.
        members: the members that a row depends on: one, or where an edit leads from and to.

    References: `geometry.stats.uncertainty.share_interval`.
    """
    share, se, n_members = mean_over_members(hits.astype(np.float64), members)
    return share, share_error(share, se), *share_interval(share, se, n_members)


def _batch(
    model: LoadedModel,
    plan: CodePlan,
    contexts: Sequence[str],
    tokenized: TokenizedPrompts,
    answers: Int[np.ndarray, "context answer"],
    numbers: Sequence[int],
) -> ReceiverBatch:
    own, context = [n % len(plan.members) for n in numbers], [n // len(plan.members) for n in numbers]
    texts = torch.tensor([tokenized.seen(n).tolist() for n in numbers])
    slots = [[_slot(tokenized, n, place) + int(model.bos) for place in plan.places] for n in numbers]
    return ReceiverBatch(
        clean=clean_run(model, texts),
        contexts=tuple(contexts[c] for c in context),
        members=tuple(plan.members[i] for i in own),
        slots=torch.tensor(slots),
        answers=torch.from_numpy(answers[context]),
        own=torch.tensor(own),
    )


def _slot(tokenized: TokenizedPrompts, number: int, place: int) -> int:
    if place == LAST:
        return len(tokenized.ids[number]) - 1
    return int((tokenized.members[number] == place).nonzero()[0][0])


def _answer_tokens(tokenized: TokenizedPrompts) -> Int[np.ndarray, " prompt"]:
    prompts: Prompts = tokenized.prompts
    for prompt, answer in zip(prompts, tokenized.answers, strict=True):
        if len(answer) != 1:
            raise InputError(
                f"the answer {prompt.answer!r} of family {prompt.family!r} is {len(answer)} tokens after "
                f"{prompt.text[-30:]!r}, so it cannot be the likeliest token; record with frames in which it is one"
            )
    return np.array([answer[0] for answer in tokenized.answers], dtype=np.int64)
