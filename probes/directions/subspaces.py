"""What is erased: the index subspace of a family, all that is linear of some labels (LEACE), and random subspaces."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError
from cache.models.hooks import HookLike, as_hook
from cache.repeatable import check_seed
from geometry.bases.basis import LinearBasis, orthonormal_basis
from geometry.stats.draws import gaussian_combinations
from geometry.stats.linalg import RANK_TOLERANCE, check_finite, row_space


def index_subspace(codes: ArrayLike, rank: int, hook: HookLike | None = None) -> LinearBasis:
    """The directions in which a family's members differ most, whatever the context.

    The leading right singular vectors of the member means, from which each context's mean has been taken.

    Args:
        codes: mean activation of each member in each context (context, member, d).
        rank: how many directions; fewer where the means span fewer dimensions (at most one less than members).
        hook: the site: a `Hook`, its name, or kind and layer.

    Returns:
        Orthonormal directions, float64; the offset is the mean activation.

    Raises:
        InputError: the rank is below 1.
        NumbersError: activations are not finite.
    """
    codes = as_rows(codes, "codes", axes=("context", "member", "d"))
    _check(rank)
    wide = codes.double()
    means = (wide - wide.mean(dim=1, keepdim=True)).mean(dim=0)
    scale = float(wide.abs().max())
    return orthonormal_basis(_leading(means.numpy(), rank, scale), wide.mean(dim=(0, 1)), hook)


def index_subspaces(codes: Float[Tensor, "code member d"], rank: int) -> tuple[Float[Tensor, "direction d"], ...]:
    """Directions of `index_subspace` for many mean codes at once, up to their signs."""
    _check(rank)
    check_finite(codes)
    wide = codes.double()
    _, sizes, directions = np.linalg.svd((wide - wide.mean(dim=1, keepdim=True)).numpy(), full_matrices=False)
    least = np.maximum(RANK_TOLERANCE * sizes.max(axis=1, initial=0), 1e-12 * wide.abs().amax(dim=(1, 2)).numpy())
    kept = np.minimum(rank, (sizes > least[:, None]).sum(axis=1))
    return tuple(torch.from_numpy(one[:n].copy()) for one, n in zip(directions, kept, strict=True))


def leace(
    x: ArrayLike, labels: Sequence[Hashable], rank: int | None = None, hook: HookLike | None = None
) -> LinearBasis:
    """The least change after which no linear reader tells the labels apart: least-squares concept erasure.

    With W the pseudo-inverse root of the covariance and U the left singular vectors of W cov(x, labels), directions
    are U^T W^+ and readers U^T W. Removed, all classes have the same mean; what the directions do not span stays.

    Args:
        x: activations (row, d).
        labels: each row's class.
        rank: how many directions, those that tell most first; None for all that it takes (at most classes - 1), with
            which alone the classes' means become equal.
        hook: the site: a `Hook`, its name, or kind and layer.

    Returns:
        float64 directions with readers of their own; the offset is the mean activation.

    Raises:
        InputError: the rank is below 1, labels do not go with the rows, or there is one class only.
        NumbersError: activations are not finite.

    References: Belrose et al. 2023, theorem 4.2 and eq. 1 (arXiv:2306.03819).
    """
    x = as_rows(x)
    _check(1 if rank is None else rank)
    classes = list(dict.fromkeys(labels))
    if len(labels) != len(x):
        raise InputError(f"each of {len(x)} rows needs a label; got {len(labels)}")
    if len(classes) < 2:
        raise InputError(f"erasure needs rows of 2 classes or more; got {len(classes)}")
    one_hot = np.array([[label == one for one in classes] for label in labels], dtype=np.float64)
    wide = x.double()
    mean = wide.mean(dim=0)
    u, s, v = row_space((wide - mean).numpy())
    deviations = s / np.sqrt(len(x))
    u_whitened, told, _ = np.linalg.svd(u.T @ (one_hot - one_hot.mean(axis=0)), full_matrices=False)
    kept = min(int((told > 1e-9 * max(1.0, told.max(initial=0))).sum()), len(told) if rank is None else rank)
    directions = (u_whitened[:, :kept].T * deviations) @ v
    readers = (u_whitened[:, :kept].T / deviations) @ v
    site = None if hook is None else as_hook(hook)
    return LinearBasis(mean, torch.from_numpy(directions), torch.from_numpy(readers), site)


def within_members(cells: Float[Tensor, "context member d"]) -> Float[Tensor, "row d"]:
    """What varies while the member stays the same: cells less their means over contexts and over members.

    No index effect can be in it, and no effect that a context has on all members.
    """
    wide = cells.double()
    away = wide - wide.mean(dim=0)
    return (away - away.mean(dim=1, keepdim=True)).flatten(0, 1)


def subspaces_within(
    families: Sequence[Float[Tensor, "_ _ d"]], rank: int, n_members: int, n_draws: int, seed: int
) -> tuple[Float[Tensor, "direction d"], ...]:
    """Index subspaces of codes that mean nothing: Gaussian combinations of what varies within members.

    Each draw gives every member a combination of `within_members` of all families, and has the leading directions of
    these codes, as `index_subspace` has of codes that were recorded.

    Args:
        families: cells (context, member, d) of each family.
        rank: how many directions; fewer where the cells vary in fewer dimensions.
        n_members: members of a drawn code, more than the rank.
        n_draws: how many subspaces.
        seed: seeds the weights: those of a draw are the same for cells of the same shape, as at other layers.

    Returns:
        Orthonormal rows, float64.

    Raises:
        InputError: the rank is below 1.
        NumbersError: activations are not finite.
    """
    seed = check_seed(seed)
    rows = torch.cat([within_members(cells) for cells in families])
    drawn = gaussian_combinations(rows, (n_draws, n_members), np.random.default_rng([seed, 11]))
    return index_subspaces(drawn, rank)


def _leading(rows: Float[np.ndarray, "row d"], rank: int, scale: float) -> Float[Tensor, "direction d"]:
    """Leading right singular vectors; none of what is rounding error beside activations of size `scale`."""
    _, s, v = row_space(rows)
    return torch.from_numpy(v[: min(rank, int((s > 1e-12 * scale).sum()))].copy())


def _check(rank: int) -> None:
    if rank < 1:
        raise InputError(f"the rank of what is erased must be 1 or more; got {rank}")
