"""Nothing is installed or downloaded to wrap a model; what cannot be wrapped is a sentence."""

import copy
import socket
import subprocess
from contextlib import suppress

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from cache import load_model, plan_recording, record
from cache.errors import InputError, NotAvailableError, NumbersError
from cache.loading.load import open_model
from probes import generate
from tests.cache.architectures import tiny_model


def test_a_hook_that_looks_ahead_is_found_though_the_model_was_right_before(tokenizer):
    mine = tiny_model("llama", len(tokenizer))
    load_model(mine, tokenizer=tokenizer)
    mine.model.layers[1].register_forward_hook(lambda _, __, out: out + out.mean(dim=1, keepdim=True))
    with pytest.raises(NotAvailableError, match="fails the check 'causal'"):
        load_model(mine, tokenizer=tokenizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_hides_no_wrong_model(tokenizer, dtype):
    with pytest.raises(NotAvailableError, match="fails the check 'logits'"):
        load_model(tiny_model("hunyuan_v1_dense", len(tokenizer)).to(dtype), tokenizer=tokenizer)
    ahead = tiny_model("qwen2", len(tokenizer)).to(dtype)
    ahead.model.layers[1].register_forward_hook(lambda _, __, out: out + out.roll(-1, dims=1))
    with pytest.raises(NotAvailableError, match="fails the check 'causal'"):
        load_model(ahead, tokenizer=tokenizer)
    load_model(tiny_model("llama", len(tokenizer)).to(dtype), tokenizer=tokenizer)


def test_a_bridge_is_not_processed_and_one_that_was_says_so(model_folders):
    bridge = load_model(str(model_folders["gpt2"]), device="cpu", processing="compatibility").bridge
    words = load_model(str(model_folders["gpt2"]), device="cpu").tokenizer
    with pytest.raises(InputError, match="processing would change this bridge's weights"):
        load_model(bridge, tokenizer=words, processing="compatibility")
    assert load_model(bridge, tokenizer=words).processing == "compatibility"


def test_what_is_inside_a_bridge_is_not_wrapped_again(tokenizer):
    loaded = load_model(tiny_model("gpt2", len(tokenizer)), tokenizer=tokenizer)
    with pytest.raises(InputError, match="this GPT2LMHeadModel is inside a TransformerBridge already; give the bridge"):
        load_model(loaded.bridge.original_model, tokenizer=tokenizer)
    assert load_model(loaded.bridge, tokenizer=tokenizer).bridge is loaded.bridge


def test_a_hooked_transformer_is_told_what_can_be_given_in_its_place(tokenizer):
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    sizes = {"n_layers": 1, "d_model": 8, "n_ctx": 8, "d_head": 4, "d_vocab": 9, "act_fn": "relu"}
    with pytest.warns(DeprecationWarning, match="HookedTransformer is deprecated"):
        hooked = HookedTransformer(HookedTransformerConfig(**sizes, n_heads=2, model_name="gpt2-small"))
    told = r"a HookedTransformer has other weights .*; make a bridge of that model, .*\('gpt2-small'\)"
    with pytest.raises(InputError, match=told):
        load_model(hooked, tokenizer=tokenizer)


def test_texts_end_where_longrope_would_change_what_was_read(tokenizer):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}
    mine = tiny_model("llama", len(tokenizer))
    config = copy.deepcopy(mine.config)
    config.rope_parameters = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, **factors}
    model = load_model(type(mine)(config).eval(), tokenizer=tokenizer)
    assert model.n_ctx == 16
    with pytest.raises(InputError, match="takes 16 tokens"):
        plan_recording(model, ["cat" + " cat" * 20])


@pytest.mark.parametrize("odd", ["gpt2", object()])
def test_what_is_no_tokenizer_is_refused(tokenizer, odd):
    with pytest.raises(InputError, match="a tokenizer is an object of transformers', not its name; got"):
        load_model(tiny_model("gpt2", len(tokenizer)), tokenizer=odd)


def test_a_bridge_in_training_mode_is_refused_and_stays_in_it(gpt2):
    bridge = gpt2.bridge.train()
    try:
        with pytest.raises(InputError, match=r"in training mode, where no two runs are alike; call its eval\(\) first"):
            load_model(bridge, tokenizer=gpt2.tokenizer)
        assert bridge.training
    finally:
        bridge.eval()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_give_no_numbers_are_refused(tokenizer, value):
    mine = tiny_model("llama", len(tokenizer))
    with torch.no_grad():
        mine.model.layers[1].mlp.up_proj.weight[3, 3] = value
    with pytest.raises(NumbersError, match="are not finite: its weights are damaged, or too large") as caught:
        load_model(mine, tokenizer=tokenizer)
    assert caught.value.exit_code == 8


def test_tokens_that_the_model_does_not_have_are_refused_before_a_file_is_made(tokenizer, tmp_path):
    small = load_model(tiny_model("gpt2", 200), tokenizer=tokenizer)
    text = "cat dog"
    highest = max(tokenizer(text).input_ids)
    assert highest >= 200
    told = rf"in prompt 1 \('cat dog'\), is token {highest} of the tokenizer; .* knows 200: they do not belong together"
    with pytest.raises(InputError, match=told):
        plan_recording(small, ["!", text])
    with pytest.raises(InputError, match=told):
        record(small, ["!", text], tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"in the text, is token .* they do not belong together"):
        generate(small, text, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_sees_is_loaded_without_an_installer_or_a_network(tokenizer, monkeypatch):
    """TransformerLens's own way to a multimodal model runs pip when torchvision is missing."""

    tried = []

    def never(*arguments, **_):
        tried.append(arguments)
        raise OSError("not here")

    for name in ("check_call", "run", "Popen", "call", "check_output"):
        monkeypatch.setattr(subprocess, name, never)
    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma3Config(
        text_config={**sizes, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer)},
        vision_config={**sizes, "image_size": 28, "patch_size": 14},
        image_token_index=5,
    )
    config._attn_implementation = "eager"
    model = Gemma3ForConditionalGeneration(config).eval()
    model.config.architectures = ["Gemma3ForConditionalGeneration"]
    with suppress(NotAvailableError):
        assert open_model(model, tokenizer=tokenizer).model_type == "gemma3"
    assert tried == []


def test_an_architecture_without_a_bridge_is_told(tokenizer):
    from transformers import CTRLConfig, CTRLLMHeadModel

    model = CTRLLMHeadModel(CTRLConfig(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, dff=48))
    model.config.architectures = ["CTRLLMHeadModel"]
    with pytest.raises(NotAvailableError, match=r"'.*' \(type ctrl\) cannot be wrapped by transformer-lens 3"):
        load_model(model, tokenizer=tokenizer)
