"""A sweep's settings: controls and methods stand where they are compared, the unembedding difference everywhere."""

from types import SimpleNamespace

import pytest

from probes.steering import settings
from probes.steering.settings import Grid, Setting, plan_settings

plan = getattr(plan_settings, "__wrapped__", plan_settings)
GRID = Grid((1.0, 2.0), ("last",), ("mean_difference", "pca"))
NESTED, THINNED = [set(), {(2.0, "last")}, set()], [{(1.0, "last")}, set(), set()]


@pytest.mark.parametrize("words", [None, "some"])
def test_each_setting_has_the_sites_where_it_is_compared(words):
    material = SimpleNamespace(words=words, controls=("random",))
    found = plan(material, GRID, NESTED, THINNED)
    assert found[Setting("pca", 2.0, "last")] == found[Setting("mean_difference_loose", 2.0, "last")] == {1}
    assert Setting("pca", 1.0, "last") not in found
    assert found[Setting("random", 1.0, "last")] == {0}
    assert found[Setting("random", 2.0, "last")] == {1}
    everywhere = {one for one, at in found.items() if at == {0, 1, 2}}
    assert everywhere == ({Setting("unembedding_difference", a, "last") for a in (1.0, 2.0)} if words else set())
    assert not any(one.method == settings.GRID for one in found)
