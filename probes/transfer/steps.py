"""The transfer matrix: does one family's step from index to index do in another what that one's own step does?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.repeatable import check_seed
from cache.store.store import check_source
from cache.store.view import View
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from probes.directions.codes import IndexCodes
from probes.directions.features import check_read
from probes.receivers.batches import ReceiverBatch, check_edited
from probes.receivers.roles import ALL, Cast, Roles, cast_families, cast_parameters
from probes.transfer.donors import unrelated_to
from probes.transfer.table import Counted, matrix_result, transfer_lines, transfer_table

N_NULL = 19
MOST_NULL = 1_000


def transfer_matrix(
    view: View, model: LoadedModel, roles: Roles = ALL, *, n_null: int = N_NULL, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """How often a donor family's step between two indices makes a receiver's prompt say the answer of the new index.

    In a receiver's prompt of index i, the donor's code of j minus its code of i is added, scaled at each place to the
    norm of the receiver's own step; success: the likeliest of all tokens is the receiver's answer for j. Codes are
    means over other contexts than the edited one. Each pair of families has all (i, j) that both have. Standard errors
    leave out one member at a time, with the edits that lead from it and those that lead to it; limits are exact at 0
    and 1 (`geometry.stats.uncertainty.share_interval`).

    Of `roles.basis`, as of an SAE, codes are what its features carry of activations: all steps, the receiver's own and
    those of null donors too, lead from reconstruction to reconstruction and are as long as the receiver's own step is
    there; the prompts keep what the basis leaves over. Beside a result without it, it tells how much is lost.

    Null donors have the donor's member-by-member structure, in directions that it and the store's control families, 10
    or more, could have had (`transfer.donors`): the same draws at all layers. They and the donor are compared in the
    first of the edited contexts. `p`: a null donor succeeds at least as often at this layer; where as often, the effect
    decides. `p_layers`, of the effect, holds for all layers, `q` for all pairs of families too (`transfer.table`).

    Args:
        view: sites between blocks (resid_post, with the embedding as layer -1, or resid_pre) of a store of increasing
            prompts; of several lengths those of the longest are used. No choice of rows.
        model: the model that was recorded.
        roles: which families receive edits and which give them, at which tokens, in how many contexts, and through
            which basis (of the view's one site, `load_sae(..., store=store)`).
        n_null: null donors for each pair, 19 or more; 0 for none, and no p.
        seed: draws the contexts and the null donors.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, positions, receiver, donor): `success` in [0, 1] over all prompts (the primary measure),
        `se`, `success_when_right` (prompts continued rightly unedited), `unchanged` (share whose likeliest token
        stays), `effect` (change of the logit of the new answer minus the old) and `effect_se`, `null_mean` and
        `null_max` of the null donors' success, `p`, `p_layers`, `q`, `n_members`.

    Raises:
        InputError: there are too few null donors, no such family or position set, a family has but one context, no
            donor has two indices in common with a receiver, or the view is of other sites (than the basis's, if there
            is one) or of chosen rows.
        FingerprintError: the store was recorded from another model, or the basis is of another.

    Example:
        >>> result = transfer_matrix(store.view(layers="2"), model, Roles(["digits"], ["numwords"]), n_null=0)
        >>> result.dataset["success"].dims
        ('hook', 'positions', 'receiver', 'donor')
    """
    seed = check_seed(seed)
    if n_null and not N_NULL <= n_null <= MOST_NULL:
        raise InputError(f"a donor is set against {N_NULL} to {MOST_NULL:,} null donors, or 0; got {n_null:,}")
    check_edited(view)
    check_source(view.store, model)
    check_read(roles.basis, view)
    cast = cast_families(view.store, model, roles, seed, by_index=True)
    _check_common(cast)
    parameters = cast_parameters(cast, view, seed) | {"n_null": n_null, "null_controls": list(cast.controls)}

    def unit(hook: Hook) -> Counted:
        return transfer_lines(_cells_at(view.store, hook, cast, n_null, seed), hook)

    analysis = Analysis("transfer", parameters | model.identity, view.source, many_threads=True)
    counted = [one for lines in over(view.hooks, unit, analysis, loop) for one in lines]
    return matrix_result("transfer", transfer_table(counted), view, parameters)


def _check_common(cast: Cast) -> None:
    members = {name: set(plan.members) for name, plan in cast.plans.items()}
    if all(len(members[receiver] & members[donor]) < 2 for receiver in cast.receivers for donor in cast.donors):
        raise InputError(
            "a step leads from index to index, and no family that gives has two in common with one that receives; "
            f"got {', '.join(cast.donors)} for {', '.join(cast.receivers)}: record the same starts of both"
        )


def _cells_at(store: ActivationStore, hook: Hook, cast: Cast, n_null: int, seed: int) -> pd.DataFrame:
    """One line an edit at a site."""
    codes = cast.codes(store, hook)
    cells = []
    for name, batches in cast.receivers.items():
        steps = steps_to(name, codes, cast, n_null, batches[0].contexts[0], seed)
        for positions, places in cast.places.items():
            edits = [edited_cells(batch, hook, places, steps) for batch in batches]
            cells += [one.assign(positions=positions, receiver=name) for one in edits if len(one)]
    return pd.concat(cells, ignore_index=True)


@dataclass(frozen=True)
class Steps:
    """Steps of all donors in one receiver, norm matched to its own.

    Attributes:
        codes: of the receiver and the donors.
        donors: families that give steps.
        receiver: the family that is edited.
        null_context: the context in which null donors are tried.
        drawn: codes of null donors, for each donor that is no control; empty without a null.
    """

    codes: Mapping[str, IndexCodes] = field(repr=False)
    donors: Sequence[str]
    receiver: str
    null_context: str
    drawn: Mapping[str, Float[Tensor, "draw member place d"]] = field(repr=False)

    def copies(self, context: str, index: int) -> list[tuple[str, int, int]]:
        """What each edit of a prompt is: a donor, the index moved to, and -1 or the number of a null donor."""
        mine = self.codes[self.receiver].members
        pairs = [
            (donor, j)
            for donor in self.donors
            if index in (has := self.codes[donor].members)
            for j in has
            if j != index and j in mine
        ]
        found = [(donor, j, -1) for donor, j in pairs]
        if context != self.null_context:
            return found
        tested = [(donor, j) for donor, j in pairs if donor in self.drawn]
        return found + [(donor, j, draw) for donor, j in tested for draw in range(len(self.drawn[donor]))]

    def at(self, context: str, index: int) -> Float[Tensor, "copy place d"]:
        """The step of every copy, from codes of other contexts."""
        means = {name: self.codes[name].without(context) for name in dict.fromkeys((self.receiver, *self.donors))}
        kinds = {(name, -1): one for name, one in means.items()}
        if context == self.null_context:
            kinds |= {(name, draw): one for name, drawn in self.drawn.items() for draw, one in enumerate(drawn)}
        first = dict(zip(kinds, accumulate(map(len, kinds.values()), initial=0), strict=False))
        at = {name: {m: i for i, m in enumerate(self.codes[name].members)} for name in means}
        every, copies, mine = torch.cat(list(kinds.values())), self.copies(context, index), self.receiver
        ends = [[first[name, draw] + at[name][m] for name, j, draw in copies for m in (j, index)]]
        ends += [[first[mine, -1] + at[mine][m] for _, j, _ in copies for m in (j, index)]]
        step, own = (every[one[::2]] - every[one[1::2]] for one in ends)
        return matched(step, own)


def steps_to(
    receiver: str, codes: Mapping[str, IndexCodes], cast: Cast, n_null: int, null_context: str, seed: int
) -> Steps:
    """The steps to one receiver at one site, with null donors drawn from the cast's control families."""
    controls = [codes[name] for name in cast.controls]
    drawn = {
        donor: torch.stack(
            [
                unrelated_to(codes[donor], controls, null_context, place, n_null, seed)
                for place in range(codes[donor].cells.shape[2])
            ],
            dim=2,
        )
        for donor in cast.donors
        if not donor.startswith(CONTROL_PREFIX)
    }
    return Steps(codes, cast.donors, receiver, null_context, drawn)


