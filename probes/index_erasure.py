"""The erasure matrix: does a receiver still answer once the index subspace of a donor family is removed?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.hooks import Layers
from cache.seeds import check_seed
from geometry.basis import LinearBasis
from geometry.evidence import LEAST_CONTROLS
from geometry.layerwise import LayerResult
from geometry.readout import check_source
from probes.edited_families import Cast, cast_families, cast_parameters
from probes.edits import Removal
from probes.erasure import drawn_subspaces, index_subspace
from probes.erasure_table import Removed, erasure_lines, with_decisions
from probes.index_codes import IndexCodes
from probes.receiver_prompts import ReceiverBatch, edited_hooks
from probes.transfer_null import LEAST_POOL
from probes.transfer_table import transfer_arrays

MOST_NULL = 10_000
N_NULL = 99

MEASURED = (
    *("left", "se", "left_when_right", "logit_gap", "logit_gap_se", "null_mean", "null_low", "null_min"),
    *("p", "p_layers", "q", "n_members"),
)


def erasure_matrix(
    store: ActivationStore,
    model: LoadedModel,
    *,
    receivers: Sequence[str] | None = None,
    donors: Sequence[str] | None = None,
    rank: int = 4,
    n_null: int = N_NULL,
    site: str = "resid_post",
    layers: Layers | None = None,
    positions: Sequence[str] = ("last",),
    n_contexts: int = 4,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """A receiver's accuracy after the index subspace of a donor family is projected out, beside random subspaces.

    The subspace is the donor's (`index_subspace`), from other contexts than the edited one, of `rank` directions or
    one fewer than the donor has indices; it is removed around the mean of the receiver's activations in its other
    contexts. Random subspaces of the same rank (`drawn_subspaces`) lie where activations vary within members: in the
    store's control families, 3 or more, what is left of their cells without their means over contexts and members. No
    index effect can be in it. The same are removed in all contexts and receivers, with the same weights at all layers.

    `p`: less accuracy is left than by random subspaces at this layer; where as much is left, the change of the logit
    gap decides. `p_layers` holds for all layers, `q` for all pairs of families too. `necessary` (`with_decisions`): q
    is at most .05 and less is left than by 19 of 20 random subspaces and by every control donor's; else no, or
    undecided with what would decide it. p alone does not say so: a control donor's subspace, where families' codes lie,
    can move the logits more than what varies within members (read the controls' own p).

    Args:
        store: increasing prompts; of several lengths those of the longest are used.
        model: the model that was recorded.
        receivers: families that are edited; None for all but controls.
        donors: families whose subspaces are removed; None for all but controls, and the first 5 controls.
        rank: directions removed at each place.
        n_null: random subspaces, 19 or more; p is at least 1 / (1 + n_null).
        site: resid_post (with the embedding, layer -1), or resid_pre.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges; None for eight, evenly spread.
        positions: position sets: `last` (the last token), `members` (each shown member by its own code), `both`.
        n_contexts: frames and templates that are edited.
        seed: draws the contexts and the random subspaces.
        on_hook: called after every layer.

    Returns:
        Arrays over (hook, positions, receiver, donor): `left`, the share of prompts whose likeliest token is still
        the answer, over all prompts (the primary measure), `se` over members, `left_when_right` (of those that were
        right unedited), `logit_gap` (change of the answer's logit minus the mean of the family's other answers) and
        its error, `null_mean`, `null_low` (5 % quantile) and `null_min` of the random subspaces' shares, `p`,
        `p_layers`, `q`, `n_members`; `null` and `null_gap` with a last axis `draw`.

    Raises:
        InputError: the rank is below 1, there are too few random subspaces, no such family, site, layer or position
            set, or a family has but one context.
        FingerprintError: the store was recorded from another model.
    """
    seed = check_seed(seed)
    if rank < 1:
        raise InputError(f"the rank of what is erased must be 1 or more; got {rank}")
    if not LEAST_CONTROLS <= n_null <= MOST_NULL:
        raise InputError(
            f"an accuracy is set against {LEAST_CONTROLS} to {MOST_NULL:,} random subspaces; got {n_null:,}"
        )
    check_source(store, model)
    hooks = edited_hooks(store, site, layers)
    cast = cast_families(store, model, receivers, donors, positions, n_contexts, seed, by_index=False)
    lines, nulls = [], []
    for hook in hooks:
        codes = cast.codes(store, hook)
        drawn = _drawn(codes, cast, hook, rank, n_null, seed)
        for positions_name, places in cast.places.items():
            label = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "positions": positions_name}
            for receiver, batches in cast.receivers.items():
                here = {key: bases for key, bases in drawn.items() if key[1] in places}
                spaces = Spaces(codes, cast.donors, receiver, hook, rank, here)
                cells = pd.concat([erased_cells(batch, places, spaces) for batch in batches], ignore_index=True)
                found = erasure_lines(cells, receiver, spaces.removed)
                lines += [label | line for line, _ in found]
                nulls += [null if len(null) else np.full((n_null, 2), np.nan) for _, null in found]
        on_hook(hook)
    table = with_decisions(pd.DataFrame(lines), np.stack(nulls))
    return LayerResult(
        name="erasure",
        hooks=hooks,
        arrays=_arrays(table, np.stack(nulls), hooks, cast),
        rows=pd.DataFrame(),
        parameters=cast_parameters(cast, site, layers, seed) | {"rank": rank, "n_null": n_null},
        source=store.fingerprint,
        table=table,
    )


@dataclass(frozen=True)
class Spaces:
    """What is removed from one receiver at one site.

    Attributes:
        codes: of the receiver and the donors.
        donors: families whose index subspaces are removed.
        receiver: the family that is edited.
        hook: the site.
        rank: directions of a subspace.
        drawn: by rank and place the subspaces of the null; empty without one.
    """

    codes: Mapping[str, IndexCodes] = field(repr=False)
    donors: Sequence[str]
    receiver: str
    hook: Hook
    rank: int
    drawn: Mapping[tuple[int, int], Sequence[LinearBasis]] = field(repr=False)

    @property
    def removed(self) -> Removed:
        """What each copy removes, and its rank."""
        donors = [(donor, _rank_of(self.codes[donor], self.rank)) for donor in self.donors]
        sizes = {rank: len(drawn) for (rank, _), drawn in self.drawn.items()}
        return donors + [("", rank) for rank, n_null in sizes.items() for _ in range(n_null)]

    def at(self, context: str, place: int) -> list[LinearBasis]:
        """The subspaces, in the order of `removed`, around the receiver's mean in other contexts."""
        mean = self.codes[self.receiver].others(context)[:, :, place].mean(dim=(0, 1))
        bases = [
            index_subspace(self.codes[donor].others(context)[:, :, place], rank, self.hook)
            for donor, rank in self.removed
            if donor
        ]
        bases += [basis for (_, there), drawn in self.drawn.items() if there == place for basis in drawn]
        return [replace(basis, offset=mean) for basis in bases]


def _rank_of(codes: IndexCodes, rank: int) -> int:
    """Directions of a donor's subspace."""
    return min(rank, len(codes.members) - 1)


def _drawn(
    codes: Mapping[str, IndexCodes], cast: Cast, hook: Hook, rank: int, n_null: int, seed: int
) -> dict[tuple[int, int], tuple[LinearBasis, ...]]:
    """The null's subspaces by rank and place, of one site; none with fewer than 3 control families."""
    controls = [codes[name] for name in cast.controls]
    if len(controls) < LEAST_POOL:
        return {}
    n_members = max(len(codes[name].members) for name in (*cast.receivers, *cast.donors))
    ranks = sorted({_rank_of(codes[donor], rank) for donor in cast.donors})
    places = sorted({place for places in cast.places.values() for place in places})
    return {
        (one, place): drawn_subspaces([c.cells[:, :, place] for c in controls], one, n_members, n_null, seed, hook)
        for one in ranks
        for place in places
    }


def erased_cells(batch: ReceiverBatch, places: Sequence[int], spaces: Spaces) -> pd.DataFrame:
    """One line a prompt and a subspace; `copy` counts them through `spaces.removed`, and is -1 for no edit."""
    bases = {c: [spaces.at(c, place) for place in places] for c in dict.fromkeys(batch.contexts)}
    x = batch.at(spaces.hook, places)
    change = torch.stack([_removed(x[i], bases[context]) for i, context in enumerate(batch.contexts)], dim=1)
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


def _removed(x: Float[Tensor, "place d"], bases: Sequence[Sequence[LinearBasis]]) -> Float[Tensor, "copy place d"]:
    """What each subspace's removal adds at each place."""
    changes = [torch.stack([Removal(basis).change(row) for basis in one]) for row, one in zip(x, bases, strict=True)]
    return torch.stack(changes, dim=1)


def _gap(logits: Float[Tensor, "copy batch answer"], batch: ReceiverBatch) -> Float[Tensor, "copy batch"]:
    """The logit of the right answer minus the mean of the family's other answers."""
    right = logits.gather(2, batch.own.expand(len(logits), -1)[..., None])[..., 0]
    return right - (logits.sum(dim=-1) - right) / (logits.shape[-1] - 1)


def _arrays(
    table: pd.DataFrame, null: Float[np.ndarray, "line draw 2"], hooks: Sequence[Hook], cast: Cast
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    axes = (list(cast.places), list(cast.receivers), list(cast.donors))
    arrays = transfer_arrays(table, hooks, axes, MEASURED)
    shape = arrays["left"][1].shape
    order = transfer_arrays(table.assign(line=np.arange(len(table))), hooks, axes, ["line"])["line"][1].astype(int)
    for number, name in enumerate(("null", "null_gap")):
        drawn = null[order.ravel(), :, number].reshape(*shape, -1)
        arrays[name] = (("hook", "positions", "receiver", "donor", "draw"), drawn)
    return arrays
