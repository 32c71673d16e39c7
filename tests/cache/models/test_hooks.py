"""Sites: names are TransformerLens's, and a description selects what a forward pass computes, in its order."""

import fnmatch
import inspect
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.models.hooks import KINDS, Hook, as_hook, layers_text, parse_layers, recorded_hook, select_hooks

N_LAYERS = 12
EVERY = [Hook(kind, layer) for layer in range(N_LAYERS) for kind in KINDS]

hooks = st.builds(Hook, st.sampled_from(list(KINDS)), st.integers(0, 200))
descriptions = st.lists(
    st.one_of(
        st.sampled_from(["resid", "heads", "mlp", "neurons", "blocks.*.hook_resid_*", *KINDS]),
        st.sampled_from([hook.name for hook in EVERY]),
    ),
    min_size=1,
    max_size=6,
)


def names(sites, layers="all", n_layers=N_LAYERS) -> list[str]:
    return [hook.name for hook in select_hooks(sites, layers, n_layers)]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("resid_pre", "blocks.3.hook_resid_pre"),
        ("resid_mid", "blocks.3.hook_resid_mid"),
        ("resid_post", "blocks.3.hook_resid_post"),
        ("attn_out", "blocks.3.hook_attn_out"),
        ("mlp_out", "blocks.3.hook_mlp_out"),
        ("mlp_post", "blocks.3.mlp.hook_post"),
        ("q", "blocks.3.attn.hook_q"),
        ("k", "blocks.3.attn.hook_k"),
        ("v", "blocks.3.attn.hook_v"),
        ("z", "blocks.3.attn.hook_z"),
    ],
)
def test_a_hook_has_transformer_lens_s_classic_name(kind, name):
    assert Hook(kind, 3).name == name


def test_a_loaded_model_has_a_hook_point_of_every_name(gpt2):
    assert {Hook(kind, layer).name for kind in KINDS for layer in range(gpt2.n_layers)} <= set(gpt2.points)


@given(hooks)
def test_a_name_parses_back_to_its_hook(hook):
    assert Hook.parse(hook.name) == hook


def test_only_the_embedding_is_layer_minus_one_in_tables():
    assert Hook("resid_pre", 0).table_layer == -1
    assert [hook for hook in EVERY if hook.table_layer != hook.layer] == [Hook("resid_pre", 0)]


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ("resid", ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(3))]),
        ("heads", [f"blocks.{i}.attn.hook_z" for i in range(3)]),
        ("mlp", [f"blocks.{i}.hook_mlp_out" for i in range(3)]),
        ("neurons", [f"blocks.{i}.mlp.hook_post" for i in range(3)]),
        ("resid_mid", [f"blocks.{i}.hook_resid_mid" for i in range(3)]),
        ("blocks.1.attn.hook_q", ["blocks.1.attn.hook_q"]),
        (" mlp , ,blocks.1.attn.hook_q", [f"blocks.{i}.hook_mlp_out" for i in range(3)] + ["blocks.1.attn.hook_q"]),
        (["mlp", "blocks.1.attn.hook_q"], [f"blocks.{i}.hook_mlp_out" for i in range(3)] + ["blocks.1.attn.hook_q"]),
    ],
)
def test_groups_kinds_and_names_mean_these_hooks(sites, expected):
    assert sorted(names(sites, n_layers=3)) == sorted(expected)


def test_hooks_come_in_the_order_in_which_a_forward_pass_computes_them():
    assert names("resid,heads,mlp,resid_mid,attn_out,q,neurons", n_layers=2) == [
        "blocks.0.hook_resid_pre",
        "blocks.0.attn.hook_q",
        "blocks.0.attn.hook_z",
        "blocks.0.hook_attn_out",
        "blocks.0.hook_resid_mid",
        "blocks.0.mlp.hook_post",
        "blocks.0.hook_mlp_out",
        "blocks.0.hook_resid_post",
        "blocks.1.attn.hook_q",
        "blocks.1.attn.hook_z",
        "blocks.1.hook_attn_out",
        "blocks.1.hook_resid_mid",
        "blocks.1.mlp.hook_post",
        "blocks.1.hook_mlp_out",
        "blocks.1.hook_resid_post",
    ]


