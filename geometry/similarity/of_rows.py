"""Similarity of two representations of the same rows. These measures describe and never decide.

All but RSA by correlation are blind to rotation, all but RSA by cosine or correlation to a shift of all rows.
Overlapping windows alone make them high for unrelated members: read them beside control families.
"""

import numpy as np
import scipy.linalg
import scipy.stats
from jaxtyping import Float
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from cache.arrays import ArrayLike, as_pair, as_rows
from cache.errors import InputError
from geometry.stats.linalg import centre, row_space
from geometry.stats.moments import JointMoments

DEBIASED_ROWS = 10
"""Debiased CKA needs so many rows; below, its noise is as large as its range."""


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Similarity of two representations of the same rows, blind to rotation and scale.

    Biased: independent noise of n rows in d dimensions gives about d / (d + n). See `linear_cka_debiased`.

    Returns:
        In [0, 1]; 1 when y = a * x @ Q. nan where a side has no variance.

    Raises:
        InputError: row counts differ, or there are fewer than 3.
        NumbersError: a value is not finite.

    References: Kornblith et al. 2019, eq. 3 (arXiv:1905.00414).
    """
    return matrix_cosine(*(centred_gram(z) for z in _checked(x, y)))


def linear_cka_debiased(x: ArrayLike, y: ArrayLike) -> float:
    """Linear CKA from an estimator whose mean is 0 for independent rows, however few.

    Returns:
        At most 1, and below 0 by chance; 1 when y = a * x @ Q. nan where a side has no variance.

    Raises:
        InputError: row counts differ, or there are fewer than 10.
        NumbersError: a value is not finite.

    References: Song et al. 2012, eq. 5 (unbiased HSIC); Nguyen, Raghu and Kornblith 2021, eq. 3 (arXiv:2010.15327).
    """
    x, y = _checked(x, y)
    if len(x) < DEBIASED_ROWS:
        raise InputError(f"debiased CKA needs {DEBIASED_ROWS} rows; got {len(x)}")
    return matrix_cosine(u_centred_gram(x), u_centred_gram(y))


def cka_of_moments(moments: JointMoments) -> float:
    """`linear_cka` of rows that were read once, in blocks; memory does not depend on their number."""
    own = np.linalg.norm(moments.x.scatter) * np.linalg.norm(moments.y.scatter)
    return float(np.linalg.norm(moments.cross) ** 2 / own) if own > 0 else float("nan")


def matrix_cosine(x: Float[np.ndarray, "row row"], y: Float[np.ndarray, "row row"]) -> float:
    """Cosine of two matrices of pairs of rows: CKA of centred Grams, debiased CKA of u-centred ones; nan for a zero."""
    own = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.vdot(x, y) / own) if own > 0 else float("nan")


def rsa(x: ArrayLike, y: ArrayLike, *, distance: str = "correlation") -> float:
    """Rank correlation of two representations' dissimilarities between rows.

    Args:
        x: activations (row, d1).
        y: others of the same rows (row, d2).
        distance: correlation, cosine or euclidean, between rows.

    Returns:
        Spearman's rho, in [-1, 1]; nan where a side's dissimilarities are all equal.

    Raises:
        InputError: row counts differ, there are fewer than 4, or the distance is none of these.
        NumbersError: a value is not finite.

    References: Kriegeskorte, Mur and Bandettini 2008; the default of rsatoolbox's `calc_rdm` is squared euclidean.
    """
    x, y = _checked(x, y)
    if len(x) < 4:
        raise InputError(f"RSA needs 4 rows; got {len(x)}")
    return matrix_cosine(dissimilarity_ranks(x, distance), dissimilarity_ranks(y, distance))


def dissimilarity_ranks(x: Float[Tensor, "row d"], distance: str = "correlation") -> Float[np.ndarray, "row row"]:
    """Ranks of the dissimilarities between rows, centred on their mean; 0 on the diagonal.

    Raises:
        InputError: the distance is not correlation, cosine or euclidean.
    """
    if distance not in {"correlation", "cosine", "euclidean"}:
        raise InputError(f"distance is correlation, cosine or euclidean; got {distance!r}")
    with np.errstate(invalid="ignore", divide="ignore"):
        condensed = np.nan_to_num(pdist(x.double().numpy(), metric=distance))
    ranks = scipy.stats.rankdata(condensed)
    return squareform(ranks - ranks.mean())


def procrustes(x: ArrayLike, y: ArrayLike) -> float:
    """How well one representation can be turned (rotated, reflected, scaled) onto the other.

    Returns:
        `|X^T Y|_* / (|X| |Y|)` of the centred rows, in [0, 1]; 1 when y = a * x @ Q. Its arc cosine is the Riemannian
        shape distance. nan where a side has no variance.

    Raises:
        InputError: row counts differ, or there are fewer than 3.
        NumbersError: a value is not finite.

    References: Schonemann 1966; Williams et al. 2021, eq. 5 (arXiv:2110.14739).
    """
    return turned_cosine(*(_small(centre(z.numpy())) for z in _checked(x, y)))


def turned_cosine(x: Float[np.ndarray, "row _"], y: Float[np.ndarray, "row _"]) -> float:
    """Cosine of centred rows with others, turned onto them as well as can be; nan for zeros."""
    own = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.linalg.svd(x.T @ y, compute_uv=False).sum() / own) if own > 0 else float("nan")


def principal_angles(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, " angle"]:
    """Angles between the subspaces that two sets of directions span, from the smallest to the largest.

    Args:
        a: directions (direction, d), which need not be orthogonal.
        b: others (direction, d), of the same width.

    Returns:
        `min(rank a, rank b)` angles in radians, in [0, pi / 2].

    Raises:
        InputError: the widths differ, or a set is all 0.
        NumbersError: a value is not finite.

    References: Knyazev and Argentati 2002; scipy.linalg.subspace_angles (which gives the largest first).
    """
    axes = ("direction", "d")
    first, second = as_rows(a, "the first directions", axes=axes), as_rows(b, "the second directions", axes=axes)
    if first.shape[1] != second.shape[1]:
        raise InputError(f"the directions need the same width; got {first.shape[1]} and {second.shape[1]}")
    spans = []
    for name, directions in (("first", first), ("second", second)):
        spans.append(row_space(directions.numpy())[2].T)
        if not spans[-1].shape[1]:
            raise InputError(f"the {name} directions are all 0; they span nothing")
    return scipy.linalg.subspace_angles(*spans)[::-1].copy()


def _small(x: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row _"]:
    """The rows in the coordinates of their row space where they are fewer than dimensions."""
    if len(x) >= x.shape[1]:
        return x
    u, s, _ = row_space(x)
    return u * s


def centred_gram(x: Float[Tensor, "row d"]) -> Float[np.ndarray, "row row"]:
    """Inner products of centred rows."""
    rows = centre(x.numpy())
    return rows @ rows.T


def u_centred_gram(x: Float[Tensor, "row d"]) -> Float[np.ndarray, "row row"]:
    """Inner products of rows, centred so that the mean product of two independent sets' matrices is 0.

    References: Szekely and Rizzo 2014, definition 2; the cosine of two such matrices is debiased CKA.
    """
    gram = centred_gram(x)
    np.fill_diagonal(gram, 0)
    n = len(gram)
    rows = gram.sum(axis=0)
    gram += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows[None, :]) / (n - 2)
    np.fill_diagonal(gram, 0)
    return gram


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Float[Tensor, "row d1"], Float[Tensor, "row d2"]]:
    x, y = as_pair(x, y)
    if len(x) < 3:
        raise InputError(f"a similarity needs 3 rows; got {len(x)}")
    return x, y
