"""Sites of a transformer, under TransformerLens's classic hook names."""

import difflib
import fnmatch
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, SupportsIndex

from cache.errors import InputError

KINDS = MappingProxyType(
    {
        "resid_pre": "hook_resid_pre",
        "q": "attn.hook_q",
        "k": "attn.hook_k",
        "v": "attn.hook_v",
        "z": "attn.hook_z",
        "attn_out": "hook_attn_out",
        "resid_mid": "hook_resid_mid",
        "mlp_post": "mlp.hook_post",
        "mlp_out": "hook_mlp_out",
        "resid_post": "hook_resid_post",
    }
)
"""Kind -> the end of its hook name, in the order in which a block computes them."""

GROUPS = MappingProxyType({"heads": ("z",), "mlp": ("mlp_out",), "neurons": ("mlp_post",)})
"""Group -> kinds. The group `resid` (the embedding and every block's output) is not one kind of all layers."""

_HAVE_HEADS = ("q", "k", "v", "z")
_NAME = re.compile(r"blocks\.(\d{1,9})\.(.+)")


@dataclass(frozen=True)
class Hook:
    """A site: what is read (`kind`), in which block (0-based `layer`), of which attention head if only one.

    Raises:
        InputError: the kind is not one of `KINDS`, the layer or head is negative, or a head is named at a
            site that has none.

    Example:
        >>> Hook("z", 3, head=0).name
        'blocks.3.attn.hook_z'
        >>> Hook.parse("blocks.3.hook_resid_post")
        Hook(kind='resid_post', layer=3, head=None)
    """

    kind: str
    layer: int
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"no site kind {self.kind!r}; {_suggest(self.kind, KINDS)}")
        if self.layer < 0:
            raise InputError(f"a hook's layer counts from 0; got {self.layer}")
        if self.head is not None and not self.has_heads:
            raise InputError(f"{self.kind} has no heads; got head {self.head}")
        if self.head is not None and self.head < 0:
            raise InputError(f"a hook's head counts from 0; got head {self.head}")

    @property
    def name(self) -> str:
        """TransformerLens's name of the site, which is also its dataset's name in a store."""
        return f"blocks.{self.layer}.{KINDS[self.kind]}"

    @property
    def has_heads(self) -> bool:
        """Whether a row of the whole site is one of several heads, each with numbers of its own."""
        return self.kind in _HAVE_HEADS

    @property
    def table_layer(self) -> int:
        """The layer in tables and figures: -1 for the embedding (resid_pre of block 0), else `layer`."""
        return -1 if (self.kind, self.layer) == ("resid_pre", 0) else self.layer

    @classmethod
    def parse(cls, name: str) -> "Hook":
        """The hook of a classic name such as `blocks.3.attn.hook_z`.

        Raises:
            InputError: the name is not one; the message names the nearest.
        """
        match = _NAME.fullmatch(name)
        for kind, suffix in KINDS.items():
            if match and match[2] == suffix:
                return cls(kind, int(match[1]))
        layer = match[1] if match else "0"
        raise InputError(f"no hook {name!r}; {_suggest(name, [f'blocks.{layer}.{s}' for s in KINDS.values()])}")


HookLike = Hook | str | tuple[str, SupportsIndex]
"""A site, its name, or its kind and layer."""

Layers = str | SupportsIndex | Collection[SupportsIndex]
"""A layer, several, or a string: `all`, or a list of layers and ranges such as `0,4-7,-1`."""


def as_hook(hook: HookLike) -> Hook:
    """The site that a hook, its name, or kind and layer mean.

    Example:
        `as_hook(("resid_post", 6)) == as_hook("blocks.6.hook_resid_post") == Hook("resid_post", 6)`

    Raises:
        InputError: it is none of these, or there is no such kind or layer.
    """
    if isinstance(hook, Hook):
        return hook
    if isinstance(hook, str):
        return Hook.parse(hook)
    pair: Any = hook
    try:
        kind, number = pair
        layer = operator.index(number)
    except (TypeError, ValueError) as error:
        raise InputError(f"a site is a Hook, its name, or kind and layer; got {hook!r}") from error
    return Hook(str(kind), layer)


def recorded_hook(hook: HookLike, hooks: Sequence[Hook], file: str) -> Hook:
    """The one of a file's sites that is meant; a negative layer counts from the last one that it has of the kind.

    Raises:
        InputError: the file has no such site; the message names near ones.
    """
    if isinstance(hook, tuple) and len(hook) == 2 and isinstance(hook[1], SupportsIndex):
        kind, layer = hook[0], operator.index(hook[1])
        last = max((known.layer for known in hooks if known.kind == kind), default=-1)
        if layer < 0 <= last and last + 1 + layer < 0:
            raise InputError(f"{file} has layers up to {last} of {kind}; got {layer}")
        hook = (kind, layer if layer >= 0 or last < 0 else last + 1 + layer)
    name = hook if isinstance(hook, str) else as_hook(hook).name
    names = [known.name for known in hooks]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
        raise InputError(f"{file} has no {name!r}; near it are {', '.join(near)}")
    return as_hook(hook)


