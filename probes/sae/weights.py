"""From an SAE's configuration and tensors, as sae-lens writes them, to weights with every scale and norm folded in."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cache.errors import CorruptFileError, InputError
from cache.models.hooks import Hook
from probes.sae.basis import Origin, SAEBasis, Transcoder
from probes.sae.coding import Nonlinearity

Weights = dict[str, Tensor]

_BOTH = ("W_enc", "W_dec", "b_dec")
TENSORS = MappingProxyType(
    {
        "standard": (*_BOTH, "b_enc"),
        "topk": (*_BOTH, "b_enc"),
        "abstopk": (*_BOTH, "b_enc"),
        "batchtopk": (*_BOTH, "b_enc", "topk_threshold"),
        "matryoshka_batchtopk": (*_BOTH, "b_enc", "topk_threshold"),
        "jumprelu": (*_BOTH, "b_enc", "threshold"),
        "gated": (*_BOTH, "b_gate", "b_mag", "r_mag"),
        "transcoder": (*_BOTH, "b_enc"),
        "skip_transcoder": (*_BOTH, "b_enc", "W_skip"),
        "jumprelu_transcoder": (*_BOTH, "b_enc", "threshold"),
        "jumprelu_skip_transcoder": (*_BOTH, "b_enc", "threshold", "W_skip"),
    }
)
"""Architectures that are read, as sae-lens names them, and their tensors."""

_NOT_READ = MappingProxyType(
    {
        "temporal": "reads each token together with those before it, and no row by itself",
        "matching_pursuit": "reads by iteration, and not by one product",
    }
)
_NOT_FOLDED = MappingProxyType(
    {
        "layer_norm": "its decode needs the mean and deviation of the rows that were read last",
        "constant_norm_rescale": "its decode needs the norms of the rows that were read last",
    }
)


@dataclass(frozen=True, eq=False)
class Whitening:
    """An affine map of activations before an SAE reads them, `(x - mean) @ matrix`, and the way back."""

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "d d"]
    inverse: Float[Tensor, "d d"]


@dataclass(frozen=True, eq=False)
class SavedSAE:
    """An SAE as its files hold it.

    Attributes:
        name: what messages call it.
        config: fields of sae-lens 6, `metadata` among them (`current_config`).
        tensors: by name.
        scale: what activations are multiplied by before it reads them, where the configuration does not say "none".
        whitening: what is done to them before it reads them, likewise.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    scale: float | None = None
    whitening: Whitening | None = None


def sae_of(saved: SavedSAE) -> SAEBasis | Transcoder:
    """The SAE or transcoder, its weights checked and everything folded in.

    Raises:
        InputError: it has an architecture or a normalisation that no pure reading has, or its files do not tell what
            activations were scaled by.
        CorruptFileError: tensors are missing, too many, not finite, or of other shapes than the configuration says.
    """
    architecture = _architecture(saved)
    weights = _checked(saved, architecture)
    if "transcoder" in architecture:
        return _transcoder(saved, weights)
    norm = str(saved.config.get("normalize_activations") or "none")
    if norm in _NOT_FOLDED:
        raise InputError(f"{saved.name} normalises activations by {norm}, which is not read: {_NOT_FOLDED[norm]}")
    by_norm = "topk" in architecture and bool(saved.config.get("rescale_acts_by_decoder_norm"))
    if norm == "expected_average_only_in":
        _scale(saved, weights, by_norm=by_norm)
    if by_norm:
        _fold_norms(weights)
    centre = weights["b_dec"] if saved.config.get("apply_b_dec_to_input", True) else torch.zeros_like(weights["b_dec"])
    if norm == "covariance_whitening":
        centre = _whiten(saved, weights)
    elif norm not in ("none", "expected_average_only_in"):
        raise InputError(f"{saved.name} normalises activations by {norm!r}, which is none of sae-lens's ways")
    return SAEBasis(
        encoder=weights["W_enc"],
        bias=weights["b_gate"] if architecture == "gated" else weights["b_enc"],
        centre=centre,
        directions=weights["W_dec"],
        offset=weights["b_dec"],
        nonlinearity=_nonlinearity(saved, weights),
        origin=_origin(saved),
        hook=_site(saved.config["metadata"], ""),
    )


def _architecture(saved: SavedSAE) -> str:
    name = str(saved.config.get("architecture"))
    if name in _NOT_READ:
        raise InputError(f"{saved.name} is a {name} SAE, which is not read: it {_NOT_READ[name]}")
    if name not in TENSORS:
        raise InputError(f"{saved.name} is of the architecture {name!r}; those that are read are {', '.join(TENSORS)}")
    return name


def _checked(saved: SavedSAE, architecture: str) -> Weights:
    """Copies of the tensors, in float32 or wider, of the shapes that the configuration tells."""
    given = dict(saved.tensors)
    if architecture == "jumprelu" and "log_threshold" in given:  # of training runs before sae-lens 6.40
        given["threshold"] = given.pop("log_threshold").exp()
    wanted = TENSORS[architecture]
    if set(given) != set(wanted):
        raise CorruptFileError(
            f"{saved.name} is a {architecture} SAE, whose tensors are {', '.join(sorted(wanted))}; its file has "
            f"{', '.join(sorted(given))}"
        )
    d_in, d_sae = (_whole(saved, name) for name in ("d_in", "d_sae"))
    d_out = _whole(saved, "d_out") if "transcoder" in architecture else d_in
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,), "W_skip": (d_out, d_in)}
    for name, tensor in given.items():
        shape = () if name == "topk_threshold" else shapes.get(name, (d_sae,))
        if tuple(tensor.shape) != shape:
            raise CorruptFileError(
                f"{saved.name} has {name} of the shape {tuple(tensor.shape)}; its configuration says {shape}"
            )
        if not bool(tensor.isfinite().all()):
            raise CorruptFileError(f"{saved.name} has {name} with numbers that are not finite")
    return {
        name: tensor.detach().cpu().to(torch.promote_types(tensor.dtype, torch.float32)).clone()
        for name, tensor in given.items()
    }


