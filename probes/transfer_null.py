"""Steps that unrelated donors could give: a donor's own member-by-member structure, in directions of control codes."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

LEAST_POOL = 3
"""So many control families a null is drawn from at least."""


def unrelated_steps(
    code: Float[Tensor, "member place d"],
    controls: Sequence[Float[Tensor, "_ place d"]],
    *,
    start: int,
    n_draws: int,
    seed: int,
) -> Float[Tensor, "draw member place d"]:
    """Steps from one member to every member in codes that an unrelated family of the same structure could have.

    With Y the donor's code and C the controls' (all centred over members), a draw is `A W C`: A the symmetric root of
    `Y Y^T` keeps how the donor's members resemble one another, W is Gaussian. The same W serves at every place and,
    with the same seed, for every context and layer.

    Args:
        code: the donor's mean code.
        controls: those of control families.
        start: number of the member that steps lead from.
        n_draws: how many.
        seed: seeds W.
    """
    rows = torch.cat([one - one.mean(dim=0) for one in controls])
    weights = torch.from_numpy(np.random.default_rng([seed, 13]).normal(size=(n_draws, len(code), len(rows))))
    centred = code - code.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.einsum("ipd,jpd->pij", centred, centred))
    roots = vectors * values.clamp_min(0).sqrt()[:, None] @ vectors.transpose(1, 2)
    steps = roots - roots[:, start : start + 1]
    return torch.einsum("pij,bjpd->bipd", steps, torch.einsum("bjr,rpd->bjpd", weights, rows))