def layers_text(layers: Layers) -> str:
    """Layers as results note them: a string as it is, numbers as a list in order (`0,1,5`).

    Raises:
        InputError: they are not whole numbers.
    """
    if isinstance(layers, str):
        return layers
    try:
        return ",".join(map(str, sorted(_whole_numbers(layers))))
    except TypeError as error:
        raise InputError(f"layers must be 'all' or a list such as 0,4-7,-1; got {layers!r}") from error


def select_hooks(sites: str | Iterable[str], layers: Layers, n_layers: int) -> tuple[Hook, ...]:
    """The hooks that a description names, in the order in which a forward pass computes them.

    Args:
        sites: groups (`resid`, `heads`, `mlp`, `neurons`), kinds (`resid_mid`), hook names, or wildcards
            over hook names (`blocks.*.hook_mlp_out`); a comma-separated string or several strings.
        layers: `all`, numbers, or a string of layers and ranges such as `0,4-7,-1`; limits groups, kinds and
            wildcards.
        n_layers: blocks of the model.

    Raises:
        InputError: a site or layer is not there; the message names near ones.
    """
    wanted = _parts(sites)
    if not wanted:
        raise InputError("no sites given; try resid,heads,mlp")
    chosen = parse_layers(layers, n_layers)
    hooks = {hook for site in wanted for hook in _hooks_of(site, chosen, n_layers)}
    return in_order(hooks)


def in_order(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Hooks in the order in which a forward pass computes them."""
    order = list(KINDS)
    return tuple(sorted(hooks, key=lambda hook: (hook.layer, order.index(hook.kind))))


def layers_by_kind(hooks: Iterable[Hook]) -> dict[str, list[int]]:
    """The layers of each kind, in the order of the hooks."""
    kinds: dict[str, list[int]] = {}
    for hook in hooks:
        kinds.setdefault(hook.kind, []).append(hook.layer)
    return kinds


def parse_layers(layers: Layers, n_layers: int) -> tuple[int, ...]:
    """Layers from numbers, `all`, or a string of numbers and inclusive ranges; -1 is the last layer.

    Raises:
        InputError: they are not such, or name a layer the model does not have.
    """
    text = layers_text(layers)
    if text.strip() == "all":
        return tuple(range(n_layers))
    chosen: set[int] = set()
    for part in _parts(text):
        match = re.fullmatch(r"(-?\d{1,9})(?:-(\d{1,9}))?", part)
        if not match:
            raise InputError(f"layers must be 'all' or a list such as 0,4-7,-1; got {part!r}")
        first = int(match[1]) + (n_layers if match[1].startswith("-") else 0)
        last = int(match[2]) if match[2] else first
        if not 0 <= first <= last < n_layers:
            raise InputError(f"the model has layers 0 to {n_layers - 1}; got {part!r}")
        chosen.update(range(first, last + 1))
    if not chosen:
        raise InputError("no layers given; try all")
    return tuple(sorted(chosen))


def _whole_numbers(layers: Any) -> set[int]:
    several = isinstance(layers, Collection) and getattr(layers, "ndim", 1) > 0  # an array of no axis is one number
    numbers = list(layers) if several else [layers]
    if any(isinstance(number, bool) for number in numbers):
        raise TypeError("True and False are no numbers of layers")
    return {operator.index(number) for number in numbers}


def _hooks_of(site: str, layers: tuple[int, ...], n_layers: int) -> list[Hook]:
    if site == "resid":
        embed = [Hook("resid_pre", 0)] if 0 in layers else []
        return embed + [Hook("resid_post", layer) for layer in layers]
    if site in GROUPS or site in KINDS:
        return [Hook(kind, layer) for kind in GROUPS.get(site, (site,)) for layer in layers]
    if any(mark in site for mark in "*?["):
        hooks = [Hook(kind, layer) for layer in layers for kind in KINDS]
        matches = [hook for hook in hooks if fnmatch.fnmatchcase(hook.name, site)]
        if not matches:
            raise InputError(f"no hook of the chosen layers matches {site!r}; try blocks.*.hook_mlp_out")
        return matches
    if not site.startswith("blocks."):
        raise InputError(f"no site {site!r}; {_suggest(site, ['resid', *GROUPS, *KINDS])}")
    hook = Hook.parse(site)
    if hook.layer >= n_layers:
        raise InputError(f"the model has layers 0 to {n_layers - 1}; got {site!r}")
    return [hook]


def _parts(text: str | Iterable[str]) -> list[str]:
    strings = [text] if isinstance(text, str) else list(text)
    return [part.strip() for string in strings for part in string.split(",") if part.strip()]


def _suggest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5) or names
    return "did you mean " + " or ".join(near) + "?" if len(near) <= 3 else "known are " + ", ".join(near)
