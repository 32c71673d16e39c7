"""Laws of a feature basis, over all that are one."""

import numpy as np
import pytest
import torch

from cache.models.hooks import Hook
from geometry.bases.basis import FeatureBasis, LinearBasis, content_hash, orthonormal_basis
from geometry.bases.canonical import cca
from geometry.bases.demixing import demix
from geometry.bases.nonnegative import nmf
from geometry.bases.principal import pca, svd
from probes.sae.basis import Origin, SAEBasis
from probes.sae.coding import Nonlinearity

K, D = 3, 8


def rows_of(seed=0, n_rows=40, *, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.normal(size=(n_rows, D)) @ rng.normal(size=(D, D)) + 2).astype(dtype))


def cells_of(seed=0):
    """Four families in four contexts, of five members."""
    return rows_of(seed, 80).reshape(4, 4, 5, D)


FOUND_ON = {
    "cca of y": lambda: rows_of() + rows_of(1),
    "demixed index": lambda: cells_of().flatten(0, 2),
    "demixed families": lambda: cells_of().flatten(0, 2),
    "nmf": lambda: rows_of().abs(),
}
"""Rows that a basis was found on, if not `rows_of()`."""

LINEAR = {
    "pca": lambda: pca(rows_of(), k=K).basis,
    "svd": lambda: svd(rows_of(), k=K).basis,
    "cca of x": lambda: cca(rows_of(), rows_of() + rows_of(1), k=K).x_basis,
    "cca of y": lambda: cca(rows_of(), rows_of() + rows_of(1), k=K).y_basis,
    "demixed index": lambda: demix(cells_of(), k=K).index,
    "demixed families": lambda: demix(cells_of(), k=K).family,
}
ALL = LINEAR | {
    "nmf": lambda: nmf(rows_of().abs(), k=K, n_runs=1).decomposition.basis,
    "nmf of signed rows": lambda: nmf(rows_of(), k=K, n_runs=1).decomposition.basis,
}
every_basis = pytest.mark.parametrize("name", list(ALL))
every_linear_basis = pytest.mark.parametrize("name", list(LINEAR))
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def features_of(*shape, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(5).uniform(0.1, 3, size=shape)).to(dtype)


@every_basis
def test_it_is_a_feature_basis_with_a_direction_a_feature(name):
    basis = ALL[name]()
    assert isinstance(basis, FeatureBasis)
    assert basis.directions.shape == (K, D)
    assert (basis.hook, basis.weights) == (None, "")
    assert not isinstance(basis.directions, FeatureBasis)


@every_basis
@every_dtype
def test_decode_is_affine_in_every_feature_with_its_direction_as_the_slope(name, dtype):
    basis, features = ALL[name](), features_of(5, K, dtype=dtype)
    base = basis.decode(features)
    for i in range(K):
        for step in (-2.0, 0.5, 7.0):
            moved = features.clone()
            moved[:, i] += step
            slope = (basis.decode(moved) - base) / step
            torch.testing.assert_close(slope, basis.directions[i].to(dtype).expand(5, -1), atol=2e-5, rtol=1e-5)


@every_basis
@every_dtype
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3), (0,)])
def test_leading_axes_and_the_dtype_are_kept(name, dtype, leading):
    basis = ALL[name]()
    x = rows_of(1).to(dtype)[: int(np.prod(leading))].reshape(*leading, D)
    features = basis.encode(x)
    assert (features.shape, features.dtype) == ((*leading, K), dtype)
    decoded = basis.decode(features)
    assert (decoded.shape, decoded.dtype) == ((*leading, D), dtype)
    torch.testing.assert_close(features.reshape(-1, K), basis.encode(x.reshape(-1, D)), atol=1e-4, rtol=1e-4)


@every_basis
def test_each_row_is_read_by_itself(name):
    basis, x = ALL[name](), rows_of(1)
    torch.testing.assert_close(basis.encode(x)[7], basis.encode(x[7]), atol=2e-4, rtol=1e-4)
    turned = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(basis.encode(x[turned]), basis.encode(x)[turned], atol=2e-4, rtol=1e-4)


@every_basis
@every_dtype
def test_reading_and_writing_are_pure(name, dtype):
    basis, x, features = ALL[name](), rows_of(1).to(dtype), features_of(5, K, dtype=dtype)
    copies = x.clone(), features.clone(), basis.directions.clone()
    encoded, decoded = basis.encode(x), basis.decode(features)
    basis.decode(basis.encode(x * 3))
    assert torch.equal(basis.encode(x), encoded)
    assert torch.equal(basis.decode(features), decoded)
    for value, copy in zip((x, features, basis.directions), copies, strict=True):
        assert torch.equal(value, copy)


@every_basis
def test_a_value_that_was_read_can_be_edited_without_changing_what_it_was_read_from(name):
    basis, x = ALL[name](), rows_of(1)
    before = x.clone()
    basis.encode(x).zero_()
    basis.decode(basis.encode(x)).zero_()
    assert torch.equal(x, before)


