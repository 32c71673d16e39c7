"""Last member or answer: which of the two does the query position code, layer by layer?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.store import check_source
from cache.store.view import View
from geometry.results.dataset import from_lines, on_sites
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import families_text
from geometry.rows.names import names_of
from geometry.weights.readout import family_words
from probes.directions.codes import CodePlan, IndexCodes, load_codes, plan_codes, shown_length
from probes.receivers.batches import (
    ReceiverBatch,
    check_edited,
    choose_contexts,
    mean_over_members,
    run_receivers,
    share_over_members,
)


@dataclass(frozen=True)
class _Family:
    """Receivers of one family, and its donors of other kinds.

    Attributes:
        plan: the increasing prompts.
        donors: the plan of each other kind.
        answers: the ordinal of the answer of a kind's prompts after each last member, where it is known.
        accuracy: share of each kind's prompts, in the edited contexts, that the model continues rightly.
        batches: the increasing prompts, run.
    """

    plan: CodePlan
    donors: Mapping[str, CodePlan]
    answers: Mapping[str, Mapping[int, int]]
    accuracy: Mapping[str, float]
    batches: tuple[ReceiverBatch, ...] = field(repr=False)


def last_or_answer(
    view: View,
    model: LoadedModel,
    *,
    families: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    n_contexts: int = 4,
    seed: int = 0,
    loop: Loop = ALONE,
) -> LayerResult:
    """Is the last token's code taken for the member shown last, or for the answer to come?

    An increasing prompt's own mean code is replaced at its last token by that of prompts of another kind, whose last
    member l and answer a do not stand in the order of counting. The likeliest token is then either what follows l
    (read as last member), or a (read as answer). Tested are those (index, l) in which what follows l, a and the
    unedited answer differ, all of them answers of the family's increasing prompts. Codes are means over other contexts
    than the edited one. Standard errors leave out one member at a time, as the index edited and as the one shown last.

    Args:
        view: sites between blocks (resid_post, with the embedding as layer -1, or resid_pre) of a store of increasing
            prompts, and of prompts of other kinds with as many members. No choice of rows.
        model: the model that was recorded.
        families: which; None for all but controls.
        kinds: kinds of the donors; None for the store's `decreasing` and `step:K`.
        n_contexts: frames and templates that are edited.
        seed: draws the contexts.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, family, kind): `as_last` and `as_answer` in [0, 1] with errors, `unchanged` (share whose
        likeliest token stays), `last_over_answer` (change of the logit of what follows l minus that of a), `n_members`,
        and `donor_accuracy`: where the model does not continue a kind's own prompts rightly, their code cannot hold the
        answer.

    Raises:
        InputError: no such family or kind, a family has but one context, nothing can be told apart, or the view is of
            other sites or of chosen rows.
        FingerprintError: the store was recorded from another model.
    """
    seed = check_seed(seed)
    check_edited(view)
    check_source(view.store, model)
    used, names = _kinds(view.store, kinds), _names(view.store, families)
    cast = {name: _family(view.store, model, name, used, n_contexts, seed) for name in names}
    parameters: dict[str, object] = {
        "site": view.site,
        "layers": view.layers,
        "families": names,
        "kinds": list(used),
        "contexts": {name: sorted({c for b in one.batches for c in b.contexts}) for name, one in cast.items()},
        "seed": seed,
    }

    def unit(hook: Hook) -> list[pd.DataFrame]:
        return [frame for one in cast.values() for frame in _replaced_at(view.store, hook, one)]

    analysis = Analysis("last_or_answer", parameters | model.identity, view.source, many_threads=True)
    found = over(view.hooks, unit, analysis, loop)
    if not any(found):
        raise InputError(
            f"in no prompt do what follows the last member, the answer of {', '.join(used)} and the unedited answer "
            "all differ; record more starts"
        )
    cells = pd.concat(
        [one.assign(hook=hook.name) for hook, frames in zip(view.hooks, found, strict=True) for one in frames]
    )
    labels = {"family": names, "kind": list(used)}
    arrays = from_lines(_lines(cells, cast), {"hook": [hook.name for hook in view.hooks], **labels})
    dataset = on_sites(view.hooks, view.site, arrays, labels=labels)
    return LayerResult("last_or_answer", dataset, parameters, view.store.fingerprint, lines=("hook", *labels))


def _names(store: ActivationStore, families: Sequence[str] | None) -> list[str]:
    names = [name for name in store.families if "+" not in name] if families is None else names_of(families)
    if not names:
        raise InputError(f"codes need families that are not controls; got none from the store: {families_text(store)}")
    return names


def _kinds(store: ActivationStore, kinds: Sequence[str] | None) -> tuple[str, ...]:
    there = list(dict.fromkeys(store.prompts["kind"]))
    wanted = [k for k in there if k == "decreasing" or k.startswith("step:")] if kinds is None else names_of(kinds)
    missing = [kind for kind in wanted if kind not in there or kind == "increasing"]
    if not wanted or missing:
        raise InputError(
            "last member and answer are told apart by prompts of other kinds, such as decreasing and step:2; the store "
            f"has {', '.join(there)}" + (f", got {', '.join(missing)}" if missing else "")
        )
    return tuple(dict.fromkeys(wanted))


def _family(
    store: ActivationStore, model: LoadedModel, name: str, kinds: Sequence[str], n_contexts: int, seed: int
) -> _Family:
    length = shown_length(store)
    plan = plan_codes(store, name, length=length)
    donors = {kind: plan_codes(store, name, kind=kind, length=length) for kind in kinds}
    contexts = choose_contexts(plan, n_contexts, seed)
    ordinals = {word: ordinal for ordinal, word in family_words(store)[name].items()}
    answers, accuracy = {}, {}
    for kind, donor in donors.items():
        said = [store.prompts["answer"].iloc[number].strip() for number in donor.prompts[0]]
        answers[kind] = {m: ordinals[word] for m, word in zip(donor.members, said, strict=True) if word in ordinals}
        shared = [context for context in contexts if context in donor.contexts] or donor.contexts[:1]
        right = [batch.right for batch in run_receivers(store, model, donor, shared)]
        accuracy[kind] = float(torch.cat(right).float().mean())
    return _Family(plan, donors, answers, accuracy, run_receivers(store, model, plan, contexts, by_index=True))


def _replaced_at(store: ActivationStore, hook: Hook, one: _Family) -> list[pd.DataFrame]:
    """One line an edit of a family's prompts at a site, index by index."""
    plans = {"increasing": one.plan, **one.donors}
    codes = dict(zip(plans, load_codes(store, hook, list(plans.values())), strict=True))
    found = [_replace_in(batch, hook, codes, one) for batch in one.batches]
    return [frame.assign(family=one.plan.family) for frame in found if len(frame)]


