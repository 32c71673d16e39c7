"""Every causal architecture is read as plain Hugging Face computes it, or what is not is refused in a sentence."""

import re
from dataclasses import replace

import pytest
import torch

from cache import Hook
from cache.models.hooks import KINDS
from cache.models.restart import _clean_run, restart
from tests.cache.architectures import TYPES, tiny_model
from tests.cache.models_page import PAGE, opened_or_told, page
from tests.cache.plain_sites import ATTENTION, MLP, Plain
from tests.variants import some

CLOSE = 1e-5  # of the largest value
WHOLE = ("apertus arcee bitnet exaone4 gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gptj jais2 "
         "llama ministral3 mistral nemotron olmo olmo2 olmo3 opt phi phi3 qwen2 qwen3 seed_oss smollm3 stablelm "
         "starcoder2 vaultgemma").split()  # fmt: skip
KINDS_OF_FAULT = {
    "cohere": "logits",
    "bert": "causal",
    "granite": "blocks.1.hook_attn_out",
    "mixtral": "blocks.1.mlp.hook_post",
    "bloom": "restart",
    "mpt": "generation",
    "falcon-alibi": "generation",
    "modernbert-decoder": "readout",
}
IN_SUITE = (*"gemma2 gpt2 gpt_neo gpt_neox gptj llama mistral olmo2 opt phi3 qwen3 stablelm".split(), *KINDS_OF_FAULT)


def far(found, wanted):
    return bool((found.float() - wanted.float()).abs().max() > CLOSE * wanted.float().abs().max())


def is_any(value, candidates):
    same = [one for one in candidates if isinstance(one, torch.Tensor) and one.numel() == value.numel()]
    return any(not far(value.reshape(one.shape), one) for one in same)


def seen_at(model, tokens, n_blocks=None):
    """What every hook shows, however often and in whatever shape."""
    seen = {Hook(kind, layer): [] for layer in range(model.n_layers) for kind in KINDS}
    seen = {hook: outputs for hook, outputs in seen.items() if hook.name in model.points}
    handles = [
        model.points[hook.name].register_forward_hook(lambda _, __, out, keep=outputs: keep.append(out))
        for hook, outputs in seen.items()
    ]
    with torch.inference_mode():
        model.run(tokens, n_blocks)
    for handle in handles:
        handle.remove()
    return seen


def wrong_sites(model, plain):
    for hook, outputs in seen_at(model, plain.tokens).items():
        if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor) or not is_right(plain, hook, outputs[0]):
            yield hook.name


def is_right(plain, hook, value):
    """Whether a plain model computes this at a site, and its parts of the stream add up with it."""
    layer, pre, post = hook.layer, plain.inputs[hook.layer, ""], plain.outputs[hook.layer, ""]
    if hook.kind in ("resid_pre", "resid_post"):
        return is_any(value, [pre if hook.kind == "resid_pre" else post])
    if hook.kind in ("z", "mlp_post"):
        return is_any(value, plain.read(layer, hook.kind))
    if hook.kind in ("q", "k", "v"):
        return is_any(value, plain.projected(layer, hook.kind))
    if value.numel() != pre.numel():
        return False
    value, attention, mlp = value.reshape(pre.shape), plain.added(layer, ATTENTION), plain.added(layer, MLP)
    if hook.kind == "resid_mid":
        return is_any(value, plain.given(layer)) and (is_any(value - pre, attention) or is_any(post - value, mlp))
    mine, others = (attention, mlp) if hook.kind == "attn_out" else (mlp, attention)
    return is_any(value, mine) and is_any(post - pre - value, others)


def wrong_logits(model, hf_model, plain):
    if far(model.logits(plain.tokens), plain.logits):
        yield "logits"
    with torch.inference_mode():
        if far(hf_model(plain.tokens[:, :6], use_cache=False).logits, plain.logits[:, :6]):
            yield "causal"
    try:
        if far(model.logits_of(plain.outputs[model.n_layers - 1, ""]), plain.logits):
            yield "readout"
    except (AttributeError, RuntimeError, TypeError, IndexError, ValueError, KeyError):
        yield "readout"


def wrong_generation(model, plain):
    try:
        with torch.inference_mode():
            _, past = model.step(plain.tokens[:1, :6], use_cache=True)
            for at in range(6, plain.tokens.shape[1]):
                logits, past = model.step(plain.tokens[:1, at : at + 1], past, use_cache=True)
                if far(logits[0], plain.logits[0, at]):
                    return True
    except (AttributeError, RuntimeError, TypeError, IndexError, ValueError, KeyError):
        return True
    return past is None


