"""Tiny random models of transformers' causal architectures; every one that TransformerLens has a bridge for."""

import inspect
import warnings

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("n_layer", "n_layers", "num_hidden_layers", "num_layers", "decoder_layers"), 3),
    **dict.fromkeys(("n_head", "n_heads", "num_attention_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 64),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4, "attention_heads": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
_LATENT = {
    **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "kv_lora_rank": 16, "q_lora_rank": 16},
    **{"num_key_value_heads": 4, "head_dim": 4, "n_group": 1, "topk_group": 1},
}
OWN = {
    "bamba": {"mamba_n_heads": 8},
    "deepseek_v2": {**_LATENT, "q_lora_rank": None},
    "deepseek_v3": _LATENT,
    "falcon-alibi": {"alibi": True, "new_decoder_architecture": False},
    "falcon-new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt_neo": {"attention_types": [[["global"], 3]]},
    "granitemoehybrid": {"mamba_n_heads": 8, "layer_types": ["mamba", "attention", "mamba"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "phi-norms": {"qk_layernorm": True},
    "youtu": _LATENT,
}
TYPES = """afmoe apertus arcee bamba bert bitnet bloom codegen cohere cohere2 deepseek_v2 deepseek_v3 deepseek_v4
ernie4_5 ernie4_5_moe exaone4 falcon falcon-alibi falcon-new falcon_mamba flex_olmo gemma gemma2 gemma3_text glm glm4
glm4_moe
glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid
hunyuan_v1_dense jais2 jamba jetmoe laguna lfm2 lfm2_moe llama mamba mamba2 minimax_m2 ministral ministral3 mistral
mixtral modernbert-decoder mpt nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt phi
phi-norms phi3 qwen2 qwen2_moe qwen3 qwen3_5_text qwen3_moe qwen3_next recurrent_gemma rwkv seed_oss smollm3 stablelm
starcoder2 vaultgemma xglm youtu""".split()


def tiny_model(name, vocab_size):
    """A randomly initialised model of three layers, every weight moved by 0.2, norms and biases included."""
    config_class = CONFIG_MAPPING[{"phi-norms": "phi"}.get(name, name.split("-")[0] if "falcon" in name else name)]
    default = config_class()
    known = set(default.to_dict()) | set(default.attribute_map)
    sizes = {key: value for key, value in (SIZES | {"vocab_size": vocab_size}).items() if key in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            config_class(**(sizes | OWN.get(name, {}))), attn_implementation="eager"
        ).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.config.architectures = [type(model).__name__]
    return model


def takes(model, argument):
    return argument in inspect.signature(model.forward).parameters
