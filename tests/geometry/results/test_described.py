"""What results say of where they come from."""

import json

import numpy as np
import pytest

from geometry.results.described import json_text, versions


def test_numpy_s_numbers_and_arrays_are_python_s():
    text = json_text({"k": np.int64(2), "alphas": np.array([0.5, 1]), "on": np.bool_(True)}, sort_keys=True)
    assert json.loads(text) == {"k": 2, "alphas": [0.5, 1.0], "on": True}
    assert text.index("alphas") < text.index("k")


def test_what_json_does_not_know_is_told():
    with pytest.raises(TypeError, match="set is not JSON"):
        json_text({"a": {1, 2}})


def test_versions_are_of_what_values_depend_on():
    assert {"numpy", "torch", "scikit-learn"} <= set(versions())
    assert versions()["numpy"] == np.__version__
