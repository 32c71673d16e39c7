"""The summary of a comparison: one line a pair, from the table and nothing else."""

import numpy as np
import pandas as pd
import pytest

from cache.errors import InputError
from geometry.between.summary import summary
from geometry.layers.order_effect import NO_LISTS, SharedByList
from tests.geometry import comparisons

NAN = float("nan")


def line_of(values, **choices):
    return summary(comparisons.result({"digits - months": values}, **choices)).iloc[0]


def test_of_the_layers_at_the_floor_the_one_farthest_from_the_null_is_shown():
    line = line_of([NAN, 0.3, 0.9, 0.6])
    assert (line["a"], line["b"], line["layer"], line["value"]) == ("digits", "months", 1, 0.9)
    assert line["readout_removed"] == pytest.approx(0.81)
    assert line["index_removed"] == pytest.approx(0.2)
    assert line["control_max"] == pytest.approx(0.1)
    assert (line["n_members"], line["n_templates"], line["verdict"]) == (8, 10, "shared")
    assert (line["ci_low"], line["ci_high"]) == pytest.approx((0.8, 1.0))


def table_of(lines):
    """A comparison whose layers each have choices of their own."""
    every = [
        comparisons.found(hook, "a - b", value, **choices)
        for hook, (value, choices) in zip(comparisons.hooks(), lines, strict=True)
    ]
    parameters = {"site": "resid_post", "pairs": ["a - b"], "variants": ["plain"], "measures": ["matched_cosine"]}
    return summary(comparisons.comparison_result(every, comparisons.hooks(), parameters, "source")).iloc[0]


WIDE = {"unrelated": np.linspace(-0.9, 0.9, 119)}


def test_a_high_and_noisy_layer_is_not_the_one_shown():
    line = table_of([(0.8, WIDE), (0.5, {}), (0.2, {}), (0.1, {})])
    assert (line["layer"], line["value"], line["verdict"]) == (0, 0.5, "shared")


def test_layers_without_an_index_effect_are_not_shown_however_high():
    line = table_of([(0.9, {"own_p": 0.5}), (0.9, {"reliability": 0.3}), (0.02, {}), (0.01, {})])
    assert (line["layer"], line["verdict"]) == (1, "private")


def test_one_private_layer_does_not_make_a_pair_private():
    line = table_of([(0.01, {}), (0.3, {"half": 0.35}), (0.01, {}), (0.01, {})])
    assert line["verdict"] == "undecided (interval reaches 0: record more members)"
    line = table_of([(0.01, {}), (0.04, {"half": 0.35}), (0.01, {}), (0.01, {})])
    assert line["verdict"] == "undecided (up to 0.39 possible: record more members)"


def test_private_takes_every_upper_bound_below_a_quarter():
    assert table_of([(0.01, {})] * 4)["verdict"] == "private"
    assert table_of([(0.01, {})] * 3 + [(0.01, {"half": 0.25})])["verdict"].startswith("undecided (up to 0.26")


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([NAN, 0.05, 0.9, 0.6], 1),
        ([NAN, 0.9, 0.05, 0.6], 2),
        ([NAN, 0.9, 0.9, 0.05], NAN),
        ([0.5, 0.9, 0.9, 0.9], -1),
    ],
)
def test_shared_from_is_the_first_layer_from_which_on_all_are_shared(values, first):
    np.testing.assert_equal(line_of(values)["shared_from"], first)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([(NAN, {})] * 4, "no index effect"),
        ([(0.6, {"own_p": 0.3})] * 4, "no index effect"),
        ([(0.6, {"n_members": 2})] * 4, "undecided (n members = 2: record 5 or more)"),
        ([(NAN, {"n_members": 2})] * 4, "undecided (n members = 2: record 5 or more)"),
        ([(0.6, {"n_controls": 3})] * 4, "undecided (n controls = 3: record control:0-19)"),
        (
            [(0.6, {"reliability": 0.4}), *[(0.6, {"reliability": 0.62})] * 3],
            "undecided (reliability at most 0.62: record more templates)",
        ),
        ([(0.01, {"half": NAN})] * 4, "undecided (within the controls: record more members)"),
        ([(0.6, {"unrelated": np.linspace(-0.3, 0.3, 15)})] * 4, "undecided (q = 0.0625: compare fewer pairs)"),
    ],
)
def test_the_reason_says_what_is_missing(lines, word):
    assert table_of(lines)["verdict"] == word


