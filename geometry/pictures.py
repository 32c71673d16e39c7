"""Which pictures there are of a result, by the names of the files that its command writes."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from matplotlib.figure import Figure

from geometry.figures.compare import described_by_layer, shared_index_by_layer
from geometry.figures.loadings import heads_by_layer
from geometry.figures.overview import FEW_PAIRS, families_overview, layer_heatmap
from geometry.figures.scatter import scatter_by_layer
from geometry.figures.spectra import demixed_by_layer, explained_variance_by_layer, spectra_by_layer
from geometry.results.result import LayerResult
from geometry.similarity.family_measures import MEASURES

_OF_COMPONENTS = MappingProxyType(
    {"scatter": scatter_by_layer, "explained_variance": explained_variance_by_layer, "spectra": spectra_by_layer}
)
_PICTURES: Mapping[str, Mapping[str, Callable[..., Figure]]] = MappingProxyType(
    {
        "pca": _OF_COMPONENTS,
        "svd": _OF_COMPONENTS,
        "nmf": {"scatter": scatter_by_layer},
        "umap": {"scatter": scatter_by_layer},
        "demix": {"demixed": demixed_by_layer},
        "grid": {"grid": layer_heatmap},
    }
)


def pictures_of(result: LayerResult) -> dict[str, Callable[..., Figure]]:
    """What draws each picture of a result, the foremost first; nothing where the analysis is drawn elsewhere."""
    if result.name == "compare":
        return _of_families(result)
    drawn = dict(_PICTURES.get(result.name, {}))
    if result.parameters.get("n_heads", 1) > 1:
        drawn["heads"] = heads_by_layer
    return {name: partial(draw, result) for name, draw in drawn.items()}


def _of_families(result: LayerResult) -> dict[str, Callable[..., Figure]]:
    """A picture of each measure that decides, and one of all that describe; of many pairs an overview of each."""
    named = list(result.parameters["measures"])
    describing = [name for name in named if not MEASURES[name].decides]
    pictures: dict[str, Callable[..., Figure]] = {
        name: partial(shared_index_by_layer, result, measure=name) for name in named if name not in describing
    }
    if len(result.parameters["pairs"]) > FEW_PAIRS:
        small = {name: f"described-{name}" if name in describing else f"{name}-overview" for name in named}
        return pictures | {title: partial(families_overview, result, measure=name) for name, title in small.items()}
    return pictures | ({"described": partial(described_by_layer, result, describing)} if describing else {})
