"""A model that is loaded twice is one model; nothing is kept alive to make it so."""

import gc
import weakref

import pytest
import torch

from cache import load_model
from tests.cache.architectures import tiny_model


@pytest.fixture
def mine(tokenizer):
    return tiny_model("gpt2", len(tokenizer))


def test_the_second_loading_is_the_first(mine, tokenizer):
    first = load_model(mine, tokenizer=tokenizer)
    assert load_model(mine, tokenizer=tokenizer) is first
    assert load_model(mine.train(), tokenizer=tokenizer) is first
    other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, bos_token=tokenizer.bos_token)
    again = load_model(mine, tokenizer=other)
    assert (again.bridge, again.tokenizer) == (first.bridge, other)


def change(model):
    with torch.no_grad():
        model.lm_head.weight[1, 1] += 1


@pytest.mark.parametrize(
    ("changed", "asked"),
    [
        (change, {}),
        (lambda model: model.to(torch.bfloat16), {}),
        (lambda model: model.transformer.h[0].register_forward_hook(lambda *_: None), {}),
        (lambda model: setattr(model.config, "_name_or_path", "mine"), {}),
        (lambda model: None, {"bos": False}),
    ],
)
def test_what_it_depends_on_makes_it_another(mine, tokenizer, changed, asked):
    first = load_model(mine, tokenizer=tokenizer)
    changed(mine)
    again = load_model(mine, tokenizer=tokenizer, **asked)
    assert again is not first
    assert again.bridge is not first.bridge


def test_neither_the_users_model_nor_what_was_made_of_it_is_kept(tokenizer):
    mine = tiny_model("gpt2", len(tokenizer))
    made = weakref.ref(load_model(mine, tokenizer=tokenizer))
    gc.collect()
    assert made() is None
    loaded = load_model(mine, tokenizer=tokenizer)
    given = weakref.ref(mine)
    del mine
    gc.collect()
    assert loaded.weights
    assert given() is None
