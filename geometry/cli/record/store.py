"""`geometry info` and `geometry verify`: what a store holds, and whether it still does."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import filesize
from rich.markup import escape

from cache.errors import CorruptFileError
from geometry.cli.console import options
from geometry.cli.console.apart import read_apart
from geometry.cli.console.terminal import line_width, print_json, progress
from geometry.cli.tables.fitting import wrapped
from geometry.printable import printable

_LEAST_WIDTH = 20

StoreFile = Annotated[Path, typer.Argument(metavar="FILE", help="An .h5 file made by geometry cache.")]


def info(file: StoreFile, as_json: options.AsJson = False, quiet: options.Quiet = False) -> None:
    """Say what a store holds: model, prompts, sites, rows, and how much of it is recorded."""
    facts = read_apart("facts", file)
    if as_json:
        print_json(facts)
        return
    if quiet:
        return
    facts["bytes"] = f"{facts['bytes']:,} ({filesize.decimal(facts['bytes'])})"
    if "sites" in facts:
        facts["sites"] = {kind: _ranges(layers) for kind, layers in facts["sites"].items()}
    if not facts["complete"]:
        facts["complete"] = "False; the command below goes on"
    indent, width = max(map(len, facts)) + 2, line_width()
    for name, value in facts.items():
        many = isinstance(value, dict)
        text = printable(", ".join(f"{k} {v}" for k, v in value.items()) if many else str(value))
        # a path, a hash and a command are copied, and stay one line
        lines = wrapped(text, max(width - indent - 1, _LEAST_WIDTH), ", ") if many and width else [text]
        sys.stdout.write(name.ljust(indent) + f",\n{' ' * indent}".join(lines) + "\n")


def verify(
    file: StoreFile,
    quick: Annotated[bool, typer.Option("--quick", help="Check all but the activations themselves.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare a store with its checksums; exit code 4 if anything is not as it was written."""
    with progress(quiet=quiet or quick) as bar:
        bar.live.transient = True
        task = bar.add_task(f"verifying {escape(file.name)}", total=None, speed="")
        result = read_apart(
            "verification",
            file,
            *(["quick"] if quick else []),
            on_step=lambda done, total: bar.update(task, completed=done, total=total, speed=f"{done} of {total} sites"),
        )
    for name, block, rows in () if quiet else result["damage"][:20]:
        where = f", block {block}" if block is not None else ", the mark of a complete file"
        sys.stdout.write(f"damaged: {printable(name)}{where}" + (f", rows {rows[0]} to {rows[1]}\n" if rows else "\n"))
    n_damaged, n_blocks, n_committed = len(result["damage"]), result["n_blocks"], result["n_committed"]
    if n_damaged:
        mended = all(name == "log" for name, *_ in result["damage"])
        advice = "the command that made it mends that" if mended else "record it anew with --overwrite"
        raise CorruptFileError(f"{file} is damaged in {n_damaged} place{'s' * (n_damaged > 1)}; {advice}")
    part = "" if n_committed == n_blocks else f" of {n_blocks}; the rest is not recorded yet"
    checked = "checksums of everything but activations" if quick else "all checksums"
    if not quiet:
        sys.stdout.write(f"{file}: {checked} agree, {n_committed} blocks{part}\n")


def _ranges(layers: list[int]) -> str:
    """Layers in short: 0-29, or 0,4-7."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and parts[-1][-1] == layer - 1:
            parts[-1][1:] = [layer]
        else:
            parts.append([layer])
    return ",".join("-".join(map(str, part)) for part in parts)