def matched(step: Float[Tensor, "*steps d"], own: Float[Tensor, "*steps d"]) -> Float[Tensor, "*steps d"]:
    """Steps at the norms of others, one by one; zero where either is."""
    length = step.norm(dim=-1, keepdim=True)
    return step / torch.where(length > 0, length, 1.0) * own.norm(dim=-1, keepdim=True)


def edited_cells(batch: ReceiverBatch, hook: Hook, places: Sequence[int], steps: Steps) -> pd.DataFrame:
    """One line an edit of prompts that have one index, all in the context of null donors or none."""
    index, copies = batch.members[0], steps.copies(batch.contexts[0], batch.members[0])
    if not copies:
        return pd.DataFrame()
    by_context = {context: steps.at(context, index)[:, list(places)] for context in dict.fromkeys(batch.contexts)}
    top, logits = batch.edited(hook, places, torch.stack([by_context[c] for c in batch.contexts], dim=1))
    plain_top, plain = batch.said()
    members = steps.codes[steps.receiver].members
    targets = torch.tensor([members.index(j) for _, j, _ in copies])
    rise = logits - plain
    new = rise[torch.arange(len(copies)), :, targets]
    n_prompts = len(batch.members)
    return pd.DataFrame(
        {
            "donor": np.repeat([donor for donor, _, _ in copies], n_prompts),
            "draw": np.repeat([draw for _, _, draw in copies], n_prompts),
            "context": np.tile(batch.contexts, len(copies)),
            "index": index,
            "target": np.repeat([j for _, j, _ in copies], n_prompts),
            "success": (top == batch.answers[:, targets].T).numpy().ravel(),
            "unchanged": (top == plain_top).numpy().ravel(),
            "right": np.tile(batch.right.numpy(), len(copies)),
            "effect": (new - rise[..., int(batch.own[0])]).double().numpy().ravel(),
            "with_null": batch.contexts[0] == steps.null_context,
        }
    )
