"""Figures: they show the numbers they are given, with labels a reader can do without the caption."""

import importlib.util
import io
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cache import Hook, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from geometry.figures.panels import PALETTE, layer_title
from geometry.figures.scatter import scatter_by_layer
from geometry.figures.spectra import explained_variance_by_layer
from geometry.layers.principal import pca_by_layer
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from tests.recordings import recorded
from tests.views import arrays_of

N_VALUES = 5
N_TEMPLATES = 3


def made_up(families=("digits", "months", "control:0", "control:1"), *, n_layers=30, k=3, embed=True, **changes):
    """A result whose numbers mean nothing, so that a figure can only have them from the result."""
    rng = np.random.default_rng(0)
    hooks = (Hook("resid_pre", 0),) * embed + tuple(Hook("resid_post", layer) for layer in range(n_layers))
    hooks = changes.pop("hooks", hooks)
    rows = pd.DataFrame(
        [
            {"family": family, "shown": FAMILIES[family].member(value) if family in FAMILIES else "cat", "unit": value}
            for value in range(1, N_VALUES + 1)
            for _ in range(N_TEMPLATES)
            for family in families
        ]
    )
    steady = 3 * rng.normal(size=(len(rows), k))  # each layer's components go on from those of the layer before
    noise = rng.normal(size=(len(hooks), len(rows), k))
    ratios = np.sort(rng.uniform(0.05, 0.3, size=(len(hooks), k)))[:, ::-1]
    arrays = {
        "scores": (("hook", "row", "component"), (steady + noise).astype(np.float32)),
        "explained_variance_ratio": (("hook", "component"), ratios),
        "se": (("hook", "component"), rng.uniform(0.01, 0.1, size=ratios.shape)),
        "null": (("hook", "permutation", "component"), rng.uniform(0, 0.1, size=(len(hooks), 20, k))),
    }
    given = {
        "name": "pca",
        "rows": rows,
        "parameters": {"site": "resid_post"},
        "source": "ab" * 32,
    }
    counts = {"n_rows": len(rows), "n_members": N_VALUES, "n_templates": N_TEMPLATES}
    dataset = on_sites(hooks, "resid_post", changes.pop("arrays", arrays), counts)
    return LayerResult(**{"dataset": dataset, **given, **changes})


def with_array(result, name, values):
    return made_up(
        n_layers=len(result.hooks) - 1, arrays={**arrays_of(result), name: (arrays_of(result)[name][0], values)}
    )


def family_rows(result, family):
    return (result.rows["family"] == family).to_numpy()


def turned(result, i, order, signs):
    """The same result with the components of one layer in another order, and the other way round."""
    scores, ratios = result.values("scores").copy(), result.values("explained_variance_ratio").copy()
    scores[i], ratios[i] = scores[i][:, order] * np.array(signs, dtype=np.float32), ratios[i][order]
    return with_array(with_array(result, "scores", scores), "explained_variance_ratio", ratios)


def test_components_that_are_exchanged_and_turned_round_at_one_layer_are_drawn_in_their_places():
    result = made_up(n_layers=2)
    one = result.values("scores")[0]
    steady = with_array(result, "scores", np.stack([one, 2 * one, one]))
    flipped = turned(steady, 1, [1, 0, 2], [-1, 1, 1])
    panels, others = scatter_by_layer(steady).axes, scatter_by_layer(flipped).axes
    for axis, other in zip(panels, others, strict=True):
        for points, moved in zip(axis.collections, other.collections, strict=True):
            np.testing.assert_allclose(points.get_offsets(), moved.get_offsets())
    names = [(axis.get_xlabel().split()[0], axis.get_ylabel().split()[0]) for axis in others]
    assert names == [("PC1", "PC2"), ("PC2", "\N{MINUS SIGN}PC1"), ("PC1", "PC2")]
    assert others[1].get_ylabel().split()[1] == panels[1].get_ylabel().split()[1]  # each with its own share
    np.testing.assert_array_equal(flipped.values("scores")[1][:, 1], 2 * one[:, 0])
    assert "turned round" in scatter_by_layer(flipped).axes[0].figure.caption
    assert "layer before" not in scatter_by_layer(made_up(n_layers=1, embed=False)).caption


