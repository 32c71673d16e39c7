"""Rows with their prompts' labels, choosing among them with a query, and views of a store: sites and rows."""

import hashlib
import inspect
import json
import re
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import ActivationStore, Hook, load_dataset, plan_recording, record
from cache.errors import InputError, StoppedError
from cache.prompts.prompt import Prompt, Prompts
from cache.store.tables import join_labels
from cache.store.view import OF_PROMPTS, SPREAD, _site_hooks, check_view, joined, query_rows, row_mask, where_text
from tests.recordings import recorded

EMBED = Hook("resid_pre", 0)
RESID = tuple(Hook("resid_post", layer) for layer in range(3))

PROMPTS = Prompts(
    (
        Prompt("7,8,9,", "digits", "list", 2, "increasing", (7, 8, 9), ("7", "8", "9"), ((0, 1), (2, 3), (4, 5)), "10"),
        Prompt("own text", group="mine"),
        Prompt("x:one", "words", "eq", 0, "random", (41,), ("one",), ((2, 5),), distractor=" two"),
    )
)
ROWS = pd.DataFrame(
    {
        "prompt": [0, 0, 0, 1, 2, 2],
        "position": [-1, 0, 4, 1, 0, 2],
        "token": [0, 5, 6, 7, 8, 9],
        "token_text": ["<bos>", "7", "9", " text", "x", "one"],
        "member": [-1, 0, 2, -1, -1, 0],
        "is_last": [False, False, True, True, False, True],
    }
)


@pytest.fixture
def rows() -> pd.DataFrame:
    return join_labels(PROMPTS.table(), ROWS)


def test_each_row_gets_the_labels_of_its_prompt_and_its_members_value(rows):
    assert rows[list(ROWS)].equals(ROWS)
    assert rows["value"].tolist() == [-1, 7, 9, -1, -1, 41]
    assert rows["shown"].tolist() == ["", "7", "9", "", "", "one"]
    for name in ("family", "frame", "template", "kind", "group", "answer", "distractor", "pair_key"):
        assert rows[name].tolist() == [getattr(PROMPTS[number], name) for number in ROWS["prompt"]]
    assert list(rows.index) == list(range(6))


def test_the_tables_that_are_joined_stay_as_they_are():
    table, rows = PROMPTS.table(), ROWS.copy()
    join_labels(table, rows)
    assert table.equals(PROMPTS.table())
    assert rows.equals(ROWS)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("family == 'digits'", [1, 1, 1, 0, 0, 0]),
        ("family == 'digits' and is_last", [0, 0, 1, 0, 0, 0]),
        ("family == 'digits' & is_last", [0, 0, 1, 0, 0, 0]),
        ("not is_last or value > 40", [1, 1, 0, 0, 1, 1]),
        ("position >= 0", [0, 1, 1, 1, 1, 1]),
        ("member >= 0 and value in (7, 41)", [0, 1, 0, 0, 0, 1]),
        ("group == ''", [1, 1, 1, 0, 1, 1]),
        ("token_text.str.startswith(' ')", [0, 0, 0, 1, 0, 0]),
        ("family == 'nobody'", [0, 0, 0, 0, 0, 0]),
        ("is_last", [0, 0, 1, 1, 0, 1]),
    ],
)
def test_a_query_gives_the_rows_for_which_it_holds(rows, query, expected):
    mask = query_rows(rows, query)
    assert mask.tolist() == [bool(value) for value in expected]
    assert mask.dtype == bool


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.integers(-3, 3), st.sampled_from(["<", "==", ">="]))
def test_a_comparison_equals_numpys(values, bound, sign):
    column = np.array(values)
    expected = {"<": column < bound, "==": column == bound, ">=": column >= bound}[sign]
    frame = pd.DataFrame({"value": column, "family": ["a"] * len(values)})
    np.testing.assert_array_equal(query_rows(frame, f"value {sign} {bound}"), expected)
    np.testing.assert_array_equal(query_rows(frame, f"not (value {sign} {bound}) and family == 'a'"), ~expected)


def test_no_rows_are_queried_to_no_rows(rows):
    assert query_rows(rows.iloc[:0], "family == 'digits'").shape == (0,)


