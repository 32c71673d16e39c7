"""A result draws the pictures that its command writes, by the same names."""

import importlib
import inspect
import pkgutil

import pytest
from matplotlib.figure import Figure

import geometry.figures
from cache import plan_recording
from cache.errors import InputError
from geometry import between_families, between_layers, between_pairs, demix_by_layer, nmf_by_layer, pca_by_layer
from geometry.figures.plain import PlainFigure
from geometry.pictures import pictures_of
from tests.recordings import recorded


@pytest.fixture(scope="module")
def view(gpt2, prompts, tmp_path_factory):
    plan = plan_recording(gpt2, prompts, sites="resid", positions="last")
    with recorded(gpt2, plan, tmp_path_factory.mktemp("pictures") / "a.h5") as store:
        yield store.view(layers="1-2")


def test_components_have_their_pictures_and_the_first_is_drawn(view):
    result = pca_by_layer(view, k=2)
    assert list(result.pictures()) == ["scatter", "explained_variance", "spectra"]
    assert [axis.get_title() for axis in result.plot().axes] == ["layer 1", "layer 2"]
    assert result.plot("spectra").axes[0].get_title() != "layer 1"
    assert all(isinstance(draw(), PlainFigure) for draw in result.pictures().values())
    with pytest.raises(InputError, match="pca has no picture 'scater'; it has scatter, explained_variance, spectra"):
        result.plot("scater")


def test_a_picture_takes_its_options_and_no_others(view):
    result = pca_by_layer(view, k=2)
    axis = Figure().subplots()
    assert result.plot(layers="1", color="frame", ax=axis) is axis.get_figure()
    assert axis.get_title() == "layer 1"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(dict.fromkeys(result.rows["frame"]))
    with pytest.raises(InputError, match=r"spectra has no option 'color'; it has none"):
        result.plot("spectra", color="frame")
    with pytest.raises(InputError, match=r"scatter has no option 'colour'; it has layers, color, ax"):
        result.plot(colour="frame")


def test_heads_have_their_picture_where_there_are_heads(view, gpt2, prompts, tmp_path):
    plan = plan_recording(gpt2, prompts, sites="z", positions="last")
    with recorded(gpt2, plan, tmp_path / "z.h5") as store:
        result = nmf_by_layer(store.view("z"), k=2)
    assert list(result.pictures()) == ["scatter", "heads"]
    assert "each of 3 heads" in result.plot("heads").caption
    assert "heads" not in nmf_by_layer(view, k=2).pictures()


ROOMS = [f"probes.{room}.figures" for room in ("cosines", "linear", "steering", "transfer")]


def drawing():
    """Every public function that gives a figure."""
    names = [f"geometry.figures.{one.name}" for one in pkgutil.iter_modules(geometry.figures.__path__)]
    for module in map(importlib.import_module, [*names, *ROOMS]):
        for name, function in vars(module).items():
            given = getattr(function, "__module__", "") == module.__name__ and not name.startswith("_")
            if given and inspect.isfunction(function) and inspect.signature(function).return_annotation is Figure:
                yield pytest.param(function, id=name)


@pytest.mark.parametrize("draw", [*drawing()])
def test_a_picture_takes_axes_or_says_that_it_makes_its_own_and_a_scatter_any_colour(draw):
    parameters = inspect.signature(draw).parameters
    says = "It is a figure of its own." in " ".join((draw.__doc__ or "").split())
    assert says is ("ax" not in parameters)
    assert ("scatter" in draw.__name__) <= ("color" in parameters)


@pytest.mark.parametrize(
    ("analyse", "names"),
    [
        (lambda view: nmf_by_layer(view, k=2), ["scatter"]),
        (lambda view: demix_by_layer(view, ["digits", "months"]), ["demixed"]),
        (between_layers, ["grid"]),
        (
            lambda view: between_families(view, "digits", "months", measures=("matched_cosine", "cka")),
            ["matched_cosine", "described"],
        ),
        (lambda view: between_pairs(view, [("digits", "months")], measures=("cka", "cca")), ["described"]),
    ],
)
def test_every_analysis_has_a_picture(view, analyse, names):
    result = analyse(view)
    assert list(pictures_of(result)) == list(result.pictures()) == names
    assert isinstance(result.plot(), PlainFigure)
