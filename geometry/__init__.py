"""What shape it has: decompositions and measures of recorded activations, layer by layer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geometry.basis import FeatureBasis as FeatureBasis
    from geometry.basis import LinearBasis as LinearBasis
    from geometry.between import between_families as between_families
    from geometry.between import between_pairs as between_pairs
    from geometry.between_summary import summary as summary
    from geometry.canonical import cca as cca
    from geometry.canonical import held_out_cca as held_out_cca
    from geometry.canonical import pwcca as pwcca
    from geometry.canonical import svcca as svcca
    from geometry.cells import CellPlan as CellPlan
    from geometry.cells import load_cells as load_cells
    from geometry.cells import plan_cells as plan_cells
    from geometry.component_loadings import loadings as loadings
    from geometry.decompose import Decomposition as Decomposition
    from geometry.decompose import pca as pca
    from geometry.decompose import svd as svd
    from geometry.demixing import Demixed as Demixed
    from geometry.demixing import demix as demix
    from geometry.embed import umap as umap
    from geometry.index_sharing import lag_profile as lag_profile
    from geometry.index_sharing import matched_cosine as matched_cosine
    from geometry.index_sharing import retrieval as retrieval
    from geometry.index_sharing import shared_share as shared_share
    from geometry.layer_grid import between_layers as between_layers
    from geometry.layer_grid import between_stores as between_stores
    from geometry.layerwise import LayerResult as LayerResult
    from geometry.layerwise import per_layer as per_layer
    from geometry.layerwise import site_hooks as site_hooks
    from geometry.layerwise_components import pca_by_layer as pca_by_layer
    from geometry.layerwise_components import svd_by_layer as svd_by_layer
    from geometry.layerwise_demix import demix_by_layer as demix_by_layer
    from geometry.layerwise_parts import nmf_by_layer as nmf_by_layer
    from geometry.layerwise_parts import umap_by_layer as umap_by_layer
    from geometry.moments import Moments as Moments
    from geometry.nonnegative import nmf as nmf
    from geometry.report import write_report as write_report
    from geometry.similarity import linear_cka as linear_cka
    from geometry.similarity import linear_cka_debiased as linear_cka_debiased
    from geometry.similarity import principal_angles as principal_angles
    from geometry.similarity import procrustes as procrustes
    from geometry.similarity import rsa as rsa

_HOMES = {
    "CellPlan": "geometry.cells",
    "Decomposition": "geometry.decompose",
    "Demixed": "geometry.demixing",
    "FeatureBasis": "geometry.basis",
    "LayerResult": "geometry.layerwise",
    "LinearBasis": "geometry.basis",
    "Moments": "geometry.moments",
    "between_families": "geometry.between",
    "between_layers": "geometry.layer_grid",
    "between_pairs": "geometry.between",
    "between_stores": "geometry.layer_grid",
    "cca": "geometry.canonical",
    "demix": "geometry.demixing",
    "demix_by_layer": "geometry.layerwise_demix",
    "held_out_cca": "geometry.canonical",
    "lag_profile": "geometry.index_sharing",
    "linear_cka": "geometry.similarity",
    "linear_cka_debiased": "geometry.similarity",
    "load_cells": "geometry.cells",
    "loadings": "geometry.component_loadings",
    "matched_cosine": "geometry.index_sharing",
    "nmf": "geometry.nonnegative",
    "nmf_by_layer": "geometry.layerwise_parts",
    "pca": "geometry.decompose",
    "pca_by_layer": "geometry.layerwise_components",
    "per_layer": "geometry.layerwise",
    "plan_cells": "geometry.cells",
    "principal_angles": "geometry.similarity",
    "procrustes": "geometry.similarity",
    "pwcca": "geometry.canonical",
    "retrieval": "geometry.index_sharing",
    "rsa": "geometry.similarity",
    "shared_share": "geometry.index_sharing",
    "site_hooks": "geometry.layerwise",
    "summary": "geometry.between_summary",
    "svcca": "geometry.canonical",
    "svd": "geometry.decompose",
    "svd_by_layer": "geometry.layerwise_components",
    "umap": "geometry.embed",
    "umap_by_layer": "geometry.layerwise_parts",
    "write_report": "geometry.report",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'geometry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
