"""Arrays of any make become the same tensor, or one sentence says what is wanted."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import xarray as xr

from cache.arrays import as_pair, as_rows, as_tensor
from cache.errors import InputError, NumbersError

X = np.random.default_rng(0).integers(-8, 9, size=(4, 3)).astype(np.float64)
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (X, torch.float64),
        (X.astype(np.float32), torch.float32),
        (X.astype(np.float16), torch.float32),
        (X.astype(np.longdouble), torch.float64),
        (X.astype(">f8"), torch.float64),
        (X.astype(">f4"), torch.float64),
        (X.astype(np.int8), torch.float64),
        (X[::-1].copy()[::-1], torch.float64),
        (np.asfortranarray(X), torch.float64),
        (READ_ONLY, torch.float64),
        (X.tolist(), torch.float64),
        (tuple(map(tuple, X)), torch.float64),
        (torch.tensor(X), torch.float64),
        (torch.tensor(X).float().requires_grad_(), torch.float32),
        (torch.tensor(X).bfloat16().requires_grad_(), torch.float32),
        (torch.tensor(X).half(), torch.float32),
        (torch.tensor(X).int(), torch.float64),
        ([*torch.tensor(X).float().requires_grad_()], torch.float32),
        (pd.DataFrame(X), torch.float64),
        (pd.DataFrame(X).astype(np.float32), torch.float64),
        (pd.DataFrame(X).astype("Float64"), torch.float64),
        (xr.DataArray(X), torch.float64),
        (np.ma.masked_greater(X, 99), torch.float64),
    ],
)
def test_every_form_becomes_the_same_tensor_without_a_word(given, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_rows(given)
    assert (found.dtype, found.requires_grad, found.device.type) == (dtype, False, "cpu")
    assert np.array_equal(found.numpy(), X)


def test_a_tensor_that_is_right_is_not_copied_and_one_with_grad_is_left_alone():
    x = torch.tensor(X)
    assert as_rows(x).data_ptr() == x.data_ptr()
    grad = torch.tensor(X, requires_grad=True)
    as_rows(grad)
    assert grad.requires_grad
    assert as_tensor(grad) is grad
    assert torch.equal(as_tensor(X[0]), torch.tensor(X[0]))


SPARSE = torch.tensor(X).to_sparse()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "x: numbers in an array, a tensor or a data frame are wanted; got NoneType"),
        ("abc", "x: numbers in an array, a tensor or a data frame are wanted; got str"),
        ({"a": 1}, "x: numbers in an array, a tensor or a data frame are wanted; got dict"),
        (X + 1j, "x: numbers in an array, a tensor or a data frame are wanted; got ndarray of complex128"),
        ([[1, "a"]], "x: numbers in an array, a tensor or a data frame are wanted; got list of <U21"),
        (torch.tensor(X + 1j), "x: real numbers in a dense tensor are wanted; got torch.complex128, torch.strided"),
        (SPARSE, "x: real numbers in a dense tensor are wanted; got torch.float64, torch.sparse_coo"),
        (scipy.sparse.csr_matrix(X), "x: a sparse matrix is not read; x.toarray() is dense"),
        ([[1, 2], [3]], "x: lines of different lengths are no array; give as many numbers in each"),
        ([torch.ones(2), torch.ones(3)], "x: lines of different lengths are no array; give as many numbers in each"),
        (3.0, "x: the axes (row, d) are wanted; got 0, of the shape ()"),
        (
            X[0],
            "x: the axes (row, d) are wanted; got 1, of the shape (3,); x[None] is one row, x[:, None] one dimension",
        ),
        (
            X[None],
            "x: the axes (row, d) are wanted; got 3, of the shape (1, 4, 3); x.reshape(-1, 3) makes each position a "
            "row, x[:, -1] takes the last",
        ),
        (X[:0], "x: something along each of the axes (row, d) is wanted; got the shape (0, 3)"),
        (
            pd.DataFrame({"a": [1], "word": ["b"]}),
            "x: the column 'word' holds object, not numbers; frame.select_dtypes('number') leaves such columns out",
        ),
    ],
)
def test_what_is_no_array_of_rows_is_told_in_a_sentence(given, message):
    with pytest.raises(InputError) as caught:
        inspect.unwrap(as_rows)(given)  # what no type check would let through either
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (np.ma.masked_equal(np.arange(6.0).reshape(3, 2), 4), "nan at [2, 0]"),
        (pd.DataFrame({"a": [1, 2, 3], "b": pd.array([1, 2, None], dtype="Int64")}), "nan at [2, 1]"),
        (torch.tensor([[0.0], [float("-inf")], [0.0]], dtype=torch.bfloat16), "-inf at [1, 0]"),
    ],
)
def test_the_first_number_that_is_none_is_told_with_its_place(given, value):
    message = (
        f"acts: not all finite; {value}, and such in 1 of 3 rows: leave these out "
        "(of a store, geometry verify says whether its file is sound)"
    )
    with pytest.raises(NumbersError) as caught:
        as_rows(given, "acts")
    assert str(caught.value) == message


def test_two_sides_are_matched_by_place_unless_their_names_say_otherwise():
    x = pd.DataFrame(X, index=list("abcd"))
    left, right = as_pair(x, x.set_axis(list("efgh")))
    assert torch.equal(left, right)
    with pytest.raises(InputError, match=r"^y: the rows of x in another order; y\.loc\[x\.index\] puts them right$"):
        as_pair(x, x[::-1])
    with pytest.raises(InputError, match=r"^x and y need the same rows; got 4 and 3$"):
        as_pair(X, X[:3])
    with pytest.raises(InputError, match=r"^a and b need the same shape; got \(4, 3\) and \(4, 2\)$"):
        as_pair(X, X[:, :2], ("a", "b"), same_shape=True)
