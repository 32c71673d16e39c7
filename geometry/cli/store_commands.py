"""`geometry info` and `geometry verify`: what a store holds, and whether it still does."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import filesize

from cache.errors import CorruptFileError
from geometry.cli import options
from geometry.cli.terminal import console

if TYPE_CHECKING:
    from cache.store import ActivationStore

StoreFile = Annotated[Path, typer.Argument(metavar="FILE", help="An .h5 file made by geometry cache.")]


def info(file: StoreFile, as_json: options.AsJson = False) -> None:
    """Say what a store holds: model, prompts, sites, rows, and how much of it is recorded."""
    from cache.store import ActivationStore

    with ActivationStore.open(file) as store:
        facts = _facts(store, file)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        sys.stdout.write(f"{name.ljust(width)}  {text}\n")


def verify(
    file: StoreFile,
    quick: Annotated[bool, typer.Option("--quick", help="Check all but the activations themselves.")] = False,
) -> None:
    """Compare a store with its checksums; exit code 4 if anything is not as it was written."""
    from cache.store import ActivationStore
    from cache.verify import verify_store

    with console().status(f"verifying {file}"):
        result = verify_store(file, quick=quick)
    for damage in result.damage[:20]:
        rows = f", rows {damage.rows[0]} to {damage.rows[1]}" if damage.rows else ""
        block = f", block {damage.block}" if damage.block is not None else ""
        sys.stdout.write(f"damaged: {damage.part}{block}{rows}\n")
    if result.damage:
        raise CorruptFileError(f"{file} is damaged in {len(result.damage)} place(s); record it anew")
    ActivationStore.open(file).close()
    part = "" if result.n_committed == result.n_blocks else f" of {result.n_blocks}; the rest is not recorded yet"
    checked = "checksums of everything but activations" if quick else "all checksums"
    sys.stdout.write(f"{file}: {checked} agree, {result.n_committed} blocks{part}\n")


def _facts(store: "ActivationStore", file: Path) -> dict[str, Any]:
    hard, soft = store.manifest["hard"], store.manifest["soft"]
    prompts = store.prompts
    kinds: dict[str, list[int]] = hard["hooks"]
    return {
        "file": str(file),
        "size": filesize.decimal(file.stat().st_size),
        "complete": store.complete,
        "model": soft["model"],
        "revision": hard["model revision"] or "none",
        "processing": hard["model processing"],
        "bos": hard["bos"],
        "prompts": len(prompts),
        "families": {family or "own": int(n) for family, n in prompts["family"].value_counts(sort=False).items()},
        "frames": {frame: int(n) for frame, n in prompts["frame"].value_counts(sort=False).items()},
        "kinds": {kind: int(n) for kind, n in prompts["kind"].value_counts(sort=False).items()},
        "rows": len(store.rows),
        "positions": hard["positions"],
        "sites": {kind: _ranges(layers) for kind, layers in kinds.items()},
        "dtype": hard["storage dtype"],
        "fingerprint": store.fingerprint,
        "created": store.created,
        "command": store.command,
    }


def _ranges(layers: list[int]) -> str:
    """Layers in short: 0-29, or 0,4-7."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and parts[-1][-1] == layer - 1:
            parts[-1][1:] = [layer]
        else:
            parts.append([layer])
    return ",".join("-".join(map(str, part)) for part in parts)