def test_without_a_readout_variant_the_columns_are_empty():
    line = line_of([NAN, 0.3, 0.9, 0.6], readout=False)
    assert np.isnan(line["readout_removed"])
    assert np.isnan(line["index_removed"])


def test_pairs_stand_in_their_order_and_q_is_over_pairs():
    table = summary(comparisons.result({"a - b": [0.0, 0.0, 0.9, 0.9], "a - c": [0.0, 0.0, 0.01, 0.0]}))
    assert table[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"]]
    assert table["q"][0] == pytest.approx(2 * table["p_layers"][0])


def test_measures_that_only_describe_give_no_line():
    assert summary(comparisons.result({"a - b": [0.1, 0.2, 0.3, 0.4]}, measure="cka")).empty
    assert isinstance(summary(comparisons.result({"a - b": [0.1] * 4})), pd.DataFrame)


def lists(increasing, others=0.5, n=19, cosine=0.6, bound=0.3):
    """What is shared in an increasing list and in reordered ones around `others`."""
    products = np.array([increasing, *np.linspace(others - 0.1, others + 0.1, n)])
    return SharedByList(products, cosine, bound)


@pytest.mark.parametrize(
    ("by_list", "value", "word"),
    [
        (lists(0.9), 0.9, "index and word"),
        (lists(0.9, cosine=0.01), 0.9, "index"),
        (lists(0.5), 0.9, "word"),
        (lists(0.5, cosine=0.01), 0.9, "undecided (order q = 0.55: record more reordered lists)"),
        (lists(0.5, bound=0.6), 0.9, "undecided (order q = 0.55: record more reordered lists)"),
        (lists(0.9, n=5), 0.9, "undecided (n orders = 5: record reordered:0-19)"),
        (NO_LISTS, 0.9, ""),
        (lists(0.9), 0.01, ""),
    ],
)
def test_a_shared_code_is_one_of_index_or_word_where_lists_were_reordered(by_list, value, word):
    line = table_of([(value, {"by_list": by_list})] * 4)
    assert line["code"] == word
    assert line["n_orders"] == max(len(by_list.products) - 1, 0)


def test_many_pairs_take_more_reordered_lists():
    """20 lists give .05 at best, which no correction over pairs survives."""
    every = [
        comparisons.found(hook, f"a{i} - b", 0.9, by_list=lists(0.9 if i == 0 else 0.5, bound=0.6 if i == 0 else 0.3))
        for hook in comparisons.hooks()
        for i in range(3)
    ]
    parameters = {"site": "resid_post", "pairs": [f"a{i} - b" for i in range(3)]}
    parameters |= {"variants": ["plain"], "measures": ["matched_cosine"]}
    table = summary(comparisons.comparison_result(every, comparisons.hooks(), parameters, "source"))
    assert table["code"].tolist() == ["undecided (order q = 0.15: record more reordered lists)", "word", "word"]
    assert table["order_p"].tolist() == pytest.approx([0.05, 0.55, 0.55])


def test_the_order_shown_is_that_of_the_shared_layer_where_it_speaks_loudest():
    """The embedding, not shared, has an order effect; layer 0 has none; layer 1 has one."""
    lines = [
        (0.01, {"by_list": lists(0.9)}),
        (0.9, {"by_list": lists(0.5)}),
        (0.8, {"by_list": lists(0.9, cosine=0.2)}),
    ]
    line = table_of([*lines, (0.7, {"by_list": lists(0.5)})])
    assert (line["layer"], line["code"], line["reordered"]) == (0, "index and word", 0.2)
    assert line["order_q"] == line["order_p"] == pytest.approx(0.05)


def test_a_measure_that_does_not_decide_has_no_summary():
    with pytest.raises(InputError, match=r"no measure 'cka' that decides; the result has matched_cosine"):
        summary(comparisons.result({"a - b": [0.1] * 4}), measure="cka")
