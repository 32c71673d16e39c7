"""What commands that edit a recorded model's prompts begin with: options, and a view with its model and loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geometry.cli.console.recorded_model import needed_model
from geometry.cli.console.viewed import Asked, opened_view, watched

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.store.view import View
    from geometry.results.over import Loop

EditedSite = Annotated[str, typer.Option("--site", help="resid_post (with the embedding) or resid_pre.")]
Contexts = Annotated[int, typer.Option("--contexts", help="Frames and templates that are edited.")]


@contextmanager
def edited_view(
    file: Path, name: str | None, site: str, layers: str, folder: Path, *, quiet: bool
) -> "Iterator[tuple[View, LoadedModel, Loop]]":
    """A view of a store, the model that it was recorded from, and a loop whose finished sites are kept in a folder.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    from probes.receivers.batches import check_edited

    with opened_view(file, Asked(site, layers), quiet=quiet) as view:
        check_edited(view)
        loaded = needed_model(view.store, name, quiet=quiet)
        with watched(len(view.hooks), folder, quiet=quiet) as loop:
            yield view, loaded, loop
