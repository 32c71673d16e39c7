"""A user's own model wrapped without a second copy of its weights, which are watched from then on."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cache.errors import FingerprintError, InputError
from cache.models.wrapping import reason_of


@dataclass(frozen=True)
class SharedWeights:
    """Tensors that a wrapped model has in common with the user's own, as they were when it was hashed.

    Attributes:
        tensors: each with the name that it has in the user's model.
        versions: how often each parameter had been written to.
    """

    tensors: tuple[tuple[str, Tensor], ...]
    versions: tuple[tuple[Tensor, int], ...]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> "SharedWeights":
        """These tensors as they are now."""
        tensors = tuple(named)
        watched = [one for _, one in tensors if isinstance(one, torch.nn.Parameter) and not one.is_inference()]
        return cls(tensors, tuple((one, one._version) for one in watched))

    def check(self, name: str) -> None:
        """Refuse to go on with a model that was trained, or written to, since it was hashed.

        What goes past torch's count of writes (`parameter.data`, some optimizers of other libraries) is not seen here;
        a recording hashes the weights again.

        Args:
            name: how the message calls the model.

        Raises:
            FingerprintError: a parameter was written to.
        """
        if any(one._version != version for one, version in self.versions):
            raise changed(name)


class NeverWritten(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is in force, an operation that would write to some tensors raises before it does.

    Attributes:
        refused: whether one did; what it raised may have become another error on its way.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = {one.untyped_storage().data_ptr() for one in tensors}
        self.refused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {**dict(zip((one.name for one in func._schema.arguments), args, strict=False)), **kwargs}
        written = (given.get(one.name) for one in func._schema.arguments if one.alias_info and one.alias_info.is_write)
        for target in (one for value in written for one in (value if isinstance(value, list) else [value])):
            if isinstance(target, Tensor) and target.untyped_storage().data_ptr() in self._memory:
                self.refused = True
                raise RuntimeError(f"{func} would write to weights that are the user's")
        return func(*args, **kwargs)


def changed(name: str) -> FingerprintError:
    """What is raised where a model is no longer the one that was hashed."""
    return FingerprintError(f"the weights of {name!r} have changed since it was loaded; call load_model on it again")


def own_copy(hf_model: torch.nn.Module, *, share: bool) -> torch.nn.Module:
    """A copy of a model, in evaluation mode: its modules are new, and the original keeps its names and its mode.

    Args:
        hf_model: the model.
        share: whether parameters are those of the original in memory, so that a second model takes none; they are
            other objects all the same, so that gradients, moves and casts of either stay its own.

    Raises:
        InputError: something in the model cannot be copied.
    """
    shared = [
        one for one in hf_model.parameters() if share and type(one) is torch.nn.Parameter and not one.is_inference()
    ]
    known = {id(one): torch.nn.Parameter(one.detach(), requires_grad=one.requires_grad) for one in shared}
    try:
        copied: torch.nn.Module = copy.deepcopy(hf_model, known)
    except Exception as error:  # of whatever the model holds
        raise InputError(
            f"this {type(hf_model).__name__} cannot be copied ({reason_of(error)}); save it, and give the folder"
        ) from error
    return copied.eval()
