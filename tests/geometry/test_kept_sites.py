"""Kept sites of every analysis: used by the same one again, and by none that differs in a single parameter."""

from functools import partial

import pandas as pd
import pytest

from cache import load_dataset, plan_recording
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from geometry.between import layers as layer_grid
from geometry.between.families import between_pairs
from geometry.between.layers import between_layers, between_stores
from geometry.layers.demix import demix_by_layer
from geometry.layers.nmf import nmf_by_layer
from geometry.layers.principal import pca_by_layer, svd_by_layer
from geometry.layers.umap import umap_by_layer
from geometry.results.over import Loop
from tests.recordings import recorded
from tests.variants import some
from tests.views import analysed

pytestmark = pytest.mark.usefixtures("circles")

PAIRS = [("digits", "months"), ("months", "numwords")]
WHERE = {"where": "is_last and template < 4"}
FEW = {"layers": "0-1"}


@pytest.fixture(scope="module")
def stores(loaded, tmp_path_factory):
    """The same prompts in two models: three families and twelve controls."""
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=tuple(range(1, 6)), templates=5
    )
    prompts = load_dataset("digits,months,numwords,control:0-11", design)
    folder, made = tmp_path_factory.mktemp("kept"), []
    for name in ("gpt2", "llama"):
        plan = plan_recording(loaded[name], prompts, sites="resid,mlp", layers="0-2", positions="last")
        made.append(recorded(loaded[name], plan, folder / f"{name}.h5"))
    yield made
    for store in made:
        store.close()


def two_stores(view, *, other, other_where=None, **choices):
    return between_stores(view, other.view(view.site, view.layers, other_where or view.where), **choices)


def mask(store):
    return store.rows.eval("is_last and template < 4").to_numpy()


# the analysis, what it takes besides a view, and what it is asked for otherwise, one by one
ANALYSES = {
    "pca": (pca_by_layer, {"k": 2}, [{"k": 3}, {"seed": 1}]),
    "svd": (svd_by_layer, {"k": 2}, [{"k": 3}, {"seed": 1}]),
    "nmf": (nmf_by_layer, {"k": 2}, [{"k": 3}, {"seed": 1}]),
    "umap": (umap_by_layer, {"n_neighbors": 5}, [{"n_neighbors": 6}, {"seed": 1}]),
    "demix": (
        demix_by_layer,
        {"families": ["digits", "months"], "k": 2},
        [{"families": ["digits", "numwords"]}, {"families": ["months", "digits"]}, {"k": 1}, {"seed": 1}],
    ),
    "between_pairs": (
        between_pairs,
        {"pairs": PAIRS[:1], "measures": ["matched_cosine"]},
        [{"pairs": PAIRS}, {"measures": ["matched_cosine", "cka"]}, {"measures": ["shared_share"]}, {"seed": 1}],
    ),
    "between_layers": (between_layers, {"measure": "cka"}, [{"measure": "procrustes"}, {"seed": 1}]),
    "between_stores": (two_stores, {"measure": "cka"}, [{"measure": "procrustes"}, {"seed": 1}]),
}
EVERY = pytest.mark.parametrize("name", some(ANALYSES, "pca", "between_pairs"))


class Kept:
    """Runs an analysis with one folder for finished sites; says whether any were used."""

    def __init__(self, name, stores, folder):
        self.analysis, self.given, _ = ANALYSES[name]
        self.store, self.other = stores
        if name == "between_stores":
            self.analysis = partial(two_stores, other=self.other)
        self.folder = folder

    def __call__(self, *, stop_after=None, **choices):
        said, done = [], []

        def stop(site):
            done.append(site)
            if len(done) == stop_after:
                raise KeyboardInterrupt

        loop = Loop(stop, self.folder, said.append)
        result = analysed(self.analysis, self.store, **{**FEW, **self.given, "loop": loop, **choices})
        return result, any(text.endswith("are not computed again") for text in said)

    def alone(self, **choices):
        return analysed(self.analysis, self.store, **{**FEW, **self.given, **choices})


def content(result, folder):
    return {path.name: path.read_bytes() for path in result.save(folder)}


def same(one, other, tmp_path):
    return content(one, tmp_path / "one") == content(other, tmp_path / "other")


@EVERY
def test_a_stopped_analysis_goes_on_to_the_files_of_an_undisturbed_one(name, stores, tmp_path):
    run = Kept(name, stores, tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=2)
    found, used = run()
    assert used
    assert same(found, run.alone(), tmp_path)
    pd.testing.assert_frame_equal(found.table, run.alone().table)


@pytest.mark.parametrize("name", some(ANALYSES, "demix"))
def test_a_run_that_differs_in_one_parameter_uses_no_site_that_was_kept(name, stores, tmp_path):
    run = Kept(name, stores, tmp_path / "kept")
    for other in [*ANALYSES[name][2], WHERE, {"where": mask(stores[0])}, {"site": "mlp_out"}, {"layers": "1-2"}]:
        if name == "between_stores" and "where" in other and not isinstance(other["where"], str):
            continue  # a mask is of one store; that of the other is tested below
        run()
        found, used = run(**other)
        assert not used, other
        assert same(found, run.alone(**other), tmp_path), other


@pytest.mark.parametrize("name", ["pca", "svd", "nmf", "umap", "demix", "between_pairs", "between_layers"])
def test_sites_kept_while_a_recording_goes_on_are_not_those_of_more_rows(name, stores, tmp_path, monkeypatch):
    """The store's fingerprint is the same; which rows there are is not."""
    run = Kept(name, stores, tmp_path / "kept")
    with monkeypatch.context() as early:
        early.setattr(stores[0], "complete", False)
        run()
    _, used = run()
    assert not used


def test_kept_sites_of_components_are_none_of_singular_vectors(stores, tmp_path):
    Kept("pca", stores, tmp_path / "kept")()
    assert not Kept("svd", stores, tmp_path / "kept")()[1]


def test_without_and_with_the_model_differ(stores, gpt2, tmp_path):
    run = Kept("between_pairs", stores, tmp_path / "kept")
    run()
    found, used = run(model=gpt2)
    assert not used
    assert same(found, run.alone(model=gpt2), tmp_path)


@pytest.mark.parametrize("asked", [{"other_where": "is_last and template < 3"}, {"measure": "cka_debiased"}])
@pytest.mark.parametrize("held", [True, False])
def test_rows_of_the_other_store_and_how_a_grid_is_made_count_too(stores, tmp_path, monkeypatch, asked, held):
    if not held:
        monkeypatch.setattr(layer_grid, "IN_MEMORY", 2)
    run = Kept("between_stores", stores, tmp_path / "kept")
    run()
    found, used = run(**asked)
    assert not used
    assert same(found, run.alone(**asked), tmp_path)
    within = Kept("between_layers", stores, tmp_path / "kept")
    assert not within()[1]


@pytest.mark.parametrize("name", ["between_layers", "between_stores"])
@pytest.mark.parametrize(
    "measure", ["cka", *(pytest.param(one, marks=pytest.mark.slow) for one in ("cka_debiased", "svcca", "procrustes"))]
)
def test_a_streamed_grid_goes_on_where_it_was_stopped(name, measure, stores, tmp_path, monkeypatch):
    monkeypatch.setattr(layer_grid, "IN_MEMORY", 2)
    run = Kept(name, stores, tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=1, measure=measure)
    found, used = run(measure=measure)
    assert used
    assert same(found, run.alone(measure=measure), tmp_path)
