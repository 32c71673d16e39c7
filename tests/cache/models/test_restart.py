"""Restarting from any block equals the full forward pass, whatever is edited and however many positions are run."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cache import Hook, load_model
from cache.errors import InputError
from cache.models.restart import Prefix, clean_run, restart
from tests.probes.readings import n_hooks, random_tokens, read, rewritten

ARCHITECTURES = ["gpt2", "llama", "neox"]


def full_logits(model, tokens):
    with torch.inference_mode():
        return model.bridge.original_model(tokens, use_cache=False).logits[:, -1]


def apart(a, b):
    """The largest difference, in units of the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def edited_streams(clean, layer, new, copies=2, seed=1):
    """Variants of the clean stream at the last positions."""
    stream = clean.streams[layer, None, :, -new:]
    noise = torch.randn(copies, *stream.shape[1:], generator=torch.Generator().manual_seed(seed))
    return stream + noise * stream.std()


@pytest.fixture(params=ARCHITECTURES)
def model(loaded, request):
    return loaded[request.param]


@pytest.fixture
def clean(model):
    return clean_run(model, random_tokens(model))


def test_the_clean_run_is_the_forward_pass(model, clean):
    assert apart(clean.logits, full_logits(model, clean.tokens)) < 1e-5
    sites = [Hook("resid_pre", layer) for layer in range(3)] + [Hook("resid_post", 2)]
    found, _ = read(model, clean.tokens, sites)
    assert apart(clean.streams, torch.stack([found[hook] for hook in sites])) < 1e-5


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_with_every_position_recomputed_the_end_is_the_clean_runs(clean, layer):
    """Not bit for bit: on some processors attention to one's own keys takes another kernel than to cached ones."""
    out = restart(clean, clean.streams[layer, None], layer)
    assert apart(out[0], clean.streams[-1]) < 1e-5


@pytest.mark.parametrize("new", [1, 4, 9])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_an_unchanged_stream_gives_the_clean_logits(clean, layer, new):
    out = restart(clean, clean.streams[layer, None, :, -new:], layer)
    assert out.shape == (1, 2, new, clean.streams.shape[-1])
    assert apart(clean.model.logits_of(out[0, :, -1]), clean.logits) < 1e-5


@pytest.mark.parametrize("new", [1, 2, 5, 9])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_edited_stream_gives_what_a_full_pass_with_the_stream_written_in_gives(model, clean, layer, new):
    streams = edited_streams(clean, layer, new)
    found = model.logits_of(restart(clean, streams, layer)[:, :, -1])
    for stream, logits in zip(streams, found, strict=True):

        def write(output, stream=stream):
            return torch.cat([output[:, : output.shape[1] - new], stream], dim=1)

        with rewritten(model, Hook("resid_pre", layer), write):
            truth = full_logits(model, clean.tokens)
        assert apart(logits, truth) < 1e-5
        assert apart(logits, clean.logits) > 1e-2


def test_copies_at_once_equal_one_by_one(clean):
    """More copies than are computed at a time, so that they are split."""
    for new in (1, 9):
        streams = edited_streams(clean, 1, new, copies=600 if new == 1 else 130)
        at_once = restart(clean, streams, 1)
        for i in (0, 1, 56, 57, len(streams) - 1):
            torch.testing.assert_close(at_once[i : i + 1], restart(clean, streams[i : i + 1], 1), rtol=1e-5, atol=1e-4)


