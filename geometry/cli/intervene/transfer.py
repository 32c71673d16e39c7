"""`geometry transfer|erase`: does one family's index code act in another, and is it needed there?"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.recorded_model import NeededModel
from geometry.cli.console.results import write_results
from geometry.cli.console.viewed import Asked, check_shown
from geometry.cli.intervene.edited import Contexts, EditedSite, NamedSAE, SAEName, edited_view
from geometry.cli.intervene.matrices import matrix_reports
from geometry.cli.record.store import StoreFile
from geometry.rows.names import names_of

if TYPE_CHECKING:
    from cache.store.store import ActivationStore
    from geometry.results.over import Loop
    from geometry.results.result import LayerResult
    from probes.receivers.roles import Roles
    from probes.sae.basis import SAEBasis

EditedPositions = Annotated[
    str,
    typer.Option(
        "--positions",
        help="last (each prompt's last token), members (every shown member), both; comma-separated.",
    ),
]
Rank = Annotated[int, typer.Option("--rank", help="Directions that are removed.")]
ErasureNulls = Annotated[
    int, typer.Option("--nulls", help="Unrelated subspaces; p is at least 1 / (1 + this), and q at least that.")
]
TransferNulls = Annotated[
    int, typer.Option("--nulls", help="Null donors for each pair; p is at least 1 / (1 + this); 0: none, and no p.")
]


def transfer(
    file: StoreFile,
    families: options.FamilyNames = None,
    layers: options.SpreadLayers = "spread",
    positions: EditedPositions = "last",
    contexts: Contexts = 4,
    nulls: TransferNulls = 19,
    sae: SAEName = None,
    sae_id: options.SAEId = None,
    model: NeededModel = None,
    site: EditedSite = "resid_post",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Add a family's step from index to index in another's prompts: how often is the answer the one moved to?"""
    from probes.transfer.steps import transfer_matrix

    folder = options.results_folder(out, f"{file.stem}-transfer")
    drawn_as, few = options.formats_of(formats), options.layers_shown(layers_shown)
    with edited_view(file, model, Asked(site, layers), folder, sae=NamedSAE(sae, sae_id), quiet=quiet) as edited:
        view, loaded = edited.view, edited.model
        check_shown(view, few)
        roles = _roles(view.store, families, positions, contexts)

        def run(basis: "SAEBasis | None", loop: "Loop") -> "LayerResult":
            return transfer_matrix(view, loaded, replace(roles, basis=basis), n_null=nulls, seed=seed, loop=loop)

        reports = matrix_reports(edited.by_method(run), folder, few)
        write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def erase(
    file: StoreFile,
    families: options.FamilyNames = None,
    layers: options.SpreadLayers = "spread",
    positions: EditedPositions = "last",
    contexts: Contexts = 4,
    rank: Rank = 4,
    nulls: ErasureNulls = 99,
    sae: SAEName = None,
    sae_id: options.SAEId = None,
    model: NeededModel = None,
    site: EditedSite = "resid_post",
    layers_shown: options.LayersShown = None,
    out: options.Out = None,
    formats: options.Formats = "png,svg",
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove a family's index subspace in another's prompts: how often is the answer still right?"""
    from probes.transfer.erasure import erasure_matrix

    folder = options.results_folder(out, f"{file.stem}-erase")
    drawn_as, few = options.formats_of(formats), options.layers_shown(layers_shown)
    with edited_view(file, model, Asked(site, layers), folder, sae=NamedSAE(sae, sae_id), quiet=quiet) as edited:
        view, loaded = edited.view, edited.model
        check_shown(view, few)
        roles = _roles(view.store, families, positions, contexts)

        def run(basis: "SAEBasis | None", loop: "Loop") -> "LayerResult":
            through = replace(roles, basis=basis)
            return erasure_matrix(view, loaded, through, rank=rank, n_null=nulls, seed=seed, loop=loop)

        reports = matrix_reports(edited.by_method(run), folder, few)
        write_results(reports, formats=drawn_as, as_json=as_json, full=full, quiet=quiet)


def _roles(store: "ActivationStore", families: str | None, positions: str, n_contexts: int) -> "Roles":
    """The named families receive and give, and the store's first controls give beside them."""
    from probes.receivers.roles import N_CONTROLS, Roles

    names, sets = options.families_of(families), names_of(positions)
    if not sets:
        raise InputError("--positions takes last, members, both; got none")
    if names is None:
        return Roles(positions=sets, n_contexts=n_contexts)
    controls = [name for name in store.controls if name not in names]
    return Roles(names, [*names, *controls[:N_CONTROLS]], sets, n_contexts)
