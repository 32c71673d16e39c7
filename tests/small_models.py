"""Three-layer models with real architectures and random weights."""

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)


def small_models(n_tokens: int) -> dict[str, PreTrainedModel]:
    """Models that are GPT-2-shaped, grouped-query Llama-shaped, and NeoX with parallel attention."""
    torch.manual_seed(7)  # new models draw from torch's own generator: else each run would test others
    shared = {"vocab_size": n_tokens, "bos_token_id": 0, "eos_token_id": 0}
    models = {
        "gpt2": GPT2LMHeadModel(GPT2Config(**shared, n_positions=64, n_embd=33, n_layer=3, n_head=3, n_inner=71)),
        "llama": LlamaForCausalLM(
            LlamaConfig(
                **shared,
                hidden_size=42,
                intermediate_size=53,
                num_hidden_layers=3,
                num_attention_heads=6,
                num_key_value_heads=2,
                head_dim=10,
                max_position_embeddings=64,
                attention_bias=True,
                mlp_bias=True,
                tie_word_embeddings=False,
            )
        ),
        "neox": GPTNeoXForCausalLM(
            GPTNeoXConfig(
                **shared,
                hidden_size=36,
                num_hidden_layers=3,
                num_attention_heads=3,
                intermediate_size=45,
                max_position_embeddings=64,
            )
        ),
    }
    return {name: _randomized(model) for name, model in models.items()}


def _randomized(model: PreTrainedModel) -> PreTrainedModel:
    """Weights of std 0.2 everywhere, biases and norms included, so that nothing is hidden by a zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
