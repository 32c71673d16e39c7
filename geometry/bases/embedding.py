"""UMAP embeddings: pictures to look at, and no evidence of anything."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.manifold import trustworthiness
from torch import Tensor

from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError, NotAvailableError
from cache.repeatable import check_seed
from geometry.bases.principal import pca

N_COMPONENTS = 50
"""Principal components that UMAP is given: as faithful as all dimensions, and faster."""

FEWEST_APPROXIMATE = 4096
"""Of so many rows UMAP finds neighbours approximately, and not the same in every run."""


@dataclass(frozen=True)
class Embedding:
    """A two-dimensional picture of rows.

    Attributes:
        coordinates: where each row lies; axes, scales and distances between far groups mean nothing.
        trustworthiness: how far neighbours in the picture are neighbours in truth, in [0, 1].
        n_neighbors: the neighbourhood that was kept.
    """

    coordinates: Float[Tensor, "row 2"]
    trustworthiness: float
    n_neighbors: int


def umap(x: ArrayLike, *, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 0) -> Embedding:
    """UMAP of rows, on their first 50 principal components, seeded and therefore on one thread.

    The same seed gives the same picture on the same machine; another machine or version may give another.

    Args:
        x: activations (row, d).
        n_neighbors: neighbours that count as near; fewer where there are fewer rows.
        min_dist: how close points may come.
        seed: seeds the layout.

    Raises:
        InputError: fewer than 5 rows, n_neighbors below 2, min_dist outside [0, 1], or all rows are equal.
        NumbersError: a value is not finite.
        NotAvailableError: umap-learn cannot be loaded, having nowhere to keep what it compiles.

    References: McInnes, Healy and Melville 2018 (arXiv:1802.03426); trustworthiness: Venna and Kaski 2001.

    Example:
        >>> rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
        >>> umap(rows, n_neighbors=5).coordinates.shape
        torch.Size([30, 2])
    """
    seed, x = check_seed(seed), as_rows(x)
    n_rows, d = x.shape
    if n_rows < 5 or n_neighbors < 2:
        raise InputError(f"UMAP needs 5 rows and 2 neighbours; got {n_rows} and {n_neighbors}")
    if not 0 <= min_dist <= 1:
        raise InputError(f"min_dist must be 0 to 1; got {min_dist}")
    reduced = pca(x, k=min(N_COMPONENTS, n_rows - 1, d))
    scores = reduced.scores(x).numpy()
    near = min(n_neighbors, n_rows - 1)
    with warnings.catch_warnings(), _threads_kept():
        warnings.simplefilter("ignore")  # numba, spectral start-up and few neighbours all warn
        UMAP = _loaded_umap()
        known = _neighbours(scores, near) if n_rows < FEWEST_APPROXIMATE else (None, None, None)
        start = "random" if n_rows <= 16 else "pca" if _has_equal_rows(known[1]) else "spectral"
        model = UMAP(
            n_neighbors=near, min_dist=min_dist, random_state=seed, n_jobs=1, init=start, precomputed_knn=known
        )
        coordinates = model.fit_transform(scores)
    kept = min(near, max(1, (n_rows - 1) // 2))
    score = float(trustworthiness(scores, coordinates, n_neighbors=kept))
    return Embedding(torch.from_numpy(coordinates).float(), score, near)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Torch's number of threads as it was: numba sets it to all cores when it begins, and small products then wait."""
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)


def _neighbours(
    x: Float[np.ndarray, "row d"], n_neighbors: int
) -> tuple[Int[np.ndarray, "row near"], Float[np.ndarray, "row near"]]:
    """Each row's nearest, itself first, and how far they are: UMAP's own answer, found without calling back a pair."""
    nearest = np.empty((len(x), n_neighbors), dtype=np.int32)
    apart = np.empty((len(x), n_neighbors))
    for i, row in enumerate(x):
        distances = np.sqrt(np.square(x - row).sum(axis=1, dtype=np.float64))
        nearest[i] = distances.argsort(kind="stable")[:n_neighbors]
        apart[i] = distances[nearest[i]]
    return nearest, apart


def _has_equal_rows(apart: Float[np.ndarray, "row near"] | None) -> bool:
    """Whether some row's neighbours are all equal to it: their spectrum is degenerate, and no two runs start alike."""
    return apart is not None and bool((apart[:, -1] == 0).any())


def _loaded_umap() -> Any:
    """UMAP's class, which keeps on disk what it compiles: a process that finds it there begins 10 s earlier."""
    try:
        from umap import UMAP, layouts, umap_

        compiled = (
            (umap_, "smooth_knn_dist"),
            (umap_, "compute_membership_strengths"),
            (layouts, "_nb_optimize_layout_euclidean_single_epoch"),
        )
        for module, name in compiled:
            if hasattr(module, name):  # other releases of UMAP's may call it otherwise
                getattr(module, name).enable_caching()
    except RuntimeError as error:  # numba's, where neither its libraries' folder nor the user's cache can be written
        raise NotAvailableError(
            f"umap-learn cannot be loaded ({error}); name a folder that can be written in NUMBA_CACHE_DIR"
        ) from error
    return UMAP