COLUMNS = (
    "prompt, position, token, token_text, member, is_last, value, shown, "
    "family, frame, template, kind, group, answer, distractor, pair_key"
)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("famly == 'digits'", "name 'famly' is not defined"),
        ("family == ", "invalid syntax"),
        ("family = 'digits'", "it gives no true or false for each row"),
        ("family", "it gives no true or false for each row"),
        ("value", "it gives no true or false for each row"),
        ("True", "it gives no true or false for each row"),
        ("is_last.any()", "'is_last.any()' is not part of a query"),
        ("is_last.head(2)", "'is_last.head(2)' is not part of a query"),
        ("", "it is empty"),
        ("family > 3", "a text and a number have no order"),
    ],
)
def test_a_query_that_cannot_be_used_is_told_with_the_columns_there_are(rows, query, reason):
    before = rows.copy()
    with pytest.raises(InputError) as refusal:
        query_rows(rows, query)
    message = str(refusal.value)
    assert message.startswith(f"no query {query!r}: ")
    assert reason in message
    assert message.endswith(f"; columns are {COLUMNS}")
    assert "\n" not in message
    assert refusal.value.exit_code == 2
    assert rows.equals(before)


MASK = np.array([True, False, True, False, False, True])
SAID = f"a mask of 3 of 6 rows (sha256 {hashlib.sha256(bytes([1, 0, 1, 0, 0, 1])).hexdigest()[:8]})"


@pytest.mark.parametrize("make", [np.array, pd.Series, lambda m: pd.Series(m, dtype="boolean"), torch.tensor])
def test_a_mask_of_any_make_chooses_its_rows_and_is_noted_by_their_number_and_hash(rows, make):
    mask = make(MASK)
    assert row_mask(rows, mask).tolist() == MASK.tolist()
    assert where_text(mask, "is_last") == SAID
    assert json.loads(json.dumps(where_text(mask, "is_last"))) == SAID


def test_a_query_is_noted_as_it_is_and_none_as_what_it_stands_for(rows):
    assert where_text("value > 3", "is_last") == "value > 3"
    assert where_text(None, "is_last") == "is_last"
    assert row_mask(rows, "value > 8").tolist() == query_rows(rows, "value > 8").tolist()
    assert row_mask(rows, None).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK[:5], r"where must be a query or a boolean mask over 6 rows; got bool \(5,\)"),
        (pd.Series(MASK.astype(int)), r"where must be a query or a boolean mask over 6 rows; got int64 \(6,\)"),
        (pd.Series([True, None] * 3), r"where must be a query or a boolean mask over 6 rows; got object \(6,\)"),
        (
            pd.Series(MASK).sort_values(),
            "where is a Series with another index than the rows; if it is in their order, give its values",
        ),
    ],
)
def test_another_mask_is_refused(rows, mask, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        row_mask(rows, mask)


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, **choices), path)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "a.h5"
    with stored(gpt2, prompts.subset(range(0, 105, 5)), path, sites="mlp,heads,resid") as store:
        yield store


def test_the_residual_stream_begins_with_the_embedding(store):
    assert store.view().hooks == (EMBED, *RESID)
    assert [hook.table_layer for hook in store.view().hooks] == [-1, 0, 1, 2]


def test_other_sites_have_a_hook_a_layer_and_no_embedding(store):
    for kind in ("mlp_out", "z"):
        assert store.view(kind).hooks == tuple(Hook(kind, layer) for layer in range(3))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("0", (EMBED, RESID[0])),
        ("1", (RESID[1],)),
        ("2,0", (EMBED, RESID[0], RESID[2])),
        ("1-2", RESID[1:]),
        ("-1", (RESID[2],)),
        (1, (RESID[1],)),
        ([2, 0], (EMBED, RESID[0], RESID[2])),
        ("all", (EMBED, *RESID)),
        ("spread", RESID),
    ],
)
def test_layers_are_chosen_by_number_lowest_first_and_the_embedding_comes_with_layer_0(store, layers, expected):
    assert store.view("resid_post", layers).hooks == expected


@pytest.mark.parametrize(
    ("site", "layers", "message"),
    [
        ("resid", "all", r"the store has no 'resid'; it has resid_pre, z, mlp_out, resid_post$"),
        ("q", "0-1", r"the store has no 'q'; it has resid_pre, z, mlp_out, resid_post$"),
        ("z", "3", r"the store has z at layers 0, 1, 2; got '3'$"),
        ("z", "last", r"the store has z at layers 0, 1, 2; got 'last'$"),
    ],
)
def test_sites_and_layers_that_are_not_there_are_named(store, site, layers, message):
    with pytest.raises(InputError, match=message):
        store.view(site, layers)


def test_a_store_of_one_layer_says_which_it_has_and_nothing_about_the_model(gpt2, tmp_path):
    with stored(gpt2, ["1,2"], tmp_path / "a.h5", sites="z", layers="1") as store:
        for layers in ("0", "2"):
            with pytest.raises(InputError) as caught:
                store.view("z", layers)
            assert "model has" not in str(caught.value)
            assert re.search(r"layers? 1\b", str(caught.value))


