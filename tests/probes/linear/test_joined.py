"""Probes asked for together: one result, and q over all of them."""

import numpy as np
import pytest

from cache import Hook
from cache.errors import InputError
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import adjusted
from probes.linear.joined import join_probes


def probe(target, p, *, layers=(0, 1), n_permutations=3):
    """A probe's result with the p values that are given."""
    rng = np.random.default_rng(0)
    shapes = {"value": (), "se": (), "null": (n_permutations,), "control": (5,), "control_families": (19,)}
    axes = {"null": "permutation", "control": "task", "control_families": "draw"}
    arrays = {
        name: (("hook", *([axes[name]] if shape else [])), rng.normal(size=(len(layers), *shape)))
        for name, shape in shapes.items()
    }
    own = {"target": target, "leave_out": "member", "members": [1, 2], "period": 2, "families": ["digits"]}
    arrays |= {name: (("hook",), np.array(p)) for name in ("p", "q")}
    hooks = [Hook("resid_post", layer) for layer in layers]
    return LayerResult("probe", on_sites(hooks, "resid_post", arrays), own | {"seed": 0}, "f")


def test_joined_probes_have_an_axis_of_their_own():
    results = [probe("number", [0.05, 0.5]), probe("family", [0.3, 0.4])]
    joined = join_probes(results)
    assert joined.dataset["value"].dims == ("hook", "probe")
    assert joined.dataset["null"].dims == ("hook", "probe", "permutation")
    for i, one in enumerate(results):
        np.testing.assert_array_equal(joined.values("null")[:, i], one.values("null"))
        assert joined.parameters["probes"][i]["target"] == one.parameters["target"]
    assert joined.parameters["seed"] == 0
    assert "target" not in joined.parameters


def test_q_is_over_the_probes_smallest_p_and_no_less_than_a_lines_own():
    results = [probe("number", [0.05, 0.5]), probe("family", [0.3, 0.4]), probe("angle", [np.nan, np.nan])]
    q = join_probes(results).table["q"].tolist()
    first, second = adjusted([0.05, 0.3])
    np.testing.assert_allclose(q, [first, 0.5, second, 0.4, np.nan, np.nan])


def test_probes_of_other_layers_are_not_joined():
    for probes in ([], [probe("number", [0.1, 0.1]), probe("family", [0.1], layers=(1,))]):
        with pytest.raises(InputError, match="probes are joined over one store, the same layers and draws; got"):
            join_probes(probes)
