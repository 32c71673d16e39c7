"""Which pictures there are of an experiment's result, by the names of the files that its command writes."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from matplotlib.figure import Figure

from geometry.figures.panels import Ax
from geometry.results.result import LayerResult
from probes.cosines.figures import drawn_cosines
from probes.linear.figures import probes_by_layer
from probes.steering.cells import success_by_layer
from probes.steering.figures import steering_by_layer, steering_grid
from probes.transfer.figures import erasure_by_layer, last_or_answer_by_layer, transfer_by_layer
from probes.transfer.matrices import erasure_matrices, transfer_matrices

_PICTURES: Mapping[str, Mapping[str, Callable[..., Figure]]] = MappingProxyType(
    {
        "probe": {"probes": probes_by_layer},
        "last_or_answer": {"by_layer": last_or_answer_by_layer},
    }
)
_BY_POSITIONS: Mapping[str, Mapping[str, Callable[..., Figure]]] = MappingProxyType(
    {
        "transfer": {"matrix": transfer_matrices, "by_layer": transfer_by_layer},
        "erasure": {"matrix": erasure_matrices, "by_layer": erasure_by_layer},
    }
)


def pictures_of(result: LayerResult) -> dict[str, Callable[..., Figure]]:
    """What draws each picture of a result, the foremost first; nothing where the analysis is drawn elsewhere."""
    if result.name == "sweep":
        return {"success": partial(_success, result), "grid": partial(steering_grid, result)}
    if result.name == "direction cosines":
        return {"cosines": partial(drawn_cosines(result), result)}
    if draws := _BY_POSITIONS.get(result.name):
        sets = result.parameters["positions"]
        return {f"{name}-{one}": partial(draw, result, one) for name, draw in draws.items() for one in sets}
    return {name: partial(draw, result) for name, draw in _PICTURES.get(result.name, {}).items()}


def _success(result: LayerResult, *, ax: Ax = None) -> Figure:
    methods = dict.fromkeys(method for method, _, _ in result.parameters["settings"])
    by_answer = {
        one: {method: success_by_layer(result, method, [one]) for method in methods}
        for one in result.parameters["positions"]
    }
    return steering_by_layer(result, by_answer, ax=ax)