@given(descriptions, st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_sites_do_not_matter(sites, random):
    shuffled = sites * 2
    random.shuffle(shuffled)
    assert names(",".join(shuffled)) == names(sites)
    assert len(set(names(sites))) == len(names(sites))


@given(descriptions)
def test_a_description_selects_the_union_of_its_parts(sites):
    assert set(names(sites)) == set(itertools.chain.from_iterable(names(site) for site in sites))


@pytest.mark.parametrize("pattern", ["*", "blocks.[13].attn.*", "blocks.?.hook_mlp_out", "*resid*", "blocks.1*"])
def test_a_wildcard_selects_the_names_that_match_it(pattern):
    assert set(names(pattern)) == set(fnmatch.filter([hook.name for hook in EVERY], pattern))


def test_layers_limit_groups_kinds_and_wildcards_but_not_names():
    assert names("heads,blocks.*.hook_mlp_out,blocks.0.hook_attn_out", "2") == [
        "blocks.0.hook_attn_out",
        "blocks.2.attn.hook_z",
        "blocks.2.hook_mlp_out",
    ]


@pytest.mark.parametrize(("layers", "embedded"), [("all", True), ("0", True), ("1-11", False)])
def test_resid_holds_the_embedding_where_block_0_is_wanted(layers, embedded):
    assert ("blocks.0.hook_resid_pre" in names("resid", layers)) == embedded


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("all", range(12)),
        (" all ", range(12)),
        ("0", [0]),
        ("-1", [11]),
        ("-12", [0]),
        ("0,4-7,-1", [0, 4, 5, 6, 7, 11]),
        ("7,4-5,4", [4, 5, 7]),
        ("-3-11", [9, 10, 11]),
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_layers_are_lists_of_numbers_and_inclusive_ranges(text, layers):
    assert parse_layers(text, 12) == tuple(layers)


@given(st.lists(st.integers(-N_LAYERS, N_LAYERS - 1), min_size=1))
def test_layers_come_sorted_once_each_with_negative_ones_counted_from_the_end(layers):
    expected = sorted({range(N_LAYERS)[layer] for layer in layers})
    assert list(parse_layers(",".join(map(str, layers)), N_LAYERS)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no layers given; try all"),
        ("one", "layers must be 'all' or a list such as 0,4-7,-1; got 'one'"),
        ("all,3", "layers must be 'all' or a list such as 0,4-7,-1; got 'all'"),
        ("1.5", "got '1.5'"),
        ("12", "the model has layers 0 to 11; got '12'"),
        ("0,-13", "the model has layers 0 to 11; got '-13'"),
        ("10-12", "the model has layers 0 to 11; got '10-12'"),
        ("7-4", "the model has layers 0 to 11; got '7-4'"),
    ],
)
def test_layers_that_are_not_there_are_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        parse_layers(text, 12)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ("", "no sites given; try resid,heads,mlp"),
        ([], "no sites given"),
        ("resid,resid_pots", "no site 'resid_pots'; did you mean resid_post"),
        ("everything", "no site 'everything'; known are resid, heads, mlp, neurons, resid_pre"),
        ("blocks.3.hook_resid_pots", r"no hook 'blocks\.3\.hook_resid_pots'; did you mean blocks\.3\.hook_resid_post"),
        ("blocks.12.hook_resid_post", r"the model has layers 0 to 11; got 'blocks\.12\.hook_resid_post'"),
        ("blocks.*.hook_resid", r"no hook of the chosen layers matches"),
        ("blocks.*.hook_foo", r"no hook of the chosen layers matches 'blocks\.\*\.hook_foo'; try blocks\."),
    ],
)
def test_sites_that_are_not_there_are_refused_with_near_ones(sites, message):
    with pytest.raises(InputError, match=message):
        select_hooks(sites, "all", 12)


def test_a_wildcard_that_only_other_layers_match_is_refused():
    with pytest.raises(InputError, match=r"no hook of the chosen layers matches 'blocks\.1\.\*'"):
        select_hooks("blocks.1.*", "2-4", 12)


