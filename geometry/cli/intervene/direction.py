"""`geometry direction`: from one family, or group of prompts, to another, as a file to steer with."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel, model_words, needed_model
from geometry.cli.console.terminal import console
from geometry.cli.record.store import StoreFile
from geometry.printable import printable

if TYPE_CHECKING:
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
    from probes.directions.contrasts import contrast
    from probes.directions.files import save_direction

    with ActivationStore.open(file) as store:
        pairs = contrast(store.view(site, where=where), source, target)
        last = max(hook.layer for hook in store.hooks)
        hook = Hook(site, layer if layer >= 0 else last + 1 + layer, head)
        path = out or _default_path(source, target, hook, method)
        check_file(path)
        found = _found(store, pairs, hook, method, model, quiet=quiet)
        stability = _stability(store, pairs, hook, method)
    save_direction(found, path)
    described = {
        "hook": hook.name,
        "head": head,
        "method": method,
        "source": source,
        "target": target,
        "norm": found.norm,
        "cosine_between_halves": stability,
        "n_pairs": len(pairs),
        "n_members": int(pairs.table["answer"].nunique()),
        "n_templates": int(pairs.table["context"].nunique()),
        "file": str(path),
    }
    if as_json:
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
        return
    steady = "no halves to compare" if stability is None else f"cosine between halves of the templates {stability:.3f}"
    text = str(store.prompts["text"].iloc[pairs.table["source_prompt"].iloc[0]])
    prompt = ["--prompt", text if text.isprintable() and len(text) <= _SHOWN else "1,2,3,"]
    place = hook.name if head is None else f"{hook.name} head {head}"
    sys.stdout.write(
        f"{method}, {printable(source)} -> {printable(target)} at {place}: norm {found.norm:.4g}, {len(pairs)} pairs, "
        f"{described['n_members']} answers, {described['n_templates']} templates, {steady}\n"
    )
    console(quiet=quiet).print(
        f"{path}\ntry: " + shlex.join(["geometry", "steer", *model_words(store), "--direction", str(path), *prompt]),
        markup=False,
    )


def _default_path(source: str, target: str, hook: "Hook", method: str) -> Path:
    parts = [source, target, hook.kind, str(hook.layer), *([] if hook.head is None else [f"head{hook.head}"])]
    parts += [] if method == "mean_difference" else [method]
    return Path("directions") / f"{options.file_stem(*parts)}.safetensors"


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
    from probes.directions.direction import METHODS, cosine, find_direction

    contexts = list(dict.fromkeys(pairs.table["context"]))
    if len(contexts) < 2 or method not in METHODS:
        return None
    even = pairs.table["context"].isin(contexts[::2]).to_numpy()
    return cosine(
        find_direction(store, pairs.subset(even), hook, method),
        find_direction(store, pairs.subset(~even), hook, method),
    )
