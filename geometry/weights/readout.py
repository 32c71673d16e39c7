"""The directions along which a model reads members out: what sharing must survive the removal of."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, LoadedModel
from cache.models.model import check_loaded


def readout_directions(model: LoadedModel, words: Iterable[str]) -> Float[Tensor, "token d_model"]:
    """Unembedding directions of words, as the residual stream meets them: with the final norm's gain in.

    A word counts in each form that is one token: by itself and after a space; of words that are several tokens there
    is none. The norm's scale, which differs from row to row, is left out: it changes no direction.
    """
    forms = [form for word in dict.fromkeys(words) for form in (word, " " + word)]
    encoded = [model.tokenizer.encode(form, add_special_tokens=False) for form in forms]
    tokens = sorted({ids[0] for ids in encoded if len(ids) == 1})
    return readout_map(model)[:, tokens].T.contiguous()


def readout_map(model: LoadedModel) -> Float[Tensor, "d_model d_vocab"]:
    """The directions along which each token's logit rises: the unembedding with the final norm's gain in.

    A LayerNorm takes the mean over dimensions away first, an RMSNorm does not. The norm's scale is left out. Both the
    gain and the centring are read off the norm's own answers, since models differ in how they store them (Gemma's
    gain is 1 + weight).

    Raises:
        NotAvailableError: the model's logits are not read off so.
    """
    check_loaded(model)
    model.require("readout")
    gain, centres = _gain_and_centring(model)
    columns = model.unembedding * gain[:, None]
    return columns - columns.mean(dim=0) if centres else columns


def family_words(store: ActivationStore) -> Mapping[str, Mapping[int, str]]:
    """The members that a store's prompts show, and their answers as the ordinals that follow, by family and ordinal."""
    words: dict[str, dict[int, str]] = {}
    prompts = store.prompts
    for family, values, members in zip(prompts["family"], prompts["values"], prompts["members"], strict=True):
        words.setdefault(family, {}).update(zip(values, members, strict=False))
    increasing = prompts[prompts["kind"] == "increasing"]
    for family, values, answer in zip(increasing["family"], increasing["values"], increasing["answer"], strict=True):
        if values and answer:
            words[family].setdefault(values[-1] + 1, answer.strip())
    return words


def _gain_and_centring(model: LoadedModel) -> tuple[Float[Tensor, " d_model"], bool]:
    """The final norm's gain, and whether it takes the mean over dimensions away."""
    probe = torch.ones(model.d_model)
    probe[1::2] = -1
    ahead, behind, moved = (model.final_norm(x) for x in (probe, -probe, probe + 3))
    centres = bool(torch.allclose(ahead, moved, rtol=1e-2, atol=1e-3))
    plain = probe - probe.mean() if centres else probe
    return (ahead - behind) / 2 / (plain / plain.square().mean().sqrt()), centres
