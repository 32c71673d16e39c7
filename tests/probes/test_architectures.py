"""Steering, restarts and generation on every architecture: what plain Hugging Face gives, or refused in a sentence."""

import pytest
import torch

from cache import Hook, LoadedModel, load_model
from cache.errors import GeometryError, NotAvailableError
from cache.models.restart import clean_run
from probes import edited, generate
from probes.edits.edit import addition
from probes.edits.hooks import EDITABLE
from tests.cache.architectures import TYPES, tiny_model
from tests.cache.plain_sites import blocks_of
from tests.probes.readings import random_direction, read
from tests.variants import some

# of every kind of attention, mixer, norm, position and output; every one is loaded, checked and read in tests/cache
IN_SUITE = "bamba bert bloom falcon-alibi gemma2 gpt2 gpt_neo granite llama mamba mpt qwen3".split()
EMBEDDING = ("gpt2", "bloom", "mpt", "gemma2")
CLOSE = 1e-5  # of the largest value
TEXT = "1,2,3,"


@pytest.fixture(scope="module")
def models(tokenizer):
    """Model and plain model by architecture, made when asked for; tests of those refused whole end there."""
    made = {}

    def of(name) -> tuple[LoadedModel, torch.nn.Module]:
        if name not in made:
            hf_model = tiny_model(name, len(tokenizer))
            try:
                made[name] = load_model(hf_model, tokenizer=tokenizer), hf_model
            except NotAvailableError as error:
                made[name] = error, hf_model
        return made[name]

    return of


def far(found, wanted):
    return bool((found - wanted).abs().max() > CLOSE * wanted.abs().max())


def plain_continuation(hf_model, tokens, n_tokens, eos):
    """Greedy tokens of a plain model that reads the whole text anew for each."""
    found = []
    with torch.inference_mode():
        for _ in range(n_tokens):
            best = hf_model(tokens, use_cache=False).logits[:, -1].argmax(dim=-1)
            found.append(int(best))
            if found[-1] == eos:
                break
            tokens = torch.cat([tokens, best[:, None]], dim=1)
    return found


@pytest.mark.parametrize("name", some(TYPES, *IN_SUITE))
def test_generation_needs_no_option_and_is_the_plain_models(models, name):
    model, hf_model = models(name)
    if isinstance(model, GeometryError):
        return
    tokens = torch.tensor([[model.tokenizer.bos_token_id, *model.tokenizer(TEXT).input_ids]])
    wanted = plain_continuation(hf_model, tokens, 5, model.tokenizer.eos_token_id)
    assert generate(model, TEXT, 5) == wanted


@pytest.mark.parametrize(
    "name", some(["gpt2", "bloom", "gpt_neo", "xglm", "mpt", "falcon-alibi", "opt", "gemma2", "granite"], *EMBEDDING)
)
def test_steering_by_the_embedding_is_the_plain_model_with_its_block_given_more(models, name):
    """At every position of the text and of what is generated, with and without a cache."""
    model, hf_model = models(name)
    direction = random_direction(model, Hook("resid_pre", 1), norm=60.0)

    def add(_, args, kwargs):
        stream = (args[0] if args else kwargs["hidden_states"]).clone()
        stream[:, 1:] += 1.5 * direction.step  # after BOS
        return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

    handle = blocks_of(hf_model)[1].register_forward_pre_hook(add, with_kwargs=True)
    tokens = torch.tensor([[model.tokenizer.bos_token_id, *model.tokenizer(TEXT).input_ids]])
    try:
        wanted = plain_continuation(hf_model, tokens, 5, model.tokenizer.eos_token_id)
    finally:
        handle.remove()
    edits = [addition(direction, 1.5)]
    assert generate(model, TEXT, 5, edits=edits, positions="all") == wanted
    assert generate(model, TEXT, 5, edits=edits, positions="all", use_cache=False) == wanted
    assert wanted != generate(model, TEXT, 5)


@pytest.mark.parametrize("name", some(TYPES, *IN_SUITE))
def test_an_edit_is_made_once_and_reaches_what_is_computed_from_it(models, name):
    """Or it is refused: at the site edited stands what stood there and the step, and the block's parts add up."""
    model, _ = models(name)
    if isinstance(model, GeometryError):
        return
    tokens = torch.randint(3, model.d_vocab, (2, 7), generator=torch.Generator().manual_seed(3))
    for kind in EDITABLE:
        hook = Hook(kind, 1)
        if not model.shows(hook):
            continue
        direction = random_direction(model, hook)
        shown = [Hook(k, 1) for k in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z")]
        shown = [one for one in [*shown, Hook("resid_pre", 2)] if model.shows(one)]
        before, _ = read(model, tokens, shown)
        try:
            with edited(model, [addition(direction)], "all"):
                after, logits = read(model, tokens, shown)
        except GeometryError:
            continue
        assert torch.isfinite(logits).all()
        assert_edited(hook, before, after, direction.step)


def assert_edited(hook, before, after, step):
    first = before[hook].reshape(2, 7, -1)[:, :1]
    found, change = after[hook].reshape(2, 7, -1), torch.zeros(2, 7, len(step))
    change[:, 1:] = step
    assert not far(found, before[hook].reshape(2, 7, -1) + change)
    assert not far(found[:, :1], first)
    at = {kind: after.get(Hook(kind, 1)) for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")}
    at = {kind: value.reshape(2, 7, -1) for kind, value in at.items() if value is not None}
    if hook.kind != "resid_post" and len(at) == 4:
        assert not far(at["resid_pre"] + at["attn_out"] + at["mlp_out"], at["resid_post"])
    if Hook("resid_pre", 2) in after and "resid_post" in at:
        assert not far(after[Hook("resid_pre", 2)].reshape(2, 7, -1), at["resid_post"])


@pytest.mark.parametrize("name", ["bloom", "xglm", "mpt", "jamba", "mamba"])
def test_a_restart_that_would_be_wrong_is_refused_by_its_check(models, name):
    model, _ = models(name)
    with pytest.raises(NotAvailableError, match=rf"\(type {name}\) fails the check 'restart': ") as caught:
        clean_run(model, torch.tensor([[0, 5, 6]]))
    assert caught.value.exit_code == 3