def _replace_in(batch: ReceiverBatch, hook: Hook, codes: Mapping[str, IndexCodes], one: _Family) -> pd.DataFrame:
    """One line an edit of prompts of one index; empty where no donor can be told apart."""
    index, members = batch.members[0], list(one.plan.members)
    # the answer of index m is member m + 1: what follows `last` is the answer of index `last`, `answer` of its - 1
    donors = [
        (kind, last, members.index(last), members.index(answer - 1))
        for kind, known in one.answers.items()
        for last, answer in known.items()
        if len({last, answer - 1, index}) == 3 and {last, answer - 1} <= set(members)
    ]
    if not donors:
        return pd.DataFrame()
    steps = {context: _steps(codes, context, index, donors) for context in dict.fromkeys(batch.contexts)}
    change = torch.stack([steps[context] for context in batch.contexts], dim=1)
    top, logits = batch.edited(hook, [0], change[:, :, None])
    plain_top, plain = batch.said()
    followers, answers = (torch.tensor([donor[i] for donor in donors]) for i in (2, 3))
    risen, copies = logits - plain, torch.arange(len(donors))
    rise = risen[copies, :, followers] - risen[copies, :, answers]
    n = len(batch.members)
    return pd.DataFrame(
        {
            "kind": np.repeat([donor[0] for donor in donors], n),
            "context": np.tile(batch.contexts, len(donors)),
            "index": index,
            "last": np.repeat([donor[1] for donor in donors], n),
            "as_last": (top == batch.answers[:, followers].T).numpy().ravel(),
            "as_answer": (top == batch.answers[:, answers].T).numpy().ravel(),
            "unchanged": (top == plain_top).numpy().ravel(),
            "rise": rise.double().numpy().ravel(),
        }
    )


def _steps(
    codes: Mapping[str, IndexCodes], context: str, index: int, donors: Sequence[tuple[str, int, int, int]]
) -> Float[Tensor, "copy d"]:
    """From the increasing code of an index to each donor's code, at the last token."""
    means = {kind: one.without(context)[:, 0] for kind, one in codes.items()}
    start = means["increasing"][codes["increasing"].members.index(index)]
    return torch.stack([means[kind][codes[kind].members.index(last)] - start for kind, last, _, _ in donors])


def _lines(cells: pd.DataFrame, cast: Mapping[str, _Family]) -> pd.DataFrame:
    lines = []
    for (hook, family, kind), mine in cells.groupby(["hook", "family", "kind"], sort=False):
        line: dict[str, object] = {"hook": hook, "family": family, "kind": kind}
        ends = mine[["index", "last"]].to_numpy()
        for name in ("as_last", "as_answer"):
            share, se, low, high = share_over_members(mine[name].to_numpy(dtype=bool), ends)
            line |= {name: share, f"{name}_se": se, f"{name}_ci_low": low, f"{name}_ci_high": high}
        rise, rise_se, n_members = mean_over_members(mine["rise"].to_numpy(), ends)
        line |= {"unchanged": float(mine["unchanged"].mean()), "last_over_answer": rise, "last_over_answer_se": rise_se}
        line |= {"donor_accuracy": cast[str(family)].accuracy[str(kind)], "n_members": n_members}
        lines.append(line | {"n_templates": int(mine["context"].nunique()), "n_rows": len(mine)})
    return pd.DataFrame(lines)
