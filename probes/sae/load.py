"""Loading an SAE: from a folder, the Hub or memory; matched to the store or model that it is to be used with."""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import FingerprintError, InputError, NotAvailableError
from cache.loading.sources import hub_name
from cache.models.hooks import Hook
from cache.models.model import LoadedModel, check_loaded
from cache.store.store import ActivationStore, check_open
from probes.sae.basis import Features, Origin, SAEBasis, Transcoder
from probes.sae.files import current_config, read_files
from probes.sae.quality import warn_of_sample
from probes.sae.sources import find_sae
from probes.sae.weights import SavedSAE, sae_of


def load_sae(
    source: Any,
    sae_id: str | None = None,
    *,
    store: ActivationStore | None = None,
    model: LoadedModel | None = None,
    called: str | None = None,
) -> SAEBasis:
    """An SAE as a basis of features, with what it reads and where it belongs checked.

    With a store, a sample of its rows is read: an SAE that does not explain them, or explains another site better, is
    warned of (`probes.sae.quality`).

    Args:
        source: a folder with `cfg.json` and `sae_weights.safetensors`; sae-lens's name of a release
            (`gpt2-small-res-jb`) or a repository on the Hub; or an SAE of sae-lens's in memory. Pickled weights are not
            loaded.
        sae_id: of a release, which of its SAEs: `blocks.6.hook_resid_pre`.
        store: the store whose activations it is to read. One without `blocks.6.hook_resid_pre` may have
            `blocks.5.hook_resid_post`, which is the same stream.
        model: the model whose activations it is to read.
        called: the name that the SAE's files give the model, where that is another name of the same.

    Raises:
        NotAvailableError: it is not there, nor within reach.
        CorruptFileError: its files are damaged.
        InputError: it is no SAE that is read; or was trained on another model, site, width or BOS rule: the message
            names both.
        FingerprintError: it was trained on other weights.

    Example:
        >>> sae = load_sae("sae", store=store)
        >>> sae.hook.name, sae.nonlinearity.name, sae.directions.shape, sae.weights == store.weights
        ('blocks.1.hook_resid_post', 'relu', torch.Size([66, 33]), True)
        >>> x = store.load(sae.hook, "is_last")
        >>> error = x - sae.decode(sae.encode(x))
        >>> bool(error.square().mean() < 0.01 * x.var())
        True
    """
    if store is not None:
        check_open(store)
    sae = read_sae(source, sae_id)
    if isinstance(sae, Transcoder):
        raise InputError(f"{sae.origin.name} is a transcoder, which reads one site and writes another; load_transcoder")
    if store is not None:
        sae = matched(sae, store, called)
    if model is not None:
        check_loaded(model)
        sae = matched(sae, model, called)
    if store is not None:
        warn_of_sample(sae, store)
    return sae


def load_transcoder(
    source: Any, sae_id: str | None = None, *, store: ActivationStore | None = None, called: str | None = None
) -> Transcoder:
    """A transcoder, with what it reads, writes and belongs to checked; arguments and errors are those of `load_sae`."""
    if store is not None:
        check_open(store)
    found = read_sae(source, sae_id)
    if not isinstance(found, Transcoder):
        raise InputError(f"{found.origin.name} is an SAE, which reads and writes one site; load_sae")
    if store is None:
        return found
    return matched(found, store, called)


def read_sae(source: Any, sae_id: str | None = None) -> SAEBasis | Transcoder:
    """An SAE or transcoder as its files have it, whatever it belongs to; errors are those of `load_sae`."""
    return sae_of(_saved(source, sae_id))


def matched(sae: Features, where: ActivationStore | LoadedModel, called: str | None = None) -> Features:
    """The same with its sites in a store or model, and the hash of the weights.

    Raises:
        InputError, FingerprintError: it belongs to another, as for `load_sae`.
    """
    place = place_of(where)
    check_origin(sae.origin, place, called)
    sites = {"reads": "encoder", "writes": "offset"} if isinstance(sae, Transcoder) else {"hook": "offset"}
    there: dict[str, Any] = {
        name: site_at(sae.origin, place, getattr(sae, name), len(getattr(sae, wide))) for name, wide in sites.items()
    }
    return replace(sae, weights=place.weights, **there)


@dataclass(frozen=True)
class Place:
    """What an SAE must agree with: a store or a model.

    Attributes:
        name: what messages call it.
        model: the model's name; empty if not known.
        weights: content hash of its weights; empty if not known.
        bos: whether BOS stands before each text.
        processing: what was done to its weights after loading.
        width_of: how wide a site's activations are there; None where there is no such site.
    """

    name: str
    model: str
    weights: str
    bos: bool
    processing: str
    width_of: Callable[[Hook], int | None]


