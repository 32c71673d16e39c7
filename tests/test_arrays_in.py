"""What public functions make of arrays: numpy, torch of any precision with or without grad, data frames, lists."""

import dataclasses
import inspect
import typing

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import geometry
from cache.arrays import ArrayLike
from cache.errors import InputError, NumbersError
from geometry.bases.canonical import held_out_cca
from probes.directions.direction import direction_of
from probes.directions.estimators import METHODS
from probes.directions.subspaces import index_subspace, leace
from tests.public import PUBLIC

ROWS, CELLS, FAMILIES = (12, 5), (4, 6, 5), (2, 4, 6, 5)
MEMBERS = [*range(6)] * 2
ONE = {
    "geometry.demix": (FAMILIES, geometry.demix),
    "geometry.nmf": (ROWS, lambda x: geometry.nmf(x, k=2, n_runs=1)),
    "geometry.pca": (ROWS, lambda x: geometry.pca(x, k=2)),
    "geometry.svd": (ROWS, lambda x: geometry.svd(x, k=2)),
    "geometry.umap": (ROWS, lambda x: geometry.umap(x, n_neighbors=3)),
    "probes.direction_of": ((5,), lambda x: direction_of(x, ("resid_post", 1), "by hand")),
    "probes.index_subspace": (CELLS, lambda x: index_subspace(x, 2)),
    "probes.leace": (ROWS, lambda x: leace(x, MEMBERS, 2)),
}
"""By name: the shape of the array, and the call."""

SPECIAL = {"held_out_cca": lambda x, y: held_out_cca(x, y, MEMBERS), "cca": lambda x, y: geometry.cca(x, y, k=2)}
BY_CELLS = ("matched_cosine", "shared_share", "retrieval", "lag_profile")
TWO = {
    name: (CELLS if name.endswith(BY_CELLS) else ROWS, SPECIAL.get(name.partition(".")[2], function))
    for name, function in PUBLIC.items()
    if inspect.isfunction(function) and [*inspect.signature(function).parameters][:2] in (["x", "y"], ["a", "b"])
    if name != "probes.cosine"
} | {f"METHODS[{name!r}]": (ROWS, method) for name, method in METHODS.items()}
CALLS = {name: (shape, call, 1) for name, (shape, call) in ONE.items()} | {
    name: (shape, call, 2) for name, (shape, call) in TWO.items()
}
FITTED = {"pca": lambda x: geometry.pca(x, k=2), "nmf": lambda x: geometry.nmf(x, k=2, n_runs=1).decomposition}
QUICK = sorted({*CALLS} - {"geometry.umap"})  # which compiles for ten seconds, and goes through the same door
FORMS = {
    "float64": lambda x: x,
    "bfloat16 with grad": lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True),
    "data frame": lambda x: pd.DataFrame(x) if x.ndim == 2 else xr.DataArray(x),
}
"""Others are tried in `tests.cache.test_arrays`: they go through the same door."""


def given(shape, seed=0):
    """Whole numbers up to 8, which every precision holds exactly."""
    return np.random.default_rng(seed).integers(-8, 9, size=shape).astype(np.float64)


def numbers(value):
    """All numbers in what a function gives, in one line."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        parts = [numbers(one) for one in value]
        return np.concatenate(parts) if parts else np.zeros(0)
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return np.ravel(value).astype(float) if isinstance(value, np.ndarray | float | int) else np.zeros(0)


def called(name, form):
    shape, call, n_arrays = CALLS[name]
    return numbers(call(*(form(given(shape, seed)) for seed in range(n_arrays))))


def is_array(hint):
    """Whether an annotation asks for an array of one make."""
    return hint != ArrayLike and any(
        isinstance(one, type) and issubclass(one, jaxtyping.AbstractArray) for one in (hint, *typing.get_args(hint))
    )


def test_every_public_function_of_arrays_is_tried_here_and_takes_all_of_them():
    taking = set()
    for name, function in PUBLIC.items():
        if inspect.isfunction(function):
            hints = {one.name: one.annotation for one in inspect.signature(function).parameters.values()}
            if ArrayLike in hints.values():
                taking.add(name)
            assert {one for one, hint in hints.items() if is_array(hint)} <= {"where", "units"}, name
    assert taking == {name for name in CALLS if not name.startswith("METHODS")}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_array_gives_the_same_numbers(name, form):
    expected = called(name, torch.tensor)
    assert len(expected)
    np.testing.assert_allclose(called(name, FORMS[form]), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", CALLS)
def test_another_shape_is_told_in_a_sentence_of_the_axes(name):
    shape, call, n_arrays = CALLS[name]
    for wrong in (shape[:-1], (*shape, 2)):
        with pytest.raises(InputError, match=r"the axes \(.*\) are wanted; got \d, of the shape \(") as caught:
            call(*[given(wrong)] * n_arrays)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"something along each of the axes"):
        call(*[np.zeros((0, *shape[1:]))] * n_arrays)


@pytest.mark.parametrize("name", CALLS)
def test_a_number_that_is_none_is_told_with_its_place(name):
    shape, call, n_arrays = CALLS[name]
    x = given(shape)
    x[(1,) * len(shape)] = np.nan
    place = ", ".join(["1"] * len(shape))
    with pytest.raises(NumbersError, match=rf"not all finite; nan at \[{place}\], and such in 1 of {shape[0]}"):
        call(*[x] * n_arrays)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", [["a", "b"], np.array([1j]), np.array([None])], ids=["words", "complex", "objects"])
def test_what_holds_no_numbers_is_told(name, wrong):
    _, call, n_arrays = CALLS[name]
    with pytest.raises(InputError, match="numbers in an array, a tensor or a data frame are wanted; got"):
        call(*[wrong] * n_arrays)


@pytest.mark.parametrize("name", TWO)
def test_two_sides_of_other_lengths_are_told(name):
    shape, call, _ = CALLS[name]
    if name != "geometry.principal_angles":  # of as many directions as each side has
        with pytest.raises(InputError, match="need the same"):
            call(given(shape), given((shape[0] - 1, *shape[1:])))


@pytest.mark.parametrize("name", [name for name in TWO if CALLS[name][0] == ROWS and "principal" not in name])
def test_rows_of_the_same_names_in_another_order_are_not_matched_by_place(name):
    if name == "geometry.subspace_overlap":
        return
    frame = pd.DataFrame(given(ROWS), index=[f"row {i}" for i in range(ROWS[0])])
    with pytest.raises(InputError, match=r"in another order; y\.loc\[x\.index\] puts them right"):
        CALLS[name][1](frame, frame[::-1])


@pytest.mark.parametrize("fitted", FITTED.values(), ids=FITTED)
@pytest.mark.parametrize("form", FORMS)
def test_features_are_read_from_every_form_of_an_array_and_decoded(fitted, form):
    x = given(ROWS)
    found = fitted(x)
    assert found.n_components == 2
    assert len(found.explained_variance_ratio) == 2
    expected = found.basis.encode(torch.tensor(x).float())
    for read in (found.scores(FORMS[form](x)), found.basis.encode(FORMS[form](x))):
        torch.testing.assert_close(read.detach().float(), expected, rtol=2e-2, atol=2e-2)
    decoded = found.basis.decode(expected.numpy().tolist())
    torch.testing.assert_close(decoded.float(), found.basis.decode(expected))
