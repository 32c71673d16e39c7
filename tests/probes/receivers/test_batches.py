"""Receivers' prompts: grouped, run once, edited where they should be; errors leave whole members out."""

import numpy as np
import pytest
import torch

from cache import Hook, SequenceDesign, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from geometry.stats.uncertainty import jackknife
from probes.directions.codes import plan_codes
from probes.receivers.batches import (
    check_edited,
    choose_contexts,
    mean_over_members,
    run_receivers,
    share_over_members,
)
from tests.probes.readings import read
from tests.recordings import recorded


@pytest.fixture(scope="module")
def store(loaded, tmp_path_factory):
    design = SequenceDesign((FAMILIES["digits"],), ("quote", "list"), lengths=(2,), starts=(1, 2, 3), templates=3)
    plan = plan_recording(loaded["llama"], load_dataset("digits,months", design), sites="resid", positions="members")
    with recorded(loaded["llama"], plan, tmp_path_factory.mktemp("receivers") / "a.h5") as store:
        yield store


@pytest.fixture
def batches(store, loaded):
    plan = plan_codes(store, "months", places=(0, 1, -1))
    return run_receivers(store, loaded["llama"], plan, plan.contexts)


def test_batches_hold_every_prompt_once_with_its_places_and_answers(store, loaded, batches):
    found = {(c, m) for b in batches for c, m in zip(b.contexts, b.members, strict=True)}
    assert found == {(c, m) for c in ("quote|0", "quote|1", "quote|2", "list|0") for m in (2, 3, 4)}
    decode = loaded["llama"].tokenizer.decode
    for batch in batches:
        months = FAMILIES["months"].member
        for i, m in enumerate(batch.members):
            shown = [decode(batch.clean.tokens[i, slot]) for slot in batch.slots[i, :2]]
            assert [word.strip() for word in shown] == [months(m - 1), months(m)]
            assert batch.slots[i, 2] == batch.clean.tokens.shape[1] - 1
            assert [decode(token).strip() for token in batch.answers[i]] == [months(k) for k in (3, 4, 5)]
            assert batch.answers[i, batch.own[i]] == loaded["llama"].tokenizer.encode(months(m + 1))[0]


def test_grouped_by_index_a_batch_has_one_index(store, loaded):
    plan = plan_codes(store, "digits")
    batches = run_receivers(store, loaded["llama"], plan, plan.contexts, by_index=True)
    assert all(len(set(batch.members)) == 1 for batch in batches)
    assert sum(len(batch.members) for batch in batches) == 12


def test_no_change_says_what_the_model_says(loaded, batches):
    for batch in batches:
        logits = read(loaded["llama"], batch.clean.tokens, [])[1][:, -1]
        top, answers = batch.said()
        assert top.tolist() == logits.argmax(dim=-1).tolist()
        torch.testing.assert_close(answers, logits.gather(1, batch.answers), atol=1e-4, rtol=1e-4)
        width = batch.clean.streams.shape[-1]
        for places in ([0, 1, 2], [2]):
            none = torch.zeros(2, len(batch.members), len(places), width, dtype=torch.float64)
            top, answers = batch.edited(Hook("resid_post", 0), places, none)
            torch.testing.assert_close(answers[1], batch.said()[1], atol=1e-4, rtol=1e-4)
            assert torch.equal(top[0], batch.said()[0])
        at = batch.at(Hook("resid_post", 1), [1])
        assert torch.equal(at[0, 0].float(), batch.clean.streams[2, 0, batch.slots[0, 1]])


def test_only_sites_between_blocks_are_edited_and_no_rows_are_chosen(store, gpt2, tmp_path):
    for site in ("resid_post", "resid_pre"):
        check_edited(store.view(site))
    with pytest.raises(InputError, match="an index edit takes no choice of rows; got 'is_last'"):
        check_edited(store.view(where="is_last"))
    with (
        recorded(gpt2, plan_recording(gpt2, ["a b"], sites="z"), tmp_path / "z.h5") as other,
        pytest.raises(InputError, match="made between blocks, at resid_post or resid_pre; got 'z'"),
    ):
        check_edited(other.view("z"))


def test_contexts_are_drawn_frame_by_frame(store):
    plan = plan_codes(store, "digits")
    assert len(choose_contexts(plan, 9, 0)) == 4
    pairs = {choose_contexts(plan, 2, seed) for seed in range(8)}
    assert len(pairs) > 1
    assert all({context.split("|")[0] for context in pair} == {"quote", "list"} for pair in pairs)
    with pytest.raises(InputError, match="edits are made in 1 context or more; got 0"):
        choose_contexts(plan, 0, 0)


def test_an_answer_of_several_tokens_is_refused(loaded, tmp_path):
    """A word that the tokenizer does not know as one."""
    (tmp_path / "odd.txt").write_text("cat\ndog\nzyxwvut\nbird\n")
    design = SequenceDesign((FAMILIES["digits"],), ("list", "quote"), lengths=(1,), templates=1)
    prompts = load_dataset(f"family:{tmp_path / 'odd.txt'}", design)
    plan = plan_recording(loaded["gpt2"], prompts, sites="resid_post", positions="last", layers="1")
    with recorded(loaded["gpt2"], plan, tmp_path / "odd.h5") as store:
        codes = plan_codes(store, "odd")
        with pytest.raises(InputError, match=r"the answer 'zyxwvut' of family 'odd' is \d+ tokens after 'dog,', so it"):
            run_receivers(store, loaded["gpt2"], codes, ["list|0"])


def test_errors_leave_out_all_that_a_member_has_part_in():
    rng = np.random.default_rng(0)
    ends = np.array([(i, j) for i in range(6) for j in range(6) if i != j])
    values = rng.normal(size=len(ends))
    mean, se, n = mean_over_members(values, ends)
    left = np.array([values[(ends[:, 0] != m) & (ends[:, 1] != m)].mean() for m in range(6)])
    assert (mean, n) == (values.mean(), 6)
    assert se == pytest.approx(float(jackknife(left)))
    few = mean_over_members(values[:4], np.arange(4)[:, None])
    assert (few[0], few[2]) == (values[:4].mean(), 4)
    assert np.isnan(few[1])
    assert mean_over_members(values[:0], ends[:0])[2] == 0
    star = np.array([(0, j) for j in range(1, 6)])  # without its centre nothing is left
    assert np.isnan(mean_over_members(values[:5], star)[1])


def test_a_share_of_1_has_no_error_but_an_exact_limit():
    ends = np.array([(i, j) for i in range(7) for j in range(7) if i != j])
    hits = np.ones(len(ends), dtype=bool)
    share, se, low, high = share_over_members(hits, ends)
    assert (share, high) == (1, 1)
    assert np.isnan(se)
    assert low == pytest.approx(0.5904, abs=5e-5)
    hits[(ends == 0).any(axis=1)] = False
    share, se, low, high = share_over_members(hits, ends)
    assert (share, se) == mean_over_members(hits.astype(float), ends)[:2]
    assert (low, high) == pytest.approx((max(0, share - 2.447 * se), 1), abs=1e-3)
