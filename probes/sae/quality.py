"""How well an SAE explains the rows of a store, and what the model does with its reconstruction in their place."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int, Shaped

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.models.hooks import Hook
from cache.models.model import LoadedModel
from cache.prompts.prompt import OWN, TEXT
from cache.store.store import ActivationStore, check_open, check_source
from cache.store.view import Where, beyond_first_token, row_mask
from geometry.bases.basis import FeatureBasis
from geometry.bases.reconstruction import Reconstruction, explained_variance
from probes.directions.prompts import stored_prompts
from probes.edits.splicing import Spliced, splice_effects
from probes.sae.basis import SAEBasis, Transcoder

FLOOR = 0.5
"""Explained variance, and accuracy as a share of the model's own, below which an SAE is warned of."""

ALL = "all rows"
CONTROLS = "controls"
_SAMPLE = 256  # rows, spread evenly, that are read when an SAE is loaded
_BETTER = 0.05  # by which another site is explained better before it is told
_AT_ONCE = 1 << 23  # values of features in memory


@dataclass(frozen=True, eq=False)
class SAEQuality:
    """What an SAE makes of a store's rows, set by set.

    Attributes:
        table: one row a set of rows, the last one all: `set`, and what `Reconstruction.said` says of its rows
            (`n_rows`, `explained_variance`, `without_largest`, `median_dimension`, `l0`, `dead`). With the model:
            `n_prompts`; `accuracy` and `spliced_accuracy`, the share of prompts continued rightly without and with the
            reconstruction in the activations' place; `loss` and `spliced_loss`, the cross-entropy of their tokens, in
            nats; `loss_recovered`, the share of what zeros in their place cost that the reconstruction does not.
        faults: what was warned of, in sentences.
    """

    table: pd.DataFrame
    faults: tuple[str, ...] = field(default=())


def sae_quality(
    sae: SAEBasis | Transcoder,
    store: ActivationStore,
    where: Where = None,
    *,
    by: str | None = None,
    model: LoadedModel | None = None,
    n_prompts: int = 128,
    floor: float = FLOOR,
) -> SAEQuality:
    """Explained variance, L0 and dead features on a store's rows; with the model, its loss and task when spliced in.

    Below the floor a warning says so: a wrongly loaded SAE still has features.

    Args:
        sae: the SAE or transcoder, loaded with the store.
        store: the store; rows of BOS and of texts' first tokens are left out, and nothing is spliced in there.
        where: which rows, as for `store.load`; None for all.
        by: a column of `store.prompts` that divides prompts into sets; default: family, controls together, running
            text and own prompts without one too; or group, where there is no family.
        model: the model that was recorded, for what it does with the reconstruction; not of a transcoder.
        n_prompts: how many prompts it runs: as many of each set, spread evenly; none of controls.
        floor: what explained variance, and accuracy as a share of the model's own, must reach.

    Raises:
        InputError: no row is chosen, there is no such column, or the SAE knows no site.
        FingerprintError: the model is not the one recorded.

    Example:
        >>> sae = load_sae("sae", store=store)
        >>> quality = sae_quality(sae, store, "is_last", model=model)
        >>> quality.table["set"].tolist(), quality.faults
        (['digits', 'numwords', 'months', 'all rows'], ())
        >>> bool((quality.table["explained_variance"] > 0.99).all())
        True
    """
    check_open(store)
    if n_prompts < 1 or not -math.inf < floor <= 1:
        raise InputError(f"n_prompts must be 1 or more and floor a number of at most 1; got {n_prompts} and {floor}")
    mask = row_mask(store.rows, where) & beyond_first_token(store.rows)
    if not mask.any():
        raise InputError("no row is chosen to see how an SAE does on it")
    sets = _sets(store, by)
    found = tallies(sae, store, mask, sets.to_numpy()[store.rows["prompt"].to_numpy()[mask]])
    table = pd.DataFrame([{"set": name, **tally.said()} for name, tally in found.items()])
    if model is not None:
        table = table.join(_with_model(sae, store, model, mask, sets, list(found), n_prompts))
    faults = tuple(_faults(sae, table.iloc[-1], floor))
    for fault in faults:
        warnings.warn(fault, stacklevel=2)
    return SAEQuality(table, faults)


