"""What we can do with it: directions, interventions along them, and linear probes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.restart import clean_run as clean_run
    from probes.contrasts import Contrast as Contrast
    from probes.contrasts import contrast as contrast
    from probes.direction_cosines import cosines_by_layer as cosines_by_layer
    from probes.direction_files import load_direction as load_direction
    from probes.direction_files import save_direction as save_direction
    from probes.directions import Direction as Direction
    from probes.directions import cosine as cosine
    from probes.directions import direction_of as direction_of
    from probes.directions import find_direction as find_direction
    from probes.directions import unembedding_difference as unembedding_difference
    from probes.edits import Addition as Addition
    from probes.edits import Exchange as Exchange
    from probes.edits import Removal as Removal
    from probes.erasure import index_subspace as index_subspace
    from probes.erasure import leace as leace
    from probes.erasure import random_subspace as random_subspace
    from probes.generation import generate as generate
    from probes.index_edits import member_edit as member_edit
    from probes.index_edits import reversal as reversal
    from probes.index_erasure import erasure_matrix as erasure_matrix
    from probes.linear_by_layer import probe_by_layer as probe_by_layer
    from probes.positions import member_positions as member_positions
    from probes.query_position import last_or_answer as last_or_answer
    from probes.steering import ablate as ablate
    from probes.steering import edited as edited
    from probes.steering import steer as steer
    from probes.steering import swap as swap
    from probes.steering_sweep import sweep as sweep
    from probes.sweep_cells import before_and_after as before_and_after
    from probes.sweep_cells import nested_cells as nested_cells
    from probes.sweep_cells import success_by_layer as success_by_layer
    from probes.sweep_cells import sweep_summary as sweep_summary
    from probes.transfer import transfer_matrix as transfer_matrix

_HOMES = {
    "Addition": "probes.edits",
    "Contrast": "probes.contrasts",
    "Direction": "probes.directions",
    "Exchange": "probes.edits",
    "Removal": "probes.edits",
    "ablate": "probes.steering",
    "before_and_after": "probes.sweep_cells",
    "clean_run": "cache.restart",
    "contrast": "probes.contrasts",
    "cosine": "probes.directions",
    "cosines_by_layer": "probes.direction_cosines",
    "direction_of": "probes.directions",
    "edited": "probes.steering",
    "erasure_matrix": "probes.index_erasure",
    "find_direction": "probes.directions",
    "generate": "probes.generation",
    "index_subspace": "probes.erasure",
    "last_or_answer": "probes.query_position",
    "leace": "probes.erasure",
    "load_direction": "probes.direction_files",
    "member_edit": "probes.index_edits",
    "member_positions": "probes.positions",
    "nested_cells": "probes.sweep_cells",
    "probe_by_layer": "probes.linear_by_layer",
    "random_subspace": "probes.erasure",
    "reversal": "probes.index_edits",
    "save_direction": "probes.direction_files",
    "steer": "probes.steering",
    "success_by_layer": "probes.sweep_cells",
    "swap": "probes.steering",
    "sweep": "probes.steering_sweep",
    "sweep_summary": "probes.sweep_cells",
    "transfer_matrix": "probes.transfer",
    "unembedding_difference": "probes.directions",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
