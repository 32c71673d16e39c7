"""`geometry direction`: from one family, group of prompts or member to another, as a file to steer with."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel, model_words, needed_model
from geometry.cli.console.terminal import console, print_json
from geometry.cli.record.store import StoreFile
from geometry.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.models.hooks import Hook
    from cache.store.store import ActivationStore
    from probes.directions.contrasts import Contrast
    from probes.directions.direction import Direction

_SHOWN = 100  # characters of a prompt that may stand in a command to be typed

Source = Annotated[str, typer.Option("--from", help="The family, or group of your own prompts, to start from.")]
Target = Annotated[str, typer.Option("--to", help="The family or group to lead to.")]


def direction(
    file: StoreFile,
    source: Source,
    target: Target,
    layer: Annotated[int, typer.Option(help="The layer, from 0; -1 is the last.")],
    family: Annotated[
        str | None,
        typer.Option(
            help="Within this family: --from and --to are members' numbers (2 and 5 make 2 act as 5, at tokens that "
            "show it), or next and previous."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="mean_difference pca logistic lda mean_only unembedding_difference.")
    ] = "mean_difference",
    site: options.Site = "resid_post",
    head: Annotated[int | None, typer.Option(help="With --site z: which attention head.")] = None,
    where: options.Where = None,
    model: NeededModel = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: directions/<from>-<to>-<site>-<layer>[-<method>].safetensors.")
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Estimate the direction from one family to another at one site, and save it as safetensors."""
    from cache.models.hooks import Hook
    from cache.store.store import ActivationStore
    from cache.whole_files import check_file
    from probes.directions.files import save_direction

    with ActivationStore.open(file) as store:
        last = max(hook.layer for hook in store.hooks)
        hook = Hook(site, layer if layer >= 0 else last + 1 + layer, head)
        path = out or _default_path([*filter(None, [family]), source, target], hook, method)
        check_file(path)
        if family is None:
            ends = _between_groups(store, (source, target), hook, method, where, model, quiet=quiet)
        else:
            ends = _within_family(store, family, (source, target), hook, method, where)
    found = ends.direction
    save_direction(found, path)
    described: dict[str, Any] = {"hook": hook.name, "head": head, "method": found.method, "source": found.source}
    described |= {"target": found.target, "norm": found.norm, **ends.numbers, "file": str(path)}
    if as_json:
        print_json(described)
        return
    if quiet:
        return
    place = hook.name if head is None else f"{hook.name} head {head}"
    ways = f"{printable(found.source)} -> {printable(found.target)}"
    sys.stdout.write(f"{found.method}, {ways} at {place}: norm {found.norm:.4g}{_said(ends.numbers)}\n")
    tried = ["geometry", "steer", *model_words(store), "--direction", str(path), *ends.tried]
    console(quiet=quiet).print(f"{path}\ntry: " + shlex.join(tried))


class _Ends(NamedTuple):
    """A direction, what is noted of how it was found, and the options of `geometry steer` that try it."""

    direction: "Direction"
    numbers: dict[str, Any]
    tried: list[str]


def _default_path(ends: "Sequence[str]", hook: "Hook", method: str) -> Path:
    parts = [*ends, hook.kind, str(hook.layer), *([] if hook.head is None else [f"head{hook.head}"])]
    parts += [] if method == "mean_difference" else [method]
    return Path("directions") / f"{options.file_stem(*parts)}.safetensors"


def _said(numbers: dict[str, Any]) -> str:
    """What the numbers of a direction between groups say; nothing without."""
    if not numbers:
        return ""
    steady = numbers["cosine_between_halves"]
    halves = "no halves to compare" if steady is None else f"cosine between halves of the templates {steady:.3f}"
    return f", {numbers_in(numbers, 'pair', 'member', 'template', member=numbers['unit'])}, {halves}"


def _between_groups(
    store: "ActivationStore",
    ends: tuple[str, str],
    hook: "Hook",
    method: str,
    where: str | None,
    model: str | None,
    *,
    quiet: bool,
) -> _Ends:
    from probes.directions.contrasts import contrast, unit_name

    pairs = contrast(store.view(hook.kind, where=where), *ends)
    found = _found(store, pairs, hook, method, model, quiet=quiet)
    numbers = {
        "cosine_between_halves": _stability(store, pairs, hook, method),
        "n_pairs": len(pairs),
        "n_members": int(pairs.table["unit"].nunique()),
        "unit": unit_name(pairs.table),
        "n_templates": int(pairs.table["context"].nunique()),
    }
    return _Ends(found, numbers, _prompt(store, int(pairs.table["source_prompt"].iloc[0])))


def _within_family(
    store: "ActivationStore", family: str, ends: tuple[str, str], hook: "Hook", method: str, where: str | None
) -> _Ends:
    """From a member to another, tried where the first is shown; or from next to previous or back."""
    from cache.errors import InputError
    from probes.directions.members import member_edit, reversal

    if method != "mean_difference":
        raise InputError(f"within a family a direction is a mean difference; got --method {method}")
    rows = store.rows[store.rows["family"] == family]
    if set(ends) == {"next", "previous"}:
        found = reversal(store, hook, family, where=where or "is_last")
        kind = "increasing" if ends[0] == "next" else "decreasing"
        first = rows[store.prompts["kind"].to_numpy()[rows["prompt"]] == kind].iloc[0]
        return _Ends(found if ends[0] == "next" else -found, {}, _prompt(store, int(first["prompt"])))
    if not all(one.isdecimal() for one in ends):
        raise InputError(
            f"with --family, --from and --to are numbers of its members (2 and 5), or next and previous; got {ends[0]} "
            f"and {ends[1]}"
        )
    i, j = map(int, ends)
    found = member_edit(store, hook, family, i, j, where=where or "member >= 0")
    first = rows[rows["value"] == i].iloc[0]
    return _Ends(found, {}, [*_prompt(store, int(first["prompt"])), "--positions", str(first["position"])])


def _prompt(store: "ActivationStore", number: int) -> list[str]:
    text = str(store.prompts["text"].iloc[number])
    return ["--prompt", text if text.isprintable() and len(text) <= _SHOWN else "1,2,3,"]


def _found(
    store: "ActivationStore", pairs: "Contrast", hook: "Hook", method: str, model: str | None, *, quiet: bool
) -> "Direction":
    from cache.errors import InputError
    from probes.directions.direction import direction_of, find_direction, unembedding_difference

    if method != "unembedding_difference":
        return find_direction(store, pairs, hook, method)
    if hook.kind not in ("resid_pre", "resid_mid", "resid_post"):
        raise InputError(f"unembedding_difference is a direction of the residual stream; got {hook.name}")
    loaded = needed_model(store, model, quiet=quiet)
    words = list(zip(pairs.table["source_answer"], pairs.table["answer"], strict=True))
    return direction_of(
        unembedding_difference(loaded, words),
        hook,
        method,
        norm=find_direction(store, pairs, hook).norm,
        source=pairs.source,
        target=pairs.target,
        fingerprint=store.fingerprint,
        weights=loaded.weights,
    )


def _stability(store: "ActivationStore", pairs: "Contrast", hook: "Hook", method: str) -> float | None:
    """Cosine between the directions of two halves of the templates; None of one template, or if it needs no rows."""
    from probes.directions.direction import cosine, find_direction
    from probes.directions.estimators import METHODS

    contexts = list(dict.fromkeys(pairs.table["context"]))
    if len(contexts) < 2 or method not in METHODS:
        return None
    even = pairs.table["context"].isin(contexts[::2]).to_numpy()
    return cosine(*(find_direction(store, pairs.subset(half), hook, method) for half in (even, ~even)))
