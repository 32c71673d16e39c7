"""What users call: the names that the three packages export, and those that are taken from the rooms they lie in."""

from importlib import import_module

import cache
import geometry
import probes

OF_ROOMS = {
    "geometry.bases.canonical": "held_out_cca pwcca svcca",
    "geometry.rows.cells": "load_cells plan_cells",
    "geometry.similarity.of_families": "lag_profile retrieval shared_share",
    "geometry.similarity.of_rows": "linear_cka linear_cka_debiased principal_angles procrustes rsa",
    "probes.cosines.by_layer": "cosines_by_layer",
    "probes.directions.direction": "direction_of",
    "probes.directions.members": "member_edit reversal",
    "probes.directions.subspaces": "index_subspace leace",
    "probes.sae.quality": "sae_quality",
    "probes.steering.cells": "before_and_after nested_cells success_by_layer",
    "probes.transfer.query_position": "last_or_answer",
}
PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (cache, geometry, probes)
    for name in package.__all__
}
PUBLIC |= {
    f"{room.partition('.')[0]}.{name}": getattr(import_module(room), name)
    for room, names in OF_ROOMS.items()
    for name in names.split()
}
"""Each under its package and name: `geometry.pca`."""
