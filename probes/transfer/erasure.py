"""The erasure matrix: does a receiver still answer once the index subspace of a donor family is removed?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.repeatable import check_seed
from cache.store.store import check_source
from cache.store.view import View
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_CONTROLS
from probes.directions.codes import IndexCodes
from probes.directions.features import check_read
from probes.directions.subspaces import index_subspace, index_subspaces, subspaces_within
from probes.receivers.batches import ReceiverBatch, check_edited
from probes.receivers.roles import ALL, Cast, Roles, cast_families, cast_parameters
from probes.transfer.donors import unrelated_to
from probes.transfer.erasure_table import OWN, UNRELATED, WITHIN, Removed, erasure_lines, with_decisions
from probes.transfer.table import Counted, matrix_result, stacked

MOST_NULL = 10_000
N_NULL = 99
N_WITHIN = 20
"""Subspaces of what varies within members: an erasure that counts goes beyond 19 of them."""

LEAST_WITHIN = 3
"""Control families that these are drawn from, at least."""


def erasure_matrix(
    view: View,
    model: LoadedModel,
    roles: Roles = ALL,
    *,
    rank: int = 4,
    n_null: int = N_NULL,
    seed: int = 0,
    loop: Loop = ALONE,
) -> LayerResult:
    """A receiver's accuracy after the index subspace of a donor family is projected out, beside subspaces of two nulls.

    The subspace is the donor's (`index_subspace`), from other contexts than the edited one, of `rank` directions or
    one fewer than the donor has indices; it is removed around the mean of the receiver's activations in its other
    contexts. Unrelated donors are codes that the donor and the store's control families, 10 or more, could have had
    (`transfer.donors`), the same draws at all layers and in all contexts and receivers; they are drawn for donors that
    are no control. Beside them stand 20 subspaces of what varies within members (`subspaces_within`) in 3 control
    families or more: no index effect can be in these, nor what tells one family from another.

    Of `roles.basis`, as of an SAE, all subspaces are those of what its features carry of activations; they are removed
    around the same mean, and what else the basis leaves over stays.

    `p`: less accuracy is left than by unrelated donors at this layer; where as much is left, the change of the logit
    gap decides. `p_layers` holds for all layers, `q` for all pairs of families too. `necessary` (`with_decisions`): q
    is at most .05, and less is left than by 19 of 20 subspaces of either null and by every control donor's; else no, or
    undecided with what would decide it.

    Args:
        view: sites between blocks (resid_post, with the embedding as layer -1, or resid_pre) of a store of increasing
            prompts; of several lengths those of the longest are used. No choice of rows.
        model: the model that was recorded.
        roles: which families receive edits and which give them, at which tokens, in how many contexts, and through
            which basis (of the view's one site, `load_sae(..., store=store)`).
        rank: directions removed at each place.
        n_null: unrelated donors' subspaces, 19 or more; p is at least 1 / (1 + n_null).
        seed: draws the contexts and the nulls' subspaces.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, positions, receiver, donor): `left`, the share of prompts whose likeliest token is still
        the answer, over all prompts (the primary measure), `se` over members, `left_when_right` (of those that were
        right unedited), `logit_gap` (change of the answer's logit minus the mean of the family's other answers) and
        its error, `null_mean`, `null_low` (5 % quantile) and `null_min` of the shares that unrelated donors leave,
        `within_mean` and `within_low` of what subspaces within members leave, `p`, `p_layers`, `q`, `n_members`; `null`
        and `null_gap` of unrelated donors with a last axis `draw`.

    Raises:
        InputError: the rank is below 1, there are too few subspaces of a null, no such family or position set, a family
            has but one context, or the view is of other sites (than the basis's, if there is one) or of chosen rows.
        FingerprintError: the store was recorded from another model, or the basis is of another.

    Example:
        >>> result = erasure_matrix(store.view(layers="2"), model, Roles(["digits"], ["numwords"]))
        >>> result.dataset["left"].dims
        ('hook', 'positions', 'receiver', 'donor')
    """
    seed = check_seed(seed)
    if rank < 1:
        raise InputError(f"the rank of what is erased must be 1 or more; got {rank}")
    if not LEAST_CONTROLS <= n_null <= MOST_NULL:
        raise InputError(
            f"an accuracy is set against {LEAST_CONTROLS} to {MOST_NULL:,} unrelated subspaces; got {n_null:,}"
        )
    check_edited(view)
    check_source(view.store, model)
    check_read(roles.basis, view)
    cast = cast_families(view.store, model, roles, seed, by_index=False)
    parameters = cast_parameters(cast, view, seed) | {"rank": rank, "n_null": n_null}

    def unit(hook: Hook) -> Counted:
        return _lines_at(view.store, hook, cast, rank, n_null, seed)

    controls = {"null_controls": list(cast.controls)}
    analysis = Analysis("erasure", parameters | controls | model.identity, view.source, many_threads=True)
    found = [one for lines in over(view.hooks, unit, analysis, loop) for one in lines]
    nulls = stacked([null for _, null in found])
    table = with_decisions(pd.DataFrame([line for line, _ in found]), nulls)
    beside = {name: (("draw",), nulls[..., number]) for number, name in enumerate(("null", "null_gap"))}
    return matrix_result("erasure", table, view, parameters, beside)


def _lines_at(store: ActivationStore, hook: Hook, cast: Cast, rank: int, n_null: int, seed: int) -> Counted:
    """For each position set, receiver and donor what is left at a site, and what unrelated donors like it leave."""
    codes = cast.codes(store, hook)
    whole = codes if cast.basis is None else cast.codes(store, hook, whole=True)
    drawn = drawn_subspaces(codes, cast, rank, n_null, seed)
    lines: Counted = []
    for positions, places in cast.places.items():
        label = {"hook": hook.name, "positions": positions}
        for receiver, batches in cast.receivers.items():
            spaces = Spaces(codes, cast.donors, receiver, hook, rank, drawn, whole)
            cells = pd.concat([erased_cells(batch, places, spaces) for batch in batches], ignore_index=True)
            lines += [(label | line, null) for line, null in erasure_lines(cells, receiver, spaces.removed)]
    return lines


Drawn = Mapping[tuple[str, str, int, str, int], Sequence[Float[Tensor, "direction d"]]]
"""By kind, donor, rank, context and place: directions of a null's subspaces."""


@dataclass(frozen=True)
class Spaces:
    """What is removed from one receiver at one site.

    Attributes:
        codes: of the receiver and the donors.
        donors: families whose index subspaces are removed.
        receiver: the family that is edited.
        hook: the site.
        rank: directions of a subspace.
        drawn: the subspaces of both nulls; empty without one.
        whole: codes as recorded, whose mean is removed around; None where `codes` are.
    """

    codes: Mapping[str, IndexCodes] = field(repr=False)
    donors: Sequence[str]
    receiver: str
    hook: Hook
    rank: int
    drawn: Drawn = field(repr=False)
    whole: Mapping[str, IndexCodes] | None = field(default=None, repr=False)

    @property
    def removed(self) -> Removed:
        """What each copy removes: donors' subspaces, then those of the nulls."""
        sizes = {(kind, donor, rank): len(drawn) for (kind, donor, rank, _, _), drawn in self.drawn.items()}
        donors = [(OWN, donor, _rank_of(self.codes[donor], self.rank)) for donor in self.donors]
        return donors + [one for one, n_drawn in sizes.items() for _ in range(n_drawn)]

    def at(self, context: str, place: int) -> tuple[Float[Tensor, " d"], Float[Tensor, "copy direction d"]]:
        """The receiver's mean in other contexts, and the subspaces around it, in the order of `removed`.

        Those of fewer directions end with zeros.
        """
        around = self.codes if self.whole is None else self.whole
        mean = around[self.receiver].others(context)[:, :, place].mean(dim=(0, 1))
        own = [
            index_subspace(code.others(context)[:, :, place], _rank_of(code, self.rank)).directions
            for code in map(self.codes.__getitem__, self.donors)
        ]
        nulls = [one for (*_, c, p), drawn in self.drawn.items() if (c, p) == (context, place) for one in drawn]
        return mean, pad_sequence([*own, *nulls], batch_first=True)


def _rank_of(codes: IndexCodes, rank: int) -> int:
    """Directions of a donor's subspace."""
    return min(rank, len(codes.members) - 1)


def drawn_subspaces(codes: Mapping[str, IndexCodes], cast: Cast, rank: int, n_null: int, seed: int) -> Drawn:
    """The subspaces of both nulls at one site, for every context that is edited; none with too few control families."""
    controls = [codes[name] for name in cast.controls]
    contexts = sorted({one for batches in cast.receivers.values() for batch in batches for one in batch.contexts})
    where = list(product(contexts, sorted({place for places in cast.places.values() for place in places})))
    found: dict[tuple[str, str, int, str, int], Sequence[Float[Tensor, "direction d"]]] = {}
    for donor in (name for name in cast.donors if not name.startswith(CONTROL_PREFIX)):
        for context, place in where:
            key = (UNRELATED, donor, _rank_of(codes[donor], rank), context, place)
            drawn = unrelated_to(codes[donor], controls, context, place, n_null, seed, structured=False)
            found[key] = index_subspaces(drawn, key[2])
    if len(controls) < LEAST_WITHIN:
        return found
    n_members = max(len(codes[name].members) for name in (*cast.receivers, *cast.donors))
    for one in sorted({_rank_of(codes[donor], rank) for donor in cast.donors}):
        for place in {place for _, place in where}:
            within = subspaces_within([c.cells[:, :, place] for c in controls], one, n_members, N_WITHIN, seed)
            found |= {(WITHIN, "", one, context, place): within for context in contexts}
    return found


def erased_cells(batch: ReceiverBatch, places: Sequence[int], spaces: Spaces) -> pd.DataFrame:
    """One line a prompt and a subspace; `copy` counts them through `spaces.removed`, and is -1 for no edit."""
    x, change = batch.at(spaces.hook, places), torch.empty(0)
    for context, (number, place) in product(dict.fromkeys(batch.contexts), enumerate(places)):
        mine = torch.tensor([one == context for one in batch.contexts])
        removed = _removed(x[mine, number], *spaces.at(context, place))
        change = change if len(change) else x.new_empty(len(removed), *x.shape)
        change[:, mine, number] = removed
    top, logits = batch.edited(spaces.hook, places, change)
    plain_top, plain = batch.said()
    right = batch.answers.gather(1, batch.own[:, None])[:, 0]
    gaps = _gap(torch.cat([plain[None], logits]), batch)
    hits = torch.cat([plain_top[None], top]) == right
    n_copies, n_prompts = hits.shape
    return pd.DataFrame(
        {
            "copy": np.repeat(np.arange(-1, n_copies - 1), n_prompts),
            "context": np.tile(batch.contexts, n_copies),
            "index": np.tile(batch.members, n_copies),
            "hit": hits.numpy().ravel(),
            "right": np.tile(hits[0].numpy(), n_copies),
            "gap": (gaps - gaps[0]).double().numpy().ravel(),
        }
    )


def _removed(
    x: Float[Tensor, "row d"], mean: Float[Tensor, " d"], subspaces: Float[Tensor, "copy direction d"]
) -> Float[Tensor, "copy row d"]:
    """What each subspace's removal adds (`probes.edits.edit.removal`), many at a time."""
    directions = subspaces.to(x)
    return -((x - mean.to(x)) @ directions.mT) @ directions


def _gap(logits: Float[Tensor, "copy batch answer"], batch: ReceiverBatch) -> Float[Tensor, "copy batch"]:
    """The logit of the right answer minus the mean of the family's other answers."""
    right = logits.gather(2, batch.own.expand(len(logits), -1)[..., None])[..., 0]
    return right - (logits.sum(dim=-1) - right) / (logits.shape[-1] - 1)