def test_a_store_of_resid_pre_alone_has_no_resid_post(gpt2, tmp_path):
    with (
        stored(gpt2, ["1,2"], tmp_path / "a.h5", sites="resid_pre") as store,
        pytest.raises(InputError, match="no 'resid_post'"),
    ):
        store.view()


def test_a_layer_that_is_not_there_is_told_though_another_is(gpt2, tmp_path):
    with (
        stored(gpt2, ["1,2"], tmp_path / "a.h5", sites="z", layers="0,2") as store,
        pytest.raises(InputError, match="the store has z at layers 0, 2; got '0-2'"),
    ):
        store.view("z", "0-2")


@pytest.mark.parametrize("n_layers", [1, 7, 8, 9, 12, 30, 80])
def test_spread_takes_eight_layers_evenly_up_to_the_last_and_no_embedding(n_layers):
    hooks = (EMBED, *(Hook("resid_post", layer) for layer in range(n_layers)))
    layers = [hook.layer for hook in _site_hooks(hooks, "resid_post", "spread")]
    assert len(layers) == min(SPREAD, n_layers)
    assert layers[-1] == n_layers - 1
    steps = np.diff(layers)
    assert n_layers < 2 or steps.max() - steps.min() <= 1


@pytest.mark.parametrize("where", [None, "member >= 0", "position < 2"])
def test_a_view_chooses_its_rows_or_a_default_and_never_bos(store, where):
    view = store.view("z", "0-1", where)
    for default in ("is_last", "member >= 0"):
        expected = store.rows.eval(f"({where or default}) and position >= 0").to_numpy()
        assert (store.rows["position"] == -1).any()
        np.testing.assert_array_equal(view.chosen(default), expected)
        assert view.noted(default) == (where or default)
    assert (view.site, view.layers, view.hooks) == ("z", "0-1", (Hook("z", 0), Hook("z", 1)))


def test_a_query_of_labels_narrows_and_one_of_tokens_or_a_mask_chooses_anew(store):
    rows = store.rows
    labels = store.view(where="family == 'months'")
    for default in ("is_last", "member >= 0"):
        expected = rows.eval(f"family == 'months' and ({default}) and position >= 0")
        np.testing.assert_array_equal(labels.chosen(default), expected)
        assert labels.noted(default) == f"{default} and family == 'months'"
    for where in ("value >= 3", "token_text != 'x' and family == 'months'", "shown == ''", "is_last", "position > 2"):
        view = store.view(where=where)
        np.testing.assert_array_equal(view.chosen(), query_rows(rows, where) & (rows["position"] >= 0))
        assert (view.noted(), view.names("position", "value", "shown", "is_last", "token_text")) == (where, True)
    mask = rows.eval("family == 'months'").to_numpy()
    np.testing.assert_array_equal(store.view(where=mask).chosen(), mask & (rows["position"] >= 0))


def test_what_is_noted_of_several_queries_is_one_query():
    assert joined("a == 1 or b == 2", "c == 3") == "(a == 1 or b == 2) and c == 3"
    assert joined("a == 1 | b == 2", "not c == 3") == "(a == 1 | b == 2) and not c == 3"
    assert joined("a == 1 or b == 2") == "a == 1 or b == 2"


@pytest.mark.parametrize("where", [None, "family == 'months'", "value >= 3"])
def test_rows_of_each_prompt_are_asked_for_by_a_word(store, where):
    for word, query in OF_PROMPTS.items():
        view = store.view(where=where, rows=word)
        expected = query_rows(store.rows, query) & (store.rows["position"] >= 0)
        if where:
            expected &= query_rows(store.rows, where)
        np.testing.assert_array_equal(view.chosen("member >= 0"), expected)
        assert view.noted() == (f"{query} and {where}" if where else query)
    with pytest.raises(InputError, match=r"^rows are members, last, all; got 'first'$"):
        store.view(rows="first")


def test_a_site_may_be_named_as_a_hook(store):
    view = store.view("blocks.1.attn.hook_z")
    assert (view.site, view.layers, view.hooks) == ("z", "1", (Hook("z", 1),))
    assert store.view("blocks.1.attn.hook_z", "spread").hooks == (Hook("z", 1),)
    view = store.view("blocks.0.hook_resid_post", "0")
    assert view.hooks == (Hook("resid_post", 0),)
    with pytest.raises(InputError, match=r"^blocks.1.attn.hook_z is of layer 1 alone; got the layers '0'$"):
        store.view("blocks.1.attn.hook_z", "0")
    with pytest.raises(InputError, match=r"no hook 'blocks\.1\.attn\.hook_y'"):
        store.view("blocks.1.attn.hook_y")


