"""`geometry steer`: what a model says next with and without a direction."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.terminal import load_model_aloud, print_json, print_tables
from geometry.cli.tables.shown import Shown
from geometry.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from cache.models.model import LoadedModel
    from probes.directions.direction import Direction
    from probes.edits.edit import Edit
    from probes.sae.basis import SAEBasis


def steer(
    model: options.ModelName,
    prompt: Annotated[str, typer.Option(help="The text to steer.")],
    direction: Annotated[
        list[Path] | None,
        typer.Option("--direction", help="A file of geometry direction; give several to add several."),
    ] = None,
    swapped: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--exchange", help="Two such files of one site: exchange how much of each there is, in their own steps."
        ),
    ] = None,
    basis: Annotated[
        Path | None,
        typer.Option(help="A folder of geometry pca, svd, nmf or demix: with --layer and --feature, steer along one."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="With --basis: which layer of it.")] = None,
    sae: Annotated[
        str | None,
        typer.Option(
            help="A folder with an SAE, or a release: with --feature, steer along one; alpha counts in its units."
        ),
    ] = None,
    sae_id: options.SAEId = None,
    feature: Annotated[int | None, typer.Option(help="With --basis or --sae: which feature, from 0.")] = None,
    alpha: Annotated[float, typer.Option(help="How often the direction's own step is added; 0 changes nothing.")] = 1.0,
    positions: Annotated[
        str, typer.Option(help="last (of the prompt), all (and what is generated), or places counted from 0: 0,4.")
    ] = "last",
    tokens: Annotated[int, typer.Option(help="How many tokens to continue with.")] = 12,
    top: Annotated[int, typer.Option(help="How many likely next tokens to show.")] = 5,
    device: options.Device = "auto",
    bos: options.Bos = True,
    revision: options.Revision = None,
    processing: options.Processing = "none",
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """The likeliest next tokens before and after, side by side, and how the text goes on."""
    from probes.directions.features import feature_direction
    from probes.directions.files import load_direction
    from probes.edits.edit import addition, exchange
    from probes.sae.load import matched

    where: str | list[int] = positions
    if positions not in ("last", "all"):
        where = options.numbers(positions, int, "--positions takes last, all, or numbers such as 0,4")
    if not prompt:
        raise InputError("--prompt takes a text of at least one character; got none")
    if top < 1 or tokens < 1:
        raise InputError(f"--top and --tokens must be 1 or more; got {min(top, tokens)}")
    if not (direction or swapped or basis or sae):
        raise InputError(
            "nothing to steer with is given; give --direction, --basis, --sae, or --exchange with two directions"
        )
    features = _sae(sae, sae_id, feature, other=basis is not None)
    directions = [] if features else _feature(basis, layer, feature)
    directions += [load_direction(path) for path in direction or ()]
    both = [load_direction(path) for path in swapped or ()]
    loaded = load_model_aloud(model, device=device, bos=bos, revision=revision, processing=processing, quiet=quiet)
    if features is not None and feature is not None:
        directions.insert(0, feature_direction(matched(features, loaded), feature))
    edits = [addition(one, alpha) for one in directions] + ([exchange(*both)] if both else [])
    found = {
        name: _said(loaded, prompt, edits, where, tokens, top) for name, edits in (("before", []), ("after", edits))
    }
    if as_json:
        print_json({"prompt": prompt, "alpha": alpha, "positions": positions, **found})
        return
    what = " + ".join(f"{_way(one)} at {one.hook.name}" for one in directions)
    if both:
        ways = " for ".join(map(_way, both))
        what = ", ".join([*filter(None, [what]), f"{ways} at {both[0].hook.name}"])
    title = f"{prompt!r}, {what}, alpha {alpha:g}, positions {positions}"
    print_tables([Shown(_side_by_side(found), title)], full=full, quiet=quiet)
    for name, said in () if quiet else found.items():
        sys.stdout.write(printable(f"{name:>6}: {prompt}{said['continuation']}", keep="\n\t") + "\n")


def _feature(basis: Path | None, layer: int | None, feature: int | None) -> "list[Direction]":
    """The direction of the feature that is asked for, if one is."""
    from geometry.results.result import LayerResult
    from probes.directions.features import saved_feature

    if (basis is None) != (layer is None) or (basis is None) != (feature is None):
        raise InputError("--basis, --layer and --feature go together: a folder, a layer, and a component from 0")
    if basis is None or layer is None or feature is None:
        return []
    return [saved_feature(LayerResult.load(basis), layer, feature)]


def _sae(sae: str | None, sae_id: str | None, feature: int | None, *, other: bool) -> "SAEBasis | None":
    """The SAE that is asked for, if one is."""
    from probes.sae.load import load_sae

    if sae is None:
        return None
    if feature is None or other:
        raise InputError("--sae goes with --feature, and not with --basis: a folder or release, and a feature from 0")
    return load_sae(sae, sae_id)


def _way(one: "Direction") -> str:
    return f"{one.source} -> {one.target}" if one.source else one.target


def _said(
    model: "LoadedModel", prompt: str, edits: "list[Edit]", positions: "str | list[int]", n_tokens: int, top: int
) -> dict[str, Any]:
    """The likeliest next tokens with their probabilities, and a greedy continuation."""
    import torch

    from probes.edits.generation import generate, text_tokens
    from probes.edits.hooks import edited

    text = text_tokens(model, prompt)
    with edited(model, edits, positions) if edits else nullcontext(), torch.inference_mode():
        chances = model.last_logits(text)[0].softmax(dim=-1)
    best = chances.topk(min(top, len(chances)))
    ids = generate(model, prompt, n_tokens, edits=edits, positions=positions)
    return {
        "top": [
            {"token": model.tokenizer.decode([int(i)]), "probability": float(p)}
            for p, i in zip(best.values, best.indices, strict=True)
        ],
        "continuation": model.tokenizer.decode(ids),
    }


def _side_by_side(found: dict[str, dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for name, said in found.items():
        columns[name] = [repr(line["token"]) for line in said["top"]]
        columns[f"p {name}"] = [line["probability"] for line in said["top"]]
    return pd.DataFrame(columns)
