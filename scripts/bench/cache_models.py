"""The models and texts that are timed: SmolLM2, random weights of GPT-2's shape, texts of known length."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from cache import LoadedModel
from cache.loading.sources import find_model

logging.disable_progress_bar()

GPT2_SHAPE = "gpt2-small-shape"
MODELS = ("smollm2-135m", GPT2_SHAPE)
WORDS = (  # one token each, with a space before it, in SmolLM2's tokenizer and in GPT-2's
    "time people way day man thing woman life child world school state family student group country problem hand part "
    "place case week company system program question work number night point home water room mother area money story"
).split()


def model_folder(name: str, scratch: Path) -> Path:
    """The folder of a model, made first where its weights are random."""
    return gpt2_shape(scratch / name) if name == GPT2_SHAPE else Path(find_model(name).folder)


def gpt2_shape(folder: Path, **changes: int) -> Path:
    """A folder with a model of GPT-2 small's shape: random weights, as time does not depend on them.

    Its tokenizer is SmolLM2's, whose ids all lie within GPT-2's vocabulary.
    """
    if not folder.exists():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**changes)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(find_model("smollm2-135m").folder).save_pretrained(folder)
    return folder


def hooked_transformer(model: LoadedModel) -> Any:
    """TransformerLens's own implementation in the shape of a model: random weights, as time does not depend on them."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = model.bridge.cfg
    llama = cfg.normalization_type == "RMS"
    names = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp", "d_vocab", "n_ctx")
    shape = {name: int(getattr(cfg, name)) for name in names} | {"n_ctx": 512, "seed": 0, "device": "cpu"}
    if llama:
        shape |= {"n_key_value_heads": int(cfg.n_key_value_heads), "gated_mlp": True, "act_fn": "silu"}
        shape |= {"normalization_type": "RMS", "positional_embedding_type": "rotary", "rotary_dim": int(cfg.d_head)}
    else:
        shape |= {"normalization_type": "LNPre", "act_fn": "gelu_new"}
    return HookedTransformer(HookedTransformerConfig(**shape)).eval()


def bare_model(folder: Path) -> Any:
    """Hugging Face's model without the unembedding, with the attention that it chooses itself."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).base_model.eval()


def mixed_lengths(n_texts: int, seed: int = 0) -> list[int]:
    """Lengths from 8 to 64 tokens, BOS included, every one as likely as another."""
    return [int(length) for length in np.random.default_rng(seed).integers(8, 65, n_texts)]


def texts(lengths: list[int], seed: int = 0) -> list[str]:
    """Texts that a model sees as so many tokens, BOS included; all of them differ."""
    rng = np.random.default_rng(seed)
    return ["".join(f" {word}" for word in rng.choice(WORDS, length - 1)) for length in lengths]
