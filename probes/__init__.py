"""What we can do with it: directions, interventions along them, and linear probes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.models.restart import clean_run as clean_run
    from probes.cosines.by_layer import cosines_by_layer as cosines_by_layer
    from probes.directions.contrasts import Contrast as Contrast
    from probes.directions.contrasts import contrast as contrast
    from probes.directions.direction import Direction as Direction
    from probes.directions.direction import cosine as cosine
    from probes.directions.direction import direction_of as direction_of
    from probes.directions.direction import find_direction as find_direction
    from probes.directions.direction import unembedding_difference as unembedding_difference
    from probes.directions.files import load_direction as load_direction
    from probes.directions.files import save_direction as save_direction
    from probes.directions.members import member_edit as member_edit
    from probes.directions.members import reversal as reversal
    from probes.directions.subspaces import index_subspace as index_subspace
    from probes.directions.subspaces import leace as leace
    from probes.edits.edit import Addition as Addition
    from probes.edits.edit import Exchange as Exchange
    from probes.edits.edit import Removal as Removal
    from probes.edits.generation import generate as generate
    from probes.edits.hooks import ablate as ablate
    from probes.edits.hooks import edited as edited
    from probes.edits.hooks import steer as steer
    from probes.edits.hooks import swap as swap
    from probes.edits.positions import member_positions as member_positions
    from probes.linear.by_layer import probe_by_layer as probe_by_layer
    from probes.linear.tasks import Question as Question
    from probes.steering.cells import before_and_after as before_and_after
    from probes.steering.cells import nested_cells as nested_cells
    from probes.steering.cells import success_by_layer as success_by_layer
    from probes.steering.cells import sweep_summary as sweep_summary
    from probes.steering.settings import Grid as Grid
    from probes.steering.sweep import sweep as sweep
    from probes.transfer.erasure import erasure_matrix as erasure_matrix
    from probes.transfer.families import Roles as Roles
    from probes.transfer.query_position import last_or_answer as last_or_answer
    from probes.transfer.steps import transfer_matrix as transfer_matrix

_HOMES = {
    "Addition": "probes.edits.edit",
    "Contrast": "probes.directions.contrasts",
    "Direction": "probes.directions.direction",
    "Exchange": "probes.edits.edit",
    "Grid": "probes.steering.settings",
    "Question": "probes.linear.tasks",
    "Removal": "probes.edits.edit",
    "Roles": "probes.transfer.families",
    "ablate": "probes.edits.hooks",
    "before_and_after": "probes.steering.cells",
    "clean_run": "cache.models.restart",
    "contrast": "probes.directions.contrasts",
    "cosine": "probes.directions.direction",
    "cosines_by_layer": "probes.cosines.by_layer",
    "direction_of": "probes.directions.direction",
    "edited": "probes.edits.hooks",
    "erasure_matrix": "probes.transfer.erasure",
    "find_direction": "probes.directions.direction",
    "generate": "probes.edits.generation",
    "index_subspace": "probes.directions.subspaces",
    "last_or_answer": "probes.transfer.query_position",
    "leace": "probes.directions.subspaces",
    "load_direction": "probes.directions.files",
    "member_edit": "probes.directions.members",
    "member_positions": "probes.edits.positions",
    "nested_cells": "probes.steering.cells",
    "probe_by_layer": "probes.linear.by_layer",
    "reversal": "probes.directions.members",
    "save_direction": "probes.directions.files",
    "steer": "probes.edits.hooks",
    "success_by_layer": "probes.steering.cells",
    "swap": "probes.edits.hooks",
    "sweep": "probes.steering.sweep",
    "sweep_summary": "probes.steering.cells",
    "transfer_matrix": "probes.transfer.steps",
    "unembedding_difference": "probes.directions.direction",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
