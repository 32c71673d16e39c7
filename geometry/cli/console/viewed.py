"""What a command's analysis looks at, watched with a progress bar, and taken up where it was broken off."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import StoppedError
from geometry.cli.console.terminal import console, progress

if TYPE_CHECKING:
    from cache.store.view import View
    from geometry.results.over import Loop


@contextmanager
def viewed(
    file: Path, site: str, layers: str, where: str | None, folder: Path, *, quiet: bool
) -> "Iterator[tuple[View, Loop]]":
    """A view of a store, and a loop with a bar that moves with every site; finished sites are kept in the folder.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    from cache.store.store import ActivationStore

    with ActivationStore.open(file) as store:
        if not store.complete:
            rows = f"{len(store.rows)} rows are recorded so far"
            console(quiet=quiet).print(f"{file} is not complete: {rows}")
        view = store.view(site, layers, where)
        with watched(len(view.hooks), folder, quiet=quiet) as loop:
            yield view, loop


@contextmanager
def watched(n_sites: int | None, folder: Path, *, quiet: bool, what: str = "layers") -> "Iterator[Loop]":
    """A loop with a bar that moves with every site, which is kept in the folder.

    Args:
        n_sites: how many there are; None where only the analysis knows.
        folder: where they are kept.
        quiet: no bar.
        what: what the bar is called.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    from geometry.results.over import Loop

    done = 0
    with progress("layers", quiet=quiet) as bar:
        task = bar.add_task(what, total=n_sites, speed="")

        def count(_: object) -> None:
            nonlocal done
            done += 1
            bar.advance(task)

        try:
            yield Loop(on_hook=count, kept=folder, say=lambda text: bar.console.print(text))
        except KeyboardInterrupt as error:
            finished = f"{min(done, n_sites)} of {n_sites} layers are" if n_sites else "what was finished is"
            raise StoppedError(
                f"interrupted; {finished} kept in {folder}, and the same command goes on from there"
            ) from error
