"""A result draws the pictures that its command writes, by the same names."""

import pytest

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
