"""What a command does with its results: draw, save, print, and say where they are."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geometry.cli.console.terminal import console, drawing, print_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from geometry.results.result import LayerResult


@dataclass(frozen=True)
class Page:
    """A result, and what is shown of it.

    Attributes:
        result: the result.
        folder: where it is saved.
        figures: what draws each of its figures, by name.
        tables: further tables to save, by name.
        printed: short tables to print, by title.
        notes: sentences to say, before where the files are.
        records: the table that `--json` prints; None for the result's own.
    """

    result: "LayerResult"
    folder: Path
    figures: "Mapping[str, Callable[[], Figure]]"
    tables: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    printed: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    notes: Sequence[str] = ()
    records: "pd.DataFrame | None" = None


def show(*pages: Page, as_json: bool, quiet: bool) -> None:
    """Draw and save every page, drop what was kept of unfinished ones, print tables or JSON, and say where files are.

    Raises:
        NotAvailableError: a folder cannot be made, or takes no file.
        NoSpaceError: there is no room.
    """
    import pandas as pd

    from geometry.report import write_report
    from geometry.results.over import forget

    say, paths = console(quiet=quiet), []
    with drawing(quiet=quiet):
        for page in pages:
            figures = {name: draw() for name, draw in page.figures.items()}
            paths += write_report(page.result, figures, page.folder, page.tables)
    for page in pages:
        forget(page.folder)
    if as_json:
        records = [page.result.table if page.records is None else page.records for page in pages]
        sys.stdout.write(pd.concat(records, ignore_index=True).to_json(orient="records", indent=2) + "\n")
    else:
        for title, table in (line for page in pages for line in page.printed.items()):
            print_table(table, title=title)
    notes = dict.fromkeys(note for page in pages for note in page.notes)
    say.print("\n".join([*notes, *map(str, paths)]), markup=False)