@every_linear_basis
@every_dtype
def test_reading_what_was_written_gives_the_features_back(name, dtype):
    basis, features = LINEAR[name](), features_of(6, K, dtype=dtype) - 1.5
    torch.testing.assert_close(basis.encode(basis.decode(features)), features, atol=2e-5, rtol=1e-5)
    wide = basis.readers.double() @ basis.directions.double().T
    torch.testing.assert_close(wide, torch.eye(K, dtype=torch.float64), atol=1e-6, rtol=0)


@every_linear_basis
def test_an_edit_by_difference_sets_one_feature_and_leaves_the_others(name):
    basis, x = LINEAR[name](), rows_of(1)
    features = basis.encode(x)
    wanted = features.clone()
    wanted[:, 1] = 4.0
    edited = x + (wanted - features) @ basis.directions.to(x)
    torch.testing.assert_close(basis.encode(edited), wanted, atol=2e-4, rtol=1e-4)


@every_linear_basis
def test_every_feature_is_zero_at_the_offset(name):
    basis = LINEAR[name]()
    assert not basis.encode(basis.offset).any()
    torch.testing.assert_close(basis.decode(torch.zeros(K, dtype=basis.offset.dtype)), basis.offset)


@every_basis
def test_deviations_are_how_far_features_vary_over_the_rows_that_they_were_found_on(name):
    """Of NMF nearly: its values on those rows are the factor, which reading them again solves for more closely."""
    basis = ALL[name]()
    rows = FOUND_ON.get(name, rows_of)()
    tolerance = 1e-4 if name in LINEAR else 0.1
    truth = basis.encode(rows.double()).std(dim=0)
    torch.testing.assert_close(basis.deviations.double(), truth, rtol=tolerance, atol=1e-6)


@every_basis
def test_a_feature_patched_with_its_own_value_changes_no_bit(name):
    basis, x = ALL[name](), rows_of(1)
    assert torch.equal(x + (basis.encode(x) - basis.encode(x)) @ basis.directions.to(x), x)


@pytest.mark.parametrize("name", ["nmf", "nmf of signed rows"])
def test_features_of_parts_are_never_negative_and_nothing_reads_as_nothing(name):
    basis = ALL[name]()
    assert (basis.encode(rows_of(3) * 10) >= 0).all()
    assert not basis.encode(torch.zeros(2, D)).any()
    assert not basis.decode(torch.zeros(2, K)).any()


def test_patterns_write_and_weights_read():
    basis = LinearBasis(
        offset=torch.tensor([1.0, 1.0]),
        directions=torch.tensor([[2.0, 0.0]]),
        readers=torch.tensor([[0.5, 3.0]]),
        hook=Hook("resid_post", 4),
    )
    assert basis.encode(torch.tensor([3.0, 2.0])).tolist() == [4.0]
    assert basis.decode(torch.tensor([4.0])).tolist() == [9.0, 1.0]
    assert basis.hook == Hook("resid_post", 4)


def test_orthonormal_directions_are_their_own_readers():
    basis = orthonormal_basis(torch.eye(3)[:2], torch.ones(3), Hook("mlp_out", 1))
    assert torch.equal(basis.readers, basis.directions)
    assert basis.encode(torch.tensor([3.0, 5.0, 9.0])).tolist() == [2.0, 4.0]
    assert basis.decode(torch.tensor([2.0, 4.0])).tolist() == [3.0, 5.0, 1.0]
    assert basis.hook == Hook("mlp_out", 1)


def test_a_basis_is_known_by_its_content_wherever_it_lay():
    basis = orthonormal_basis(torch.eye(3), torch.zeros(3))
    assert content_hash(basis) == content_hash(orthonormal_basis(torch.eye(3), torch.zeros(3)))
    others = (
        orthonormal_basis(torch.eye(3), torch.ones(3)),
        orthonormal_basis(torch.eye(3).double(), torch.zeros(3)),
        orthonormal_basis(torch.eye(3), torch.zeros(3), Hook("resid_post", 1)),
        orthonormal_basis(torch.eye(3), torch.zeros(3), deviations=torch.ones(3)),
        LINEAR["pca"](),
    )
    assert len({content_hash(one) for one in (basis, *others)}) == 6


def test_an_sae_is_known_by_its_nonlinearity_too_and_not_by_where_it_lay():
    weight = torch.eye(3)

    def sae(name="relu", origin="a", **more):
        form = Nonlinearity(name, **more)
        return SAEBasis(
            weight, torch.zeros(3), torch.zeros(3), weight, torch.zeros(3), form, Origin(origin, "standard")
        )

    assert content_hash(sae()) == content_hash(sae(origin="b"))
    forms = (sae(), sae("topk", k=1), sae("abstopk", k=1), sae("topk", k=2), sae("jumprelu", threshold=torch.ones(3)))
    assert len({content_hash(one) for one in forms}) == 5
