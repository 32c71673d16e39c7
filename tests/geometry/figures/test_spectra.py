"""Pictures of spectra and of demixed parts."""

import numpy as np

from cache import Hook
from geometry.bases.demixing import PARTS
from geometry.figures.spectra import demixed_by_layer, explained_variance_by_layer, spectra_by_layer
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult

HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 0), Hook("resid_post", 1))


def result(name, arrays, **parameters):
    dataset = on_sites(HOOKS, "resid_post", arrays, {"n_members": 6, "n_templates": 10})
    return LayerResult(name, dataset, {"site": "resid_post", **parameters}, "ab" * 32)


def spectra():
    spectrum = np.array([[0.0, 0, 0, 0], [4, 2, 1, 0], [8, 8, 4, 4.0]])
    arrays = {
        "spectrum": (("hook", "all"), spectrum),
        "participation_ratio": (("hook",), np.array([np.nan, 2.3, 3.6])),
        "largest_row_share": (("hook",), np.array([np.nan, 0.2, 0.9])),
        "largest_dimension_share": (("hook",), np.array([np.nan, 0.1, 0.3])),
    }
    return result("pca", arrays)


def test_each_layer_with_variance_has_a_line_of_shares_without_its_zeros():
    left = spectra_by_layer(spectra()).axes[0]
    lines = left.get_lines()
    assert len(lines) == 2
    np.testing.assert_allclose(lines[0].get_ydata(), [4 / 7, 2 / 7, 1 / 7])
    np.testing.assert_allclose(lines[1].get_xdata(), [1, 2, 3, 4])
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")


def test_participation_and_the_largest_shares_are_drawn_over_layers():
    axes = spectra_by_layer(spectra()).axes
    ratio = next(axis for axis in axes if axis.get_ylabel() == "participation ratio").get_lines()[0]
    np.testing.assert_array_equal(ratio.get_ydata(), [np.nan, 2.3, 3.6])
    assert ratio.get_xdata().tolist() == [-1, 0, 1]
    shares = next(axis for axis in axes if axis.get_ylabel() == "share")
    assert [line.get_label() for line in shares.get_lines()] == ["largest row share", "largest dimension share"]
    assert shares.get_ylim() == (0, 1)
    assert ratio.axes.get_ylim() == (0, 1.05 * 3.6)


def test_every_part_has_its_line_and_the_null_its_ceiling():
    share = np.arange(15.0).reshape(3, 5) / 20
    arrays = {
        "share": (("hook", "part"), share),
        "null": (("hook", "draw"), np.array([[np.nan] * 3, [0.5, 0.1, 0.2], [0.6, 0.3, 0.05]])),
    }
    axis = demixed_by_layer(result("demix", arrays, families=["digits", "months"])).axes[0]
    drawn = {line.get_label(): line for line in axis.get_lines()}
    for i, part in enumerate(PARTS):
        np.testing.assert_array_equal(drawn[part].get_ydata(), share[:, i])
    ceiling = drawn["largest shared index of unrelated codes"]
    np.testing.assert_array_equal(ceiling.get_ydata(), [np.nan, 0.5, 0.6])
    assert axis.get_title() == "resid_post: digits, months; 6 members, 10 templates"


def test_without_controls_there_is_no_ceiling():
    arrays = {"share": (("hook", "part"), np.ones((3, 5))), "null": (("hook", "draw"), np.zeros((3, 0)))}
    axis = demixed_by_layer(result("demix", arrays, families=["a"])).axes[0]
    assert "largest shared index of unrelated codes" not in [line.get_label() for line in axis.get_lines()]


def variance(ratios):
    arrays = {
        "explained_variance_ratio": (("hook", "component"), np.array(ratios)),
        "se": (("hook", "component"), np.full((3, 2), 0.01)),
        "null": (("hook", "permutation", "component"), np.full((3, 4, 2), 0.1)),
    }
    made = result("pca", arrays)
    made.dataset["n_rows"] = 9
    return explained_variance_by_layer(made)


def test_shares_that_span_decades_have_a_logarithmic_axis_and_none_at_all_is_a_triangle():
    figure = variance([[0.9, 0.001], [0.99, 0.0005], [0.999, 0.0]])
    axis = figure.axes[0]
    assert axis.get_yscale() == "log"
    (mark,) = [line for line in axis.get_lines() if line.get_marker() == "v"]
    assert (mark.get_xdata().tolist(), mark.get_ydata().tolist()) == ([1], [1e-6])
    assert axis.get_ylim()[0] < 1e-6
    assert "The axis is logarithmic. Triangles: values below 1e-06, drawn there." in figure.caption
    assert all(path.vertices[:, 1].min() >= 1e-6 for band in axis.collections for path in band.get_paths())


def test_shares_that_do_not_begin_at_nothing():
    figure = variance([[0.6, 0.1], [0.5, 0.2], [0.4, 0.3]])
    assert (figure.axes[0].get_yscale(), figure.axes[0].get_ylim()[0]) == ("linear", 0)
    assert "logarithmic" not in figure.caption


def test_parts_of_almost_no_variance_do_not_press_the_others_flat():
    share = np.tile([0.5, 0.2, 0.1, 0.1, 0.1], (3, 1))
    share[0, 0] = -40
    arrays = {"share": (("hook", "part"), share), "null": (("hook", "draw"), np.zeros((3, 0)))}
    figure = demixed_by_layer(result("demix", arrays, families=["a"]))
    assert figure.axes[0].get_ylim()[0] > -2
    assert [line.get_marker() for line in figure.axes[0].get_lines()].count("v") == 1
    assert "Triangles: values below -1, drawn there." in figure.caption
