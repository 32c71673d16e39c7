"""What becomes of a result: drawn, saved, printed, and said where it is."""

import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geometry.cli.console.terminal import console, print_tables
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from geometry.results.result import LayerResult

_OF_NO_ACCOUNT = ("--quiet", "-q", "--json", "--debug")


@dataclass(frozen=True)
class Report:
    """What a command writes and prints of a result.

    Attributes:
        draw: makes the pictures, by name.
        tables: further tables to save, by name.
        shown: tables to print.
        notes: sentences to say before the names of the files.
        records: what `--json` prints; None for the result's table.
    """

    draw: Callable[[], Mapping[str, Any]] = dict
    tables: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    shown: Sequence[Shown] = ()
    notes: Sequence[str] = ()
    records: "pd.DataFrame | None" = None


def drawn(
    result: "LayerResult", pictures: "Mapping[str, Callable[..., Any]]", layers: int | str | None = None
) -> dict[str, Any]:
    """Figures of a result; of `all` layers those with a panel a layer stand twice, the second time with all (`-all`).

    Args:
        result: the result.
        pictures: what draws each, by name.
        layers: those that `--layers-shown` names; None for as many as each picture shows by itself.
    """
    figures = {}
    for name, draw in pictures.items():
        own = signature(draw).parameters.get("layers")
        figures[name] = draw(layers=layers) if own and layers not in (None, "all") else draw()
        if own and layers == "all" and len(result.hooks) > own.default:
            figures[f"{name}-all"] = draw(layers=layers)
    return figures


def write_results(
    results: "Mapping[Path, tuple[LayerResult, Report]]",
    *,
    formats: Collection[str],
    as_json: bool,
    full: bool,
    quiet: bool,
) -> None:
    """Draw and save results in their folders, print tables or all as JSON, and say where the files are.

    What was kept of unfinished analyses in the folders is removed once everything is written.
    """
    import pandas as pd

    from geometry.report import own_style, write_report
    from geometry.results.over import forget

    paths = []
    with console(quiet=quiet).status("drawing"), own_style():
        for folder, (result, report) in results.items():
            paths += write_report(
                result, report.draw(), folder, report.tables, formats=formats, command=asked_command()
            )
            forget(folder)
    if as_json:
        records = [result.table if one.records is None else one.records for result, one in results.values()]
        sys.stdout.write(pd.concat(records, ignore_index=True).to_json(orient="records", indent=2) + "\n")
    tables = [table for _, report in results.values() for table in report.shown]
    print_tables(tables, full=full, quiet=quiet or as_json)
    notes = dict.fromkeys(note for _, report in results.values() for note in report.notes)
    console(quiet=quiet).print("\n".join([*notes, *map(str, paths)]))


def asked_command() -> str:
    """The command that is running, without what says where results go and what is printed: it makes no difference."""
    words = iter(sys.argv[1:])
    kept = ["geometry"]
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out=") and word not in _OF_NO_ACCOUNT:
            kept.append(word)
    return shlex.join(kept)