def test_a_mask_chooses_as_the_query_that_it_was_made_by(store):
    mask = store.rows.eval("family == 'months' and is_last").to_numpy()
    view, same = store.view(where=mask), store.view(where="family == 'months' and is_last")
    np.testing.assert_array_equal(view.chosen(), same.chosen())
    assert view.noted().startswith(f"a mask of {mask.sum()} of {len(mask)} rows (sha256 ")


def test_rows_that_cannot_be_chosen_are_told_when_the_view_is_made(store):
    with pytest.raises(InputError, match="name 'colour' is not defined; columns are prompt, position"):
        store.view(where="colour == 1")
    with pytest.raises(InputError, match=f"where must be a query or a boolean mask over {len(store.rows)} rows; got"):
        store.view(where=np.ones(3, dtype=bool))


@pytest.mark.parametrize("given", ["a.h5", None, 3])
def test_what_is_no_view_is_told_how_one_is_made(given):
    sentence = (
        r"an analysis takes a view of an open store, as ActivationStore.open\(path\).view\('resid_post'\) gives it"
    )
    with pytest.raises(InputError, match=f"^{sentence}; got {type(given).__name__}$"):
        inspect.unwrap(check_view)(given)


def test_a_store_names_its_families_and_controls_in_their_order(gpt2, tmp_path):
    prompts = load_dataset("months,control:1,digits,control:0").subset(range(0, 140, 7))
    own = Prompts((*prompts.items, Prompt("a text of one's own", group="x")))
    with stored(gpt2, own, tmp_path / "a.h5", sites="z", layers="0") as store:
        expected = tuple(dict.fromkeys(name for name in store.prompts["family"] if name))
        assert {"months", "digits", "control:1", "control:0"} == set(expected)
        assert store.families == tuple(name for name in expected if not name.startswith("control:"))
        assert store.controls == tuple(name for name in expected if name.startswith("control:"))


def test_what_is_looked_at_is_the_store_and_how_far_its_recording_has_come(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1 2 3", "4 5", "6", "7 8"], sites="z", layers="0", batch_tokens=4)
    seen = []
    for stop_after in (1, 2, 99):
        with suppress(StoppedError):
            record(gpt2, plan, tmp_path / "a.h5", should_stop=_after(stop_after))
        with ActivationStore.open(tmp_path / "a.h5") as store:
            seen.append(store.view("z").source)
    assert seen[2] == store.fingerprint
    assert len(set(seen)) == 3
    assert all(source.startswith(store.fingerprint) for source in seen)


def _after(n):
    """Says after so many blocks that a recording is to stop."""
    asked = iter(range(n))
    return lambda: next(asked, None) is None


@pytest.fixture(scope="module")
def with_text(gpt2, tmp_path_factory):
    """Two families and running text in one file."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("one two three four five six seven", encoding="utf-8")
    return record(gpt2, f"text:{folder / 'a.txt'},digits,numwords", folder / "a.h5", sites="resid", window=5)


@pytest.mark.parametrize("rows", [None, *OF_PROMPTS])
def test_running_text_is_no_part_of_a_view_beside_other_prompts_unless_it_is_asked_for(with_text, rows):
    plain = with_text.view(rows=rows)
    assert with_text.prompts["kind"].eq("text").sum() == 2
    assert not with_text.rows[plain.chosen()]["kind"].eq("text").any()
    assert "kind != 'text'" in plain.noted()
    for where in ("is_last", "position >= 0", "family == ''", "template == 0", "member < 0"):
        assert not with_text.rows[with_text.view(where=where, rows=rows).chosen()]["kind"].eq("text").any()
    for where in ("kind == 'text'", "group == 'a'", "frame == 'text'", with_text.rows["kind"].eq("text")):
        asked = with_text.rows[with_text.view(where=where, rows="all").chosen()]
        assert len(asked) == 7
        assert asked["kind"].eq("text").all()


def test_a_store_of_running_text_alone_is_viewed_as_any_other(gpt2, tmp_path):
    (tmp_path / "a.txt").write_text("one two three four five six seven", encoding="utf-8")
    store = record(gpt2, f"text:{tmp_path / 'a.txt'}", tmp_path / "a.h5", sites="resid", window=5)
    assert (int(store.view().chosen().sum()), int(store.view(rows="all").chosen().sum())) == (2, 7)
    assert store.rows["window"].tolist() == [0] * 5 + [1] * 4
    assert store.families == ()