def warn_of_sample(sae: SAEBasis, store: ActivationStore) -> None:
    """Warn of an SAE that does not explain a sample of a store's rows, or explains another site of it better."""
    rows = np.flatnonzero(beyond_first_token(store.rows))
    if not len(rows) or sae.hook is None:
        return
    mask = np.zeros(len(store.rows), dtype=bool)
    mask[rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(int)]] = True
    sites = [sae.hook, *(one for one in store.hooks if one != sae.hook and store.width(one) == len(sae.centre))]
    explained = {}
    for hook in sites:
        x = store.load(hook, mask)
        explained[hook] = explained_variance(x, sae.decode(sae.encode(x)))
    best, own = max(explained, key=lambda hook: explained[hook]), explained[sae.hook]
    if own < FLOOR:
        warnings.warn(f"{_explains(sae, own, store)}; is it this model's, and of this site?", stacklevel=3)
    elif explained[best] > own + _BETTER:
        warnings.warn(
            f"{_explains(sae, own, store)}, and {explained[best]:.2f} of {best.name}: is it of that site?", stacklevel=3
        )


def _explains(sae: SAEBasis | Transcoder, share: float, store: ActivationStore) -> str:
    hook = _written_site(sae)
    return f"{sae.origin.name} explains {share:.2f} of the variance of {hook.name} in {store.paths[0].name}"


def _faults(sae: SAEBasis | Transcoder, whole: "pd.Series[float]", floor: float) -> Iterator[str]:
    """What is not as it should be of all rows together."""
    explained = whole["explained_variance"]
    if explained < floor:
        yield (
            f"{sae.origin.name} explains {explained:.2f} of the variance of {_written_site(sae).name}, less than "
            f"{floor}: is it this model's, and of this site?"
        )
    clean, spliced = whole.get("accuracy", np.nan), whole.get("spliced_accuracy", np.nan)
    if spliced < floor * clean:
        yield (
            f"with the reconstruction of {sae.origin.name} in its place the model continues {spliced:.2f} of prompts "
            f"rightly, and {clean:.2f} without: less than {floor} of it"
        )


def _written_site(sae: FeatureBasis | Transcoder) -> Hook:
    hook = sae.writes if isinstance(sae, Transcoder) else sae.hook
    if hook is None:
        raise InputError(f"{_name(sae)} is of no site that stores have; load it with store=")
    return hook


def _name(sae: FeatureBasis | Transcoder) -> str:
    return sae.origin.name if isinstance(sae, SAEBasis | Transcoder) else "this basis"


def _sets(store: ActivationStore, by: str | None) -> pd.Series:
    """The set of each prompt: its family, controls being one, `text` and `own` those without; or else its group."""
    if by is not None and by not in store.prompts:
        raise InputError(f"by is a column of prompts ({', '.join(map(str, store.prompts.columns))}); got {by!r}")
    columns = [by] if by is not None else ["family", "group"]
    chosen = next((name for name in columns if (store.prompts[name] != "").any()), columns[0])
    sets = store.prompts[chosen].astype(str)
    if by is not None:
        return sets
    sets = sets.mask(sets.str.startswith(CONTROL_PREFIX), CONTROLS)
    unnamed = store.prompts["kind"].where(store.prompts["kind"] == TEXT, OWN)
    return sets.mask(sets == "", unnamed) if chosen == "family" and sets.any() else sets


