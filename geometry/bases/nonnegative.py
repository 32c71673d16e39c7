"""Non-negative matrix factorisation by HALS: parts that only ever add up."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cache.arrays import ArrayLike, as_rows, as_tensor
from cache.errors import InputError
from cache.models.hooks import Hook
from cache.repeatable import check_seed
from geometry.bases.basis import deviations_of
from geometry.bases.principal import Decomposition
from geometry.stats.linalg import normalised

MOST_RUNS = 1_000
_INNER = 3  # sweeps over the components for each product with the data, which is what costs
_FLOOR = 1e-12


@dataclass(frozen=True)
class NonnegativeBasis:
    """Features with non-negative values; reading is a non-negative least-squares solve.

    Attributes:
        parts: the factors over the non-negative columns: `d` of them, or `2 d` if activations were split by sign
            into their positive and negative halves.
        hook: the site, if known.
        weights: content hash of the model's weights, if known.
        deviations: each feature's standard deviation over the rows that it was found on, if known.
    """

    parts: Float[Tensor, "feature columns"]
    d: int
    hook: Hook | None = None
    weights: str = ""
    deviations: Float[Tensor, " feature"] | None = None

    @property
    def directions(self) -> Float[Tensor, "feature d"]:
        """What one unit of each feature adds: its positive half minus its negative half."""
        if self.parts.shape[1] == self.d:
            return self.parts
        return self.parts[:, : self.d] - self.parts[:, self.d :]

    def encode(self, x: ArrayLike) -> Float[Tensor, "*rows feature"]:
        """The non-negative values whose parts come nearest to each row of x (..., d), the parts being fixed."""
        x = as_tensor(x)
        flat = x.reshape(-1, x.shape[-1]).detach().float().cpu().numpy()
        columns = flat if self.parts.shape[1] == self.d else split_by_sign(flat)
        values = _solve(columns, self.parts.numpy())
        return torch.from_numpy(values).to(x).reshape(*x.shape[:-1], len(self.parts))

    def decode(self, features: ArrayLike) -> Float[Tensor, "*rows d"]:
        """`features @ directions`; features are (..., feature)."""
        features = as_tensor(features, "features")
        return features @ self.directions.to(features)


@dataclass(frozen=True)
class Factorization:
    """The best of several NMF runs, and how far the runs agree.

    Attributes:
        decomposition: basis, spectrum and shares. `explained_variance` of a component is how much the mean squared
            error would grow without it; its ratio is the share of the mean square.
        agreement: for each component, the mean over the other runs of its cosine with the component matched to it
            (Hungarian); in [0, 1]. nan for a single run.
        objectives: each run's relative error `|X - W H| / |X|` on what was factorised (after the split by sign).
        split_by_sign: the activations had negative values, so that their halves were factorised side by side.
    """

    decomposition: Decomposition
    agreement: Float[np.ndarray, " component"]
    objectives: Float[np.ndarray, " run"]
    split_by_sign: bool


def nmf(
    x: ArrayLike, *, k: int, n_runs: int = 5, seed: int = 0, max_iter: int = 200, tol: float = 1e-4
) -> Factorization:
    """Non-negative factorisation of activations; negative values are split off into columns of their own.

    Args:
        x: activations (row, d). Neurons after a ReLU are taken as they are; anything with a negative value is split
            by sign: `[max(x, 0), max(-x, 0)]`.
        k: how many components.
        n_runs: random starts; the best is kept.
        seed: seeds the starts.
        max_iter: most rounds a run.
        tol: a run ends when ten rounds lower the relative error by less than this share of its first value.

    Raises:
        InputError: k is not between 1 and the smaller side, `n_runs` is not between 1 and 1,000, or all values are 0.
        NumbersError: a value is not finite.

    References: Cichocki and Phan 2009 (HALS); Gillis and Glineur 2012 (several sweeps a product).

    Example:
        >>> parts = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> amounts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
        >>> found = nmf(amounts @ parts, k=2).decomposition
        >>> bool((found.directions >= 0).all()), found.reconstruction_error < 1e-6
        (True, True)
    """
    seed, x = check_seed(seed), as_rows(x)
    n_rows, d = x.shape
    if not 1 <= k <= min(n_rows, d):
        raise InputError(f"{n_rows} rows of width {d} have at most {min(n_rows, d)} components; got k = {k}")
    if not 1 <= n_runs <= MOST_RUNS:
        raise InputError(f"n_runs must be 1 to {MOST_RUNS:,}; got {n_runs:,}")
    rows = x.float().numpy()
    split = bool((rows < 0).any())
    columns = split_by_sign(rows) if split else rows
    if not columns.any():
        raise InputError("all activations are 0; there is nothing to factorise")
    rng = np.random.default_rng(seed)
    runs = [hals(columns, *random_start(columns, k, rng), max_iter=max_iter, tol=tol) for _ in range(n_runs)]
    objectives = np.array([relative_error(columns, w, h) for w, h in runs])
    best = int(objectives.argmin())
    w, h, lost = _by_share(columns, *runs[best])
    basis = NonnegativeBasis(torch.from_numpy(h), d, deviations=deviations_of(torch.from_numpy(w)))
    return Factorization(
        decomposition=Decomposition(
            basis=basis,
            spectrum=lost / n_rows,
            explained_variance=lost / n_rows,
            explained_variance_ratio=lost / float((columns.astype(np.float64) ** 2).sum()),
            reconstruction_error=relative_error(rows, w, basis.directions.numpy()) ** 2,
            n_rows=n_rows,
        ),
        agreement=_agreement(h, [h for i, (_, h) in enumerate(runs) if i != best]),
        objectives=objectives,
        split_by_sign=split,
    )


def matched_cosines(a: Float[np.ndarray, "k columns"], b: Float[np.ndarray, "k columns"]) -> Float[np.ndarray, " k"]:
    """Cosine of each of a's components with the one of b's that is matched to it (Hungarian); at least 0."""
    table = normalised(a) @ normalised(b).T
    return table[linear_sum_assignment(-table)].clip(0, 1)


def split_by_sign(x: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row two_d"]:
    """Positive and negative halves side by side; both are non-negative, and their difference is x."""
    return np.hstack([np.maximum(x, 0), np.maximum(-x, 0)])


def random_start(
    x: Float[np.ndarray, "row columns"], k: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "row k"], Float[np.ndarray, "k columns"]]:
    """Random non-negative factors whose product has about the mean of x (sklearn's `init="random"`)."""
    scale = np.sqrt(x.mean() / k)
    w = scale * np.abs(rng.standard_normal((len(x), k)))
    h = scale * np.abs(rng.standard_normal((k, x.shape[1])))
    return w.astype(x.dtype), h.astype(x.dtype)


def hals(
    x: Float[np.ndarray, "row columns"],
    w: Float[np.ndarray, "row k"],
    h: Float[np.ndarray, "k columns"],
    *,
    max_iter: int,
    tol: float,
) -> tuple[Float[np.ndarray, "row k"], Float[np.ndarray, "k columns"]]:
    """Factors `w @ h` near to a non-negative matrix, by hierarchical alternating least squares.

    Each round takes the two products with x once, and sweeps over the components three times with each.

    Args:
        x: non-negative.
        w: where to start; not changed.
        h: where to start; not changed.
        max_iter: most rounds.
        tol: stop when ten rounds lower `|x - w h| / |x|` by less than this share of its value after the first; 0
            runs all rounds.
    """
    w_t, h = np.ascontiguousarray(w.T), h.copy()
    first = last = np.inf
    for number in range(max_iter):
        _sweeps(w_t, np.ascontiguousarray((x @ h.T).T), h @ h.T)
        _sweeps(h, w_t @ x, w_t @ w_t.T)
        if tol > 0 and number % 10 == 0:
            error = relative_error(x, w_t.T, h)
            first = error if first == np.inf else first
            if last - error < tol * first:
                break
            last = error
    return np.ascontiguousarray(w_t.T), h


def relative_error(
    x: Float[np.ndarray, "row columns"], w: Float[np.ndarray, "row k"], h: Float[np.ndarray, "k columns"]
) -> float:
    """`|x - w h| / |x|` in the Frobenius norm, without forming the product."""
    total = np.einsum("ij,ij->", x, x, dtype=np.float64)
    inner = np.einsum("ij,ij->", w, x @ h.T, dtype=np.float64)
    square = np.einsum("ij,ij->", w.T @ w, h @ h.T, dtype=np.float64)
    return float(np.sqrt(max(total - 2 * inner + square, 0.0) / total))


def _sweeps(
    factor: Float[np.ndarray, "k length"],
    product: Float[np.ndarray, "k length"],
    gram: Float[np.ndarray, "k k"],
    n_sweeps: int = _INNER,
) -> None:
    """Coordinate descent on one factor, component by component, in place."""
    for _ in range(n_sweeps):
        for j in range(len(factor)):
            step = product[j] - gram[j] @ factor
            step /= max(gram[j, j], _FLOOR)
            step += factor[j]
            np.maximum(step, 0, out=factor[j])


def _solve(x: Float[np.ndarray, "row columns"], h: Float[np.ndarray, "k columns"]) -> Float[np.ndarray, "row k"]:
    """The non-negative w with the least `|x - w h|`, h being fixed, to float32's precision."""
    gram = (h @ h.T).astype(np.float64)
    product = h.astype(np.float64) @ x.T.astype(np.float64)
    values = np.zeros_like(product)
    for _ in range(200):
        before = values.copy()
        _sweeps(values, product, gram, 10)
        if np.abs(values - before).max(initial=0) <= 1e-7 * max(np.abs(values).max(initial=0), _FLOOR):
            break
    return values.T.astype(np.float32)


def _by_share(
    x: Float[np.ndarray, "row columns"], w: Float[np.ndarray, "row k"], h: Float[np.ndarray, "k columns"]
) -> tuple[Float[np.ndarray, "row k"], Float[np.ndarray, "k columns"], Float[np.ndarray, " k"]]:
    """Components of unit length in h, those whose loss costs most first, and that cost in squared error."""
    norms = np.linalg.norm(h, axis=1)
    w, h = w * norms, h / np.where(norms > 0, norms, 1.0)[:, None]
    inner = (w.astype(np.float64) * (x @ h.T)).sum(axis=0)
    overlap = (w.T.astype(np.float64) @ w) * (h @ h.T)
    lost = 2 * inner - 2 * overlap.sum(axis=1) + overlap.diagonal()  # |R + w_i h_i|^2 - |R|^2, R the residual
    order = np.argsort(-lost, kind="stable")
    return w[:, order], h[order], lost[order].clip(min=0)


def _agreement(
    best: Float[np.ndarray, "k columns"], others: list[Float[np.ndarray, "k columns"]]
) -> Float[np.ndarray, " k"]:
    """The mean over other runs of each component's cosine with its match."""
    if not others:
        return np.full(len(best), np.nan)
    return np.mean([matched_cosines(best, other) for other in others], axis=0)