def test_texts_are_not_mixed_up(model):
    """Each text of a batch gives what it gives alone."""
    tokens = random_tokens(model, batch=3)
    together = clean_run(model, tokens)
    streams = edited_streams(together, 1, 2)
    out = restart(together, streams, 1)
    for i in range(3):
        alone = restart(clean_run(model, tokens[i : i + 1]), streams[:, i : i + 1], 1)
        torch.testing.assert_close(out[:, i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_hooks_of_later_blocks_fire_and_those_of_earlier_ones_do_not(model, clean):
    fired = []
    handles = [
        model.points[Hook(kind, layer).name].register_forward_hook(lambda *_, at=(kind, layer): fired.append(at))
        for kind in ("resid_pre", "z", "mlp_out")
        for layer in range(3)
    ]
    restart(clean, clean.streams[1, None, :, -1:], 1)
    for handle in handles:
        handle.remove()
    assert {layer for _, layer in fired} == {1, 2}
    assert len(fired) == 6


def test_nothing_is_left_behind(model):
    before = n_hooks(model)
    clean = clean_run(model, random_tokens(model))
    kept = copy.deepcopy((clean.streams, clean.keys, clean.values))
    for _ in range(2):
        restart(clean, edited_streams(clean, 1, 2), 1)
    for now, then in zip((clean.streams, *clean.keys, *clean.values), (kept[0], *kept[1], *kept[2]), strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0)
    assert n_hooks(model) == before


def test_a_run_that_fails_leaves_no_hook(model):
    before = n_hooks(model)
    with pytest.raises(IndexError):
        clean_run(model, torch.full((1, 3), 10**6))
    assert n_hooks(model) == before


def test_a_prefix_precedes_every_copy_and_does_not_change():
    keys = (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5))
    values = (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5))
    prefix = Prefix(keys, values)
    new = torch.randn(6, 3, 1, 5)
    every_key, every_value = prefix.update(new, 2 * new, 1)
    assert every_key.shape == (6, 3, 5, 5)
    for i in range(6):
        assert torch.equal(every_key[i, :, :4], keys[1][i % 2])
        assert torch.equal(every_value[i, :, :4], values[1][i % 2])
    assert torch.equal(every_key[:, :, 4:], new)
    assert torch.equal(every_value[:, :, 4:], 2 * new)
    assert prefix.get_seq_length() == prefix.get_seq_length(1) == 4


def test_logits_of_any_stream_are_the_models(model, clean):
    with torch.inference_mode():
        every = model.bridge.original_model(clean.tokens, use_cache=False).logits
    torch.testing.assert_close(model.logits_of(clean.streams[-1]), every, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(model.logits_of(clean.streams[-1, 0, 0]), every[0, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_block_that_is_not_there_is_refused(clean, layer):
    with pytest.raises(InputError, match=f"can be restarted from block 0 to 3; got {layer}"):
        restart(clean, clean.streams[0, None], layer)


def test_a_stream_of_other_texts_is_refused(clean):
    d_model = clean.streams.shape[-1]
    for shape in [(1, 3, 1, d_model), (1, 2, 10, d_model), (1, 2, 0, d_model), (1, 2, 1, d_model + 1)]:
        with pytest.raises(InputError, match=rf"the stream must be \(copy, 2, at most 9, {d_model}\)"):
            restart(clean, torch.zeros(shape), 1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_holds_whatever_computes_attention(tokenizer, attention):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation=attention,
    )
    model = load_model(LlamaForCausalLM(config).eval(), tokenizer=tokenizer)
    assert_restarts(model)


def test_it_holds_for_a_window_shorter_than_the_text(tokenizer):
    """Mistral attends to the last tokens alone; its own cache keeps no more of them."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=4,
    )
    config._attn_implementation = "eager"
    model = load_model(MistralForCausalLM(config).eval(), tokenizer=tokenizer)
    assert_restarts(model)


def assert_restarts(model):
    clean = clean_run(model, random_tokens(model))
    for new in (1, 3, 9):
        stream = edited_streams(clean, 1, new, copies=1)
        logits = model.logits_of(restart(clean, stream, 1)[0, :, -1])

        def write(output, new=new, stream=stream):
            return torch.cat([output[:, : output.shape[1] - new], stream[0]], dim=1)

        with rewritten(model, Hook("resid_pre", 1), write):
            assert apart(logits, full_logits(model, clean.tokens)) < 1e-5


def test_a_model_without_a_cache_is_told_from_one_with(loaded, monkeypatch):
    model = loaded["llama"]
    base = model.bridge.original_model.base_model
    plain = type(base).forward
    monkeypatch.setattr(
        type(base), "forward", lambda self, tokens, past_key_values=None, **rest: plain(self, tokens, use_cache=False)
    )
    before = n_hooks(model)
    with pytest.raises(InputError, match="take no key/value cache, so it cannot be restarted"):
        clean_run(model, random_tokens(model))
    assert n_hooks(model) == before


def test_the_real_model_restarts(smollm2):
    clean = clean_run(smollm2, smollm2.tokenizer('Van done in "1". Hat done in "', return_tensors="pt").input_ids)
    assert apart(clean.logits, full_logits(smollm2, clean.tokens)) < 1e-5
    out = restart(clean, clean.streams[12, None], 12)
    assert apart(out[0], clean.streams[-1]) < 1e-5
    stream = edited_streams(clean, 12, 1, copies=1)
    with rewritten(smollm2, Hook("resid_pre", 12), lambda output: torch.cat([output[:, :-1], stream[0]], dim=1)):
        truth = full_logits(smollm2, clean.tokens)
    assert apart(smollm2.logits_of(restart(clean, stream, 12)[0, :, -1]), truth) < 1e-5
