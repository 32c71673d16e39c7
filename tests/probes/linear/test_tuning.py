"""Tuning curves: planted selective features are found and told on other templates; noise is not."""

import numpy as np
import pytest

from cache import ActivationStore
from cache.errors import InputError
from probes.linear.tuning import selectivity, tuned_features

MEMBERS, TEMPLATES = 8, 6


def store_of(path, x):
    import pandas as pd

    lines = [
        {
            "text": f"{family} {template} {member}",
            "family": family,
            "ordinal": member,
            "frame": "mine",
            "template": template,
        }
        for family in ("own", "other")
        for template in range(TEMPLATES)
        for member in range(MEMBERS)
    ]
    return ActivationStore.from_arrays({("resid_post", 0): x}, pd.DataFrame(lines), path)


def noise(n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(2 * MEMBERS * TEMPLATES, n_features)).astype(np.float32)


def test_selective_features_are_found_with_their_width(tmp_path):
    x = noise(200)
    member = np.tile(np.arange(MEMBERS), 2 * TEMPLATES)
    own = np.arange(len(x)) < MEMBERS * TEMPLATES
    x[own, 30] += 20 * (member[own] == 3)
    x[own, 31] += 20 * (member[own] >= 6)
    with store_of(tmp_path / "store.h5", x) as store:
        table = tuned_features(store.view(), most=2).set_index("family")
    assert set(table.loc["own", "features"].split()) == {"30", "31"}
    assert table.loc["own", "selectivity"] > 0.95
    assert table.loc["own", "width"] == pytest.approx((1 + 2) / 2 / MEMBERS)
    chance = (MEMBERS - 1) / (MEMBERS * TEMPLATES / 2 - 1)  # expected share between groups of noise
    assert table.loc["other", "selectivity"] == pytest.approx(chance, abs=0.25)
    assert table["null_mean"].to_numpy() == pytest.approx(chance, abs=0.1)
    assert table.loc["own", ["n_members", "n_templates", "n_rows"]].tolist() == [8, 6, 48]


def test_more_features_to_choose_from_gain_nothing(tmp_path):
    with store_of(tmp_path / "store.h5", noise(2000, 1)) as store:
        table = tuned_features(store.view(), families=["own"], most=10)
    assert table["selectivity"].item() < table["null_max"].item() + 0.05


def test_selectivity_is_eta_squared():
    from scipy.stats import f_oneway

    x, member = noise(3, 2)[:48].astype(np.float64), np.tile(np.arange(MEMBERS), TEMPLATES)
    f = f_oneway(*(x[member == one] for one in range(MEMBERS))).statistic
    between, within = MEMBERS - 1, len(x) - MEMBERS
    assert selectivity(x, member) == pytest.approx(f * between / (f * between + within))
    assert (selectivity(np.ones((48, 2)), member) == 0).all()


def test_what_cannot_be_told_is_said(tmp_path):
    with store_of(tmp_path / "store.h5", noise(4)) as store:
        view = store.view()
        with pytest.raises(InputError, match="no row of the view is of family 'third'"):
            tuned_features(view, families=["third"])
        with pytest.raises(InputError, match="tuning curves take 2 templates and 2 members"):
            tuned_features(store.view(where="template == 0"))
        with pytest.raises(InputError, match="a feature and a permutation at least; got 0 and 19"):
            tuned_features(view, most=0)
    two = {("resid_post", 0): noise(4), ("resid_post", 1): noise(4)}
    store = ActivationStore.from_arrays(two, ["text"] * len(noise(4)), tmp_path / "two.h5")
    with store, pytest.raises(InputError, match="tuning curves are of one site"):
        tuned_features(store.view())
