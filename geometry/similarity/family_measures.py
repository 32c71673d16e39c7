"""The measures of `geometry compare`: each with its value and its nulls, deciding or merely describing."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geometry.bases.canonical import held_out_cca, pwcca, svcca
from geometry.bases.principal import subspace_overlap
from geometry.similarity.of_families import (
    matched_cosine,
    matched_products,
    member_products,
    nearest_members,
    retrieval,
    shared_share,
)
from geometry.similarity.of_rows import (
    centred_gram,
    dissimilarity_ranks,
    linear_cka,
    linear_cka_debiased,
    procrustes,
    rsa,
    u_centred_gram,
)
from geometry.similarity.sharing_null import unrelated_cosines, unrelated_retrievals
from geometry.stats.linalg import row_space
from geometry.stats.permutations import permuted_products, permuted_traces, permuted_values
from geometry.stats.unrelated_codes import Directions

Cells = Float[Tensor, "context member d"]
Orders = Int[np.ndarray, "permutation member"]
Null = Float[np.ndarray, " permutation"]
Unrelated = Float[np.ndarray, " draw"]

INDEX_RANK = 4
"""Dimensions of the index subspaces whose principal angles are compared."""


@dataclass(frozen=True)
class Measure:
    """A similarity of two families' activations at one site.

    Attributes:
        value: from two arrays (context, member, d) of the same contexts and members.
        permuted: the same with y's members in each of several orders, the true one first. Members of overlapping
            windows are not exchangeable, so that this describes and gives no p.
        most_orders: how many orders are tried.
        least_members: with fewer there is no value.
        unrelated: the same with codes of unrelated families, each way; None for a measure that only describes.
        most_draws: how many of the drawn directions are used.
        per_cosine: what a matched cosine is multiplied by to give the value, where that is how the value comes about;
            its interval and its controls' distances are those of the cosine.
    """

    value: Callable[[Cells, Cells], float]
    permuted: Callable[[Cells, Cells, Orders], Null]
    most_orders: int = 10_000
    least_members: int = 3
    unrelated: Callable[[Cells, Cells, Directions], Unrelated] | None = None
    most_draws: int = 1_000
    per_cosine: Callable[[Cells, Cells], float] | None = None

    @property
    def decides(self) -> bool:
        """Whether a verdict may rest on it."""
        return self.unrelated is not None


def member_means(x: Float[Tensor, "context member d"]) -> Float[Tensor, "member d"]:
    """Each member's mean over contexts, after every context's own mean: one row a unit, for CKA, RSA and Procrustes."""
    wide = x.double()
    return (wide - wide.mean(dim=1, keepdim=True)).mean(dim=0)


def cell_rows(x: Float[Tensor, "context member d"]) -> Float[Tensor, "row d"]:
    """Every member in every context as a row, without its context's mean: for CCA, which needs rows."""
    wide = x.double()
    return (wide - wide.mean(dim=1, keepdim=True)).reshape(-1, x.shape[2])


def _matched_null(x: Cells, y: Cells, orders: Orders) -> Null:
    _, own_x, own_y = matched_products(x, y)
    scale = 1 / np.sqrt(own_x * own_y) if own_x > 0 and own_y > 0 else np.nan
    return permuted_traces(member_products(x, y), orders) * scale


def _shared_null(x: Cells, y: Cells, orders: Orders) -> Null:
    _, own_x, own_y = matched_products(x, y)
    return permuted_traces(member_products(x, y), orders) * (2 / (own_x + own_y) if own_x + own_y > 0 else np.nan)


def _shared_per_cosine(x: Cells, y: Cells) -> float:
    _, own_x, own_y = matched_products(x, y)
    return float(2 * np.sqrt(own_x * own_y) / (own_x + own_y)) if own_x > 0 and own_y > 0 else float("nan")


def _unrelated_shares(x: Cells, y: Cells, directions: Directions) -> Unrelated:
    return unrelated_cosines(x, y, directions) * _shared_per_cosine(x, y)


def _retrieval_null(x: Cells, y: Cells, orders: Orders) -> Null:
    return permuted_traces(nearest_members(x, y), orders) / x.shape[1]


def _product_null(
    matrix: Callable[[Float[Tensor, "member d"]], Float[np.ndarray, "member member"]],
) -> Callable[..., Null]:
    """The null of a measure that is the cosine between two matrices of pairs of members."""

    def null(x: Cells, y: Cells, orders: Orders) -> Null:
        left, right = matrix(member_means(x)), matrix(member_means(y))
        own = np.linalg.norm(left) * np.linalg.norm(right)
        return permuted_products(left, right, orders) / (own if own > 0 else np.nan)

    return null


def _on_means(measure: Callable[[Tensor, Tensor], float]) -> Callable[[Cells, Cells], float]:
    return lambda x, y: measure(member_means(x), member_means(y))


def _on_rows(measure: Callable[[Tensor, Tensor], float]) -> Callable[[Cells, Cells], float]:
    return lambda x, y: measure(cell_rows(x), cell_rows(y))


def _held_out(x: Cells, y: Cells) -> float:
    return held_out_cca(cell_rows(x), cell_rows(y), np.tile(np.arange(x.shape[1]), x.shape[0]))


def _index_angles(x: Cells, y: Cells) -> float:
    """Mean squared cosine of the principal angles between the subspaces of the members' means, at most 4 of them."""
    spans = [torch.from_numpy(row_space(member_means(z).numpy())[2][:INDEX_RANK].copy()) for z in (x, y)]
    k = min(map(len, spans))
    return float(subspace_overlap(spans[0][:k], spans[1][:k])[-1]) if k else float("nan")


def _no_null(x: Cells, y: Cells, orders: Orders) -> Float[np.ndarray, " 1"]:
    """Subspaces do not depend on the order of the members: controls are their only company."""
    return np.array([_index_angles(x, y)])


def _by_repetition(value: Callable[[Cells, Cells], float]) -> Callable[..., Null]:
    return lambda x, y, orders: permuted_values(lambda permuted: value(x, permuted), y, orders)


MEASURES = MappingProxyType(
    {
        "matched_cosine": Measure(
            matched_cosine, _matched_null, unrelated=unrelated_cosines, per_cosine=lambda x, y: 1.0
        ),
        "shared_share": Measure(shared_share, _shared_null, unrelated=_unrelated_shares, per_cosine=_shared_per_cosine),
        "retrieval": Measure(retrieval, _retrieval_null, unrelated=unrelated_retrievals, most_draws=200),
        "cka": Measure(_on_means(linear_cka), _product_null(centred_gram)),
        "cka_debiased": Measure(_on_means(linear_cka_debiased), _product_null(u_centred_gram), least_members=10),
        "rsa": Measure(_on_means(rsa), _product_null(dissimilarity_ranks), least_members=4),
        "procrustes": Measure(_on_means(procrustes), _by_repetition(_on_means(procrustes)), most_orders=200),
        "principal_angles": Measure(_index_angles, _no_null),
        "cca": Measure(_held_out, _by_repetition(_held_out), most_orders=20, least_members=5),
        "svcca": Measure(_on_rows(svcca), _by_repetition(_on_rows(svcca)), most_orders=20),
        "pwcca": Measure(_on_rows(pwcca), _by_repetition(_on_rows(pwcca)), most_orders=20),
    }
)
"""By name; `cca` is the held-out correlation of the first canonical variates."""
