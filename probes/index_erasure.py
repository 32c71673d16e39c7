"""The erasure matrix: does a receiver still answer once the index subspace of a donor family is removed?"""

import math
import zlib
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
from geometry.evidence import LEAST_CONTROLS, LEAST_MEMBERS
from geometry.layerwise import LayerResult
from geometry.readout import check_source
from probes.edits import Removal
from probes.erasure import index_subspace, random_subspace
from probes.index_codes import IndexCodes
from probes.receiver_prompts import ReceiverBatch, edited_hooks, mean_over_members, share_over_members
from probes.transfer import Cast, cast_families, cast_parameters
from probes.transfer_table import donor_kind, transfer_arrays

MOST_CONTROLS = 1_000

MEASURED = ("left", "se", "left_when_right", "logit_gap", "logit_gap_se", "null_mean", "null_min", "p", "n_members")
NECESSARY_P = 0.05


def erasure_matrix(
    store: ActivationStore,
    model: LoadedModel,
    *,
    receivers: Sequence[str] | None = None,
    donors: Sequence[str] | None = None,
    rank: int = 4,
    n_null: int = LEAST_CONTROLS,
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
    contexts. Random subspaces of the same rank are Gaussian combinations of those activations. `necessary`: the
    accuracy left is lower than with 19 of 20 of them (p at most .05); undecided below 5 members.

    Args:
        store: increasing prompts; of several lengths those of the longest are used.
        model: the model that was recorded.
        receivers: families that are edited; None for all but controls.
        donors: families whose subspaces are removed; None for all but controls, and the first 5 controls.
        rank: directions removed at each place.
        n_null: random subspaces, 19 or more.
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
        its error, `null_mean` and `null_min` of the random subspaces' shares, `p`, `n_members`; `null` with a last
        axis `draw`.

    Raises:
        InputError: the rank is below 1, there are too few random subspaces, no such family, site, layer or position
            set, or a family has but one context.
        FingerprintError: the store was recorded from another model.
    """
    seed = check_seed(seed)
    if rank < 1:
        raise InputError(f"the rank of what is erased must be 1 or more; got {rank}")
    if not LEAST_CONTROLS <= n_null <= MOST_CONTROLS:
        raise InputError(
            f"an accuracy is set against {LEAST_CONTROLS} to {MOST_CONTROLS:,} random subspaces; got {n_null:,}"
        )
    check_source(store, model)
    hooks = edited_hooks(store, site, layers)
    cast = cast_families(store, model, receivers, donors, positions, n_contexts, seed, by_index=False)
    lines, nulls = [], []
    for hook in hooks:
        codes = cast.codes(store, hook)
        for positions_name, places in cast.places.items():
            label = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "positions": positions_name}
            for receiver, batches in cast.receivers.items():
                spaces = _Spaces(codes, cast.donors, receiver, hook, rank, n_null, seed)
                cells = pd.concat([_erase_batch(batch, places, spaces) for batch in batches], ignore_index=True)
                found = _lines(cells, spaces)
                lines += [label | line for line, _ in found]
                nulls += [null for _, null in found]
        on_hook(hook)
    table = pd.DataFrame(lines)
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
class _Spaces:
    """What is removed from one receiver at one site."""

    codes: Mapping[str, IndexCodes] = field(repr=False)
    donors: Sequence[str]
    receiver: str
    hook: Hook
    rank: int
    n_null: int
    seed: int

    def rank_of(self, donor: str) -> int:
        """Directions of a donor's subspace."""
        return min(self.rank, len(self.codes[donor].members) - 1)

    @property
    def names(self) -> list[tuple[str, int]]:
        """What each copy removes: a donor's subspace, or (name empty) a random one, and its rank."""
        ranks = sorted({self.rank_of(donor) for donor in self.donors})
        return [(d, self.rank_of(d)) for d in self.donors] + [("", rank) for rank in ranks for _ in range(self.n_null)]

    def at(self, context: str, place: int) -> list[LinearBasis]:
        """The subspaces, in the order of `names`, around the receiver's mean in other contexts."""
        own = self.codes[self.receiver].others(context)[:, :, place]
        donors = [
            index_subspace(self.codes[d].others(context)[:, :, place], self.rank_of(d), self.hook) for d in self.donors
        ]
        label = zlib.crc32(f"{self.receiver}|{context}|{place}|{self.hook.name}".encode())
        drawn = [
            random_subspace(own.flatten(0, 1), rank, _seed(self.seed, label, number), self.hook)
            for number, (name, rank) in enumerate(self.names)
            if not name
        ]
        mean = own.mean(dim=(0, 1))
        return [replace(basis, offset=mean) for basis in (*donors, *drawn)]


def _seed(seed: int, label: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, label, number]).generate_state(1)[0])


def _erase_batch(batch: ReceiverBatch, places: Sequence[int], spaces: _Spaces) -> pd.DataFrame:
    """One line a prompt and a subspace; `copy` counts them through `spaces.names`, and is -1 for no edit."""
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


def _lines(cells: pd.DataFrame, spaces: _Spaces) -> list[tuple[dict[str, object], Float[np.ndarray, " draw"]]]:
    """A table line for each donor, and the accuracies that random subspaces of its rank leave."""
    left = cells.groupby("copy")["hit"].mean()
    found = []
    for number, (donor, rank) in enumerate(spaces.names):
        if not donor:
            break
        null = np.array([left[i] for i, (name, r) in enumerate(spaces.names) if not name and r == rank])
        mine = cells[cells["copy"] == number]
        label = {"receiver": spaces.receiver, "donor": donor, "donor_kind": donor_kind(spaces.receiver, donor)}
        counted = _counted(mine, float(left[-1]), null)
        found.append((label | {"rank": rank} | counted, null))
    return found


def _counted(cells: pd.DataFrame, unedited: float, null: Float[np.ndarray, " draw"]) -> dict[str, object]:
    members = cells[["index"]].to_numpy()
    share, se, ci_low, ci_high = share_over_members(cells["hit"].to_numpy(dtype=bool), members)
    gap, gap_se, n_members = mean_over_members(cells["gap"].to_numpy(), members)
    p = float((1 + (null <= share).sum()) / (1 + len(null)))
    hit, right = cells["hit"].to_numpy(dtype=np.float64), cells["right"].to_numpy()
    verdict = f"undecided (n members = {n_members})" if n_members < LEAST_MEMBERS else "no"
    return {
        "left": share,
        "se": se,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "unedited": unedited,
        "left_when_right": float(hit[right].mean()) if right.any() else math.nan,
        "logit_gap": gap,
        "logit_gap_se": gap_se,
        "null_mean": float(null.mean()),
        "null_min": float(null.min()),
        "p": p,
        "p_floor": 1 / (1 + len(null)),
        "necessary": "yes" if verdict == "no" and p <= NECESSARY_P else verdict,
        "n_members": n_members,
        "n_templates": int(cells["context"].nunique()),
        "n_rows": len(cells),
        "n_right": int(right.sum()),
    }


def _arrays(
    table: pd.DataFrame, null: Float[np.ndarray, "line draw"], hooks: Sequence[Hook], cast: Cast
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    axes = (list(cast.places), list(cast.receivers), list(cast.donors))
    arrays = transfer_arrays(table, hooks, axes, MEASURED)
    shape = arrays["left"][1].shape
    arrays["null"] = (("hook", "positions", "receiver", "donor", "draw"), null.reshape(*shape, -1))
    return arrays
