"""The verdict: a word for every case, and the right one for families of which the truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from geometry.between.summary import summary
from geometry.between.table import Found, comparison_result
from geometry.layers.order_effect import NO_LISTS
from geometry.similarity.family_measures import MEASURES
from geometry.similarity.pair_evidence import directions_of, measured, pair_cells
from geometry.similarity.verdict import Evidence, verdict
from geometry.stats.unrelated_codes import draw_weights
from tests.geometry.simulate import families
from tests.geometry.unrelated_families import KINDS, cells, codes, mixed
from tests.variants import some

NAN = float("nan")

SHARED = Evidence(
    value=0.8,
    ci_low=0.5,
    ci_high=1.0,
    q=0.001,
    own_p=0.005,
    reliability=0.9,
    control_limit=0.3,
    n_controls=20,
    n_members=9,
    peak_lag=0,
)
PRIVATE = replace(SHARED, value=0.02, ci_low=-0.1, ci_high=0.14, q=0.4)


def test_the_two_clear_cases():
    assert verdict(SHARED) == "shared"
    assert verdict(PRIVATE) == "private"


@pytest.mark.parametrize(
    ("found", "changes", "word"),
    [
        (SHARED, {"own_p": 0.051}, "no index effect"),
        (SHARED, {"own_p": NAN, "value": NAN}, "no index effect"),
        (PRIVATE, {"own_p": 0.2}, "no index effect"),
        (SHARED, {"own_p": 0.05}, "shared"),
        (SHARED, {"value": NAN, "reliability": 0.43}, "undecided (reliability = 0.43)"),
        (SHARED, {"reliability": 0.699}, "undecided (reliability = 0.70)"),
        (SHARED, {"reliability": 0.7}, "shared"),
        (SHARED, {"n_members": 4}, "undecided (n members = 4)"),
        (PRIVATE, {"n_members": 4}, "undecided (n members = 4)"),
        (SHARED, {"n_members": 2, "own_p": NAN, "value": NAN}, "undecided (n members = 2)"),
        (SHARED, {"n_members": 5}, "shared"),
        (PRIVATE, {"n_members": 5}, "private"),
        (SHARED, {"n_controls": 18}, "undecided (n controls = 18)"),
        (PRIVATE, {"n_controls": 0, "control_limit": NAN}, "undecided (n controls = 0)"),
        (SHARED, {"n_controls": 19}, "shared"),
        (SHARED, {"control_limit": 0.8}, "undecided (within the controls)"),
        (SHARED, {"control_limit": 0.79}, "shared"),
        (SHARED, {"control_limit": NAN}, "undecided (within the controls)"),
        (PRIVATE, {"ci_high": 0.25}, "undecided (within the controls)"),
        (PRIVATE, {"ci_high": 0.249}, "private"),
        (PRIVATE, {"ci_low": NAN, "ci_high": NAN}, "undecided (within the controls)"),
        (PRIVATE, {"q": 0.05}, "undecided (within the controls)"),
        (SHARED, {"q": 0.051}, "undecided (q = 0.051)"),
        (SHARED, {"q": 1 / 3}, "undecided (q = 0.333)"),
        (SHARED, {"q": NAN}, "undecided (q = nan)"),
        (SHARED, {"q": 0.05}, "shared"),
        (SHARED, {"peak_lag": 1}, "undecided (best at lag +1)"),
        (SHARED, {"peak_lag": -3}, "undecided (best at lag -3)"),
        (SHARED, {"ci_low": 0.0}, "undecided (interval reaches 0)"),
        (SHARED, {"ci_low": NAN, "ci_high": NAN}, "shared"),
        (PRIVATE, {"control_limit": -0.1}, "undecided (q = 0.4)"),
    ],
)
def test_each_reason_has_its_word(found, changes, word):
    assert verdict(replace(found, **changes)) == word


def compared(pairs, controls, *, n_draws=150, seed=0):
    """The summary of pairs (layers of each family's cells) over layers, from the package's own parts."""
    n_layers, n_members = len(controls[0]), controls[0][0].shape[1]
    weights = draw_weights(n_draws, n_members, n_members * len(controls), seed=seed)
    hooks = [Hook("resid_post", layer) for layer in range(n_layers)]
    directions = [directions_of([one[layer] for one in controls], weights) for layer in range(n_layers)]
    orders, measure = np.arange(n_members)[None], MEASURES["matched_cosine"]
    found = []
    for layer, hook in enumerate(hooks):
        for number, (x, y) in enumerate(pairs):
            there = [one[layer] for one in controls]
            evidence = pair_cells(x[layer], y[layer], there, directions[layer], seed)
            got = measured(measure, evidence, orders)
            found.append(
                Found(hook, (f"a{number}", "b"), "plain", "matched_cosine", evidence.known, got, NAN, NO_LISTS, 1)
            )
    parameters = {"site": "resid_post", "pairs": [f"a{i} - b" for i in range(len(pairs))], "variants": ["plain"]}
    return summary(comparison_result(found, hooks, parameters | {"measures": ["matched_cosine"]}, "simulated"))


def words_for(kind, cosine, n_worlds, *, n_members=7, n_layers=3, noisy=1, seed=0, related=1):
    """Verdicts on `related` pairs at a true cosine, among windowed controls; the first layers are mostly noise."""
    found = []
    for world in range(n_worlds):
        rng = np.random.default_rng([seed, world, n_members, int(100 * cosine)])
        controls = [cells(rng, codes(rng, "windowed", n_members, n_layers), n_contexts=10) for _ in range(20)]
        pairs = []
        for _ in range(related):
            x = codes(rng, kind, n_members, n_layers)
            sides = (x, mixed(rng, x, kind, cosine))
            pairs.append([_mostly_noise(rng, one, noisy) for one in sides])
        found += compared(pairs, controls, seed=world)["verdict"].tolist()
    return pd.Series(found)


def _mostly_noise(rng, layers, noisy):
    loud, clear = (cells(rng, layers, n_contexts=10, noise=noise) for noise in (4.0, 0.8))
    return [*loud[:noisy], *clear[noisy:]]


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_a_true_cosine_of_8_tenths_is_shared_though_early_layers_are_noise(kind):
    assert (words_for(kind, 0.8, 12) == "shared").mean() >= 0.75


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_a_true_cosine_of_3_tenths_is_not_private(kind):
    assert (words_for(kind, 0.3, 12) == "private").sum() <= 2


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_unrelated_families_are_hardly_ever_shared(kind):
    assert (words_for(kind, 0.0, 4, related=4, n_layers=2) == "shared").sum() <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_in_full(kind):
    """Shared for a true .8 in >= 80 %, private for a true .3 in <= 5 %, shared for unrelated in <= 5 % of 900 pairs."""
    size = {"n_layers": 8, "noisy": 3, "seed": 1}
    assert (words_for(kind, 0.8, 200, **size) == "shared").mean() >= 0.8
    assert (words_for(kind, 0.3, 200, **size) == "private").mean() <= 0.05
    assert (words_for(kind, 0.0, 6, related=150, **size) == "shared").mean() <= 0.05


@pytest.mark.parametrize(("cosine", "word"), [(1.0, "shared"), (0.7, "shared"), (0.0, "private")])
def test_a_planted_code_gets_its_word(cosine, word):
    """Many independent members: a private code can be told."""
    for seed in range(2):
        x, y = families(cosine=cosine, n_contexts=8, n_members=12, rank=8, d=256, seed=seed).double()
        controls = [
            [families(n_families=1, n_contexts=8, n_members=12, rank=8, d=256, seed=100 * seed + 50 + i)[0].double()]
            for i in range(20)
        ]
        assert compared([([x], [y])], controls)["verdict"].tolist() == [word]


def test_families_without_an_index_effect_have_none():
    controls = [[families(n_families=1, n_contexts=4, seed=50 + i)[0].double()] for i in range(20)]
    found = []
    for seed in range(6):
        x, y = families(index=0.0, n_contexts=4, seed=seed).double()
        found += compared([([x], [y])], controls)["verdict"].tolist()
    assert found.count("no index effect") >= 5
