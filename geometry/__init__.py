"""What shape it has: decompositions and measures of recorded activations, layer by layer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geometry.bases.basis import FeatureBasis as FeatureBasis
    from geometry.bases.basis import LinearBasis as LinearBasis
    from geometry.bases.canonical import cca as cca
    from geometry.bases.canonical import held_out_cca as held_out_cca
    from geometry.bases.canonical import pwcca as pwcca
    from geometry.bases.canonical import svcca as svcca
    from geometry.bases.demixing import Demixed as Demixed
    from geometry.bases.demixing import demix as demix
    from geometry.bases.embedding import umap as umap
    from geometry.bases.nonnegative import nmf as nmf
    from geometry.bases.principal import Decomposition as Decomposition
    from geometry.bases.principal import pca as pca
    from geometry.bases.principal import svd as svd
    from geometry.between.families import between_families as between_families
    from geometry.between.families import between_pairs as between_pairs
    from geometry.between.layers import between_layers as between_layers
    from geometry.between.layers import between_stores as between_stores
    from geometry.between.summary import summary as summary
    from geometry.layers.demix import demix_by_layer as demix_by_layer
    from geometry.layers.loadings import loadings as loadings
    from geometry.layers.nmf import nmf_by_layer as nmf_by_layer
    from geometry.layers.principal import pca_by_layer as pca_by_layer
    from geometry.layers.principal import svd_by_layer as svd_by_layer
    from geometry.layers.umap import umap_by_layer as umap_by_layer
    from geometry.report import write_report as write_report
    from geometry.results.over import Loop as Loop
    from geometry.results.over import forget as forget
    from geometry.results.result import LayerResult as LayerResult
    from geometry.results.result import per_layer as per_layer
    from geometry.rows.cells import CellPlan as CellPlan
    from geometry.rows.cells import load_cells as load_cells
    from geometry.rows.cells import plan_cells as plan_cells
    from geometry.similarity.of_families import lag_profile as lag_profile
    from geometry.similarity.of_families import matched_cosine as matched_cosine
    from geometry.similarity.of_families import retrieval as retrieval
    from geometry.similarity.of_families import shared_share as shared_share
    from geometry.similarity.of_rows import linear_cka as linear_cka
    from geometry.similarity.of_rows import linear_cka_debiased as linear_cka_debiased
    from geometry.similarity.of_rows import principal_angles as principal_angles
    from geometry.similarity.of_rows import procrustes as procrustes
    from geometry.similarity.of_rows import rsa as rsa
    from geometry.stats.moments import Moments as Moments

_HOMES = {
    "CellPlan": "geometry.rows.cells",
    "Decomposition": "geometry.bases.principal",
    "Demixed": "geometry.bases.demixing",
    "FeatureBasis": "geometry.bases.basis",
    "LayerResult": "geometry.results.result",
    "Loop": "geometry.results.over",
    "LinearBasis": "geometry.bases.basis",
    "Moments": "geometry.stats.moments",
    "between_families": "geometry.between.families",
    "between_layers": "geometry.between.layers",
    "between_pairs": "geometry.between.families",
    "between_stores": "geometry.between.layers",
    "cca": "geometry.bases.canonical",
    "demix": "geometry.bases.demixing",
    "demix_by_layer": "geometry.layers.demix",
    "forget": "geometry.results.over",
    "held_out_cca": "geometry.bases.canonical",
    "lag_profile": "geometry.similarity.of_families",
    "linear_cka": "geometry.similarity.of_rows",
    "linear_cka_debiased": "geometry.similarity.of_rows",
    "load_cells": "geometry.rows.cells",
    "loadings": "geometry.layers.loadings",
    "matched_cosine": "geometry.similarity.of_families",
    "nmf": "geometry.bases.nonnegative",
    "nmf_by_layer": "geometry.layers.nmf",
    "pca": "geometry.bases.principal",
    "pca_by_layer": "geometry.layers.principal",
    "per_layer": "geometry.results.result",
    "plan_cells": "geometry.rows.cells",
    "principal_angles": "geometry.similarity.of_rows",
    "procrustes": "geometry.similarity.of_rows",
    "pwcca": "geometry.bases.canonical",
    "retrieval": "geometry.similarity.of_families",
    "rsa": "geometry.similarity.of_rows",
    "shared_share": "geometry.similarity.of_families",
    "summary": "geometry.between.summary",
    "svcca": "geometry.bases.canonical",
    "svd": "geometry.bases.principal",
    "svd_by_layer": "geometry.layers.principal",
    "umap": "geometry.bases.embedding",
    "umap_by_layer": "geometry.layers.umap",
    "write_report": "geometry.report",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'geometry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
