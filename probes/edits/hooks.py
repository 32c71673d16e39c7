"""Steering: edit a model's activations for the length of a `with` block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from cache import Hook, LoadedModel
from cache.errors import InputError
from cache.models.model import check_loaded
from geometry.bases.basis import FeatureBasis
from probes.directions.direction import Direction
from probes.edits.edit import Edit, addition, check_alone, removal
from probes.edits.positions import Positions, check_positions, edited_slots, text_positions

EDITABLE = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
"""Kinds of sites whose edits reach everything that reads them."""


@contextmanager
def steer(
    model: LoadedModel,
    direction: Direction | Sequence[Direction],
    alpha: float = 1.0,
    positions: Positions = "last",
) -> Iterator[None]:
    """Add `alpha * norm * vector` at a direction's site, or at several, until the block is left.

    Args:
        model: the model.
        direction: one, or several (at different layers, say).
        alpha: how often the direction's own step is added; 0 leaves every bit as it is.
        positions: `last` (of each text; tokens generated after it are left alone), `all` (of the text, BOS excepted,
            and what is generated), positions counted in the text's tokens, or a list of them for each text.

    Raises:
        InputError: the site cannot be edited, the direction has another width, or the positions are none.
        FingerprintError: the direction comes from a model with other weights.

    Example:
        >>> plain = generate(model, "1,2,3,", 4)
        >>> with steer(model, direction, alpha=20.0):
        ...     steered = generate(model, "1,2,3,", 4)
        >>> steered == plain, generate(model, "1,2,3,", 4) == plain  # hooks are gone after the block
        (False, True)
    """
    directions = [direction] if isinstance(direction, Direction) else list(direction)
    with edited(model, [addition(one, alpha) for one in directions], positions):
        yield


@contextmanager
def ablate(
    model: LoadedModel,
    what: Direction | FeatureBasis,
    positions: Positions = "all",
    *,
    features: Sequence[int] | None = None,
) -> Iterator[None]:
    """Remove a direction's component, or set features of a basis to 0, until the block is left.

    Doing it twice is doing it once, where features are read by inner products.

    Args:
        model: the model.
        what: the direction, or a basis that knows its site (`basis_at`).
        positions: as for `steer`.
        features: which features of the basis, counted from 0; None for all.

    Raises:
        InputError: as for `steer`, or the basis has no such feature or does not know its site.
        FingerprintError: it comes from a model with other weights.

    References: directional ablation, Arditi et al. 2024, eq. 4 (arXiv:2406.11717).

    Example:
        >>> with ablate(model, direction):
        ...     once = generate(model, "one,two,", 4)
        >>> with ablate(model, direction), ablate(model, direction):
        ...     once == generate(model, "one,two,", 4)
        True
    """
    with edited(model, [removal(what, features)], positions):
        yield


@contextmanager
def edited(model: LoadedModel, edits: Sequence[Edit], positions: Positions = "last") -> Iterator[None]:
    """Apply edits, in the order given, to whatever the model runs until the block is left, even by an error.

    Texts of a batch must be of equal length for `last`. Each pass without cached keys and values is a text of its own.

    Raises:
        InputError: as for `steer`.

    Example:
        >>> from probes import addition
        >>> with edited(model, [addition(direction, 1.5)], positions="all"):
        ...     both = generate(model, "1,2,3,", 4)
        >>> both == generate(model, "1,2,3,", 4, edits=[addition(direction, 1.5)], positions="all")
        True
    """
    check_loaded(model)
    check_alone(edits)
    check_positions(positions)
    for edit in edits:
        _check_site(model, edit)
    with ExitStack() as stack:
        for edit in edits:
            if not edit.idle:
                for handle in _attach(model, edit, positions):
                    stack.callback(handle.remove)
        yield


def _attach(model: LoadedModel, edit: Edit, positions: Positions) -> list[Any]:
    """Hooks that learn where a pass stands, and that change the site's output there."""
    hook = edit.hook
    passing: dict[str, Any] = {}

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = args[0] if args else kwargs["hidden_states"]
        passing["texts"] = stream.shape[:2]
        # asked before attention runs: by the time of the hook, the block's own cache has grown
        given = {**dict(zip(("past_key_values",), args[1:2], strict=False)), **kwargs}
        passing["places"] = text_positions(given, stream.shape[1], bos=model.bos, layer=hook.layer)

    def slots() -> Tensor:
        places, ends = passing["places"]
        return edited_slots(positions, places, passing["texts"][0], ends=ends)

    handles = [model.blocks[hook.layer].register_forward_pre_hook(note, with_kwargs=True)]
    if hook.kind == "resid_mid":
        return handles + _attach_resid_mid(model, edit, slots)

    def change(_: Any, __: Any, output: Tensor) -> Tensor:
        rows = model.rows_at(Hook(hook.kind, hook.layer), output, *passing["texts"])
        return _changed(edit, rows, slots()).reshape(output.shape)

    return [*handles, model.points[hook.name].register_forward_hook(change)]


