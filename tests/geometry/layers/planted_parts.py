"""A store of planted parts, and which of its rows are analysed."""

import numpy as np

from cache import plan_recording
from tests.recordings import recorded
from tests.rerecording import rerecorded


def planted_parts(model, prompts, path):
    """Record layer 0: three parts in turn, by the member; 1: four groups far apart, signed; 2: rows all equal.

    Returns the parts.
    """
    plan = plan_recording(model, prompts.subset(range(0, 105, 2)), sites="mlp", positions="members")
    with recorded(model, plan, path) as store:
        value = store.rows["value"].to_numpy()
    rng = np.random.default_rng(0)
    parts = np.kron(np.eye(3), np.ones(11))
    weights = rng.uniform(0, 1, (len(value), 3)) * (rng.uniform(size=(len(value), 3)) < 0.6) + 2 * np.eye(3)[value % 3]
    centres = 20 * rng.normal(size=(4, 33))
    layers = [weights @ parts, centres[value % 4] + rng.normal(size=(len(value), 33)), np.ones((len(value), 33))]
    with rerecorded(path) as file:
        for layer, x in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_mlp_out"][:] = x
    return parts


def chosen_by_hand(store):
    return [i for i, row in store.rows.iterrows() if row["member"] >= 0 and row["position"] > 0]
