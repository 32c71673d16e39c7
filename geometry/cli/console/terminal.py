"""What a person at the terminal sees: progress, tables, sizes."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from geometry.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from cache.models.model import LoadedModel
    from cache.prompts.prompt import Prompts


class _Messages(Console):
    """A console that shows texts as they stand: no markup, no emoji codes, nothing that steers a terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [printable(one, keep="\n") if isinstance(one, str) else one for one in objects]
        super().print(*shown, **{**options, "markup": False})

    def status(self, status: Any, **options: Any) -> Status:
        return super().status(escape(printable(status)) if isinstance(status, str) else status, **options)


def console(*, quiet: bool = False) -> Console:
    """Where messages go: standard error, so that standard output holds results alone."""
    return _Messages(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, emoji=False)


def load_model_aloud(
    name: str, *, device: str, bos: bool, revision: str | None, processing: str, quiet: bool
) -> "LoadedModel":
    """Load a model and say so: importing torch and converting a GGUF file take their time."""
    with console(quiet=quiet).status(f"loading {name} (a GGUF model is converted the first time: half a minute)"):
        from cache import load_model

        return load_model(name, device=device, bos=bos, revision=revision, processing=processing)


def say_own_prompts(prompts: "Prompts", *, quiet: bool) -> None:
    """Tell how prompts of the user's own are paired, and which further labels they keep; of others nothing."""
    from cache.prompts.own import pairings

    names = dict.fromkeys(name for prompt in prompts for name, _ in prompt.labels if name != "pair")
    kept = [f"kept as labels: {', '.join(names)}"] if names else []
    for text in [*pairings(prompts), *kept]:
        console(quiet=quiet).print(text)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress bar with speed and time left; none where nobody looks, such as in a log file."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    screen = console(quiet=quiet)
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as bar:
        try:
            yield bar
        except BaseException:
            bar.live.transient = True  # an error is one line, without the bar that it broke off
            raise


def print_table(frame: "pd.DataFrame", *, title: str | None = None) -> None:
    """Print a data frame to standard output; missing numbers are left blank."""
    table = Table(title=None if title is None else Text(printable(title), "table.title"), title_justify="left")
    for column in frame.columns:
        numeric = frame[column].dtype.kind in "if"
        table.add_column(printable(str(column)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, emoji=False).print(table, markup=False)


def intervals(table: "pd.DataFrame") -> list[str]:
    """The 95 % interval of each line as a terminal shows it; blank where there is none."""
    ends = zip(table["ci_low"], table["ci_high"], strict=True)
    return ["" if low != low else f"{low:.2f} to {high:.2f}" for low, high in ends]


def print_json(content: object) -> None:
    """Print what `--json` asks for to standard output."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def this_command(*, without: str = "") -> str:
    """The command that is running, as it can be typed again; without a flag if one is named."""
    return shlex.join(["geometry", *(word for word in sys.argv[1:] if word != without)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}" if abs(value) < 1e-3 and value else f"{value:.3f}"
    return printable(str(value))