def _changed(edit: Edit, output: Tensor, slots: Tensor) -> Tensor:
    """A copy of a site's rows with the edit made at the chosen slots."""
    new = output.clone(memory_format=torch.contiguous_format)
    rows = new.view(*output.shape[:2], -1) if edit.hook.head is None else new[:, :, edit.hook.head]
    where = slots.to(output.device)
    chosen = rows[where]
    rows[where] = chosen + edit.difference(chosen)
    return new


def _attach_resid_mid(model: LoadedModel, edit: Edit, slots: Callable[[], Tensor]) -> list[Any]:
    """Edit resid_mid by what it is the sum of: its hook is the MLP's input alone, and misses the skip path."""
    hook = edit.hook
    before: dict[str, Tensor] = {}
    entering = model.points.get(f"blocks.{hook.layer}.ln1.hook_in", model.points[Hook("resid_pre", hook.layer).name])
    adding = model.points[Hook("attn_out", hook.layer).name]

    def keep(_: Any, __: Any, output: Tensor) -> None:
        before["resid"] = output

    def change(_: Any, __: Any, output: Tensor) -> Tensor:
        where = slots().to(output.device)
        new = output.reshape(before["resid"].shape).clone()
        new[where] = new[where] + edit.difference(before["resid"][where] + new[where])
        return new.reshape(output.shape)

    return [
        entering.register_forward_hook(keep),
        adding.register_forward_hook(change),
        *_attach_sum_check(model, hook, before),
    ]


def _attach_sum_check(model: LoadedModel, hook: Hook, before: dict[str, Tensor]) -> list[Any]:
    """Refuse a block whose resid_mid is another sum than `before["resid"] + attn_out`, all edits included."""
    adding = model.points[Hook("attn_out", hook.layer).name]
    # what the hook's module gives is attn_out after every edit, those of later `with` blocks among them
    giving = next(one for one in model.blocks[hook.layer].modules() if adding in one.children())

    def add(_: Any, __: Any, output: Any) -> None:
        before["mid"] = before["resid"] + (output[0] if isinstance(output, tuple) else output)

    def check(_: Any, __: Any, output: Tensor) -> None:
        meant = before["mid"].detach()
        found = output.detach().reshape(meant.shape)
        if float((found - meant).abs().max()) > 1e-3 * float(found.abs().max()):
            raise InputError(
                f"{hook.name} of {model.name} is not resid_pre + attn_out, so it cannot be edited; edit resid_post"
            )

    return [giving.register_forward_hook(add), model.points[hook.name].register_forward_hook(check)]


def _check_site(model: LoadedModel, edit: Edit) -> None:
    hook = edit.hook
    if edit.weights:
        model.check_weights(edit.weights, "the direction or basis")
    if hook.kind not in EDITABLE:
        raise InputError(f"{hook.name} cannot be edited; sites that can are {', '.join(EDITABLE)}")
    if hook.layer >= model.n_layers:
        raise InputError(f"{model.name} has layers 0 to {model.n_layers - 1}; got {hook.name}")
    shape = model.row_shape(hook)
    if hook.kind == "resid_mid":
        model.row_shape(Hook("attn_out", hook.layer))  # where it is edited
    if hook.head is not None and hook.head >= shape[0]:
        raise InputError(f"{hook.name} of {model.name} has heads 0 to {shape[0] - 1}; got {hook.head}")
    width = shape[-1] if hook.head is not None else int(torch.tensor(shape).prod())
    if edit.width != width:
        raise InputError(f"{hook.name} of {model.name} has width {width}; the edit has {edit.width}")
