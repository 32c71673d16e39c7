"""The `geometry` program: its commands, and what becomes of errors."""

import functools
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from cache.errors import GeometryError, InputError, NoSpaceError, StoppedError
from geometry.cli.console.surroundings import silence_output
from geometry.cli.console.system_errors import is_memory_error, system_error
from geometry.cli.features.curve import curve
from geometry.cli.features.extract import extract
from geometry.cli.features.sae import sae
from geometry.cli.features.train import train
from geometry.cli.intervene.cosines import cosines
from geometry.cli.intervene.direction import direction
from geometry.cli.intervene.probe import probe
from geometry.cli.intervene.query import query
from geometry.cli.intervene.steer import steer
from geometry.cli.intervene.sweep import sweep
from geometry.cli.intervene.transfer import erase, transfer
from geometry.cli.measure.compare import compare
from geometry.cli.measure.decompose import demix, nmf, pca, svd, umap
from geometry.cli.record.cache import cache
from geometry.cli.record.models import models
from geometry.cli.record.prompts import prompts
from geometry.cli.record.store import info, verify
from geometry.printable import printable

_INTERRUPTED = 130
_UNREAD = 141  # as a shell names the end by SIGPIPE

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
READING = (cache, prompts, models, info, verify, svd, pca, nmf, demix, umap, compare, probe)
STEERING = (direction, cosines, steer, sweep, transfer, erase, query)
for command in (*READING, *STEERING):
    app.command()(command)
sae.command()(train)
sae.command()(curve)
sae.command()(extract)
app.add_typer(sae, name="sae")


@app.callback()
def _program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The geometry of representations in transformer language models: record, measure, intervene."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program and leave with its exit code.

    0 done, 2 usage or bad input, 3 model, file or network not there, 4 corrupt or hostile file, 5 fingerprint
    differs, 6 locked, 7 no space, 8 non-finite or overflowing numbers, 130 interrupted,
    141 nobody reads what is printed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if arguments == ["--version"]:
        from cache import __version__

        sys.stdout.write(f"geometry {__version__}\n")
        sys.exit(0)
    sys.exit(_run(arguments, debug=debug))


@functools.cache
def _commands() -> Any:
    """The commands as typer lays them out, which takes as long as a small command does."""
    return typer.main.get_command(app)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        code: Any = _commands()(arguments, prog_name="geometry", standalone_mode=False)
        sys.stdout.flush()
        if code == _INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            _say("interrupted; the same command begins again")
        return int(code or 0)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the latter is what rich makes of the former
        silence_output()
        return _UNREAD
    except Exception as error:
        told = _told(error, arguments)
        if debug or told is None:
            raise
        _say(str(told) if isinstance(told, StoppedError) else f"error: {told}")
        return told.exit_code


def _told(error: Exception, arguments: list[str]) -> GeometryError | None:
    """The failure that a sentence explains; None for a fault of ours, which a traceback explains."""
    if isinstance(error, GeometryError):
        return error
    if isinstance(error, OSError):
        silence_output()  # what standard output refused would be tried again at the end
        return system_error(error)
    if is_memory_error(error):
        return NoSpaceError("memory does not suffice; fewer rows (--where), layers or tokens at once take less")
    # typer vendors its own click, whose usage errors have no public name
    if not hasattr(error, "format_message"):
        return None
    return InputError(f"{error.format_message().rstrip('.')}; see {_asked(arguments)} --help")


def _asked(arguments: list[str]) -> str:
    """The command that was asked for, as far as there is one of that name."""
    words, group = ["geometry"], _commands()
    for argument in arguments:
        group = getattr(group, "commands", {}).get(argument)
        if group is None:
            break
        words.append(argument)
    return " ".join(words)


def _say(text: str) -> None:
    with suppress(OSError):  # standard error may be full or closed: the exit code still tells
        sys.stderr.write(printable(" ".join(text.split())) + "\n")
        sys.stderr.flush()
