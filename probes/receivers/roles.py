"""Who receives edits, who gives them, and what nulls are drawn from: families, their codes, and prompts once run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.store.view import View
from geometry.bases.basis import FeatureBasis
from geometry.rows.analysed import families_text
from geometry.rows.names import names_of
from probes.directions.codes import CodePlan, IndexCodes, load_codes, plan_codes, shown_length
from probes.directions.features import basis_parameters
from probes.edits.tokens import places_of
from probes.receivers.batches import ReceiverBatch, choose_contexts, run_receivers

N_CONTROLS = 5
"""So many of a store's control families are donors unless others are named."""


@dataclass(frozen=True)
class Roles:
    """Which families receive edits and which give them, at which tokens, in how many contexts, and what of their codes.

    Attributes:
        receivers: families that are edited; None for all but controls.
        donors: families whose codes are used; None for all but controls, and the first 5 controls.
        positions: position sets: `last` (the last token), `members` (each shown member by its own code), `both`.
        n_contexts: frames and templates that are edited.
        basis: features, as of an SAE, through which every activation that is given is read: codes are what they carry
            of it (`decode(encode(x))`); None for the activations themselves.

    Example:
        >>> Roles(receivers=["digits"], donors=["numwords"]).positions
        ('last',)
    """

    receivers: Sequence[str] | None = None
    donors: Sequence[str] | None = None
    positions: Sequence[str] = ("last",)
    n_contexts: int = 4
    basis: FeatureBasis | None = field(default=None, repr=False, compare=False)


ALL = Roles()
"""All families but controls receive, and give beside the first controls."""


@dataclass(frozen=True)
class Cast:
    """Who receives edits and who gives them, with the receivers' prompts run once.

    Attributes:
        receivers: families that are edited, with their prompts.
        donors: families that subspaces or steps come from.
        plans: the code plan of every family.
        places: the places of each position set, as numbers on the plans' place axis.
        controls: all control families of the store: what nulls are drawn from.
        basis: what codes are read through.
    """

    receivers: Mapping[str, tuple[ReceiverBatch, ...]] = field(repr=False)
    donors: tuple[str, ...]
    plans: Mapping[str, CodePlan] = field(repr=False)
    places: Mapping[str, tuple[int, ...]]
    controls: tuple[str, ...] = ()
    basis: FeatureBasis | None = field(default=None, repr=False)

    def codes(self, store: ActivationStore, hook: Hook, *, whole: bool = False) -> dict[str, IndexCodes]:
        """The codes of every family at one site; `whole` as recorded, whatever they are read through."""
        basis = None if whole else self.basis
        return dict(zip(self.plans, load_codes(store, hook, list(self.plans.values()), basis), strict=True))


def cast_families(store: ActivationStore, model: LoadedModel, roles: Roles, seed: int, *, by_index: bool) -> Cast:
    """Choose families and contexts, and run the receivers' prompts.

    Raises:
        InputError: no such family or position set, no family at all, or no position set.
    """
    families, controls = [name for name in store.families if "+" not in name], store.controls
    receiving = tuple(families if roles.receivers is None else names_of(roles.receivers))
    giving = tuple([*families, *controls[:N_CONTROLS]] if roles.donors is None else names_of(roles.donors))
    if not receiving or not giving:
        raise InputError(
            f"an edit needs a family that receives it and one that gives it; got none: {families_text(store)}"
        )
    if not roles.positions:
        raise InputError("no position set is given; give last, members or both")
    length = shown_length(store)
    sets = {name: places_of(name, length) for name in names_of(roles.positions)}
    places = tuple(sorted({place for one in sets.values() for place in one}))
    plans = {name: plan_codes(store, name, places=places, length=length) for name in dict.fromkeys(receiving + giving)}
    for plan in plans.values():
        if len(plan.contexts) < 2:
            raise InputError(
                f"codes of {plan.family!r} come from other contexts than the one that is edited, and the store has "
                f"only {plan.contexts[0]!r}; record more frames, or a frame with several templates"
            )
    found = {name: plans.get(name) or _usable(store, name, places, length) for name in controls}
    pool = {name: plan for name, plan in found.items() if plan is not None}
    batches = {}
    for name in receiving:
        chosen = choose_contexts(plans[name], roles.n_contexts, seed)
        parts = [part for part in (chosen[:1], chosen[1:]) if part] if by_index else [chosen]
        batches[name] = tuple(
            batch for part in parts for batch in run_receivers(store, model, plans[name], part, by_index=by_index)
        )
    numbers = {name: tuple(places.index(place) for place in one) for name, one in sets.items()}
    return Cast(batches, giving, plans | pool, numbers, tuple(pool), roles.basis)


def _usable(store: ActivationStore, name: str, places: Sequence[int], length: int) -> CodePlan | None:
    """The plan of a control family that nulls are drawn from, if it has one with several contexts."""
    try:
        plan = plan_codes(store, name, places=places, length=length)
    except InputError:
        return None
    return plan if len(plan.contexts) > 1 else None


def cast_parameters(cast: Cast, view: View, seed: int) -> dict[str, object]:
    """What a result depends on besides the store."""
    return {
        "site": view.site,
        "layers": view.layers,
        "positions": list(cast.places),
        "receivers": list(cast.receivers),
        "donors": list(cast.donors),
        "contexts": {r: sorted({c for b in batches for c in b.contexts}) for r, batches in cast.receivers.items()},
        "members": {name: list(cast.plans[name].members) for name in dict.fromkeys([*cast.receivers, *cast.donors])},
        "seed": seed,
        **basis_parameters(cast.basis),
    }
