"""What a command's analysis looks at, watched with a progress bar, and taken up where it was broken off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import StoppedError
from geometry.cli.console.terminal import console, progress

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from cache.store.view import View
    from geometry.results.over import Loop


@dataclass(frozen=True)
class Asked:
    """Which sites and rows of a store a command is asked to look at, as `ActivationStore.view` takes them."""

    site: str
    layers: str
    where: str | None = None
    rows: str | None = None


@contextmanager
def viewed(file: Path, asked: Asked, folder: Path, *, quiet: bool) -> "Iterator[tuple[View, Loop]]":
    """A view of a store, and a loop with a bar that moves with every site; finished sites are kept in the folder.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    with (
        opened_view(file, asked, quiet=quiet) as view,
        watched(len(view.hooks), folder, quiet=quiet) as loop,
    ):
        yield view, loop


@contextmanager
def opened_view(file: Path, asked: Asked, *, quiet: bool) -> "Iterator[View]":
    """A view of a store; it is said where the recording is not complete."""
    with opened_store(file, quiet=quiet) as store:
        yield store.view(asked.site, asked.layers, asked.where, asked.rows)


@contextmanager
def opened_store(file: Path, *, quiet: bool) -> "Iterator[ActivationStore]":
    """A store; it is said where the recording is not complete."""
    from cache.store.store import ActivationStore

    with ActivationStore.open(file) as store:
        if not store.complete:
            rows = f"{len(store.rows)} rows are recorded so far"
            console(quiet=quiet).print(f"{file} is not complete: {rows}")
        yield store


def check_shown(view: "View", shown: int | str | None) -> None:
    """Refuse layers to show that are not analysed, before they are.

    Raises:
        InputError: there are none of them.
    """
    from geometry.figures.panels import shown_layers

    if shown is not None:
        shown_layers([hook.table_layer for hook in view.hooks], shown)


@contextmanager
def watched(
    n_sites: int | None, folder: Path, *, quiet: bool, passes: int = 1, what: str = "layers"
) -> "Iterator[Loop]":
    """A loop with a bar that moves with every site, which is kept in the folder.

    The bar ends with the last site: what comes then, up to the last file, is interrupted in the same words.

    Args:
        n_sites: how many there are; None where only the analysis knows.
        folder: where finished sites are kept.
        quiet: whether nothing is shown.
        passes: how often the loop goes over the sites.
        what: what the bar is called.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    from geometry.results.over import Loop

    done, total = 0, None if n_sites is None else passes * n_sites
    with progress(quiet=quiet) as bar:
        task = bar.add_task(what, total=total, speed="")

        def count(_: object) -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if done == total:
                bar.stop()

        try:
            yield Loop(on_hook=count, kept=folder, say=lambda text: bar.console.print(text), show=False)
        except KeyboardInterrupt as error:
            if not done:
                raise StoppedError("interrupted before anything was finished; the same command begins again") from error
            twice = f" ({passes} passes)" if passes > 1 else ""
            finished = "what was finished is" if total is None else f"{done} of {total} layers{twice} are"
            raise StoppedError(
                f"interrupted; {finished} kept in {folder}, and the same command goes on from there"
            ) from error
