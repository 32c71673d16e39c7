"""`geometry probe`: what linear probes read off members and templates that they have not seen, layer by layer."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.terminal import console, drawing, print_table
from geometry.cli.console.viewed import viewed
from geometry.cli.record.store import StoreFile

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from geometry.results.result import LayerResult
    from probes.linear.tasks import Question

_SHORT = [
    "layer",
    "target",
    "leave_out",
    "value",
    "ci_low",
    "ci_high",
    "chance",
    "selectivity",
    "control_max",
    "p",
    "q",
]


def probe(
    file: StoreFile,
    target: Annotated[
        str,
        typer.Option(help="What is read, comma-separated: family member number angle; default: all that apply."),
    ] = "",
    leave_out: Annotated[
        str,
        typer.Option(help="What the probe is scored on and has not seen: member template, comma-separated."),
    ] = "member,template",
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.SpreadLayers = "spread",
    where: options.Where = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Members left out: drop training prompts that show them at all.")
    ] = False,
    period: Annotated[
        float | None, typer.Option(help="Ordinals in a circle, for angle; default: the cyclic family's length.")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Times that members are permuted, for description.")] = 19,
    draws: Annotated[int, typer.Option(help="Draws of other families in their place; 19 allow p = .05.")] = 19,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """What can be read linearly off unseen members and templates: family, member, number, angle; beside chance."""
    from probes.linear.by_layer import probes_by_layer
    from probes.linear.joined import join_probes

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-probe")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        questions = _questions(view.store, names, target, leave_out)
        asked = [replace(one, strict=strict, period=period) for one in questions]
        results = probes_by_layer(view, asked, n_permutations=permutations, n_draws=draws, seed=seed, loop=loop)
        _write(join_probes(results), folder, as_json=as_json, quiet=quiet)


def _questions(store: "ActivationStore", names: list[str] | None, target: str, leave_out: str) -> "list[Question]":
    """Every target with everything that is left out, without what makes no sense unless nothing else is asked for."""
    from geometry.rows.cells import CONTROL_PREFIX
    from probes.linear.tasks import TARGETS, Question

    known = names or [name for name in dict.fromkeys(store.rows["family"]) if not name.startswith(CONTROL_PREFIX)]
    targets = _words(target) or [name for name in TARGETS if name != "family" or len(known) > 1]
    groups = _words(leave_out)
    if not groups:
        raise InputError("--leave-out takes member, template or both; got none")
    probes = list(product(targets, groups))
    sensible = [one for one in probes if one != ("member", "member")] or probes
    return [Question(wanted, left_out, names) for wanted, left_out in sensible]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _write(result: "LayerResult", folder: Path, *, as_json: bool, quiet: bool) -> None:
    from geometry.report import write_report
    from geometry.results.over import forget
    from geometry.stats.uncertainty import LEAST_MEMBERS
    from probes.linear.figures import probes_by_layer

    say = console(quiet=quiet)
    with drawing(quiet=quiet):
        paths = write_report(result, {"probes": probes_by_layer(result)}, folder)
    forget(folder)
    counts = result.table.iloc[0]
    if as_json:
        sys.stdout.write(result.table.to_json(orient="records", indent=2) + "\n")
    else:
        what = f"{counts['n_rows']} rows, {counts['n_members']} members, {counts['n_templates']} templates"
        print_table(result.table[_SHORT], title=f"linear probes of {result.parameters['site']}: {what}")
    if counts["n_members"] < LEAST_MEMBERS:
        say.print(f"{counts['n_members']} members in common: no errors; they take {LEAST_MEMBERS}", markup=False)
    if result.table["p"].isna().all():
        say.print("no p values: they take 19 draws of control families; record control:0-19", markup=False)
    say.print(f"rows: {result.parameters['where']}\n" + "\n".join(str(path) for path in paths), markup=False)