@pytest.fixture
def settings():
    """What gives matplotlib's global settings, which begin as the defaults whatever other tests did."""
    with mpl.rc_context():
        mpl.rcdefaults()
        # reading the backend chooses one, and imports pyplot for it
        yield lambda: {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture(scope="module")
def whole():
    """SmolLM2's 31 sites."""
    return made_up()


@pytest.fixture(scope="module")
def scatter(whole):
    return scatter_by_layer(whole, layers="all")


@pytest.fixture(scope="module")
def panels(scatter):
    return [axis for axis in scatter.axes if axis.axison]


def test_there_is_a_titled_panel_a_site_and_no_empty_frame(scatter, panels):
    assert [axis.get_title() for axis in panels] == ["embed"] + [f"layer {layer}" for layer in range(30)]
    assert len(scatter.axes) < 31 + 6


def test_panels_say_how_much_their_axes_explain(whole, panels):
    for axis, ratios in zip(panels, whole.values("explained_variance_ratio"), strict=True):
        assert axis.get_xlabel() == f"PC1 ({round(100 * ratios[0])}%)"
        assert axis.get_ylabel() == f"PC2 ({round(100 * ratios[1])}%)"


def test_every_row_is_drawn_where_its_scores_are_and_nowhere_else(whole, panels):
    scores = whole.values("scores")[:, :, :2]
    controls = family_rows(whole, "control:0") | family_rows(whole, "control:1")
    for axis, expected in zip(panels, scores, strict=True):
        drawn = [np.asarray(points.get_offsets()) for points in axis.collections]
        assert len(drawn) == 3
        for points, mine in zip(
            drawn, (controls, family_rows(whole, "digits"), family_rows(whole, "months")), strict=True
        ):
            np.testing.assert_array_equal(points, expected[mine])


def means(result, layer, family):
    """Each ordinal's mean, by a loop."""
    mine, unit = family_rows(result, family), result.rows["unit"].to_numpy()
    scores = result.values("scores")[layer]
    return np.array([scores[mine & (unit == value)][:, :2].mean(axis=0) for value in range(1, N_VALUES + 1)])


def test_a_familys_means_are_joined_in_order_and_controls_are_not_joined(whole, panels):
    for layer, axis in enumerate(panels):
        lines = {line.get_label(): line.get_xydata() for line in axis.lines}
        assert set(lines) == {"digits", "months"}
        for family, path in lines.items():
            np.testing.assert_allclose(path, means(whole, layer, family), atol=1e-6)


def test_each_mean_carries_its_member_cut_to_three_letters_in_the_familys_colour(whole, panels):
    expected = [*"12345", "Jan", "Feb", "Mar", "Apr", "May"]
    for layer, axis in enumerate(panels):
        assert [text.get_text() for text in axis.texts] == expected
        places = np.concatenate([means(whole, layer, family) for family in ("digits", "months")])
        np.testing.assert_allclose([text.get_position() for text in axis.texts], places, atol=1e-6)
        assert [text.get_color() for text in axis.texts] == [PALETTE[0]] * 5 + [PALETTE[1]] * 5


def test_members_that_begin_alike_are_cut_where_they_differ_and_long_ones_in_any_case():
    members = ["VII", "VIII", "June", "July", "United States", "United Kingdom", "understandings", "understandingly"]
    rows = pd.DataFrame({"family": "mine", "shown": members, "unit": range(8)})
    scores = np.random.default_rng(0).normal(size=(1, 8, 2)).astype(np.float32)
    arrays = arrays_of(made_up(n_layers=1, embed=False, k=2)) | {"scores": (("hook", "row", "component"), scores)}
    figure = scatter_by_layer(made_up(n_layers=1, embed=False, k=2, rows=rows, arrays=arrays))
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn == ["VII", "VIII", "Jun", "Jul", "United S", "United K", "understandin", "understandin"]


def test_of_many_layers_eight_have_a_panel_unless_others_are_named(whole):
    titles = lambda figure: [axis.get_title() for axis in figure.axes]  # noqa: E731
    drawn = scatter_by_layer(whole)
    assert titles(drawn) == ["embed", *(f"layer {layer}" for layer in (3, 8, 12, 16, 20, 25, 29))]
    assert "(8 of 31 shown)" in drawn.caption
    assert titles(scatter_by_layer(whole, layers="4,-1")) == ["layer 4", "layer 29"]
    assert titles(scatter_by_layer(whole, layers=3)) == ["embed", "layer 14", "layer 29"]
    with pytest.raises(InputError, match="layers 0 to 29"):
        scatter_by_layer(whole, layers="30")


def test_members_without_an_order_are_not_joined():
    result = made_up(("digits", "months"), n_layers=1, embed=False)
    months = result.rows["family"] == "months"
    rows = result.rows.assign(pair=np.where(months, result.rows["shown"], ""))
    figure = scatter_by_layer(made_up(("digits", "months"), n_layers=1, embed=False, rows=rows))
    lines = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert lines == {"digits": "-", "months": "None"}
    assert "lines join them in the members' order (digits)" in figure.caption
    alone = scatter_by_layer(made_up(("digits",), n_layers=1, rows=made_up(("digits",)).rows.assign(unit=-1)))
    assert "join" not in alone.caption


def test_rows_may_come_in_any_order(whole):
    order = np.random.default_rng(1).permutation(len(whole.rows))
    arrays = {name: (axes, values[:2]) for name, (axes, values) in arrays_of(whole).items()}
    arrays["scores"] = (arrays["scores"][0], arrays["scores"][1][:, order])
    shuffled = made_up(n_layers=1, rows=whole.rows.iloc[order].reset_index(drop=True), arrays=arrays)
    axis = scatter_by_layer(shuffled).axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axis.lines}
    for family, path in lines.items():
        np.testing.assert_allclose(path, means(whole, 0, family), atol=1e-6)
    labels = sorted(text.get_text() for text in axis.texts)
    assert labels == sorted([*"12345", "Jan", "Feb", "Mar", "Apr", "May"])


