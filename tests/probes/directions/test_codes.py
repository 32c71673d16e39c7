"""Index codes are the means that one finds by looking every prompt up, never from the context that is edited."""

import pytest
import torch

from cache import Hook, SequenceDesign, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from probes.directions.codes import IndexCodes, index_kind, load_codes, plan_codes, shown_length
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)


def store_of(model, path, **choices):
    fields = {"frames": ("quote", "list"), "lengths": (2,), "starts": (1, 2, 3, 4), "templates": 2}
    design = SequenceDesign((FAMILIES["digits"],), **{**fields, **choices})
    plan = plan_recording(model, load_dataset("digits,months", design), positions="members", sites="resid")
    return recorded(model, plan, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("codes")


@pytest.fixture(scope="module")
def store(gpt2, folder):
    kinds = ("increasing", "decreasing")
    with store_of(gpt2, folder / "codes.h5", kinds=kinds, lengths=(1, 2), starts=(1, 2, 3, 4, 5)) as store:
        yield store


def by_hand(store, family, context, index, place, kind="increasing"):
    """The activation of one prompt's row, found label by label."""
    x = store.load(HOOK).double()
    for i, row in store.rows.iterrows():
        prompt = store.prompts.iloc[row["prompt"]]
        here = f"{prompt['frame']}|{prompt['template']}" == context and prompt["kind"] == kind
        at = row["is_last"] if place == -1 else row["member"] == place
        if prompt["family"] == family and here and at and len(prompt["values"]) == 2 and prompt["values"][-1] == index:
            return x[i]
    raise AssertionError((family, context, index, place))


@pytest.mark.parametrize("kind", ["increasing", "decreasing"])
def test_codes_are_the_rows_that_one_finds_by_hand(store, kind):
    plan = plan_codes(store, "months", places=(0, 1, -1), kind=kind)
    (codes,) = load_codes(store, HOOK, [plan])
    assert plan.contexts == codes.contexts == ("quote|0", "quote|1", "list|0")
    assert set(codes.members) == {2, 3, 4, 5, 6} if kind == "increasing" else set(codes.members) <= {1, 2, 3, 4, 5}
    for c, context in enumerate(codes.contexts):
        for m in (0, 2):
            for p, place in enumerate(plan.places):
                truth = by_hand(store, "months", context, codes.members[m], place, kind)
                torch.testing.assert_close(codes.cells[c, m, p], truth, rtol=0, atol=0)
    assert store.prompts["values"].iloc[plan.prompts[0, 0]][-1] == codes.members[0]


def test_a_code_leaves_its_context_out_and_several_plans_are_read_at_once(store):
    plans = [plan_codes(store, "digits"), plan_codes(store, "months", places=(1,))]
    digits, months = load_codes(store, HOOK, plans)
    torch.testing.assert_close(digits.without("quote|1"), (digits.cells[0] + digits.cells[2]) / 2)
    assert len(months.others("quote|0")) == 2
    torch.testing.assert_close(months.without("born|3"), months.cells.mean(dim=0))
    torch.testing.assert_close(months.cells[2, 0, 0], by_hand(store, "months", "list|0", months.members[0], 1))


def test_only_one_context_is_refused_not_skipped():
    codes = IndexCodes("days", ("list|0",), (1, 2), torch.zeros(1, 2, 1, 3, dtype=torch.float64))
    with pytest.raises(
        InputError, match=r"codes of 'days' come from other contexts .* has only 'list\|0'; record more"
    ):
        codes.without("list|0")


def test_the_longest_prompts_are_taken_unless_told(store):
    assert shown_length(store) == 2
    assert plan_codes(store, "digits", length=1).members != plan_codes(store, "digits").members


def test_what_has_no_codes_is_told(store, gpt2, folder):
    with pytest.raises(InputError, match=r"no family 'days'; it has digits, months"):
        plan_codes(store, "days")
    with pytest.raises(InputError, match=r"no prompts of kind 'wrap', .* it has 'increasing', 'decreasing'"):
        plan_codes(store, "digits", kind="wrap")
    with pytest.raises(
        InputError, match=r"'digits' has 0 indices that all its contexts .none. have as increasing prom"
    ):
        plan_codes(store, "digits", length=7)
    prompts = load_dataset("digits", SequenceDesign((FAMILIES["digits"],), lengths=(2,)))
    plan = plan_recording(gpt2, prompts, positions="last", sites="resid_post", layers="1")
    with (
        recorded(gpt2, plan, folder / "last.h5") as last,
        pytest.raises(InputError, match="no rows of shown members; record it with positions members, or all"),
    ):
        plan_codes(last, "digits", places=(0,))


def test_codes_of_ones_own_pairs_are_taken_where_there_are_no_increasing_prompts(gpt2, store, tmp_path):
    records = [
        {"text": f"{start} {word}", "family": family, "member": word, "pair": pair, "template": start}
        for start in ("the", "a")
        for family, words in (("one", ("dog", "cat", "car")), ("many", ("dogs", "cats", "cars")))
        for pair, word in enumerate(words)
    ]
    prompts = load_dataset(records)
    with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid_post"), tmp_path / "own.h5") as own:
        assert (index_kind(own), shown_length(own), index_kind(store)) == ("own", 1, "increasing")
        plan = plan_codes(own, "many")
        assert (plan.contexts, plan.members) == (("own|0", "own|1"), (1, 2, 3))
        texts = own.prompts["text"].to_numpy()[plan.prompts]
        assert texts.tolist() == [[f"{start} {word}" for word in ("dogs", "cats", "cars")] for start in ("the", "a")]
