"""Probes that are asked for together: one result, and p values corrected over all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from cache.errors import InputError
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import adjusted


def join_probes(results: Sequence[LayerResult]) -> LayerResult:
    """Probes of one store and the same layers as one result, along a new axis `probe`; the table has them all.

    `q` of a line is the Benjamini-Hochberg adjusted smallest p of its probe over all probes, or its own p if larger.

    Raises:
        InputError: there are none, or they are of different stores, layers or numbers of draws.
    """
    shapes = {(one.source, one.hooks, one.values("null").shape) for one in results}
    if len(shapes) != 1:
        raise InputError(f"probes are joined over one store, the same layers and draws; got {len(shapes)} kinds")
    own = ("target", "leave_out", "members", "period", "families")
    parameters = {name: value for name, value in results[0].parameters.items() if name not in own}
    parameters["probes"] = [{name: one.parameters[name] for name in own} for one in results]
    smallest = adjusted([float(np.nanmin(one.values("p"), initial=np.inf)) for one in results])
    corrected = [one.dataset.assign(q=one.dataset["p"].clip(min=q)) for one, q in zip(results, smallest, strict=True)]
    names = [f"{one['target']}, {one['leave_out']}s left out" for one in parameters["probes"]]
    joined = xr.concat(corrected, pd.Index(names, name="probe")).transpose("hook", "probe", ...)
    return LayerResult("probe", joined, parameters, results[0].source, lines=("probe", "hook"))