def test_the_legend_has_one_entry_a_family_and_one_for_all_controls(scatter):
    assert legend_of(scatter) == ["controls (2)", "digits", "months"]
    assert all(axis.get_legend() is None for axis in scatter.axes)


def test_controls_are_grey_and_lie_underneath(panels):
    for axis in panels:
        colours = [to_hex(points.get_facecolor()[0]).upper() for points in axis.collections]
        assert colours[1:] == list(PALETTE[:2])
        red, green, blue = (colours[0][i : i + 2] for i in (1, 3, 5))
        assert red == green == blue


def test_the_figure_says_what_site_and_how_many_rows_members_and_templates(scatter):
    title = scatter.get_suptitle()
    assert "resid_post" in title
    assert "60 rows, 5 members, 3 templates" in title


def test_without_controls_there_is_no_entry_for_them():
    figure = scatter_by_layer(made_up(("months",), n_layers=1))
    assert legend_of(figure) == ["months"]
    assert [len(axis.collections) for axis in figure.axes] == [1, 1]


def test_controls_alone_are_a_grey_cloud():
    figure = scatter_by_layer(made_up(("control:0", "control:1", "control:2"), n_layers=1))
    assert legend_of(figure) == ["controls (3)"]
    assert not figure.axes[0].lines


def test_prompts_without_a_family_are_called_prompts():
    assert legend_of(scatter_by_layer(made_up(("",), n_layers=1))) == ["prompts"]


def test_one_component_is_drawn_on_a_line():
    result = made_up(k=1, n_layers=2)
    figure = scatter_by_layer(result)
    for axis, scores in zip(figure.axes, result.values("scores"), strict=True):
        assert axis.get_ylabel() == ""
        points = np.concatenate([np.asarray(drawn.get_offsets()) for drawn in axis.collections])
        assert sorted(points[:, 0]) == sorted(scores[:, 0])
        assert not points[:, 1].any()