def _whole(saved: SavedSAE, field: str) -> int:
    number = saved.config.get(field)
    if not isinstance(number, int | float) or isinstance(number, bool) or number != int(number) or number < 1:
        raise CorruptFileError(f"{saved.name} needs a whole number of 1 or more as {field}; its file has {number!r}")
    return int(number)


def _scale(saved: SavedSAE, weights: Weights, *, by_norm: bool) -> None:
    """Fold in what activations were multiplied by, so that they had the norm sqrt(d) on average."""
    if saved.scale is None:
        raise InputError(
            f"{saved.name} was trained on activations scaled to an average norm, and its files do not tell by what; "
            "save it with the scale folded in (fold_activation_norm_scaling_factor of sae-lens)"
        )
    weights["W_enc"] *= saved.scale
    weights["W_dec"] /= saved.scale
    weights["b_dec"] /= saved.scale
    if "topk_threshold" in weights and by_norm:  # which is in units of pre-activations times decoder norms
        weights["topk_threshold"] /= saved.scale


def _fold_norms(weights: Weights) -> None:
    """Make every direction a unit vector, its length being that of what is read."""
    norms = weights["W_dec"].norm(dim=-1).clamp(min=1e-8)
    weights["W_dec"] /= norms[:, None]
    weights["W_enc"] *= norms
    weights["b_enc"] *= norms


def _whiten(saved: SavedSAE, weights: Weights) -> Tensor:
    """Fold a whitening in; returns what is then taken off before reading."""
    if saved.whitening is None:
        raise InputError(
            f"{saved.name} was trained on whitened activations, and its files do not tell how; save it with the "
            "whitening folded in (fold_activation_whitening of sae-lens)"
        )
    dtype = weights["W_enc"].dtype
    mean, matrix, inverse = (one.double() for one in vars(saved.whitening).values())
    weights["W_enc"] = (matrix @ weights["W_enc"].double()).to(dtype)
    weights["W_dec"] = (weights["W_dec"].double() @ inverse).to(dtype)
    weights["b_dec"] = (weights["b_dec"].double() @ inverse + mean).to(dtype)
    return weights["b_dec"] if saved.config.get("apply_b_dec_to_input", True) else mean.to(dtype)


def _nonlinearity(saved: SavedSAE, weights: Weights) -> Nonlinearity:
    architecture = str(saved.config["architecture"])
    if "topk_threshold" in weights:
        everywhere = weights["topk_threshold"].to(weights["b_enc"].dtype).expand_as(weights["b_enc"])
        return Nonlinearity("jumprelu", threshold=everywhere.contiguous())
    if "threshold" in weights:
        return Nonlinearity("jumprelu", threshold=weights["threshold"])
    if architecture == "gated":
        slope = weights["r_mag"].exp()
        return Nonlinearity("gated", slope=slope, shift=weights["b_mag"] - slope * weights["b_gate"])
    if architecture in ("topk", "abstopk"):
        k = _whole(saved, "k")
        if k > len(weights["b_enc"]):
            raise CorruptFileError(f"{saved.name} keeps the {k} largest of {len(weights['b_enc'])} features")
        return Nonlinearity(architecture, k=k)
    return Nonlinearity("relu")


def _transcoder(saved: SavedSAE, weights: Weights) -> Transcoder:
    if (norm := str(saved.config.get("normalize_activations") or "none")) != "none":
        raise InputError(f"{saved.name} normalises activations by {norm}, which of transcoders is not read")
    if saved.config.get("apply_b_dec_to_input"):
        raise CorruptFileError(f"{saved.name} takes what it writes off what it reads, which is another site")
    metadata = saved.config["metadata"]
    return Transcoder(
        encoder=weights["W_enc"],
        bias=weights["b_enc"],
        directions=weights["W_dec"],
        offset=weights["b_dec"],
        nonlinearity=_nonlinearity(saved, weights),
        skip=weights["W_skip"].T.contiguous() if "W_skip" in weights else None,
        origin=_origin(saved),
        reads=_site(metadata, ""),
        writes=_site(metadata, "_out"),
    )


def _origin(saved: SavedSAE) -> Origin:
    metadata = saved.config["metadata"]
    bos, processed = metadata.get("prepend_bos"), metadata.get("model_from_pretrained_kwargs") or {}
    return Origin(
        name=saved.name,
        architecture=str(saved.config["architecture"]),
        model=str(metadata.get("model_name") or ""),
        site=str(metadata.get("hook_name") or ""),
        bos=bos if isinstance(bos, bool) else None,
        centred=bool(isinstance(processed, dict) and processed.get("center_writing_weights")),
        weights=str(metadata.get("model_weights") or ""),
    )


def _site(metadata: Mapping[str, Any], end: str) -> Hook | None:
    """The site that is named, if it is one that stores have."""
    name, head = metadata.get(f"hook_name{end}"), metadata.get(f"hook_head_index{end}")
    try:
        hook = Hook.parse(str(name))
        return hook if head is None else Hook(hook.kind, hook.layer, int(head))
    except InputError:
        return None
