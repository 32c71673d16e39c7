"""UMAP pictures: seeded, faithful to groups that are far apart, and quiet. Few runs in all, since each is slow."""

import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch

from cache.errors import InputError, NotAvailableError, NumbersError
from geometry.bases.embedding import umap
from geometry.bases.principal import pca
from tests.circles import Circle


def groups():
    """Three groups of 12 rows, far apart in 60 dimensions, around a large mean."""
    rng = np.random.default_rng(0)
    centres = 20 * np.linalg.qr(rng.normal(size=(60, 3)))[0].T
    rows = centres.repeat(12, axis=0) + 0.5 * rng.normal(size=(36, 60)) + 100
    return torch.from_numpy(rows.astype(np.float32))


def naive_trustworthiness(high, low, k):
    """Eq. 2 of Venna and Kaski 2001, pair by pair: neighbours in the picture pay for their rank in truth."""
    n = len(high)
    apart = [np.linalg.norm(z[:, None] - z[None], axis=2) for z in (high, low)]
    ranks = [np.array([[sorted(row).index(value) for value in row] for row in distances]) for distances in apart]
    penalty = sum(max(0, ranks[0][i, j] - k) for i in range(n) for j in range(n) if i != j and ranks[1][i, j] <= k)
    return 1 - penalty * 2 / (n * k * (2 * n - 3 * k - 1))


@pytest.fixture(scope="module")
def picture():
    return umap(groups(), n_neighbors=8)


def test_groups_that_are_far_apart_stay_apart_and_neighbours_can_be_trusted(picture):
    place = picture.coordinates.reshape(3, 12, 2)
    centres = place.mean(dim=1)
    widest = (place - centres[:, None]).norm(dim=2).max()
    assert torch.pdist(centres).min() > 2 * widest
    assert picture.coordinates.dtype == torch.float32
    assert picture.n_neighbors == 8
    assert picture.trustworthiness > 0.85


def test_trustworthiness_is_the_published_measure_of_the_rows_themselves(picture):
    truth = naive_trustworthiness(groups().double().numpy(), picture.coordinates.double().numpy(), 8)
    assert picture.trustworthiness == pytest.approx(truth, abs=1e-3)


def test_the_same_seed_gives_the_same_picture(picture):
    again = umap(groups(), n_neighbors=8)
    assert torch.equal(again.coordinates, picture.coordinates)
    assert again.trustworthiness == picture.trustworthiness


def test_torch_keeps_its_number_of_threads(monkeypatch):
    """Numba sets it for all that is loaded when it first runs in a process, which was long ago here."""

    class Begins(Circle):
        def fit_transform(self, x):
            torch.set_num_threads(3)
            return super().fit_transform(x)

    before = torch.get_num_threads()
    umap(groups(), n_neighbors=8)
    assert torch.get_num_threads() == before
    monkeypatch.setattr("geometry.bases.embedding._loaded_umap", lambda: Begins)
    umap(groups())
    assert torch.get_num_threads() == before


def test_rows_that_are_equal_to_all_their_neighbours_lie_alike_in_every_run():
    """Eigenvectors of equal rows are any of their plane's: what starts from them differs from run to run."""
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(24, 20)).astype(np.float32)).repeat_interleave(16, 0)
    runs = [umap(rows, n_neighbors=15) for _ in range(3)]
    assert all(torch.equal(one.coordinates, runs[0].coordinates) for one in runs)


def test_the_picture_is_umaps_own_ties_among_neighbours_included():
    """Neighbours that are told and those that UMAP finds itself give the same layout, to the last digit."""
    assert umap(groups()[:5]).n_neighbors == 4  # loads the library, quietly
    library = sys.modules["umap"]
    rows = groups()[[*range(30), *range(6)]]  # six rows twice
    scores = pca(rows, k=35).scores(rows).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = library.UMAP(n_neighbors=8, random_state=0, n_jobs=1).fit_transform(scores)
    assert np.array_equal(own, umap(rows, n_neighbors=8).coordinates.numpy())


def test_what_umap_compiles_is_kept_for_the_next_process(picture):
    kept = sys.modules["umap.umap_"].smooth_knn_dist.stats
    assert sum(kept.cache_hits.values()) + sum(kept.cache_misses.values()) > 0


def test_five_rows_are_enough_and_nothing_is_said():
    small = umap(groups()[::8], seed=3)
    assert small.coordinates.shape == (5, 2)
    assert torch.isfinite(small.coordinates).all()
    assert small.n_neighbors == 4
    assert 0 <= small.trustworthiness <= 1


def test_rows_that_cannot_be_pictured_are_refused():
    with pytest.raises(InputError, match=r"^UMAP needs 5 rows and 2 neighbours; got 4 and 15$"):
        umap(groups()[:4])
    with pytest.raises(InputError, match=r"^UMAP needs 5 rows and 2 neighbours; got 36 and 1$"):
        umap(groups(), n_neighbors=1)
    with pytest.raises(InputError, match="all rows are equal; there is no variance to decompose"):
        umap(groups()[:1].repeat(6, 1))
    spoiled = groups()
    spoiled[3, 1] = float("nan")
    with pytest.raises(NumbersError, match="x: not all finite; "):
        umap(spoiled)


def test_a_library_that_has_nowhere_to_keep_what_it_compiles_is_told(monkeypatch):
    class Unloadable(ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("cannot cache function 'rdist': no locator available")

    monkeypatch.setitem(sys.modules, "umap", Unloadable("umap"))
    with pytest.raises(NotAvailableError, match=r"cannot cache function .*; name a folder .* in NUMBA_CACHE_DIR$"):
        umap(torch.randn(8, 3))
