"""A tiny random Llama as a GGUF file, with a real vocabulary, as conversion tools write them."""

import numpy as np
from gguf import GGUFWriter, TokenType

WIDTH, HIDDEN, HEADS, LAYERS = 32, 48, 4, 2


def write_gguf(path, *, without=(), parts=1, seed=0):
    """Write the file, without some of its tensors, or as the first of several parts."""
    rng = np.random.default_rng(seed)
    words = ["<|endoftext|>", *(chr(33 + i) for i in range(90)), "Ġa", "ab"]
    writer = GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (len(words) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    if parts > 1:
        writer.add_uint16("split.count", parts)
        writer.add_uint16("split.no", 0)
    shapes = {"token_embd": (len(words), WIDTH), "output_norm": (WIDTH,), "output": (len(words), WIDTH)}
    for layer in range(LAYERS):
        names = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
        names |= {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "ffn_down": (WIDTH, HIDDEN)}
        names |= dict.fromkeys(("ffn_up", "ffn_gate"), (HIDDEN, WIDTH))
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in names.items()}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32) * 0.2
        if f"{name}.weight" not in without:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
