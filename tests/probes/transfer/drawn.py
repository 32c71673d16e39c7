"""Results of transfer and erasure for pictures, and what of a figure is compared with them."""

import numpy as np

from cache import Hook
from tests.results import of_table

LAYERS = (-1, 2, 4, 6, 8)
FAMILIES = ("digits", "days")
DONORS = {"digits": "family", "days": "family", "control:0": "control", "control:1": "control"}


def value(layer, receiver, donor):
    """Own edits grow with the layer; controls stand at .01 and .05."""
    if donor.startswith("control"):
        return 0.01 if donor == "control:0" else 0.05
    return 0.1 * (layer + 1) * (1.0 if donor == receiver else 0.5)


def result(name, *, sets=("last",), receivers=FAMILIES):
    lines = []
    for layer in LAYERS:
        for positions in sets:
            for receiver in receivers:
                for donor, kind in DONORS.items():
                    share = value(layer, receiver, donor)
                    line = {"layer": layer, "positions": positions, "receiver": receiver, "donor": donor}
                    line |= {"donor_kind": "own" if donor == receiver else kind, "n_templates": 4}
                    line |= {"n_members": 4 if "days" in (receiver, donor) else 7}
                    few = "days" in (receiver, donor)
                    line |= {"ci_low": np.nan if few else share - 0.1, "ci_high": np.nan if few else share + 0.1}
                    if name == "transfer":
                        line |= {"success": share, "null_mean": 0.02}
                    else:
                        line |= {"left": 1 - share, "null_mean": 0.8, "within_mean": 0.9, "unedited": 0.95}
                        line |= {"necessary": "yes" if layer == 8 and donor == receiver == "digits" else "no"}
                    lines.append(line)
    hooks = tuple(Hook("resid_pre", 0) if layer < 0 else Hook("resid_post", layer) for layer in LAYERS)
    parameters = {"positions": list(sets), "rank": 4, "n_null": 19}
    return of_table(name, hooks, lines, ["positions", "receiver", "donor"], parameters=parameters)


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def line(axis, label):
    return next(drawn for drawn in axis.get_lines() if drawn.get_label() == label)
