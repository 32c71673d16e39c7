"""What a person at the terminal sees: progress, tables, sizes."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
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

from geometry.cli.tables.shown import Shown, lines_of
from geometry.printable import printable

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.prompts.prompt import Prompts


_USUAL_WIDTH = 80


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


def print_tables(tables: Iterable[Shown], *, full: bool, quiet: bool) -> None:
    """Print tables to standard output, as wide as that is, a blank line between; quiet: nothing."""
    for number, table in enumerate(() if quiet else tables):
        lines = lines_of(table, line_width(), full=full)
        sys.stdout.write("\n" * bool(number) + "\n".join(lines) + "\n")


def line_width() -> int | None:
    """The width of standard output: COLUMNS, or the terminal's; None in a pipe or file, where lines may be long."""
    named = os.environ.get("COLUMNS", "")
    if named.isascii() and named.isdecimal() and int(named):
        return int(named)
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL_WIDTH
    except OSError:  # a stream that calls itself a terminal and has no size
        return _USUAL_WIDTH


def print_json(content: object) -> None:
    """Print what `--json` asks for to standard output."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def this_command(*, without: str = "") -> str:
    """The command that is running, as it can be typed again; without a flag if one is named."""
    return shlex.join(["geometry", *(word for word in sys.argv[1:] if word != without)])