def tallies(
    sae: FeatureBasis | Transcoder,
    store: ActivationStore,
    mask: Bool[np.ndarray, " row"],
    labels: Shaped[np.ndarray, " chosen"],
) -> dict[str, Reconstruction]:
    """The tally of each set of rows, in the order of the store, and that of all; read in blocks.

    Args:
        sae: the SAE or transcoder; or any other basis, to compare it with them.
        store: the store.
        mask: which rows.
        labels: the set of each of them; those of the set "" are in the last tally alone, `ALL`.

    Raises:
        InputError: the SAE knows no site.
    """
    reads, writes = (sae.reads if isinstance(sae, Transcoder) else sae.hook), _written_site(sae)
    if reads is None:
        raise InputError(f"{_name(sae)} is of no site that stores have; load it with store=")
    n_features = len(sae.directions)
    at_once = max(_AT_ONCE // n_features, 16)
    names = [name for name in dict.fromkeys(labels) if name]
    blocks = zip(store.blocks(reads, mask, n_rows=at_once), store.blocks(writes, mask, n_rows=at_once), strict=True)
    found: dict[str, Reconstruction] = {}
    start = 0
    for x, y in blocks:
        features = sae.encode(x)
        out = sae.reconstruct(x) if isinstance(sae, Transcoder) else sae.decode(features)
        if not found:
            near = y.double().mean(dim=0)
            found = {name: Reconstruction.empty(near, n_features) for name in [*names, ALL]}
        here = labels[start : start + len(x)]
        start += len(x)
        for name, tally in found.items():
            mine = torch.from_numpy(np.flatnonzero((here == name) | (name == ALL)))
            if len(mine):
                tally.add(y[mine], out[mine], features[mine])
    return found


def _with_model(
    sae: SAEBasis | Transcoder,
    store: ActivationStore,
    model: LoadedModel,
    mask: Bool[np.ndarray, " row"],
    sets: pd.Series,
    names: Sequence[str],
    n_prompts: int,
) -> pd.DataFrame:
    """The columns of what the model does, by set."""
    if isinstance(sae, Transcoder):
        raise InputError(f"{sae.origin.name} is a transcoder, whose reconstruction is of another site; leave model out")
    check_source(store, model)
    numbers = _spread(np.unique(store.rows["prompt"].to_numpy()[mask]), sets, n_prompts)
    found = splice_effects(model, sae, stored_prompts(store, numbers))
    labels = sets.to_numpy()[numbers]
    return pd.DataFrame([_of_set(found, (labels == name) | (name == ALL)) for name in names])


def _spread(numbers: Int[np.ndarray, " prompt"], sets: pd.Series, n_prompts: int) -> Int[np.ndarray, " chosen"]:
    """Prompts to run: as many of each set, evenly over its own; none of controls, which are no task."""
    labels = sets.to_numpy()[numbers]
    names = [name for name in dict.fromkeys(labels) if name != CONTROLS] or [CONTROLS]
    chosen = []
    for number, name in enumerate(names):
        mine = numbers[labels == name]
        share = n_prompts // len(names) + (number < n_prompts % len(names))
        chosen.append(mine[np.linspace(0, len(mine) - 1, min(share, len(mine))).astype(int)])
    return np.sort(np.concatenate(chosen))


def _of_set(found: Spliced, chosen: Bool[np.ndarray, " prompt"]) -> dict[str, float]:
    n_tokens = found.n_tokens[chosen].sum()
    answered = chosen & ~np.isnan(found.right).any(axis=0)
    accuracy, spliced = found.right[:, answered].mean(axis=1) if answered.any() else (np.nan, np.nan)
    loss, with_it, _ = found.loss[:, chosen].sum(axis=1) / n_tokens if n_tokens else [np.nan] * 3
    return {
        "n_prompts": int(chosen.sum()),
        "accuracy": float(accuracy),
        "spliced_accuracy": float(spliced),
        "loss": float(loss),
        "spliced_loss": float(with_it),
        "loss_recovered": found.recovered(chosen),
    }
