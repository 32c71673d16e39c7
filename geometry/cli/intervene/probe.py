"""`geometry probe`: what linear probes read off members and templates that they have not seen, layer by layer."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from cache.shown.counts import numbers_in
from geometry.cli.console import options
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.console.viewed import Asked, viewed
from geometry.cli.record.store import StoreFile
from geometry.cli.tables.cells import intervals, worded
from geometry.cli.tables.shown import Shown
from geometry.rows.names import names_of

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from geometry.results.result import LayerResult
    from probes.linear.tasks import Question

_SHORT = ["layer", "target", "left out", "value", "95 %", "chance", "control max", "p", "q", "selectivity"]


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
    rows: options.RowsOfPrompts = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Members left out: drop training prompts that show them at all.")
    ] = False,
    period: Annotated[
        float | None, typer.Option(help="Ordinals in a circle, for angle; default: the cyclic family's length.")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Times that members are permuted, for description.")] = 19,
    draws: Annotated[int, typer.Option(help="Draws of other families in their place; 19 allow p = .05.")] = 19,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """What can be read linearly off unseen members and templates: family, member, number, angle; beside chance."""
    from probes.linear.by_layer import probes_by_layer
    from probes.linear.joined import join_probes

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-probe")
    drawn_as = options.formats_of(formats)
    with viewed(file, Asked(site, layers, where, rows), folder, quiet=quiet) as (view, loop):
        questions = _questions(view.store, names, target, leave_out)
        asked = [replace(one, strict=strict, period=period) for one in questions]
        results = probes_by_layer(view, asked, n_permutations=permutations, n_draws=draws, seed=seed, loop=loop)
        _write(join_probes(results), folder, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _questions(store: "ActivationStore", names: list[str] | None, target: str, leave_out: str) -> "list[Question]":
    """Every target with everything that is left out, without what makes no sense unless nothing else is asked for."""
    from probes.linear.tasks import TARGETS, Question

    known = names or store.families
    targets = names_of(target) or [name for name in TARGETS if name != "family" or len(known) > 1]
    groups = names_of(leave_out)
    if not groups:
        raise InputError("--leave-out takes member, template or both; got none")
    probes = list(product(targets, groups))
    sensible = [one for one in probes if one != ("member", "member")] or probes
    return [Question(wanted, left_out, names) for wanted, left_out in sensible]


def _write(result: "LayerResult", folder: Path, *, formats: list[str], as_json: bool, full: bool, quiet: bool) -> None:
    from geometry.stats.uncertainty import LEAST_MEMBERS
    from probes.pictures import pictures_of

    counts = result.table.iloc[0]
    what = numbers_in(counts, "row", "member", "template")
    notes = []
    if counts["n_members"] < LEAST_MEMBERS:
        notes.append(f"{numbers_in(counts, 'member')} in common: no errors; they take {LEAST_MEMBERS}")
    if result.table["p"].isna().all():
        notes.append("no p values: they take 19 draws of control families; record control:0-19")
    lines = worded(result.table.assign(**{"95 %": intervals(result.table)}), {"leave_out": "left out"})[_SHORT]
    title = f"linear probes of {result.parameters['site']}: {what}"
    report = Report(
        draw=lambda: drawn(result, pictures_of(result)),
        shown=[Shown(lines, title, ("layer", "target", "left out"), "value")],
        notes=[*notes, f"rows: {result.parameters['where']}"],
    )
    write_results({folder: (result, report)}, formats=formats, as_json=as_json, full=full, quiet=quiet)
