"""What components stand for: their extreme members, and tokens against the model's own logits."""

import numpy as np
import pytest
import torch

from cache import load_dataset, plan_recording
from cache.errors import InputError
from geometry.layers.loadings import loadings, top_tokens
from geometry.layers.principal import pca_by_layer
from tests.geometry import comparisons
from tests.recordings import recorded


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    prompts = load_dataset("digits,months,control:0")
    path = tmp_path_factory.mktemp("loadings") / "a.h5"
    with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid,neurons"), path) as store:
        yield store


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_tokens_are_those_whose_logits_rise_most_when_the_direction_is_added(loaded, name):
    """A step small beside a large stream: the norm's scale stays, and the logits move along the direction alone."""
    model = loaded[name]
    d_model = model.d_model
    directions = torch.nn.functional.normalize(
        torch.randn(2, d_model, generator=torch.Generator().manual_seed(0)), dim=1
    )
    stream = torch.randn(1, 1, d_model, generator=torch.Generator().manual_seed(1))
    for direction, (promoted, suppressed) in zip(directions, top_tokens(model, directions, n=3), strict=True):
        if name == "gpt2":
            stream = stream - stream.mean()
        flat = direction - direction.mean() if name == "gpt2" else direction
        along = stream - (stream @ flat) / (flat @ flat) * flat  # at right angles, so that the scale does not change
        with torch.no_grad():
            low, high = (
                model.bridge.unembed(model.bridge.ln_final(along + e * direction))[0, 0] for e in (-0.01, 0.01)
            )
        change = (high - low).double()
        change -= change.mean()
        words = [str(model.tokenizer.decode([i])) for i in change.argsort(descending=True).tolist()]
        shown = [word.replace(" ", "_").encode("unicode_escape").decode("ascii") for word in words]
        assert promoted.split(" ") == shown[:3]
        assert suppressed.split(" ") == shown[:-4:-1]


def test_directions_of_another_width_are_refused(gpt2):
    with pytest.raises(InputError, match=r"has d_model 33; got directions of 5"):
        top_tokens(gpt2, torch.ones(1, 5))


def test_the_ends_are_the_members_with_the_extreme_mean_scores_controls_left_out(store):
    result = pca_by_layer(store.view(layers="2"), k=2)
    table = loadings(result, n=3)
    rows = result.rows.assign(score=result.values("scores")[0, :, 1])
    rows = rows[~rows["family"].str.startswith("control")]
    means = rows.groupby(["family", "shown"])["score"].mean().sort_values()
    names = [f"{family}:{member}" for family, member in means.index]
    assert table["lowest"][1].split() == names[:3]
    assert table["highest"][1].split() == names[:-4:-1]
    assert table["explained_variance_ratio"][1] == result.values("explained_variance_ratio")[0, 1]


def test_controls_are_named_where_there_is_nothing_else(store):
    result = pca_by_layer(store.view(layers="2", where="family == 'control:0' and member > 0"), k=1)
    assert loadings(result)["highest"][0].startswith("control:0:")


def test_neurons_have_no_logit_effect_and_without_a_model_there_are_no_tokens(store, gpt2):
    neurons = pca_by_layer(store.view("mlp_post", "1"), k=1)
    assert "promotes" not in loadings(neurons, gpt2)
    stream = pca_by_layer(store.view(layers="0,1"), k=2)
    assert "promotes" not in loadings(stream)
    full = loadings(stream, gpt2, n=2)
    assert full[["layer", "component"]].to_numpy().tolist() == [
        [-1, 0],
        [-1, 1],
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ] or full["layer"].unique().tolist() == [0, 1]
    assert full["promotes"].str.split(" ").map(len).eq(2).all()


def test_a_result_without_directions_is_refused():
    with pytest.raises(InputError, match="compare has no 'directions'"):
        loadings(comparisons.result({"a - b": [0.1, 0.2, 0.3, 0.4]}))


def test_what_is_not_plain_text_is_escaped(gpt2):
    directions = torch.eye(gpt2.d_model)
    words = " ".join(word for pair in top_tokens(gpt2, directions, n=20) for word in pair)
    assert words.isascii()
    assert np.all([word.isprintable() for word in words.split(" ")])
