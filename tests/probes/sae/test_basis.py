"""SAEs keep the laws of a feature basis, and are edited as any basis is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cache.errors import InputError
from geometry.bases.basis import FeatureBasis
from probes import Edit, ablate, edited, feature_direction, generate, steer
from probes.edits.edit import removal
from probes.sae.basis import SAEBasis, Transcoder, feature_numbers, of_features, sae_hash
from probes.sae.coding import Nonlinearity
from tests.probes.readings import random_tokens, read
from tests.probes.sae.saved import SITE, random_tensors

D, WIDTH, K = 33, 99, 6
NONLINEARITIES = {
    "relu": Nonlinearity("relu"),
    "jumprelu": Nonlinearity("jumprelu", threshold=torch.linspace(-0.2, 0.8, WIDTH)),
    "gated": Nonlinearity("gated", slope=torch.linspace(0.5, 2, WIDTH), shift=torch.linspace(-0.5, 0.5, WIDTH)),
    "topk": Nonlinearity("topk", k=K),
    "abstopk": Nonlinearity("abstopk", k=K),
}
every_sae = pytest.mark.parametrize("name", NONLINEARITIES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def sae_of(name, **more):
    w = random_tensors(D, WIDTH)
    weights = w["W_enc"], w["b_enc"], w["b_dec"], w["W_dec"], w["b_dec"]
    return SAEBasis(*weights, NONLINEARITIES[name], hook=SITE, **more)


def rows(*shape, dtype=torch.float32):
    return (2 * torch.randn(*shape, D, generator=torch.Generator().manual_seed(5)) + 1).to(dtype)


@every_sae
def test_it_is_a_feature_basis_with_a_direction_a_feature(name):
    sae = sae_of(name)
    assert isinstance(sae, FeatureBasis)
    assert (sae.directions.shape, sae.deviations) == ((WIDTH, D), None)
    assert 0 < (sae.encode(rows(50)) != 0).double().mean() < 1


@every_sae
@every_dtype
def test_decode_is_affine_in_every_feature_with_its_direction_as_the_slope(name, dtype):
    sae = sae_of(name)
    features = sae.encode(rows(5, dtype=dtype))
    base = sae.decode(features)
    for i in range(0, WIDTH, 7):
        for step in (-2.0, 0.5, 7.0):
            moved = features.clone()
            moved[:, i] += step
            slope = (sae.decode(moved) - base) / step
            torch.testing.assert_close(slope, sae.directions[i].to(dtype).expand(5, -1), atol=2e-5, rtol=1e-4)


@every_sae
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3), (0,)])
def test_leading_axes_and_the_dtype_are_kept(name, dtype, leading):
    sae, x = sae_of(name), rows(*leading, dtype=dtype)
    features = sae.encode(x)
    assert (features.shape, features.dtype) == ((*leading, WIDTH), dtype)
    decoded = sae.decode(features)
    assert (decoded.shape, decoded.dtype) == ((*leading, D), dtype)
    torch.testing.assert_close(features.reshape(-1, WIDTH), sae.encode(x.reshape(-1, D)), atol=1e-4, rtol=1e-4)


@every_sae
def test_half_precision_is_read_in_single(name):
    sae, x = sae_of(name), rows(20, dtype=torch.bfloat16)
    torch.testing.assert_close(sae.encode(x), sae.encode(x.float()).bfloat16(), rtol=0, atol=0)


@every_sae
def test_each_row_is_read_by_itself(name):
    sae, x = sae_of(name), rows(40)
    turned = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sae.encode(x[turned]), sae.encode(x)[turned], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sae.encode(x)[7], sae.encode(x[7]), atol=1e-5, rtol=1e-4)


@every_sae
@every_dtype
def test_reading_and_writing_are_pure(name, dtype):
    sae, x = sae_of(name), rows(9, dtype=dtype)
    kept = [value.clone() for value in (x, sae.encoder, sae.bias, sae.centre, sae.directions, sae.offset)]
    features = sae.encode(x)
    decoded, copy = sae.decode(features), features.clone()
    sae.decode(sae.encode(x * 3)).zero_()
    sae.encode(x).zero_()
    assert torch.equal(sae.encode(x), features)
    assert torch.equal(sae.decode(features), decoded)
    assert torch.equal(features, copy)
    for value, one in zip((x, sae.encoder, sae.bias, sae.centre, sae.directions, sae.offset), kept, strict=True):
        assert torch.equal(value, one)


@every_sae
def test_the_declared_form_gives_the_values_after_a_change_of_the_activations(name):
    sae, x, change = sae_of(name), rows(12), 0.3 * rows(12)
    moved = sae.nonlinearity(sae.preactivations(x) + change @ sae.encoder)
    torch.testing.assert_close(moved, sae.encode(x + change), rtol=1e-4, atol=1e-4)


def test_active_features_alone_decode_to_the_same():
    sae = sae_of("topk")
    features = sae.encode(rows(12))
    numbers = features.abs().topk(K, dim=1).indices
    torch.testing.assert_close(
        sae.decode_active(numbers, features.gather(1, numbers)), sae.decode(features), rtol=1e-5, atol=1e-5
    )


@every_sae
def test_ablation_takes_away_what_a_feature_writes_and_leaves_the_error_term(name, gpt2):
    sae, tokens = sae_of(name, weights=gpt2.weights), random_tokens(gpt2)
    before = read(gpt2, tokens, [SITE])[0][SITE]
    values = sae.encode(before)[:, 1:]
    chosen = values.abs().amax(dim=(0, 1)).topk(3).indices.tolist()
    with ablate(gpt2, sae, features=chosen):
        after = read(gpt2, tokens, [SITE])[0][SITE]
    wanted = before[:, 1:] - values[..., chosen] @ sae.directions[chosen]
    torch.testing.assert_close(after[:, 1:], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(after[:, 0], before[:, 0])  # BOS
    assert not torch.equal(after, before)


@every_sae
def test_exchanged_features_take_each_others_values_and_twice_is_not_at_all(name, gpt2):
    sae = sae_of(name)
    x = rows(6)
    values = sae.encode(x)
    i, j = values.abs().sum(dim=0).topk(2).indices.tolist()

    def swap(features):
        swapped = features.clone()
        swapped[..., [i, j]] = features[..., [j, i]]
        return swapped - features

    moved = Edit(sae, swap).difference(x)
    steps = (values[:, [j]] - values[:, [i]]) * (sae.directions[i] - sae.directions[j])
    torch.testing.assert_close(moved, steps, rtol=1e-4, atol=1e-4)


@every_sae
def test_a_feature_patched_with_its_own_value_changes_no_bit_of_what_the_model_says(name, gpt2):
    sae, tokens = sae_of(name, weights=gpt2.weights), random_tokens(gpt2)
    found, logits = read(gpt2, tokens, [SITE])
    with edited(gpt2, [Edit(sae, lambda values: values - values)], "all"):
        patched, again = read(gpt2, tokens, [SITE])
    assert torch.equal(patched[SITE], found[SITE])
    assert torch.equal(again, logits)


def test_steering_along_a_feature_adds_what_its_units_write(gpt2):
    sae, tokens = sae_of("relu", weights=gpt2.weights), random_tokens(gpt2)
    before = read(gpt2, tokens, [SITE])[0][SITE]
    direction = feature_direction(sae, 12)
    with steer(gpt2, direction, 2.5, "all"):
        after = read(gpt2, tokens, [SITE])[0][SITE]
    torch.testing.assert_close(
        after[:, 1:] - before[:, 1:], (2.5 * sae.directions[12]).expand(2, 8, -1), atol=1e-4, rtol=0
    )
    assert (direction.target, direction.hook) == ("feature 12", SITE)
    with steer(gpt2, direction, 1e4):
        assert len(generate(gpt2, "1,2,3,", 2)) == 2


def test_what_is_no_feature_is_refused():
    with pytest.raises(InputError, match="features of this basis are numbered 0 to 98; got 99"):
        feature_direction(sae_of("relu"), 99)
    with pytest.raises(InputError, match="features of this basis are numbered 0 to 98; got 99"):
        removal(sae_of("relu"), [99])


def test_a_transcoder_is_no_basis_of_one_site():
    w = random_tensors(D, WIDTH)
    both = Transcoder(w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], Nonlinearity("relu"), reads=SITE, writes=SITE)
    assert not isinstance(both, FeatureBasis)
    x = rows(5)
    torch.testing.assert_close(both.reconstruct(x), both.decode(both.encode(x)))


@every_sae
def test_an_sae_of_some_features_reads_them_as_the_whole_one_does(name):
    sae, x, some = sae_of(name), rows(30), np.array([3, 17, 90])
    narrow = of_features(sae, some)
    if "topk" in name:
        assert narrow is sae
    else:
        torch.testing.assert_close(narrow.encode(x), sae.encode(x)[:, some], rtol=1e-5, atol=1e-5)
        assert torch.equal(narrow.directions, sae.directions[some])
    assert of_features(sae, np.arange(WIDTH)) is sae


def test_the_hash_of_an_sae_is_of_its_weights_and_form_alone():
    sae = sae_of("jumprelu")
    assert sae_hash(replace(sae, weights="0" * 64, hook=None)) == sae_hash(sae)
    threshold = torch.linspace(-0.2, 0.8, WIDTH).nextafter(torch.tensor(1.0))
    others = {"encoder": sae.encoder + 0.1, "offset": sae.offset * 2}
    others = [replace(sae, **{name: value}) for name, value in others.items()]
    others += [replace(sae, nonlinearity=Nonlinearity("jumprelu", threshold=threshold)), sae_of("relu"), sae_of("topk")]
    others += [replace(sae, nonlinearity=Nonlinearity("topk", k=K + 1))]
    assert len({sae_hash(one) for one in (sae, *others)}) == 1 + len(others)


def test_features_are_named_by_whole_numbers():
    for given in ([3, 1, 3], np.array([3, 1, 3]), torch.tensor([3, 1, 3]), iter((3, 1, 3))):
        assert feature_numbers(given, 4).tolist() == [3, 1, 3]
    for given in ("3,17", 3, [1.5], [None], ["3"], [[1]]):
        with pytest.raises(InputError, match=r"^features are named by a list of their numbers; got "):
            feature_numbers(given, 4)
    for given, named in (([4], 4), ([0, -1], -1), ([], "none"), ([10**30], 10**30)):
        with pytest.raises(InputError, match=rf"^features of this SAE are numbered 0 to 3; got {named}$"):
            feature_numbers(given, 4)
