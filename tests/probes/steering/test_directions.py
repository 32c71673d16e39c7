import itertools

import numpy as np
import pytest
import torch

from cache import Hook, load_dataset, plan_recording
from cache.errors import InputError
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.direction import unembedding_difference
from probes.directions.estimators import METHODS
from probes.steering.directions import CONTROLS, _balanced_signs, gather_material, make_folds, steps_at
from tests.probes.sweeps import small_store
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("folds")) as store:
        yield store


@pytest.fixture(scope="module")
def pairs(store):
    return contrast(store.view(), "digits", "numwords")


@pytest.fixture(scope="module")
def material(store, gpt2, pairs):
    return gather_material(store.view(), gpt2, pairs, seed=0)


def allowed(pairs, trial, *, strict):
    """By hand: the pairs that share neither template nor answer with a trial, nor show its answer."""
    me = pairs.table.iloc[trial]
    found = []
    for i, other in pairs.table.iterrows():
        apart = other["context"] != me["context"] and other["answer"] != me["answer"]
        if apart and not (strict and me["answer"] in other["shown"]):
            found.append(i)
    return found


@pytest.mark.parametrize("strict", [True, False])
def test_a_trial_leaves_out_its_template_its_answer_and_who_shows_it(pairs, strict):
    folds = make_folds(pairs)
    mine = folds.strict if strict else folds.loose
    for trial in range(len(pairs)):
        assert np.flatnonzero(mine[trial]).tolist() == allowed(pairs, trial, strict=strict)
    assert (folds.strict <= folds.loose).all()
    assert folds.strict.sum() < folds.loose.sum()


def test_of_own_pairs_those_whose_member_is_a_trials_answer_are_left_out(gpt2, tmp_path):
    """A chain: what one pair's prompt is continued by is the next pair's member."""
    words = ["one", "two", "three", "four", "five"]
    records = [
        {"text": f"{text} {word}", "member": word, "pair": i, "family": family, "answer": after, "template": template}
        for family, texts in (("a", ("so", "now")), ("b", ("thus", "then")))
        for template, text in enumerate(texts, start=1)
        for i, (word, after) in enumerate(itertools.pairwise(words))
    ]
    with recorded(gpt2, plan_recording(gpt2, load_dataset(records), sites="resid"), tmp_path / "chain.h5") as store:
        table = contrast(store.view(), "a", "b")
        folds = make_folds(table)
    context, answer = (table.table[name].to_numpy() for name in ("context", "answer"))
    member = table.table["shown"].str[0].to_numpy()
    apart = (context[:, None] != context) & (member[:, None] != member)
    np.testing.assert_array_equal(folds.loose, apart)
    np.testing.assert_array_equal(folds.strict, apart & (answer[:, None] != member))
    assert folds.strict.sum() < folds.loose.sum()


@pytest.mark.parametrize("method", [*METHODS, "mean_difference_loose", "unembedding_difference"])
def test_steps_are_what_the_estimator_gives_on_the_pairs_left(store, gpt2, pairs, material, method):
    steps = steps_at(material, HOOK, [method])[method]
    x, y = load_pairs(store, HOOK, pairs)
    for trial in (0, 7, 20):
        keep = allowed(pairs, trial, strict=method != "mean_difference_loose")
        mean = (y[keep] - x[keep]).mean(dim=0)
        if method == "unembedding_difference":
            table = pairs.table.iloc[keep]
            want = unembedding_difference(gpt2, list(zip(table["source_answer"], table["answer"], strict=True)))
            want = want * mean.norm() / want.norm()
        else:
            want = METHODS[method.removesuffix("_loose")](x[keep], y[keep])
        assert steps[trial].numpy() == pytest.approx(want.numpy(), abs=1e-3)


@pytest.mark.parametrize("method", ["sign_flipped", "random", "control_difference", "pca", "logistic", "lda"])
def test_steps_are_as_long_as_the_mean_difference(material, method):
    steps = steps_at(material, HOOK, ["mean_difference", method])
    lengths = steps["mean_difference"].norm(dim=1)
    assert steps[method].norm(dim=1).numpy() == pytest.approx(lengths.numpy(), rel=1e-4)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_flipped_signs_cancel_what_the_differences_share(share):
    """A step common to all pairs vanishes: signs drawn one by one would leave a part, brought to full length."""
    rng = np.random.default_rng(0)
    keep = rng.random((20, 31)) < share
    signs = _balanced_signs(keep, rng).numpy()
    assert (signs @ np.ones(31) == 0).all()
    assert set(np.unique(signs)) <= {-1, 0, 1}
    assert not signs[~keep].any()
    assert (np.abs(signs).sum(axis=1) == keep.sum(axis=1) // 2 * 2).all()


def test_the_wrong_target_leads_to_another_family(material, store, pairs):
    wrong = contrast(store.view(), "digits", "months")
    x, y = load_pairs(store, HOOK, wrong)
    other = (wrong.table["context"] != pairs.table["context"][0]).to_numpy()
    want = (y - x)[other].mean(dim=0)
    assert steps_at(material, HOOK, ["wrong_target"])["wrong_target"][0].numpy() == pytest.approx(
        want.numpy(), abs=1e-4
    )


def test_controls_are_those_that_the_store_has_families_for(gpt2, tmp_path, material):
    assert material.controls == CONTROLS
    with small_store(gpt2, tmp_path, names="digits,numwords") as store:
        few = gather_material(store.view(), gpt2, contrast(store.view(), "digits", "numwords"), seed=0)
        assert few.controls == ("sign_flipped", "random")


def test_the_seed_draws_the_controls(store, gpt2, pairs, material):
    again, other = (gather_material(store.view(), gpt2, pairs, seed=seed) for seed in (0, 1))
    for name in ("random", "sign_flipped"):
        first, same, changed = (steps_at(one, HOOK, [name])[name] for one in (material, again, other))
        assert torch.equal(first, same)
        assert not torch.allclose(first, changed)


def test_one_template_cannot_be_left_out(store):
    one = contrast(store.view(where="is_last and frame == 'list'"), "digits", "numwords")
    with pytest.raises(InputError, match="there are 1 templates and 6 answers"):
        make_folds(one)