def wrong_restart(model, hf_model, plain):
    """Whether a restart with another stream at the last three tokens gives what the plain model does with it."""
    block = plain.blocks[1]
    stream = plain.inputs[1, ""][:, -3:].flip(-1) * 1.5

    def write(_, args, kwargs):
        given = args[0] if args else kwargs["hidden_states"]
        changed = torch.cat([given[:, :-3], stream], dim=1)
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    handle = block.register_forward_pre_hook(write, with_kwargs=True)
    wanted = Plain(hf_model, plain.tokens).outputs[model.n_layers - 1, ""][:, -3:]
    handle.remove()
    try:
        return far(restart(_clean_run(model, plain.tokens), stream[None], 1)[0], wanted)
    except Exception:  # that it cannot be done is wrong as well
        return True


def found_wrong(model, hf_model):
    """What plain Hugging Face shows to be wrong with a model, by the names of the checks that should say so."""
    tokens = torch.randint(3, model.d_vocab, (2, 9), generator=torch.Generator().manual_seed(1))
    plain = Plain(hf_model, tokens)
    wrong = set(wrong_logits(model, hf_model, plain)) | set(wrong_sites(model, plain))
    wrong |= {"generation"} if wrong_generation(model, plain) else set()
    return wrong | ({"restart"} if wrong_restart(model, hf_model, plain) else set())


@pytest.fixture(scope="module")
def opened(tokenizer):
    """Model and plain model by architecture, made when asked for; a refusal's sentence in the model's place."""
    made = {}

    def of(name):
        if name not in made:
            hf_model = tiny_model(name, len(tokenizer))
            made[name] = opened_or_told(hf_model, tokenizer), hf_model
        return made[name]

    return of


@pytest.mark.parametrize("name", some(TYPES, *IN_SUITE))
def test_what_plain_hugging_face_shows_to_be_wrong_is_refused_by_name(opened, name):
    model, hf_model = opened(name)
    if isinstance(model, str):
        assert re.fullmatch(r".* \(type [\w.-]+\) cannot be (wrapped|run).*: .+", model)
        return
    refused = {check for check, finding in model.findings.items() if finding.fault}
    if refused & {"logits", "causal"}:
        return
    assert found_wrong(model, hf_model) - refused == set()


@pytest.mark.parametrize("name", some(WHOLE, *IN_SUITE[: -len(KINDS_OF_FAULT)]))
def test_common_architectures_are_right_whole(opened, name):
    model, _ = opened(name)
    faults = {check: finding.fault for check, finding in model.findings.items() if finding.fault}
    assert faults == {}


@pytest.mark.parametrize("name", some(TYPES, *IN_SUITE))
def test_a_pass_that_ends_early_shows_every_bit_of_a_whole_one_and_leaves_nothing_behind(opened, name):
    model, _ = opened(name)
    if isinstance(model, str):
        return
    tokens = torch.tensor([[5, 6, 7, 8, 9], [1, 2, 3, 0, 0]])
    before = seen_at(model, tokens)
    for n_blocks in range(1, model.n_layers):
        ended = seen_at(model, tokens, n_blocks)
        assert {hook.layer for hook, outputs in ended.items() if outputs} == set(range(n_blocks))
        assert all(same_bits(outputs, before[hook]) for hook, outputs in ended.items() if hook.layer < n_blocks)
    after = seen_at(model, tokens)
    assert all(same_bits(outputs, after[hook]) for hook, outputs in before.items())


def same_bits(found, wanted):
    both = [[one for one in outputs if isinstance(one, torch.Tensor)] for outputs in (found, wanted)]
    return len(found) == len(wanted) and all(map(torch.equal, *both))


@pytest.mark.parametrize("name", KINDS_OF_FAULT)
def test_without_the_check_something_would_be_wrong_and_unsaid(opened, name):
    model, hf_model = opened(name)
    unchecked = replace(model, findings={check: replace(one, fault="") for check, one in model.findings.items()})
    assert KINDS_OF_FAULT[name] in found_wrong(unchecked, hf_model)
    assert model.findings[KINDS_OF_FAULT[name]].fault


def test_the_page_of_models_has_their_lines(opened):
    some_of_them = {name: opened(name)[0] for name in IN_SUITE}
    lines = page(some_of_them).splitlines()[-len(some_of_them) :]
    assert set(lines) <= set(PAGE.read_text(encoding="utf-8").splitlines())


@pytest.mark.slow
def test_the_page_of_models_says_what_became_of_each(opened):
    """Made anew by: python -m tests.cache.models_page."""
    assert page({name: opened(name)[0] for name in TYPES}) == PAGE.read_text(encoding="utf-8")
