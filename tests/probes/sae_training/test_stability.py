"""Features of two seeds are matched one by one, as sae-lens does, and told beside directions that are none."""

from dataclasses import replace

import pytest
import torch

from cache.errors import InputError
from probes.sae.basis import Origin, SAEBasis
from probes.sae.coding import Nonlinearity
from probes.sae_training.run import import_sae_lens
from probes.sae_training.split import split_rows
from probes.sae_training.stability import seed_stability
from tests.probes.sae_training.stores import HOOK, make_store

N_KNOWN = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store, _ = make_store(tmp_path_factory.mktemp("stability") / "store.h5")
    with store:
        yield store


@pytest.fixture(scope="module")
def rows(store):
    return split_rows(store.rows, documents=0.5).part == 2


def random_sae(store, seed, width=48, known=None):
    """Random directions; some of them known, elsewhere among the others and with noise."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(width, 24, generator=draw), dim=1)
    if known is not None:
        directions[torch.randperm(width, generator=draw)[: len(known)]] = known
    bias = -torch.linspace(0.0, 30.0, width)  # the last ones are never active
    site = store.site(HOOK)
    empty = torch.zeros(24)
    origin = Origin(f"seed-{seed}", "standard")
    return SAEBasis(directions.T.contiguous(), bias, empty, directions, empty, Nonlinearity("relu"), origin, site)


def test_the_mean_is_sae_lenss(store, rows):
    import_sae_lens()
    from sae_lens.synthetic.evals import mean_correlation_coefficient

    x, y = (torch.randn(48, 24, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    y[:35] = x[10:45] + 0.2 * y[:35]
    mine = [replace(random_sae(store, 0), directions=one) for one in (x, y)]
    table = seed_stability(mine, store, rows, n_draws=1).set_index("band")
    theirs = mean_correlation_coefficient(x, y)  # of magnitudes: it could take one against another
    assert table.loc["all", "cosine"] == pytest.approx(theirs, abs=0.01)


def test_shared_features_stand_out_against_directions_of_the_same_covariance(store, rows):
    known = random_sae(store, 9, width=N_KNOWN).directions
    saes = [random_sae(store, seed, known=known) for seed in (0, 1, 2)]
    table = seed_stability(saes, store, rows)
    assert list(zip(table["first"], table["second"], strict=True))[::6] == [
        ("seed-0", "seed-1"),
        ("seed-0", "seed-2"),
        ("seed-1", "seed-2"),
    ]
    whole = table[table["band"] == "all"]
    assert (whole["n_features"] == 48).all()
    assert (whole["above"] >= N_KNOWN / 48).all()
    assert (whole["null_above"] < 0.2).all()
    bands = table[table["band"] != "all"]
    assert (bands.groupby(["first", "second"])["n_features"].sum() == 48).all()
    assert bands.loc[bands["band"] == "dead", "n_features"].min() > 0
    weighted = (bands["cosine"] * bands["n_features"]).groupby([bands["first"], bands["second"]]).sum() / 48
    assert weighted.to_numpy() == pytest.approx(whole["cosine"].to_numpy())


def test_unrelated_ones_do_not(store, rows):
    """Directions drawn from the covariance of the rows are matched as the null is."""
    x = store.load(HOOK, rows)
    draw = torch.Generator().manual_seed(5)
    drawn = [torch.randn(48, len(x), generator=draw) @ (x - x.mean(dim=0)) for _ in range(2)]
    saes = [replace(random_sae(store, seed), directions=one) for seed, one in enumerate(drawn)]
    table = seed_stability(saes, store, rows, n_draws=10).set_index("band")
    assert table.loc["all", "cosine"] == pytest.approx(table.loc["all", "null_cosine"], abs=0.03)


def test_two_saes_of_one_site_and_rows_are_needed(store, rows):
    one = random_sae(store, 0)
    message = r"stability takes two SAEs of one site, rows and a draw; got"
    for saes, chosen in (([one], rows), ([one, replace(one, hook=None)], rows), ([one, one], rows & ~rows)):
        with pytest.raises(InputError, match=message):
            seed_stability(saes, store, chosen)
    with pytest.raises(InputError, match="is of no site that stores have"):
        seed_stability([replace(one, hook=None)] * 2, store, rows)
