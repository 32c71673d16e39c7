"""What commands that edit a recorded model's prompts begin with: options, and a view with its model, loop and SAE."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console.recorded_model import needed_model
from geometry.cli.console.terminal import console
from geometry.cli.console.viewed import Asked, opened_store, watched

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.store.store import ActivationStore
    from cache.store.view import View
    from geometry.results.over import Loop
    from geometry.results.result import LayerResult
    from probes.sae.basis import SAEBasis

EditedSite = Annotated[str, typer.Option("--site", help="resid_post (with the embedding) or resid_pre.")]
Contexts = Annotated[int, typer.Option("--contexts", help="Frames and templates that are edited.")]
SAEName = Annotated[
    str | None,
    typer.Option(
        "--sae", help="A folder with an SAE, or a release: at its site, beside all else, what its features carry."
    ),
]

_SPREAD_OR_ALL = ("all", "spread")
_USUAL = "resid_post"


@dataclass(frozen=True)
class NamedSAE:
    """The SAE that a command is asked to read through, if any: a folder or release, and which of the release."""

    source: str | None = None
    sae_id: str | None = None


NONE = NamedSAE()
"""No SAE."""


@dataclass(frozen=True)
class Edited:
    """What is edited: a view, the model that was recorded, a loop over the sites, and an SAE of the one site if any."""

    view: "View"
    model: "LoadedModel"
    loop: "Loop"
    sae: "SAEBasis | None" = None

    def by_method(self, run: "Callable[[SAEBasis | None, Loop], LayerResult]") -> "dict[str, LayerResult]":
        """An experiment on activations as they are, `mean`, and where there is an SAE, through it, `sae`.

        Sites of the latter are kept in a folder `sae` of their own.
        """
        found = {"mean": run(None, self.loop)}
        if self.sae is not None and self.loop.kept is not None:
            found["sae"] = run(self.sae, replace(self.loop, kept=self.loop.kept / "sae"))
        return found


@contextmanager
def edited_view(
    file: Path, name: str | None, asked: Asked, folder: Path, *, sae: NamedSAE = NONE, quiet: bool
) -> Iterator[Edited]:
    """A view of a store, the model that it was recorded from, and a loop whose finished sites are kept in a folder.

    Raises:
        StoppedError: Ctrl-C; the message says how to go on.
    """
    from probes.receivers.batches import check_edited

    with opened_store(file, quiet=quiet) as store:
        view, basis = view_and_sae(store, asked, sae, quiet=quiet)
        check_edited(view)
        loaded = needed_model(store, name, quiet=quiet)
        passes = 1 if basis is None else 2
        with watched(len(view.hooks), folder, quiet=quiet, passes=passes) as loop:
            yield Edited(view, loaded, loop, basis)


def view_and_sae(
    store: "ActivationStore", asked: Asked, sae: NamedSAE, *, quiet: bool
) -> "tuple[View, SAEBasis | None]":
    """The view that is asked for, or with an SAE that of the one site that it reads.

    Raises:
        InputError: layers or a site are asked for that are not the SAE's, or the SAE is not the store's.
    """
    if sae.source is None:
        if sae.sae_id is not None:
            raise InputError("--sae-id says which SAE of a release; give the release with --sae")
        return store.view(asked.site, asked.layers, asked.where, asked.rows), None
    from probes.sae.sources import find_sae

    find_sae(sae.source, sae.sae_id)  # what is not there is told before torch is imported
    from probes.sae.load import load_sae

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        basis = load_sae(sae.source, sae.sae_id, store=store)
    for one in warned:
        if one.category is UserWarning:
            console(quiet=quiet).print(f"warning: {one.message}")
    return _at_its_site(store, asked, basis), basis


def _at_its_site(store: "ActivationStore", asked: Asked, sae: "SAEBasis") -> "View":
    """The view of an SAE's site, where no other was asked for."""
    hook = store.site("" if sae.hook is None else sae.hook)
    layers_asked = asked.layers.strip() not in _SPREAD_OR_ALL
    if layers_asked or asked.site != _USUAL:
        meant = store.view(asked.site, asked.layers if layers_asked else "all").hooks
        if hook not in meant or (layers_asked and len(meant) > 1):
            given = f"--layers {asked.layers}" if layers_asked else f"--site {asked.site}"
            raise InputError(f"{sae.origin.name} reads {hook.name} alone, and {given} asks for others; leave it out")
    return store.view(hook.name, "all", asked.where, asked.rows)
