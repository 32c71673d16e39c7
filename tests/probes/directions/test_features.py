"""A basis of a store's activations knows where it belongs, and its features are directions that move what they say."""

from dataclasses import replace

import pytest
import torch

from cache import Hook
from cache.errors import FingerprintError, InputError
from geometry import cca, demix, demix_by_layer, nmf, nmf_by_layer, pca, pca_by_layer, svd, svd_by_layer
from geometry.bases.basis import content_hash, orthonormal_basis
from geometry.results.result import LayerResult
from geometry.rows.cells import load_cells, plan_cells
from probes import Edit, ablate, basis_at, edited, feature_direction, steer
from probes.directions.features import basis_parameters, check_read, read_features, reconstructed, saved_feature
from probes.directions.subspaces import leace
from tests.probes.readings import random_tokens, read
from tests.probes.sweeps import small_store
from tests.variants import some

HOOK = Hook("resid_post", 1)
K = 4


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("features")) as store:
        yield store


def of_family(store, family):
    return store.load(HOOK, f"is_last and family == '{family}'")


def demixed(store):
    return demix(load_cells(store, HOOK, plan_cells(store.view(), ["digits", "numwords", "months"])), k=K)


LINEAR = {
    "pca": lambda s: pca(s.load(HOOK, "is_last"), k=K).basis,
    "svd": lambda s: svd(s.load(HOOK, "is_last"), k=K).basis,
    "cca of x": lambda s: cca(of_family(s, "digits"), of_family(s, "numwords"), k=K).x_basis,
    "cca of y": lambda s: cca(of_family(s, "digits"), of_family(s, "numwords"), k=K).y_basis,
    "demixed index": lambda s: demixed(s).index,
    "demixed families": lambda s: demixed(s).family,
    "leace": lambda s: leace(s.load(HOOK, "is_last"), s.select("is_last")["family"].tolist()),
}
ALL = LINEAR | {"nmf": lambda s: nmf(s.load(HOOK, "is_last"), k=K, n_runs=1).decomposition.basis}
every_basis = pytest.mark.parametrize("name", ALL)
every_linear_basis = pytest.mark.parametrize("name", LINEAR)


@pytest.fixture
def basis(store, name):
    return basis_at(store, HOOK, ALL[name](store))


def there(model, tokens):
    return read(model, tokens, [HOOK])[0][HOOK]


@every_basis
def test_a_basis_knows_its_site_and_its_model(basis, gpt2):
    assert (basis.hook, basis.weights) == (HOOK, gpt2.weights)