def test_a_single_layer_has_a_single_panel():
    figure = scatter_by_layer(made_up(n_layers=1, embed=False))
    assert [axis.get_title() for axis in figure.axes] == ["layer 0"]


def test_the_embedding_is_called_so_wherever_a_layer_is_named():
    assert layer_title(Hook("resid_pre", 0)) == "embed"
    assert [layer_title(Hook(kind, layer)) for kind, layer in (("resid_post", 0), ("z", 12), ("resid_pre", 1))] == [
        "layer 0",
        "layer 12",
        "layer 1",
    ]


def test_there_is_a_line_a_component_and_the_null_over_all_layers(whole):
    figure = explained_variance_by_layer(whole)
    axis = figure.axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["PC1", "PC2", "PC3", "largest of the null"]
    for component in range(3):
        line = lines[f"PC{component + 1}"]
        np.testing.assert_array_equal(line.get_ydata(), whole.values("explained_variance_ratio")[:, component])
    np.testing.assert_array_equal(
        lines["largest of the null"].get_ydata(), [null.max() for null in whole.values("null")]
    )
    assert all(line.get_xdata().tolist() == list(range(-1, 30)) for line in lines.values())
    assert len({line.get_color() for line in lines.values()}) == 4
    assert legend_of(figure) == list(lines)


def test_bands_are_one_standard_error_wide_and_stay_between_none_and_all(whole):
    errors = whole.values("se").copy()
    errors[3] = 2
    result = with_array(whole, "se", errors)
    axis = explained_variance_by_layer(result).axes[0]
    assert len(axis.collections) == 3
    for band, share, error in zip(axis.collections, result.values("explained_variance_ratio").T, errors.T, strict=True):
        edges = band.get_paths()[0].vertices
        for i, layer in enumerate(range(-1, 30)):
            here = edges[edges[:, 0] == layer][:, 1]
            assert here.min() == pytest.approx(max(share[i] - error[i], 0))
            assert here.max() == pytest.approx(min(share[i] + error[i], 1))


def test_without_standard_errors_there_is_no_band(whole):
    axis = explained_variance_by_layer(with_array(whole, "se", np.full((31, 3), np.nan))).axes[0]
    assert len(axis.lines) == 4
    assert not axis.collections


def without_variance_at_the_embedding(**choices):
    """As the embedding of rows that are all one token: no share, no error, no null."""
    result = made_up(**choices)
    for name in ("explained_variance_ratio", "se", "null"):
        result.values(name)[0] = np.nan
    result.values("scores")[0] = 0
    return result


def test_a_layer_without_variance_is_a_gap_in_every_line():
    axis = explained_variance_by_layer(without_variance_at_the_embedding(n_layers=4)).axes[0]
    for line in axis.lines:
        assert np.isnan(line.get_ydata()).tolist() == [True, False, False, False, False]


def test_a_layer_without_variance_hides_no_other_layers_band():
    axis = explained_variance_by_layer(without_variance_at_the_embedding(n_layers=4)).axes[0]
    assert len(axis.collections) == 3
    for band in axis.collections:
        assert {0, 1, 2, 3} == {x for path in band.get_paths() for x in path.vertices[:, 0].tolist()}


def test_a_layer_without_variance_has_no_percentage():
    axis = scatter_by_layer(without_variance_at_the_embedding(n_layers=1)).axes[0]
    assert axis.get_title() == "embed"
    assert "nan" not in axis.get_xlabel() + axis.get_ylabel()


def test_the_axes_are_named_and_ticks_are_layers(whole):
    axis = explained_variance_by_layer(whole).axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("layer", "explained variance ratio")
    labels = [text.get_text() for text in axis.get_xticklabels()]
    assert labels[0] == "embed"
    assert [int(label) for label in labels[1:]] == axis.get_xticks()[1:].tolist()
    assert 8 <= len(labels) <= 17
    assert axis.get_xticks()[0] == -1
    assert axis.get_ylim()[0] == 0
    assert "60 rows, 5 members, 3 templates" in axis.get_title()
    assert "resid_post" in axis.get_title()


