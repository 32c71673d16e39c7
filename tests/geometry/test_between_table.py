"""Measured pairs as one table: p over layers, q over pairs, and the verdict, from values made up for it."""

import numpy as np
import pytest

from cache import Hook
from geometry.between_table import DESCRIBES, NUMBERS, Found, Measured, comparison_result
from geometry.index_sharing import MAX_LAG

LAGS = np.array([0.0, 0.1, 0.2, 0.9, 0.2, 0.1, 0.0])


def measured(value=0.9, null=None, controls=20, half=0.1):
    null = np.array([value, *np.linspace(-0.2, 0.2, 99)]) if null is None else np.array(null)
    return Measured(value, half / 2, value - half, value + half, null, np.full((controls, 2), 0.3))


def found(layer=0, pair=("a", "b"), measure="matched_cosine", variant="plain", **changes):
    fields = {"se_templates": 0.01, "own_p": 0.005, "lags": LAGS, "n_members": 7, "n_templates": 4, "n_rows": 56}
    one = measured(**{key: changes.pop(key) for key in ("value", "null", "controls", "half") if key in changes})
    return Found(Hook("resid_post", layer), pair, variant, measure, one, **(fields | changes))


def result_of(all_found):
    names = {
        key: list(dict.fromkeys(getattr(one, key) for one in all_found))
        for key in ("variant", "measure", "pair", "hook")
    }
    parameters = {"pairs": names["pair"], "variants": names["variant"], "measures": names["measure"]}
    return comparison_result(all_found, names["hook"], parameters, "source")


def test_values_are_laid_out_by_hook_pair_variant_and_measure():
    grid = [
        found(layer, pair, measure, variant, value=0.1 * layer + 0.01 * i + 0.001 * j + 0.0001 * k)
        for layer in (0, 1)
        for i, pair in enumerate((("a", "b"), ("a", "c"), ("b", "c")))
        for j, variant in enumerate(("plain", "readout removed"))
        for k, measure in enumerate(("matched_cosine", "shared_share"))
    ]
    result = result_of(grid)
    assert result.values("value").shape == (2, 3, 2, 2)
    assert result.values("value")[1, 2, 0, 1] == pytest.approx(0.1201)
    assert result.values("controls").shape == (2, 3, 2, 2, 20, 2)
    assert result.values("lag_profile").shape == (2, 3, 2, 2, 2 * MAX_LAG + 1)
    line = result.table.query(
        "layer == 1 and a == 'b' and b == 'c' and variant == 'plain' and measure == 'shared_share'"
    )
    assert line["value"].item() == pytest.approx(0.1201)
    for name in NUMBERS:
        np.testing.assert_array_equal(result.values(name).ravel(), result.table[name])
    assert (result.name, result.source, result.hooks) == (
        "compare",
        "source",
        (Hook("resid_post", 0), Hook("resid_post", 1)),
    )


def test_p_over_layers_counts_orders_whose_largest_value_reaches_the_layers_own():
    first, second = [0.5, 0.1, 0.6, 0.2], [0.3, 0.4, 0.0, 0.2]
    table = result_of([found(0, value=0.5, null=first), found(1, value=0.3, null=second)]).table
    # largest: 0.5, 0.4, 0.6, 0.2
    assert table["p"].tolist() == [2 / 4, 2 / 4]
    assert table["p_layers"].tolist() == [2 / 4, 3 / 4]
    assert table["p_floor"].tolist() == [1 / 4, 1 / 4]
    assert table["null_max"].tolist() == [0.6, 0.4]
    assert table["null_mean"].tolist() == pytest.approx([0.3, 0.2])


def test_a_layer_without_a_value_counts_for_no_other_however_long_its_null():
    nothing = found(0, value=np.nan, null=[np.nan] * 24)
    for null in ([0.5, 0.6, 0.1, 0.2], [0.5]):
        table = result_of([nothing, found(1, value=0.5, null=null)]).table
        assert table[["null_mean", "null_max", "p", "p_layers", "p_floor"]].iloc[0].isna().all()
        if len(null) > 1:
            assert table["p_layers"][1] == 2 / 4
        else:
            assert table[["null_mean", "p", "p_layers", "q"]].iloc[1].isna().all()
    assert table["verdict"][0] == "no index effect"


def test_q_is_over_pairs_and_for_each_measure_and_variant_by_itself():
    def null(n_above):
        return [0.5] + [0.6] * n_above + [0.0] * (99 - n_above)

    hits = {"a": (0, 30), "b": (3, 1), "c": (50, 50)}
    grid = [
        found(
            layer, (name, "z"), measure, value=0.5, null=null(hits[name][layer] if measure == "matched_cosine" else 9)
        )
        for layer in (0, 1)
        for name in hits
        for measure in ("matched_cosine", "shared_share")
    ]
    table = result_of(grid).table
    # over layers the smaller p: of a, .31 and .01's largest; both layers share their orders, so the larger counts holds
    cosine = table[table["measure"] == "matched_cosine"]
    best = cosine.groupby("a")["p_layers"].min()
    assert best.to_dict() == {"a": 0.31, "b": 0.04, "c": 0.51}
    assert cosine.groupby("a")["q"].first().to_dict() == pytest.approx({"a": 0.465, "b": 0.12, "c": 0.51})
    assert (cosine.groupby("a")["q"].nunique() == 1).all()
    assert table[table["measure"] == "shared_share"]["q"].to_numpy() == pytest.approx(0.1)
    assert list(table.columns).index("q") == list(table.columns).index("p_floor") + 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "shared"),
        ({"measure": "cka"}, DESCRIBES),
        ({"own_p": 0.2}, "no index effect"),
        ({"own_p": np.nan}, "no index effect"),
        ({"n_members": 4}, "undecided (n members = 4)"),
        ({"controls": 18}, "undecided (n controls = 18)"),
        ({"value": 0.1}, "private"),
        ({"value": 0.1, "half": 0.3}, "undecided (within the controls)"),
        ({"null": [0.9, 1.0, 1.0, 0.0]}, "undecided (p = 0.75)"),
        ({"lags": LAGS[[0, 1, 3, 2, 4, 5, 6]]}, "undecided (best at lag -1)"),
        ({"half": 0.95}, "undecided (interval reaches 0)"),
        ({"lags": np.full(7, np.nan)}, "shared"),
    ],
)
def test_the_verdict_is_that_of_the_lines_own_numbers(changes, word):
    assert result_of([found(**changes)]).table["verdict"].tolist() == [word]


def test_pairs_with_fewer_controls_leave_the_rest_of_the_array_empty():
    result = result_of(
        [found(0, ("a", "b"), controls=3), found(0, ("a", "c"), controls=1), found(0, ("b", "c"), controls=0)]
    )
    there = np.isfinite(result.values("controls")[0, :, 0, 0]).all(axis=2)
    assert there.sum(axis=1).tolist() == [3, 1, 0]
    assert result.table["n_controls"].tolist() == [3, 1, 0]
    assert result.table["control_max"].tolist()[:2] == [0.3, 0.3]
    assert np.isnan(result.table["control_max"][2])


def test_families_keep_their_names_whatever_is_in_them():
    table = result_of([found(pair=("one - two", "a|b"))]).table
    assert table[["a", "b"]].to_numpy().tolist() == [["one - two", "a|b"]]
