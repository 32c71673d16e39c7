"""What shape it has: decompositions and measures of recorded activations, layer by layer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geometry.decompose import Decomposition as Decomposition
    from geometry.decompose import pca as pca
    from geometry.layerwise import LayerResult as LayerResult
    from geometry.layerwise import per_layer as per_layer
    from geometry.layerwise import site_hooks as site_hooks
    from geometry.layerwise_pca import pca_by_layer as pca_by_layer
    from geometry.report import write_report as write_report

_HOMES = {
    "Decomposition": "geometry.decompose",
    "LayerResult": "geometry.layerwise",
    "pca": "geometry.decompose",
    "pca_by_layer": "geometry.layerwise_pca",
    "per_layer": "geometry.layerwise",
    "site_hooks": "geometry.layerwise",
    "write_report": "geometry.report",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'geometry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
