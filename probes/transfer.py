"""The transfer matrix: does one family's step from index to index do in another what that one's own step does?"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.hooks import Layers, layers_text
from cache.seeds import check_seed
from geometry.analysed_rows import families_text
from geometry.cells import CONTROL_PREFIX
from geometry.layerwise import LayerResult
from geometry.names import names_of
from geometry.readout import check_source
from probes.index_codes import CodePlan, IndexCodes, load_codes, places_of, plan_codes, shown_length
from probes.receiver_prompts import ReceiverBatch, choose_contexts, edited_hooks, run_receivers
from probes.transfer_table import transfer_arrays, transfer_table

RANDOM = "random"
N_CONTROLS = 5


@dataclass(frozen=True)
class Cast:
    """Who receives edits and who gives them, with the receivers' prompts run once.

    Attributes:
        receivers: families that are edited, with their prompts.
        donors: families that subspaces or steps come from.
        plans: the code plan of every family.
        places: the places of each position set, as numbers on the plans' place axis.
    """

    receivers: Mapping[str, tuple[ReceiverBatch, ...]] = field(repr=False)
    donors: tuple[str, ...]
    plans: Mapping[str, CodePlan] = field(repr=False)
    places: Mapping[str, tuple[int, ...]]

    def codes(self, store: ActivationStore, hook: Hook) -> dict[str, IndexCodes]:
        """The codes of every family at one site."""
        return dict(zip(self.plans, load_codes(store, hook, list(self.plans.values())), strict=True))


def transfer_matrix(
    store: ActivationStore,
    model: LoadedModel,
    *,
    receivers: Sequence[str] | None = None,
    donors: Sequence[str] | None = None,
    site: str = "resid_post",
    layers: Layers | None = None,
    positions: Sequence[str] = ("last",),
    n_contexts: int = 4,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """How often a donor family's step between two indices makes a receiver's prompt say the answer of the new index.

    In a receiver's prompt of index i, the donor's code of j minus its code of i is added, scaled at each place to the
    norm of the receiver's own step; success: the likeliest of all tokens is the receiver's answer for j. Codes are
    means over other contexts than the edited one. Each pair of families has all (i, j) that both have. Besides the
    families, donors are controls and `random`: steps between Gaussian combinations of the receiver's own activations.
    Standard errors leave out one member at a time, with the edits that lead from it and those that lead to it.

    Args:
        store: increasing prompts; of several lengths those of the longest are used.
        model: the model that was recorded.
        receivers: families that are edited; None for all but controls.
        donors: families that give steps; None for all but controls, and the first 5 controls. `random` is added.
        site: resid_post (with the embedding, layer -1), or resid_pre.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges; None for eight, evenly spread.
        positions: position sets: `last` (the last token), `members` (each shown member by its own code), `both`.
        n_contexts: frames and templates that are edited.
        seed: draws the contexts and the random steps.
        on_hook: called after every layer.

    Returns:
        Arrays over (hook, positions, receiver, donor): `success` in [0, 1] over all prompts (the primary measure),
        `se`, `success_when_right` (prompts continued rightly unedited), `unchanged` (share whose likeliest token
        stays), `effect` (change of the logit of the new answer minus the old) and `effect_se`, `n_members`.

    Raises:
        InputError: no such family, site, layer or position set, or a family has but one context.
        FingerprintError: the store was recorded from another model.
    """
    seed = check_seed(seed)
    check_source(store, model)
    hooks = edited_hooks(store, site, layers)
    cast = cast_families(store, model, receivers, donors, positions, n_contexts, seed, by_index=True)
    cells = []
    for number, hook in enumerate(hooks):
        codes = cast.codes(store, hook)
        for name, batches in cast.receivers.items():
            for positions_name, places in cast.places.items():
                steps = _Steps(codes, cast.donors, name, seed + 7919 * (hook.table_layer + 1))
                edits = pd.concat([_edit_batch(batch, hook, places, steps) for batch in batches])
                cells.append(edits.assign(hook=number, positions=positions_name, receiver=name))
        on_hook(hook)
    axes = (list(cast.places), list(cast.receivers), [*cast.donors, RANDOM])
    table = transfer_table(pd.concat(cells, ignore_index=True), hooks, axes)
    return LayerResult(
        name="transfer",
        hooks=hooks,
        arrays=transfer_arrays(table, hooks, axes),
        rows=pd.DataFrame(),
        parameters=cast_parameters(cast, site, layers, seed) | {"donors": axes[2]},
        source=store.fingerprint,
        table=table,
    )


def cast_families(
    store: ActivationStore,
    model: LoadedModel,
    receivers: Sequence[str] | None,
    donors: Sequence[str] | None,
    positions: Sequence[str],
    n_contexts: int,
    seed: int,
    *,
    by_index: bool,
) -> Cast:
    """Choose families and contexts, and run the receivers' prompts.

    Raises:
        InputError: no such family or position set, no family at all, or no position set.
    """
    known = [name for name in dict.fromkeys(store.prompts["family"]) if name and "+" not in name]
    families = [name for name in known if not name.startswith(CONTROL_PREFIX)]
    controls = [name for name in known if name.startswith(CONTROL_PREFIX)][:N_CONTROLS]
    receiving = tuple(families if receivers is None else names_of(receivers))
    giving = tuple([*families, *controls] if donors is None else names_of(donors))
    if not receiving or not giving:
        raise InputError(
            f"an edit needs a family that receives it and one that gives it; got none: {families_text(store)}"
        )
    if not positions:
        raise InputError("no position set is given; give last, members or both")
    length = shown_length(store)
    sets = {name: places_of(name, length) for name in names_of(positions)}
    places = tuple(sorted({place for one in sets.values() for place in one}))
    plans = {name: plan_codes(store, name, places=places, length=length) for name in dict.fromkeys(receiving + giving)}
    for plan in plans.values():
        if len(plan.contexts) < 2:
            raise InputError(
                f"codes of {plan.family!r} come from other contexts than the one that is edited, and the store has "
                f"only {plan.contexts[0]!r}; record more frames, or a frame with several templates"
            )
    batches = {}
    for name in receiving:
        chosen = choose_contexts(plans[name], n_contexts, seed)
        batches[name] = run_receivers(store, model, plans[name], chosen, by_index=by_index)
    numbers = {name: tuple(places.index(place) for place in one) for name, one in sets.items()}
    return Cast(batches, giving, plans, numbers)


def cast_parameters(cast: Cast, site: str, layers: Layers | None, seed: int) -> dict[str, object]:
    """What a result depends on besides the store."""
    return {
        "site": site,
        "layers": "spread" if layers is None else layers_text(layers),
        "positions": list(cast.places),
        "receivers": list(cast.receivers),
        "donors": list(cast.donors),
        "contexts": {r: sorted({c for b in batches for c in b.contexts}) for r, batches in cast.receivers.items()},
        "members": {name: list(plan.members) for name, plan in cast.plans.items()},
        "seed": seed,
    }


@dataclass(frozen=True)
class _Steps:
    """Steps of all donors in one receiver, norm matched to its own."""

    codes: Mapping[str, IndexCodes]
    donors: Sequence[str]
    receiver: str
    seed: int

    def pairs(self, index: int) -> list[tuple[str, int]]:
        """Every donor, and every other index that it and the receiver have, for prompts of one index."""
        mine = self.codes[self.receiver].members
        theirs = {name: self.codes[name].members for name in self.donors} | {RANDOM: mine}
        return [(d, j) for d, has in theirs.items() if index in has for j in has if j != index and j in mine]

    def at(self, context: str, index: int) -> Float[Tensor, "copy place d"]:
        """The step of every pair, from codes of other contexts."""
        own, means = self.codes[self.receiver], {}
        for name in {self.receiver, *self.donors}:
            means[name] = (self.codes[name].members, self.codes[name].without(context))
        means[RANDOM] = (own.members, self._random(own.others(context), context))

        def step(name: str, j: int) -> Float[Tensor, "place d"]:
            members, code = means[name]
            return code[members.index(j)] - code[members.index(index)]

        return torch.stack([matched(step(d, j), step(self.receiver, j)) for d, j in self.pairs(index)])

    def _random(self, cells: Float[Tensor, "other member place d"], context: str) -> Float[Tensor, "member place d"]:
        """For every index a Gaussian combination of the centred cells."""
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{self.receiver}|{context}".encode())])
        rows = cells.flatten(0, 1)
        weights = torch.from_numpy(rng.normal(size=(cells.shape[1], len(rows))))
        return torch.einsum("mr,rpd->mpd", weights, rows - rows.mean(dim=0))


def matched(step: Float[Tensor, "place d"], own: Float[Tensor, "place d"]) -> Float[Tensor, "place d"]:
    """A step at the norm of another, place by place; zero where either is."""
    length = step.norm(dim=-1, keepdim=True)
    return step / torch.where(length > 0, length, 1.0) * own.norm(dim=-1, keepdim=True)


def _edit_batch(batch: ReceiverBatch, hook: Hook, places: Sequence[int], steps: _Steps) -> pd.DataFrame:
    """One line an edit of prompts that have one index."""
    index, pairs = batch.members[0], steps.pairs(batch.members[0])
    by_context = {context: steps.at(context, index)[:, list(places)] for context in dict.fromkeys(batch.contexts)}
    top, logits = batch.edited(hook, places, torch.stack([by_context[c] for c in batch.contexts], dim=1))
    plain_top, plain = batch.said()
    members = steps.codes[steps.receiver].members
    targets = torch.tensor([members.index(j) for _, j in pairs])
    rise = logits - plain
    new = rise.gather(2, targets[:, None, None].expand(-1, len(batch.members), 1))[..., 0]
    n_prompts = len(batch.members)
    return pd.DataFrame(
        {
            "donor": np.repeat([donor for donor, _ in pairs], n_prompts),
            "context": np.tile(batch.contexts, len(pairs)),
            "index": index,
            "target": np.repeat([j for _, j in pairs], n_prompts),
            "success": (top == batch.answers[:, targets].T).numpy().ravel(),
            "unchanged": (top == plain_top).numpy().ravel(),
            "right": np.tile(batch.right.numpy(), len(pairs)),
            "effect": (new - rise[..., int(batch.own[0])]).double().numpy().ravel(),
        }
    )