def test_a_single_layer_is_a_point_a_component_beside_each_other():
    axis = explained_variance_by_layer(made_up(n_layers=1, embed=False)).axes[0]
    named = [line for line in axis.lines if not line.get_label().startswith("_")]
    np.testing.assert_allclose([line.get_xdata() for line in named], [[-0.6], [0], [0.6], [0]], atol=1e-12)
    assert [line.get_marker() for line in axis.lines[:3]] == ["o"] * 3


@pytest.mark.parametrize(
    "hooks",
    [
        pytest.param((Hook("mlp_out", 0),), id="layer-0"),
        pytest.param(tuple(Hook("mlp_out", layer) for layer in range(1, 48, 2)), id="odd-layers"),
    ],
)
def test_some_layer_is_always_labelled(hooks):
    result = made_up(n_layers=len(hooks), embed=False, hooks=hooks)
    labels = [text.get_text() for text in explained_variance_by_layer(result).axes[0].get_xticklabels()]
    assert set(labels) & {str(hook.layer) for hook in hooks}


def test_means_of_last_tokens_carry_the_member_they_count_under(gpt2, prompts, tmp_path):
    months = prompts.subset(i for i, prompt in enumerate(prompts) if (prompt.family, prompt.template) == ("months", 1))
    plan = plan_recording(gpt2, months, sites="mlp_out", layers="1", positions="last")
    with recorded(gpt2, plan, tmp_path / "a.h5") as store:
        result = pca_by_layer(store.view("mlp_out", where="is_last"), k=2)
    labels = [text.get_text() for text in scatter_by_layer(result).axes[0].texts]
    assert labels == ["Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov"]


def test_a_member_with_dollar_signs_is_written_as_it_is():
    result = made_up(("months",), n_layers=1)
    figure = scatter_by_layer(made_up(("months",), n_layers=1, rows=result.rows.assign(shown="$^$")))
    figure.savefig(io.BytesIO(), format="svg")


def test_each_built_in_family_has_a_colour_of_its_own():
    axis = scatter_by_layer(made_up(tuple(FAMILIES), n_layers=1)).axes[0]
    assert len({to_hex(points.get_facecolor()[0]) for points in axis.collections}) == len(FAMILIES)


@pytest.mark.parametrize("draw", [scatter_by_layer, explained_variance_by_layer])
def test_drawing_changes_neither_the_result_nor_any_global_setting(draw, settings):
    result = made_up(n_layers=2)
    before, values = settings(), {name: array.copy() for name, (_, array) in arrays_of(result).items()}
    rows = result.rows.copy()
    draw(result).savefig(io.BytesIO())
    assert settings() == before
    for name, array in values.items():
        np.testing.assert_array_equal(result.values(name), array)
    pd.testing.assert_frame_equal(result.rows, rows)


def test_the_same_result_gives_the_same_picture():
    for draw in (scatter_by_layer, explained_variance_by_layer):
        pictures = []
        for _ in range(2):
            pictures.append(io.BytesIO())
            draw(made_up(n_layers=1)).savefig(pictures[-1], format="raw")
        assert pictures[0].getvalue() == pictures[1].getvalue()