@pytest.mark.parametrize("name", ["hook_resid_pre", "blocks.x.hook_resid_pre", "blocks.1.resid_pre", "resid_pre", ""])
def test_what_is_no_hook_name_is_refused(name):
    with pytest.raises(InputError, match=f"no hook '{name}'; "):
        Hook.parse(name)


@pytest.mark.parametrize(
    ("kind", "layer", "head", "message"),
    [
        ("residpre", 0, None, "no site kind 'residpre'; did you mean resid_pre"),
        ("resid", 0, None, "no site kind 'resid'"),
        ("z", -1, None, "a hook's layer counts from 0; got -1"),
        ("resid_post", 0, 2, "resid_post has no heads; got head 2"),
        ("mlp_post", 0, 0, "mlp_post has no heads; got head 0"),
        ("z", 0, -1, "a hook's head counts from 0; got head -1"),
    ],
)
def test_a_hook_that_cannot_be_is_refused(kind, layer, head, message):
    with pytest.raises(InputError, match=message):
        Hook(kind, layer, head)


@pytest.mark.parametrize("kind", ["q", "k", "v", "z"])
def test_attention_sites_have_heads(kind):
    assert Hook(kind, 1, head=2) != Hook(kind, 1)
    assert Hook(kind, 1, head=2).name == Hook(kind, 1).name


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ("0,4-7,-1", "0,4-7,-1"),
        (" all ", " all "),
        (3, "3"),
        (-1, "-1"),
        (np.int32(3), "3"),
        (np.array(3), "3"),
        ([7, 0, 7], "0,7"),
        ({5, 2}, "2,5"),
        (range(3), "0,1,2"),
        (np.array([1, 0]), "0,1"),
        (torch.tensor([1, -2]), "-2,1"),
    ],
)
def test_layers_are_noted_as_a_string_that_means_the_same(layers, text):
    assert layers_text(layers) == text
    assert parse_layers(layers, 8) == parse_layers(text, 8)


@pytest.mark.parametrize("layers", [True, [True, False], np.array([True, False]), np.array([0.5])], ids=repr)
def test_other_layers_are_refused(layers):
    with pytest.raises(InputError, match=r"^layers must be 'all' or a list such as 0,4-7,-1; got .*$"):
        layers_text(layers)


def test_no_layers_are_refused():
    with pytest.raises(InputError, match="no layers given; try all"):
        parse_layers([], 8)


def test_a_hook_its_name_and_kind_and_layer_are_one_site():
    for site in (Hook("z", 3), "blocks.3.attn.hook_z", ("z", 3), ("z", np.int64(3))):
        assert as_hook(site) == Hook("z", 3)
    assert as_hook(Hook("z", 3, head=1)) == Hook("z", 3, head=1)


def test_a_negative_layer_counts_from_the_last_one_recorded():
    hooks = (Hook("resid_pre", 0), Hook("z", 1), Hook("z", 4))
    assert recorded_hook(("z", -1), hooks, "a.h5") == Hook("z", 4)
    with pytest.raises(InputError, match=r"a.h5 has layers up to 4 of z; got -6"):
        recorded_hook(("z", -6), hooks, "a.h5")
    with pytest.raises(InputError, match=r"a.h5 has no 'blocks.0.attn.hook_z'; near it are blocks"):
        recorded_hook(("z", -5), hooks, "a.h5")
    with pytest.raises(InputError, match="a hook's layer counts from 0; got -1"):
        as_hook(("z", -1))


@pytest.mark.parametrize("layer", [None, "1", 1.5])
def test_what_is_no_site_is_refused(layer):
    """Called past the annotations, as a user without a type checker does."""
    with pytest.raises(InputError, match=r"^a site is a Hook, its name, or kind and layer; got \('z', "):
        inspect.unwrap(as_hook)(("z", layer))


def test_numbers_of_any_length_are_refused_in_a_sentence():
    with pytest.raises(InputError, match=r"^no hook 'blocks.9{5000}.hook_resid_post'; "):
        Hook.parse(f"blocks.{'9' * 5000}.hook_resid_post")
    for layers in ("9" * 5000, "-" + "9" * 5000, "0-" + "9" * 5000):
        with pytest.raises(InputError, match=r"^layers must be 'all' or a list such as 0,4-7,-1; got "):
            parse_layers(layers, 8)
