"""How SAEs read and write: a product, a nonlinearity that is declared, and a product of what is active."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import InputError

_SPARSE = 0.05
"""Up to this share of active features, a product with them alone is faster than one with all."""


@dataclass(frozen=True, eq=False)
class Nonlinearity:
    """What an SAE makes of each row of pre-activations.

    Attributes:
        name: `relu`; `jumprelu`: what is not above its threshold is 0, and so is what is negative; `gated`: where the
            pre-activation is positive, `relu(slope * pre + shift)`; `topk`: the k largest stay, negative ones as 0;
            `abstopk`: the k largest in magnitude stay, with their signs.
        threshold: of `jumprelu`, one a feature.
        slope: of `gated`, one a feature.
        shift: of `gated`, one a feature.
        k: of `topk` and `abstopk`.

    Example:
        >>> Nonlinearity("topk", k=2)(torch.tensor([[3.0, -1.0, 2.0, 1.0]]))
        tensor([[3., 0., 2., 0.]])
        >>> Nonlinearity("abstopk", k=2)(torch.tensor([[3.0, -4.0, 2.0, 1.0]]))
        tensor([[ 3., -4.,  0.,  0.]])
    """

    name: str
    threshold: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    slope: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    shift: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    k: int | None = None

    @property
    def by_element(self) -> bool:
        """Whether each feature's value depends on its own pre-activation alone."""
        return self.k is None

    def __call__(self, pre: Float[Tensor, "*rows feature"]) -> Float[Tensor, "*rows feature"]:
        """Feature values of pre-activations, which stay as they are."""
        return self.of_own(pre.clone())

    def of_own(self, pre: Float[Tensor, "*rows feature"]) -> Float[Tensor, "*rows feature"]:
        """Feature values of pre-activations, in whose memory they may be put."""
        if self.threshold is not None:
            return pre.masked_fill_(pre <= self.threshold.to(pre).clamp(min=0), 0)
        if self.slope is not None and self.shift is not None:
            closed = pre <= 0
            return pre.mul_(self.slope.to(pre)).add_(self.shift.to(pre)).masked_fill_(closed, 0).relu_()
        if self.k is None:
            return pre.relu_()
        if self.name == "topk":
            values, where = pre.topk(self.k, dim=-1, sorted=False)
            return torch.zeros_like(pre).scatter_(-1, where, values.relu())
        where = pre.abs().topk(self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(pre).scatter_(-1, where, pre.gather(-1, where))


def preactivations(
    x: Float[Tensor, "*rows width"],
    centre: Float[Tensor, " d"],
    encoder: Float[Tensor, "d feature"],
    bias: Float[Tensor, " feature"],
) -> Float[Tensor, "*rows feature"]:
    """`(x - centre) @ encoder + bias` in the wider of both precisions.

    The centre is taken off first, for what a mean and an encoder give can be far larger than what is left of it.

    Raises:
        InputError: the activations have another width.
    """
    if x.shape[-1] != len(centre):
        raise InputError(f"the SAE reads activations of width {len(centre)}; got {x.shape[-1]}")
    wide = torch.promote_types(x.dtype, encoder.dtype)
    centre, encoder, bias = (one.to(x.device, wide) for one in (centre, encoder, bias))
    rows = x.reshape(-1, x.shape[-1]).to(wide) - centre
    return torch.addmm(bias, rows, encoder).reshape(*x.shape[:-1], encoder.shape[1])


def written(
    features: Float[Tensor, "*rows n"], directions: Float[Tensor, "feature d"], offset: Float[Tensor, " d"]
) -> Float[Tensor, "*rows d"]:
    """`features @ directions + offset` in the precision of the features; of few active ones, with those alone.

    Raises:
        InputError: they are values of another number of features.
    """
    if features.shape[-1] != len(directions):
        raise InputError(f"the SAE has {len(directions)} features; got values of {features.shape[-1]}")
    wide = torch.promote_types(features.dtype, directions.dtype)
    directions, offset = (one.to(features.device, wide) for one in (directions, offset))
    rows = features.reshape(-1, features.shape[-1]).to(wide)
    if _is_sparse(rows):
        row, feature = rows.nonzero(as_tuple=True)
        starts = torch.searchsorted(row, torch.arange(len(rows)))
        bag = torch.nn.functional.embedding_bag
        out = bag(feature, directions, starts, mode="sum", per_sample_weights=rows[row, feature]) + offset
    else:
        out = torch.addmm(offset, rows, directions)
    return out.reshape(*features.shape[:-1], directions.shape[1]).to(features.dtype)


def _is_sparse(rows: Float[Tensor, "row feature"]) -> bool:
    """Whether few values are not 0, and none is differentiated: slopes of inactive features would be lost."""
    if rows.device.type != "cpu" or rows.requires_grad or not rows.numel():
        return False
    return 0 < int(torch.count_nonzero(rows)) <= _SPARSE * rows.numel()


def written_active(
    numbers: Int[Tensor, "row slot"],
    values: Float[Tensor, "row slot"],
    directions: Float[Tensor, "feature d"],
    offset: Float[Tensor, " d"],
) -> Float[Tensor, "row d"]:
    """What active features write: the same as `written` of all, from (row, slot) numbers of features and values.

    Args:
        numbers: of features; -1 where a slot is empty.
        values: theirs; not looked at where a slot is empty.
        directions: what one unit of each feature adds.
        offset: what is there without any.
    """
    empty = numbers < 0
    bag = torch.nn.functional.embedding_bag
    kept = values.to(directions.dtype).masked_fill(empty, 0)
    return bag(numbers.masked_fill(empty, 0), directions, mode="sum", per_sample_weights=kept) + offset


def slots_of(
    features: Float[Tensor, "row feature"], n_slots: int
) -> tuple[Int[Tensor, "row slot"], Float[Tensor, "row slot"]]:
    """The way back from all features: numbers of the active ones, ascending, and their values; -1 and 0 where none is.

    Args:
        features: values of all features, of which no row has more than `n_slots` that are not 0.
        n_slots: how many there is room for.

    Example:
        >>> numbers, values = slots_of(torch.tensor([[0.0, 3.0, -1.0], [0.0, 0.0, 0.0]]), 2)
        >>> numbers.tolist(), values.tolist()
        ([[1, 2], [-1, -1]], [[3.0, -1.0], [0.0, 0.0]])
    """
    row, feature = features.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(features))
    slot = torch.arange(len(row)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    numbers, values = torch.full((len(features), n_slots), -1), features.new_zeros(len(features), n_slots)
    numbers[row, slot] = feature
    values[row, slot] = features[row, feature]
    return numbers, values
