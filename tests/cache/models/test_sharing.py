"""A user's own model is left as it is, takes no second memory, and is the model that was hashed as long as it runs."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from cache import load_model, record
from cache.errors import FingerprintError, InputError, NotAvailableError
from cache.models.restart import clean_run
from cache.models.sharing import NeverWritten
from tests.cache.architectures import TYPES, tiny_model
from tests.cache.models_page import opened_or_told
from tests.variants import some

TOKENS = torch.tensor([[0, 5, 6, 7]])


@pytest.fixture(params=some(["gpt2", "llama", "gpt_neox", "phi3", "mixtral"], "gpt2", "mixtral"))
def mine(request, tokenizer):
    return tiny_model(request.param, len(tokenizer)).train()


def state_of(model):
    return {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("processing", ["none", "compatibility"])
def test_a_users_model_keeps_its_names_mode_and_every_bit(mine, tokenizer, processing, tmp_path):
    before, config = state_of(mine), copy.deepcopy(mine.config.to_dict())
    next(mine.parameters()).requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in mine.parameters()]
    try:
        load_model(mine, tokenizer=tokenizer, processing=processing)
    except NotAvailableError:
        assert processing == "compatibility"  # which some architectures do not take
    after = state_of(mine)
    assert list(after) == list(before)
    assert all(at == before[name][0] and torch.equal(value, before[name][1]) for name, (at, value) in after.items())
    assert [parameter.requires_grad for parameter in mine.parameters()] == wanted
    assert mine.training
    assert all(module.training for module in mine.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in mine.modules())
    assert all(parameter.grad is None for parameter in mine.parameters())
    assert mine.config.to_dict() == config
    mine.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(value, before[name][1]) for name, value in again.state_dict().items() if name in before)


def step_of_training(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()


def test_a_model_is_loaded_twice_saved_trained_a_step_and_recorded_again(mine, tokenizer, tmp_path):
    loaded = load_model(mine, tokenizer=tokenizer)
    assert load_model(mine, tokenizer=tokenizer).bridge is loaded.bridge
    first = record(loaded, ["1,2,3,"], tmp_path / "first.h5")
    mine.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = record(str(tmp_path / "saved"), ["1,2,3,"], tmp_path / "saved.h5")
    assert saved.weights == first.weights
    step_of_training(mine)
    again = load_model(mine, tokenizer=tokenizer)
    torch.testing.assert_close(again.logits(TOKENS), mine.eval()(TOKENS).logits.detach(), rtol=1e-4, atol=1e-4)
    with pytest.raises(FingerprintError, match=r"first\.h5 was recorded with another model weights"):
        record(mine, ["1,2,3,"], tmp_path / "first.h5", tokenizer=tokenizer)
    trained = record(mine, ["1,2,3,"], tmp_path / "trained.h5", tokenizer=tokenizer)
    assert trained.weights == again.weights != first.weights
    assert not torch.equal(trained["resid_post", -1], first["resid_post", -1])


USES = {
    "run": lambda model: model.run(TOKENS),
    "logits": lambda model: model.logits(TOKENS),
    "step": lambda model: model.step(TOKENS, use_cache=False),
    "restart": lambda model: clean_run(model, TOKENS),
    "unembedding": lambda model: model.unembedding,
    "output projection": lambda model: model.output_projection(0),
    "norm": lambda model: model.final_norm(torch.zeros(1, model.d_model)),
    "readout": lambda model: model.logits_of(torch.zeros(1, model.d_model)),
}


@pytest.fixture(scope="module")
def outdated(tokenizer):
    mine = tiny_model("gpt2", len(tokenizer))
    loaded = load_model(mine, tokenizer=tokenizer)
    with torch.no_grad():
        mine.transformer.h[1].mlp.c_fc.weight[3, 3] += 1
    return loaded


@pytest.mark.parametrize("use", USES)
def test_what_was_loaded_is_not_used_once_its_weights_have_changed(outdated, use):
    told = "the weights of 'GPT2LMHeadModel' have changed since it was loaded; call load_model on it again"
    with pytest.raises(FingerprintError, match=told):
        USES[use](outdated)


def test_a_recording_sees_even_what_torch_does_not_count(tokenizer, tmp_path):
    mine = tiny_model("gpt2", len(tokenizer))
    loaded = load_model(mine, tokenizer=tokenizer)
    mine.transformer.h[1].mlp.c_fc.weight.data[3, 3] += 1
    with pytest.raises(FingerprintError, match="have changed since it was loaded"):
        record(loaded, ["1,2,3,"], tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []
    record(load_model(mine, tokenizer=tokenizer), ["1,2,3,"], tmp_path / "a.h5")


def test_a_cast_a_move_or_an_end_of_the_users_model_leaves_what_was_loaded(tokenizer):
    mine = tiny_model("llama", len(tokenizer))
    loaded = load_model(mine, tokenizer=tokenizer)
    before = loaded.logits(TOKENS)
    mine.half()
    torch.testing.assert_close(loaded.logits(TOKENS), before, rtol=0, atol=0)
    del mine
    torch.testing.assert_close(loaded.logits(TOKENS), before, rtol=0, atol=0)
    assert loaded.dtype == "float32"


def test_weights_take_no_second_memory_unless_they_are_processed(tokenizer):
    mine = tiny_model("llama", len(tokenizer))
    at = {parameter.data_ptr() for parameter in mine.parameters()}
    wrapped = load_model(mine, tokenizer=tokenizer).bridge.parameters()
    further = sum(one.nbytes for one in wrapped if one.data_ptr() not in at)  # biases of zeros
    assert further < 0.05 * sum(one.nbytes for one in mine.parameters())
    own = load_model(mine, tokenizer=tokenizer, processing="compatibility")
    assert not {one.data_ptr() for one in own.bridge.parameters()} & at
    assert own.shared is None


def test_a_model_that_scales_its_weights_as_it_runs_has_its_own(tokenizer):
    mine = tiny_model("rwkv", len(tokenizer))
    mine.rwkv.rescale_every = mine.config.rescale_every = 1
    loaded = load_model(mine, tokenizer=tokenizer)
    assert loaded.shared is None
    torch.testing.assert_close(loaded.logits(TOKENS), mine(TOKENS).logits.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.data.zero_(),
        lambda x: torch.add(x, 1, out=x),
        lambda x: x[1].fill_(0),
        lambda x: torch._foreach_add_([x], 1),
    ],
)
def test_what_may_not_be_written_is_not(write):
    kept, other = torch.ones(3, 3), torch.ones(3, 3)
    watch = NeverWritten([kept])
    with watch:
        write(other)
        assert not watch.refused
        with pytest.raises(RuntimeError, match="would write to weights"):
            write(kept)
    assert watch.refused
    assert torch.equal(kept, torch.ones(3, 3))


@pytest.mark.parametrize("name", some(TYPES, "bloom", "falcon", "gptj", "olmo2", "qwen3_moe", "rwkv"))
def test_no_architecture_is_written_to_when_it_is_wrapped_and_run(tokenizer, name):
    mine = tiny_model(name, len(tokenizer))
    before = state_of(mine)
    opened = opened_or_told(mine, tokenizer)
    if not isinstance(opened, str):
        opened.logits(TOKENS)
    after = state_of(mine)
    assert list(after) == list(before)
    assert all(at == before[key][0] and torch.equal(value, before[key][1]) for key, (at, value) in after.items())


def test_a_model_without_numbers_is_refused(tokenizer):
    with pytest.raises(InputError, match="is on the meta device, without numbers"):
        load_model(tiny_model("gpt2", len(tokenizer)).to("meta"), tokenizer=tokenizer)


def test_a_model_that_cannot_be_copied_is_told(tokenizer):
    mine = tiny_model("gpt2", len(tokenizer))
    mine.held = (one for one in "ab")
    with pytest.raises(InputError, match=r"this GPT2LMHeadModel cannot be copied \(.*\); save it, and give the folder"):
        load_model(mine, tokenizer=tokenizer)