@every_linear_basis
def test_ablated_features_read_0_and_the_others_what_they_did(basis, gpt2):
    tokens = random_tokens(gpt2)
    before = basis.encode(there(gpt2, tokens))
    chosen = list(range(min(2, len(basis.directions))))
    with ablate(gpt2, basis, features=chosen):
        after = basis.encode(there(gpt2, tokens))
    scale = float(before.abs().max())
    rest = [i for i in range(len(basis.directions)) if i not in chosen]
    torch.testing.assert_close(after[:, 1:, chosen], 0 * after[:, 1:, chosen], rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(after[..., rest], before[..., rest], rtol=0, atol=1e-4 * scale)
    assert torch.equal(after[:, 0], before[:, 0])  # BOS


def test_ablated_parts_are_what_their_values_write(store, gpt2):
    basis, tokens = basis_at(store, HOOK, ALL["nmf"](store)), random_tokens(gpt2)
    before = there(gpt2, tokens)
    with ablate(gpt2, basis, features=[0, 1]):
        after = there(gpt2, tokens)
    values = basis.encode(before)[:, 1:, :2]
    assert float(values.abs().max()) > 0
    torch.testing.assert_close(after[:, 1:], before[:, 1:] - values @ basis.directions[:2], rtol=1e-4, atol=1e-4)


@every_linear_basis
def test_steering_along_a_feature_moves_it_alone_by_alpha_natural_norms(basis, gpt2):
    tokens = random_tokens(gpt2)
    i = len(basis.directions) - 1
    before = basis.encode(there(gpt2, tokens))
    with steer(gpt2, feature_direction(basis, i), 2.5, "all"):
        after = basis.encode(there(gpt2, tokens))
    moved = torch.zeros_like(before)
    moved[:, 1:, i] = 2.5 * (1.0 if basis.deviations is None else float(basis.deviations[i]))
    torch.testing.assert_close(after, before + moved, rtol=0, atol=1e-4 * float(after.abs().max()))


@every_basis
def test_a_feature_patched_with_its_own_value_changes_no_bit_of_what_the_model_says(basis, gpt2):
    tokens = random_tokens(gpt2)
    found, logits = read(gpt2, tokens, [HOOK])
    with edited(gpt2, [Edit(basis, lambda values: values - values)], "all"):
        patched, again = read(gpt2, tokens, [HOOK])
    assert torch.equal(patched[HOOK], found[HOOK])
    assert torch.equal(again, logits)


def test_without_all_of_a_full_basis_the_mean_is_left(store, gpt2):
    x = store.load(HOOK)
    basis = basis_at(store, HOOK, pca(x, k=x.shape[1]).basis)
    with ablate(gpt2, basis):
        left = there(gpt2, random_tokens(gpt2))[:, 1:]
    torch.testing.assert_close(left, x.mean(dim=0).expand_as(left), rtol=0, atol=1e-4 * float(x.abs().max()))


@every_basis
def test_a_basis_of_another_model_is_refused(basis, loaded):
    model = loaded["llama"]
    for attached in (
        lambda: ablate(model, basis),
        lambda: steer(model, feature_direction(basis, 0)),
        lambda: edited(model, [Edit(basis, torch.neg)]),
    ):
        with pytest.raises(FingerprintError, match="the direction or basis comes from other weights than"), attached():
            pass


@every_basis
def test_a_feature_direction_is_what_one_deviation_of_it_writes(basis):
    found = feature_direction(basis, 1)
    size = 1.0 if basis.deviations is None else basis.deviations[1]
    torch.testing.assert_close(found.step, (size * basis.directions[1]).float(), rtol=1e-4, atol=1e-6)
    assert (found.hook, found.method, found.target, found.weights) == (HOOK, "feature", "feature 1", basis.weights)


def test_what_is_no_feature_is_refused(store):
    basis = basis_at(store, HOOK, LINEAR["pca"](store))
    for i in (4, -1):
        with pytest.raises(InputError, match=f"features of this basis are numbered 0 to 3; got {i}"):
            feature_direction(basis, i)
    with pytest.raises(InputError, match=r"a feature's direction needs its site; basis_at\(store, hook, basis\) notes"):
        feature_direction(LINEAR["pca"](store), 0)
    with pytest.raises(InputError, match="feature 0 writes nothing, so it is no direction"):
        feature_direction(replace(basis, directions=torch.zeros_like(basis.directions)), 0)


def test_a_basis_of_another_width_or_of_no_site_of_the_store_is_refused(store):
    narrow = orthonormal_basis(torch.eye(5)[:2], torch.zeros(5))
    with pytest.raises(InputError, match=r"blocks.1.hook_resid_post has width 33; the basis has 5"):
        basis_at(store, HOOK, narrow)
    with pytest.raises(InputError, match=r"has no 'blocks\.9\.hook_resid_post'"):
        basis_at(store, Hook("resid_post", 9), narrow)


@pytest.mark.parametrize("name", some(["pca", "svd", "nmf"], "nmf"))
def test_a_saved_feature_is_that_of_the_basis_and_knows_site_model_and_size(store, gpt2, tmp_path, name):
    analysis = {"pca": pca_by_layer, "svd": svd_by_layer, "nmf": nmf_by_layer}[name]
    view = store.view(layers="1", where="is_last")
    analysis(view, k=K).save(tmp_path)
    x = store.load(HOOK, "is_last and not family.str.startswith('control:')")
    basis = nmf(x, k=K).decomposition.basis if name == "nmf" else {"pca": pca, "svd": svd}[name](x, k=K).basis
    for i in range(K):
        found = saved_feature(LayerResult.load(tmp_path), 1, i)
        expected = feature_direction(basis_at(store, HOOK, basis), i)
        assert (found.hook, found.weights, found.target) == (HOOK, gpt2.weights, f"feature {i}")
        torch.testing.assert_close(found.vector, expected.vector, atol=1e-4, rtol=0)
        assert found.norm == pytest.approx(expected.norm, rel=1e-3 if name != "nmf" else 1e-2)  # fitted or solved for


def test_a_saved_index_direction_counts_in_units_of_the_activations(store, gpt2, tmp_path):
    demix_by_layer(store.view(layers="1"), ["digits", "numwords", "months"], k=2).save(tmp_path)
    found = saved_feature(LayerResult.load(tmp_path), 1, 0)
    assert (found.hook, found.weights, found.norm) == (HOOK, gpt2.weights, pytest.approx(1))


def test_what_a_result_does_not_have_is_told(store):
    result = pca_by_layer(store.view(layers="0-1", where="is_last"), k=2)
    with pytest.raises(InputError, match=r"^the result has layers -1, 0, 1; got 5$"):
        saved_feature(result, 5, 0)
    with pytest.raises(InputError, match=r"^features of this basis are numbered 0 to 1; got 2$"):
        saved_feature(result, 1, 2)
    flat = replace(result, dataset=result.dataset.assign(directions=result.dataset["directions"] * float("nan")))
    with pytest.raises(InputError, match=r"^all rows were equal at layer 0, where pca has no features$"):
        saved_feature(flat, 0, 0)
    with pytest.raises(InputError, match=r"^features are of svd, pca, nmf and demix; pca has none$"):
        saved_feature(replace(result, dataset=result.dataset[["scores"]]), 0, 0)


# --- activations read through a basis


def test_a_reconstruction_is_decode_of_encode_however_much_is_read_at_once(store, monkeypatch):
    basis = basis_at(store, HOOK, pca(store.load(HOOK, "is_last"), k=3).basis)
    x = store.load(HOOK)
    whole, values = reconstructed(basis, x), read_features(basis, x)
    torch.testing.assert_close(whole, basis.decode(basis.encode(x)))
    torch.testing.assert_close(values, basis.encode(x))
    monkeypatch.setattr("probes.directions.features._AT_ONCE", 10)
    torch.testing.assert_close(reconstructed(basis, x), whole)
    torch.testing.assert_close(read_features(basis, x), values)
    assert whole.dtype == x.dtype


def test_results_note_a_basis_by_what_it_is_made_of(store):
    basis = basis_at(store, HOOK, pca(store.load(HOOK, "is_last"), k=3).basis)
    noted = basis_parameters(basis)["basis"]
    assert noted == f"3 features of {HOOK.name} (sha256 {content_hash(basis)[:16]})"
    assert basis_parameters(replace(basis, offset=basis.offset + 1))["basis"] != noted
    assert basis_parameters(None) == {}


def test_a_basis_is_read_at_its_own_site_of_its_own_model_alone(store):
    basis = basis_at(store, HOOK, pca(store.load(HOOK, "is_last"), k=3).basis)
    check_read(basis, store.view(HOOK.name))
    with pytest.raises(InputError, match="is a basis, as load_sae gives; got str"):
        check_read("x", store.view(HOOK.name))
    with pytest.raises(InputError, match="which this one does not know; basis_at notes it, or load_sae"):
        check_read(replace(basis, hook=None), store.view(HOOK.name))
    with pytest.raises(InputError, match=r"the basis is of blocks\.\d\.hook_resid_post, and the view of blocks\.0\."):
        check_read(basis, store.view())
    with pytest.raises(FingerprintError, match="other weights than those of"):
        check_read(replace(basis, weights="0" * 64), store.view(HOOK.name))
    check_read(replace(basis, weights=""), store.view(HOOK.name))
