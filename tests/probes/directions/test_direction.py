"""Directions add up, are those of their method on the rows of a store, and belong to one site of one model."""

from dataclasses import replace

import pytest
import torch

from cache import Hook, load_dataset, plan_recording
from cache.errors import InputError, NumbersError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.direction import (
    Direction,
    check_same_site,
    cosine,
    direction_of,
    find_direction,
    unembedding_difference,
)
from probes.directions.estimators import METHODS
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)
CONTRASTING = ["mean_difference", "pca", "logistic", "lda"]


def a_direction(seed=0, source="a", target="b", hook=HOOK, fingerprint="p", d=6):
    step = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    return direction_of(step, hook, f"m{seed}", source=source, target=target, fingerprint=fingerprint)


def test_a_direction_is_its_steps_length_times_a_unit_vector():
    step = torch.tensor([3.0, 0, -4.0])
    direction = direction_of(step, HOOK, "by hand")
    assert direction.norm == 5.0
    torch.testing.assert_close(direction.step, step)
    torch.testing.assert_close(direction_of(step, HOOK, "by hand", norm=2.0).step, step * 2 / 5)
    assert direction_of(step * 1e-30, HOOK, "by hand").vector.norm() == pytest.approx(1)


def test_algebra_is_that_of_steps_and_names_the_ends():
    ab, bc, ac = a_direction(1, "a", "b"), a_direction(2, "b", "c", fingerprint="q"), a_direction(3, "a", "c")
    torch.testing.assert_close((ab + bc).step, ab.step + bc.step)
    torch.testing.assert_close((ac - ab).step, ac.step - ab.step)
    torch.testing.assert_close((-ab).step, -ab.step)
    assert ((ab + bc).source, (ab + bc).target) == ("a", "c")
    assert ((ac - ab).source, (ac - ab).target) == ("b", "c")  # a -> c less a -> b is b -> c
    assert ((-ab).source, (-ab).target) == ("b", "a")
    assert (ab + bc).method == "m1 + m2"
    assert (ac - ab).method == "m3 - m1"
    assert ((ab + bc).fingerprint, (ac - ab).fingerprint, (ab + bc - bc).fingerprint) == ("p+q", "p", "p+q")
    assert (ab + bc).hook == HOOK


def test_a_sum_less_a_direction_names_its_ends_as_any_difference_does():
    ab, bc, ad = a_direction(1, "a", "b"), a_direction(2, "b", "c"), a_direction(3, "a", "d")
    found = (ab + bc) - ad
    assert (found.source, found.target) == ("d", "c")
    torch.testing.assert_close(found.step, ab.step + bc.step - ad.step)


def test_what_is_taken_from_itself_is_no_direction():
    one = a_direction()
    with pytest.raises(InputError, match=r"m0 - m0 from b to b is zero at blocks.1.hook_resid_post"):
        one - one


def test_the_cosine_is_that_of_the_vectors_whatever_the_norms():
    a = direction_of(torch.tensor([1.0, 0, 0]), HOOK, "by hand")
    b = direction_of(torch.tensor([-3.0, 4.0, 0]), HOOK, "by hand")
    assert cosine(a, b) == pytest.approx(-0.6)
    assert cosine(b, b) == pytest.approx(1)
    assert cosine(b, -b) == pytest.approx(-1)


def test_directions_at_two_sites_are_not_set_against_each_other():
    here, there = a_direction(), a_direction(hook=Hook("resid_post", 2))
    message = "got blocks.1.hook_resid_post and blocks.2.hook_resid_post"
    for combine in (cosine, check_same_site, lambda a, b: a + b, lambda a, b: a - b):
        with pytest.raises(InputError, match=f"directions at one site can be set against each other; {message}"):
            combine(here, there)
    with pytest.raises(InputError, match=r"got blocks.0.attn.hook_z, head 1 and blocks.0.attn.hook_z"):
        cosine(a_direction(hook=Hook("z", 0, 1)), a_direction(hook=Hook("z", 0)))
    with pytest.raises(InputError, match="directions at one site have the same width; got 6 and 5"):
        a_direction() + a_direction(d=5)


@pytest.mark.parametrize("vector", [torch.ones(3), torch.zeros(3), torch.full((3,), float("nan"))])
def test_a_vector_that_is_not_of_length_1_is_refused(vector):
    with pytest.raises(InputError, match="a direction's vector has length 1; got"):
        Direction(HOOK, vector, 1.0, "by hand")


@pytest.mark.parametrize("norm", [-1.0, float("nan"), float("inf")])
def test_a_norm_is_finite_and_not_negative(norm):
    with pytest.raises(InputError, match="a direction's norm is finite and not negative; got"):
        Direction(HOOK, torch.eye(3)[0], norm, "by hand")