def test_no_display_and_no_pyplot_are_needed(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    for module, name in (("scatter", "scatter_by_layer"), ("spectra", "explained_variance_by_layer")):
        spec = importlib.util.find_spec(f"geometry.figures.{module}")
        figures = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(figures)
        picture = io.BytesIO()
        getattr(figures, name)(made_up(n_layers=1)).savefig(picture, format="png")
        assert picture.getvalue().startswith(b"\x89PNG")


def test_any_label_colours_the_rows(whole):
    rows = whole.rows.assign(frame=np.where(np.arange(len(whole.rows)) % 2, "list", "quote"))
    result = made_up(n_layers=1, embed=False, rows=rows)
    figure = scatter_by_layer(result, color="frame")
    assert legend_of(figure) == ["quote", "list"]
    for name, points in zip(("quote", "list"), figure.axes[0].collections, strict=True):
        drawn = result.values("scores")[0][(rows["frame"] == name).to_numpy(), :2]
        np.testing.assert_array_equal(points.get_offsets(), drawn)
    assert not figure.axes[0].lines
    assert "Points are rows, in the colour of their frame." in figure.caption


def test_many_numbers_are_shades_with_a_bar_that_is_named():
    result = made_up(n_layers=1, embed=False)
    numbers = result.rows.assign(position=np.arange(len(result.rows)))
    figure = scatter_by_layer(made_up(n_layers=1, embed=False, rows=numbers), color="position")
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), numbers["position"])
    assert figure.axes[1].get_ylabel() == "position"


def test_a_label_that_rows_do_not_have_is_told(whole):
    with pytest.raises(InputError, match="rows have no label 'colour'; they have family, shown, unit"):
        scatter_by_layer(whole, color="colour")


def test_panels_of_the_callers_figure_are_drawn_into_and_nothing_else_of_it_changes():
    figure = Figure(figsize=(6, 2))
    own, left, right = figure.subplots(1, 3)
    figure.suptitle("mine")
    result = made_up(("months",), n_layers=2, embed=False)
    result = made_up(("months",), n_layers=2, embed=False, rows=result.rows.assign(shown="$^$"))
    assert scatter_by_layer(result, ax=[left, right]) is figure
    assert [axis.get_title() for axis in (own, left, right)] == ["", "layer 0", "layer 1"]
    assert figure.get_suptitle() == "mine"
    assert not figure.legends
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["months"]
    assert figure.get_size_inches().tolist() == [6, 2]
    explained_variance_by_layer(result, ax=own)
    assert own.get_ylabel() == "explained variance ratio"
    figure.savefig(io.BytesIO(), format="svg")
    with pytest.raises(InputError, match="the figure has 2 panels, and takes as many axes; got 1"):
        scatter_by_layer(result, ax=left)


def with_far_rows(n_far, far=1000.0, n_layers=1):
    """Rows between -3 and 3 but for some that lie far off along the first component."""
    result = made_up(n_layers=n_layers, embed=False)
    scores = np.random.default_rng(1).uniform(-3, 3, size=result.values("scores").shape).astype(np.float32)
    scores[:, :n_far, 0] = far
    arrays = arrays_of(result)
    return made_up(n_layers=n_layers, embed=False, arrays={**arrays, "scores": (arrays["scores"][0], scores)})


@pytest.mark.parametrize("color", ["family", "unit"])
def test_few_rows_far_from_all_others_are_triangles_at_the_edge(color):
    result = with_far_rows(2)
    figure = scatter_by_layer(result, color=color)
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    assert -5 < low < high < 5
    (mark,) = [one for one in axis.collections if one.get_sizes()[0] == 18]
    inside = result.values("scores")[0, 2:, 0]
    np.testing.assert_allclose(mark.get_offsets()[:, 0], inside.max())
    np.testing.assert_allclose(mark.get_offsets()[:, 1], result.values("scores")[0, :2, 1])
    assert "Triangles: rows far from all others" in figure.caption


def test_rows_that_are_many_or_not_so_far_are_where_they_are():
    for result in (with_far_rows(20), with_far_rows(2, far=12.0)):
        figure = scatter_by_layer(result)
        assert figure.axes[0].get_xlim()[1] > result.values("scores")[0, :, 0].max()
        assert "Triangles" not in figure.caption


def test_more_labels_than_the_palette_has_are_told_apart():
    result = made_up(tuple(f"family {i}" for i in range(20)), n_layers=1, embed=False)
    axis = scatter_by_layer(result).axes[0]
    assert len({to_hex(points.get_facecolor()[0]) for points in axis.collections}) == 20
