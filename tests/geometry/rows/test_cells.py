"""Cells: means, counts and contexts against a loop over rows, and what families have in common without a gap."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cache import ActivationStore, Hook, Prompts, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompt
from cache.prompts.sequences import SequenceDesign
from geometry.rows.cells import Balance, CellPlan, balance, complete_controls, load_cells, plan_cells, take
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, sites="resid", layers="1", **choices), path)


def own_prompt(family, value, template, text=None, **labels):
    """A prompt of a family of one's own, that shows one member."""
    word = f"w{value}"
    return Prompt(
        f"{text or 'say'} {word} {'again ' * template}now",
        family=family,
        template=template,
        values=(value,),
        members=(word,),
        spans=((len(text or "say") + 1, len(text or "say") + 1 + len(word)),),
        **labels,
    )


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Three families and three controls in two frames, two lengths and two kinds, with BOS and all tokens."""
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote", "list"), kinds=("increasing", "decreasing"), lengths=(2, 3), templates=2
    )
    prompts = load_dataset("digits,months,control:0-2", replace(design, starts=(3, 4, 5, 6)))
    with stored(gpt2, prompts, tmp_path_factory.mktemp("cells") / "a.h5") as store:
        yield store


@pytest.fixture(scope="module")
def repeated(gpt2, tmp_path_factory):
    """Cells of several rows: prompts of one family, template and member that differ in their group."""
    prompts = [
        own_prompt(family, value, template, text=text, group=text)
        for family in ("a", "b")
        for value in (1, 2, 3)
        for template in (0, 1)
        for text in ("say", "tell us", "shout")[: 1 + value]
    ]
    with stored(gpt2, Prompts(tuple(prompts)), tmp_path_factory.mktemp("cells") / "b.h5") as store:
        yield store


def cells_by_hand(store, wanted, hook=HOOK):
    """Lists of activations by family, context and member, by a loop over rows."""
    x = store.load(hook).double().numpy()
    found = {}
    for i, row in store.rows.iterrows():
        prompt = store.prompts.iloc[row["prompt"]]
        if row["position"] < 0 or not wanted(row) or not prompt["values"]:
            continue
        shown = row["member"] >= 0
        member = prompt["values"][row["member"]] if shown else prompt["values"][-1]
        context = f"{row['frame']}|{row['template']}|{row['kind']}|length {len(prompt['values'])}"
        context += f"|member {row['member']}" if shown else ""
        found.setdefault((row["family"], context, member), []).append(x[i])
    return found


QUERIES = [
    (None, lambda row: row["is_last"]),
    ("member >= 0", lambda row: row["member"] >= 0),
    (
        "is_last or member == 0 and frame == 'quote'",
        lambda row: row["is_last"] or (row["member"] == 0 and row["frame"] == "quote"),
    ),
]


@pytest.mark.parametrize(("where", "wanted"), QUERIES)
def test_means_counts_and_contexts_are_those_of_a_loop_over_rows(store, where, wanted):
    plan, by_hand = plan_cells(store.view(where=where)), cells_by_hand(store, wanted)
    cells = load_cells(store, HOOK, plan)
    assert cells.dtype == torch.float64
    assert set(plan.families) == {key[0] for key in by_hand}
    assert set(plan.contexts) == {key[1] for key in by_hand}
    assert list(plan.members) == sorted({key[2] for key in by_hand})
    assert plan.counts.sum() == plan.chosen.sum() == sum(map(len, by_hand.values()))
    for i, family in enumerate(plan.families):
        for j, context in enumerate(plan.contexts):
            for k, member in enumerate(plan.members):
                rows = by_hand.get((family, context, member), [])
                assert plan.counts[i, j, k] == len(rows)
                if rows:
                    np.testing.assert_allclose(cells[i, j, k], np.mean(rows, axis=0), rtol=1e-12, atol=1e-12)
                else:
                    assert torch.isnan(cells[i, j, k]).all()


def test_rows_of_one_cell_are_averaged(repeated):
    plan = plan_cells(repeated.view())
    assert plan.counts.tolist() == [[[2, 3, 3]] * 2] * 2
    by_hand = cells_by_hand(repeated, lambda row: row["is_last"])
    cells = load_cells(repeated, HOOK, plan)
    rows = by_hand["b", "own|1|own|length 1", 3]
    np.testing.assert_allclose(cells[1, 1, 2], (rows[0] + rows[1] + rows[2]) / 3, rtol=1e-12)
    assert not np.allclose(rows[0], rows[1])


def test_cells_read_in_many_blocks_are_those_of_one(store, monkeypatch):
    plan = plan_cells(store.view(where="member >= 0"))
    whole, blocks = load_cells(store, HOOK, plan), ActivationStore.blocks
    monkeypatch.setattr(ActivationStore, "blocks", lambda *args: blocks(*args, n_rows=7))
    monkeypatch.setattr(ActivationStore, "load", lambda *args: pytest.fail("all rows were loaded"))
    torch.testing.assert_close(load_cells(store, HOOK, plan), whole, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_rows_of_shown_members_in_other_places_are_other_contexts(store):
    plan = plan_cells(store.view(where="member >= 0 and frame == 'list' and kind == 'increasing'"), ["digits"])
    assert plan.contexts == tuple(
        f"list|0|increasing|length {length}|member {place}" for length in (2, 3) for place in range(length)
    )
    assert plan.members == (3, 4, 5, 6, 7, 8)
    assert plan.counts[0].astype(bool).tolist() == [
        [place <= i < 4 + place for i in range(6)] for length in (2, 3) for place in range(length)
    ]


@pytest.mark.parametrize("where", ["position < 2", "position == -1 or is_last", "member == -1"])
def test_bos_is_in_no_cell(store, where):
    assert (store.rows["position"][store.rows.eval(where)] == -1).any()
    plan = plan_cells(store.view(where=where))
    assert store.rows["position"][plan.chosen].min() >= 0


def test_families_are_taken_in_the_order_asked_and_once(store):
    plan = plan_cells(store.view(), ["months", "digits", "months"])
    assert plan.families == ("months", "digits")
    assert set(store.rows["family"][plan.chosen]) == {"months", "digits"}
    one = plan_cells(store.view(), ["digits"])
    cells = load_cells(store, HOOK, plan)[1]
    alone = load_cells(store, HOOK, one)[0]
    contexts = [plan.contexts.index(context) for context in one.contexts]
    members = [plan.members.index(member) for member in one.members]
    torch.testing.assert_close(cells[contexts][:, members], alone, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("pair", [("months", "digits"), ("digits", "control:1"), ("digits", "digits")])
@pytest.mark.parametrize(
    ("kind", "frames", "common"), [("increasing", ("quote", "list"), 3), ("decreasing", ("quote",), 3)]
)
def test_a_balance_is_the_contexts_of_both_and_the_members_in_all_of_them(store, pair, kind, frames, common):
    plan = plan_cells(store.view(where=f"is_last and kind == '{kind}' and frame in {frames}"))
    by_hand = cells_by_hand(store, lambda row: row["is_last"] and row["kind"] == kind and row["frame"] in frames)
    contexts = set.intersection(*({key[1] for key in by_hand if key[0] == family} for family in pair))
    members = {m for m in plan.members if all((f, c, m) in by_hand for f in pair for c in contexts)}
    found = balance(plan, pair)
    assert len(members) == common < len(plan.members)
    assert {plan.contexts[i] for i in found.contexts} == contexts
    assert {plan.members[i] for i in found.members} == members
    for family in pair:
        rows = take(load_cells(store, HOOK, plan), plan, family, found)
        assert rows.shape == (len(contexts), len(members), 33)
        assert torch.isfinite(rows).all()
        first = plan.contexts[found.contexts[1]], plan.members[found.members[0]]
        np.testing.assert_allclose(rows[1, 0], np.mean(by_hand[(family, *first)], axis=0), rtol=1e-12)


def plan_of(counts, families):
    counts = np.array(counts)
    return CellPlan(
        families=families,
        contexts=tuple("abcdef"[: counts.shape[1]]),
        members=tuple(range(counts.shape[2])),
        cell_of_row=np.zeros(0, dtype=np.int64),
        chosen=np.zeros(0, dtype=bool),
        counts=counts,
    )


def test_a_context_that_one_family_lacks_is_left_out_and_a_member_that_is_missing_in_any_context():
    plan = plan_of([[[1, 1, 2, 1], [1, 1, 1, 1], [0, 0, 0, 0]], [[1, 1, 1, 0], [3, 1, 1, 1], [1, 1, 1, 1]]], ("x", "y"))
    assert balance(plan, ("x", "y")) == Balance((0, 1), (0, 1, 2))
    assert balance(plan, ("y",)) == Balance((0, 1, 2), (0, 1, 2))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            [[[1, 1], [0, 0]], [[0, 0], [1, 1]]],
            r"x and y have 0 contexts in common; .* needs 2: record more frames",
        ),
        ([[[1, 1], [0, 0]], [[1, 1], [1, 1]]], r"x and y have 1 context in common"),
        ([[[1, 1], [1, 1]], [[0, 0], [0, 0]]], r"no chosen row is of y; choose other rows or families"),
        ([[[0, 0], [0, 0]], [[0, 0], [0, 0]]], r"no chosen row is of x or y; "),
        (
            [[[1, 0], [1, 0]], [[0, 1], [0, 1]]],
            r"x and y have 0 members in common; a comparison needs 2, a claim 5",
        ),
        ([[[1, 1], [1, 0]], [[1, 1], [1, 1]]], r"x and y have 1 member in common"),
    ],
)
def test_too_little_in_common_is_told_with_how_much_there_is(counts, message):
    with pytest.raises(InputError, match=message):
        balance(plan_of(counts, ("x", "y")), ("x", "y"))


def test_controls_with_every_cell_are_kept_and_those_with_a_gap_are_left_out():
    full, gap, outside = [[1, 2], [1, 1], [0, 0]], [[1, 1], [1, 0], [1, 1]], [[1, 1], [1, 1], [1, 1]]
    plan = plan_of([full, gap, outside, full], ("control:0", "control:1", "digits", "control:7"))
    assert plan.controls == ("control:0", "control:1", "control:7")
    assert complete_controls(plan, Balance((0, 1), (0, 1))) == ("control:0", "control:7")
    assert complete_controls(plan, Balance((0, 1), (0,))) == ("control:0", "control:1", "control:7")
    assert complete_controls(plan, Balance((0, 1, 2), (0, 1))) == ()


def test_controls_of_a_store_cover_what_its_families_cover(store):
    plan = plan_cells(store.view(where="is_last and kind == 'increasing'"))
    assert complete_controls(plan, balance(plan, ("digits", "months"))) == ("control:0", "control:1", "control:2")


def test_a_family_that_is_not_there_is_told_with_those_that_are(store):
    with pytest.raises(
        InputError, match="the store has no family 'roman'; it has digits, months, control:0, control:1"
    ):
        plan_cells(store.view(), ["digits", "roman"])


def test_prompts_without_members_are_in_no_cell_and_alone_are_refused(gpt2, tmp_path):
    labelled = [own_prompt("a", value, template) for value in (1, 2) for template in (0, 1)]
    prompts = Prompts((Prompt("a text of one's own", group="x"), *labelled, Prompt("nobody here", family="b")))
    with stored(gpt2, prompts, tmp_path / "a.h5") as store:
        plan = plan_cells(store.view())
        assert plan.families == ("a", "b")
        assert plan.counts.sum(axis=(1, 2)).tolist() == [4, 0]
        with pytest.raises(InputError, match="no row of 'b' counts under a member for 'is_last'"):
            plan_cells(store.view(), ["b"])
        with pytest.raises(InputError, match=r"it has a, b$"):
            plan_cells(store.view(), ["c"])
        with pytest.raises(InputError, match=r"^no chosen row is of b; choose other rows or families$"):
            balance(plan, ("a", "b"))


def test_a_query_that_fits_nothing_and_one_that_is_none_are_refused(store):
    with pytest.raises(InputError, match=r"no row of 'digits' counts under a member for .position == -1."):
        plan_cells(store.view(where="position == -1"), ["digits"])
    with pytest.raises(InputError, match="name 'colour' is not defined; columns are"):
        plan_cells(store.view(where="colour == 'red'"))


def test_a_plan_without_rows_averages_nothing(store):
    plan = replace(plan_cells(store.view()), chosen=np.zeros(len(store.rows), dtype=bool))
    with pytest.raises(InputError, match="no row is chosen; nothing can be averaged"):
        load_cells(store, HOOK, plan)


def test_a_members_own_row_beside_the_last_row_of_its_prompt_is_refused(store):
    with pytest.raises(InputError, match="takes both the row that shows a member and the last row of the same prompt"):
        plan_cells(store.view(where="frame == 'list'", rows="all"))
    assert plan_cells(store.view(where="frame == 'list'")).contexts
    assert plan_cells(store.view(where="frame == 'list' and member >= 0")).contexts
    assert plan_cells(store.view(where="frame == 'list' and is_last")).contexts


def test_each_reordered_list_is_a_context_with_the_increasing_one_s_members(gpt2, tmp_path):
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("list",), kinds=("increasing", "reordered:0-2"), lengths=(3,), starts=(1, 2, 4)
    )
    with stored(gpt2, load_dataset("digits,numwords", design), tmp_path / "a.h5") as store:
        plan = plan_cells(store.view())
        assert plan.contexts == tuple(
            f"list|0|{kind}|length 3" for kind in ("increasing", "reordered:0", "reordered:1", "reordered:2")
        )
        assert plan.members == (3, 4, 6)
        assert (plan.counts == 1).all()
        one = plan_cells(store.view(where="is_last and kind == 'reordered:1'"))
        assert (one.contexts, one.members) == (("list|0|reordered:1|length 3",), (3, 4, 6))