def place_of(where: ActivationStore | LoadedModel) -> Place:
    """What a store, or a model, says of itself."""
    if isinstance(where, ActivationStore):
        fields, store = where.manifest["hard"], where
        return Place(
            name=store.paths[0].name,
            model=str(store.manifest["soft"].get("model", "")),
            weights=store.weights,
            bos=bool(fields["bos"]),
            processing=str(fields["model processing"]),
            width_of=lambda hook: store.width(hook) if replace(hook, head=None) in store.hooks else None,
        )
    model = where

    def width_of(hook: Hook) -> int | None:
        if not model.shows(hook):
            return None
        shape = model.row_shape(hook)
        return shape[-1] if hook.head is not None else math.prod(shape)

    return Place(model.name, model.name, model.weights, model.bos, model.processing, width_of)


def check_origin(origin: Origin, place: Place, called: str | None = None) -> None:
    """Refuse an SAE that was trained on another model, or with another BOS rule, and warn of other processing.

    Raises:
        InputError: the message names both.
        FingerprintError: it was trained on other weights.
    """
    if origin.weights and place.weights and origin.weights != place.weights:
        raise FingerprintError(
            f"{origin.name} was trained on other weights than those of {place.name} ({origin.weights[:8]} and "
            f"{place.weights[:8]})"
        )
    named = origin.model if not origin.weights and called != origin.model else ""
    if named and place.model and not _same_model(named, place.model):
        raise InputError(
            f"{origin.name} was trained on {named}, and {place.name} is of {place.model}; if both names are the same "
            f"model's, say so by called={named!r}"
        )
    if origin.bos is not None and origin.bos != place.bos:
        with_, without = (origin.name, place.name) if origin.bos else (place.name, origin.name)
        raise InputError(f"{with_} has BOS before every text, and {without} has not; both need the same")
    if origin.centred and place.processing == "none":
        warnings.warn(
            f"{origin.name} was trained where the model's writing weights were centred, and {place.name} has them as "
            "they are; processing='compatibility' centres them",
            stacklevel=4,
        )


def site_at(origin: Origin, place: Place, hook: Hook | None, width: int) -> Hook:
    """The site of a store or model at which an SAE reads (or writes), its width the same.

    Raises:
        InputError: there is none; the message names both.
    """
    if hook is None:
        site = origin.site or "no site that its files name"
        raise InputError(f"{origin.name} is of {site}, and {place.name} has no such site")
    wide = {one: place.width_of(one) for one in (hook, *_same_stream(hook))}
    there = next((one for one, known in wide.items() if known is not None), None)
    if there is None:
        raise InputError(f"{origin.name} is of {hook.name}, and {place.name} has no such site")
    if wide[there] != width:
        raise InputError(f"{origin.name} has width {width}, and {there.name} of {place.name} has {wide[there]}")
    return there


def _same_stream(hook: Hook) -> tuple[Hook, ...]:
    """The site that a block hands on as the one that it was given."""
    if hook.kind == "resid_pre" and hook.layer > 0:
        return (Hook("resid_post", hook.layer - 1),)
    return (Hook("resid_pre", hook.layer + 1),) if hook.kind == "resid_post" else ()


def _same_model(one: str, other: str) -> bool:
    """Whether two names may be the same model's: short or whole, or a folder's."""
    return _last_name(one) == _last_name(other)


def _last_name(name: str) -> str:
    with suppress(InputError):
        name = hub_name(name)
    return Path(name).name.lower()


def _saved(source: Any, sae_id: str | None) -> SavedSAE:
    """What there is of an SAE before it is looked at."""
    if not isinstance(source, str | Path):
        return _in_memory(source, f"this {type(source).__name__}")
    found = find_sae(source, sae_id)
    return read_files(found) if found.folder is not None else _converted(found.name, str(source), str(sae_id))


def _converted(name: str, release: str, sae_id: str) -> SavedSAE:
    """An SAE that sae-lens makes of files in another format, which it asks the Hub for."""
    from sae_lens import SAE

    try:
        return _in_memory(SAE.from_pretrained(release, sae_id, device="cpu"), name)
    except OSError as error:
        raise NotAvailableError(f"{name} could not be downloaded: {error}") from error


def _in_memory(sae: Any, name: str) -> SavedSAE:
    """An SAE of sae-lens's: its configuration and tensors are those that it would save."""
    try:
        config, tensors = sae.cfg.to_dict(), dict(sae.state_dict())
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"an SAE is a folder, a release of sae-lens's, or an SAE of its classes; got {type(sae).__name__}"
        ) from error
    return SavedSAE(name, current_config(config, name), tensors)