def test_steps_that_lead_nowhere_or_are_not_finite_are_refused():
    with pytest.raises(InputError, match=r"by hand from the source to the target is zero at blocks.1"):
        direction_of(torch.zeros(3), HOOK, "by hand")
    with pytest.raises(InputError, match="by hand from x to y is zero"):
        direction_of(torch.zeros(3), HOOK, "by hand", source="x", target="y")
    with pytest.raises(NumbersError, match="not all finite"):
        direction_of(torch.tensor([1.0, float("inf")]), HOOK, "by hand")


# --- from a store, and from a model


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=(1, 2, 3, 4), templates=3)
    plan = plan_recording(gpt2, load_dataset("digits,months", design), positions="last", sites="resid")
    with recorded(gpt2, plan, tmp_path_factory.mktemp("directions") / "a.h5") as store:
        yield store


@pytest.mark.parametrize("method", METHODS)
def test_a_direction_from_a_store_is_the_methods_of_its_pairs(store, method):
    pairs = contrast(store.view(), "digits", "months")
    x, y = load_pairs(store, HOOK, pairs)
    assert len(x) == 12
    found = find_direction(store, pairs, HOOK, method)
    torch.testing.assert_close(found.step, METHODS[method](x, y), rtol=1e-5, atol=1e-6)
    size = y.mean(dim=0).norm() if method == "mean_only" else (y - x).mean(dim=0).norm()
    assert found.norm == pytest.approx(float(size), rel=1e-5)
    described = (found.hook, found.method, found.source, found.target, found.fingerprint)
    assert described == (HOOK, method, "digits", "months", store.fingerprint)


def test_the_way_back_is_the_same_way(store):
    there = find_direction(store, contrast(store.view(), "digits", "months"), HOOK)
    back = find_direction(store, contrast(store.view(), "months", "digits"), HOOK)
    assert cosine(there, back) == pytest.approx(-1)
    assert there.norm == pytest.approx(back.norm)


def test_a_method_that_is_not_there_is_refused_by_name(store):
    with pytest.raises(InputError, match="no method 'mean'; known are mean_difference, pca, logistic, lda, mean_only"):
        find_direction(store, contrast(store.view(), "digits", "months"), HOOK, "mean")


@pytest.mark.parametrize("method", CONTRASTING)
def test_groups_that_do_not_differ_are_refused(store, method):
    """At the embedding of the last token, which all the prompts share."""
    with pytest.raises(InputError, match=r"is zero at blocks.0.hook_resid_pre|all activations are the same"):
        find_direction(store, contrast(store.view(), "digits", "months"), Hook("resid_pre", 0), method)


def rows_of_words(model, words, gain, centred):
    """What raises a word's logit at the final norm's output, in both of the word's forms, by hand."""
    tokens = [model.tokenizer(form, add_special_tokens=False).input_ids[0] for w in words for form in (w, " " + w)]
    rows = model.bridge.original_model.lm_head.weight.detach().double()[tokens] * gain.double()
    rows = rows - rows.mean(dim=1, keepdim=True) if centred else rows
    return rows.reshape(len(words), 2, -1).mean(dim=1)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_unembedding_difference_is_that_of_the_words_rows(loaded, name):
    model = loaded[name]
    hf = model.bridge.original_model
    gain = hf.transformer.ln_f.weight.detach() if name == "gpt2" else hf.model.norm.weight.detach()
    ones, others = (rows_of_words(model, words, gain, name == "gpt2") for words in (["1", "2"], ["one", "two"]))
    truth = (others - ones).mean(dim=0).float()
    found = unembedding_difference(model, [("1", "one"), ("2", "two")])
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)
    same = [(" 1", "one"), ("2", " two"), ("1", "one"), ("zzz", "three"), ("4", "zzz"), ("", "four"), ("5", " ")]
    torch.testing.assert_close(unembedding_difference(model, same), truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pairs", [[], [("zzz", "one")], [("", "")], [("1", "")]])
def test_words_of_several_tokens_have_no_unembedding_difference(gpt2, pairs):
    with pytest.raises(InputError, match="no pair of words is one token each, so they have no unembedding difference"):
        unembedding_difference(gpt2, pairs)


def test_directions_of_two_models_do_not_mix(store):
    one = find_direction(store, contrast(store.view(), "digits", "months"), Hook("resid_post", 1))
    assert one.weights == store.manifest["hard"]["model weights"]
    assert (one + one).weights == one.weights
    with pytest.raises(InputError, match="models with other weights"):
        cosine(one, replace(one, weights="another"))


def test_a_notebook_shows_where_a_direction_leads_and_what_to_do_with_it():
    shown = a_direction(source="<a>", target="b")._repr_html_()
    assert "<b>a direction at blocks.1.hook_resid_post, 6 wide</b>" in shown
    assert "way: from &lt;a&gt; to b<br>found by: m0<br>natural size: " in shown
    assert "<code>steer(model, direction, alpha=1)</code>" in shown
