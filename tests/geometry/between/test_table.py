"""Measured pairs as one table: p over layers, q over pairs, and the verdict, from values made up for it."""

import numpy as np
import pytest

from cache import Hook
from geometry.between.table import DESCRIBES, comparison_result
from geometry.similarity.of_families import MAX_LAG
from geometry.stats.ranks import rank_p_over_layers
from tests.geometry import comparisons

LAGS = np.array([0.0, 0.1, 0.2, 0.9, 0.2, 0.1, 0.0])


def found(layer=0, pair=("a", "b"), value=0.9, **changes):
    return comparisons.found(Hook("resid_post", layer), " - ".join(pair), value, **changes)


def result_of(all_found):
    names = {
        key: list(dict.fromkeys(getattr(one, key) for one in all_found))
        for key in ("variant", "measure", "pair", "hook")
    }
    pairs = [f"{a} - {b}" for a, b in names["pair"]]
    parameters = {"site": "resid_post", "pairs": pairs, "variants": names["variant"], "measures": names["measure"]}
    return comparison_result(all_found, names["hook"], parameters, "source")


def test_values_are_laid_out_by_hook_pair_variant_and_measure():
    grid = [
        found(layer, pair, 0.1 * layer + 0.01 * i + 0.001 * j + 0.0001 * k, measure=measure, variant=variant)
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
    assert result.table.groupby("variant")["index_removed"].max().to_dict() == pytest.approx(
        {"plain": np.nan, "readout removed": 0.2}, nan_ok=True
    )
    for name in ("value", "p", "q", "verdict"):
        np.testing.assert_array_equal(result.values(name).ravel(), result.table[name])
    assert (result.name, result.source, result.hooks) == (
        "compare",
        "source",
        (Hook("resid_post", 0), Hook("resid_post", 1)),
    )


def test_p_is_against_unrelated_codes_and_over_layers_against_their_largest():
    first, second = [0.1, 0.6, 0.2], [0.4, 0.0, 0.2]
    table = result_of([found(0, value=0.5, unrelated=first), found(1, value=0.3, unrelated=second)]).table
    assert table["p"].tolist() == [2 / 4, 2 / 4]
    expected = rank_p_over_layers(np.array([[0.5, *first], [0.3, *second]]))
    assert table["p_layers"].tolist() == expected.tolist()
    assert table["p_floor"].tolist() == [1 / 4, 1 / 4]
    assert table["null_max"].tolist() == [0.6, 0.4]
    assert table["null_mean"].tolist() == pytest.approx([0.3, 0.2])
    assert table["null_sd"].tolist() == pytest.approx([np.std(first), np.std(second)])
    assert table["permuted_max"].notna().all()


def test_a_layer_without_a_value_counts_for_no_other():
    table = result_of([found(0, value=np.nan), found(1, value=0.5, unrelated=[0.6, 0.1, 0.2])]).table
    assert table[["null_mean", "null_max", "p", "p_layers", "p_floor", "q", "control_limit"]].iloc[0].isna().all()
    assert table["p_layers"][1] == 2 / 4
    assert table["verdict"][0] == "no index effect"


def test_without_unrelated_codes_there_is_no_p():
    table = result_of([found(value=0.5, unrelated=[], n_controls=3)]).table
    assert table[["null_mean", "p", "p_layers", "q", "p_floor"]].iloc[0].isna().all()
    assert table["verdict"].tolist() == ["undecided (n controls = 3)"]


def test_the_limit_is_the_farthest_control_in_spreads_of_each_layers_null():
    calm, wild = [-0.1, 0.1, 0.0], [-1.0, 1.0, 0.0]
    table = result_of([found(0, unrelated=calm), found(1, unrelated=wild)]).table
    assert table["control_limit"].tolist() == pytest.approx([2 * np.std(calm), 2 * np.std(wild)])


def test_q_is_over_pairs_by_their_best_layer_and_never_below_a_layers_own_p():
    def unrelated(n_above):
        return [0.6] * n_above + [0.0] * (99 - n_above)

    hits = {"a": (30, 60), "b": (1, 1), "c": (50, 50)}
    grid = [
        found(
            layer,
            (name, "z"),
            0.5,
            measure=measure,
            unrelated=unrelated(hits[name][layer] if measure == "matched_cosine" else 9),
        )
        for layer in (0, 1)
        for name in hits
        for measure in ("matched_cosine", "shared_share")
    ]
    table = result_of(grid).table
    cosine = table[table["measure"] == "matched_cosine"]
    best = cosine.groupby("a")["p_layers"].min()
    assert best["b"] == 0.02
    q = cosine.groupby("a")["q"].min()
    assert q["b"] == pytest.approx(3 * 0.02)
    assert (cosine["q"] >= cosine["p_layers"]).all()
    assert cosine[cosine["a"] == "a"]["q"].nunique() == 2
    assert table[table["measure"] == "shared_share"]["q"].to_numpy() == pytest.approx(0.1)
    assert list(table.columns).index("q") == list(table.columns).index("p_floor") + 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "shared"),
        ({"measure": "cka"}, DESCRIBES),
        ({"own_p": 0.2}, "no index effect"),
        ({"own_p": np.nan}, "no index effect"),
        ({"reliability": 0.5}, "undecided (reliability = 0.50)"),
        ({"n_members": 4}, "undecided (n members = 4)"),
        ({"n_controls": 18}, "undecided (n controls = 18)"),
        ({"value": 0.01}, "private"),
        ({"value": 0.01, "half": 0.3}, "undecided (within the controls)"),
        ({"unrelated": [1.0, -1.0, 0.0], "value": 0.9}, "undecided (within the controls)"),
        ({"lags": LAGS[[0, 1, 3, 2, 4, 5, 6]]}, "undecided (best at lag -1)"),
        ({"half": 0.95}, "undecided (interval reaches 0)"),
        ({"lags": np.full(7, np.nan)}, "shared"),
    ],
)
def test_the_verdict_is_that_of_the_lines_own_numbers(changes, word):
    assert result_of([found(**changes)]).table["verdict"].tolist() == [word]


def test_a_pair_that_is_never_reliable_counts_as_tested_without_a_find():
    grid = [found(0, ("a", "b"), 0.5, unrelated=[0.0] * 99), found(0, ("a", "c"), value=np.nan)]
    assert result_of(grid).table["q"].tolist() == pytest.approx([0.02, np.nan], nan_ok=True)


def test_pairs_with_fewer_controls_leave_the_rest_of_the_array_empty():
    result = result_of(
        [found(0, ("a", "b"), n_controls=3), found(0, ("a", "c"), n_controls=1), found(0, ("b", "c"), n_controls=0)]
    )
    there = np.isfinite(result.values("controls")[0, :, 0, 0]).all(axis=2)
    assert there.sum(axis=1).tolist() == [3, 1, 0]
    assert result.table["n_controls"].tolist() == [3, 1, 0]
    assert result.table["control_max"].tolist()[:2] == [0.1, 0.1]
    assert np.isnan(result.table["control_max"][2])


def test_families_keep_their_names_whatever_is_in_them():
    table = result_of([found(pair=("one, two", "a|b"))]).table
    assert table[["a", "b"]].to_numpy().tolist() == [["one, two", "a|b"]]
