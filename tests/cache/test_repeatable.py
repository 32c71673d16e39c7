"""A seed is a whole number that every library takes, and no public function another; versions are those installed."""

import importlib.metadata
import inspect
import re

import numpy as np
import pytest
import torch

import cache
import probes
from cache import SequenceDesign
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.repeatable import LARGEST_SEED, check_seed, version_of, versions_of
from tests.public import PUBLIC

WRONG = [-1, 2**32, 10**30, 1.0, float("nan"), True, None, "0", np.float64(1), np.bool_(True), np.array([1, 2])]

SEEDED = {
    name: function
    for name, function in PUBLIC.items()
    if inspect.isfunction(function) and "seed" in inspect.signature(function).parameters
}


@pytest.mark.parametrize("seed", [0, 1, LARGEST_SEED, np.int64(3), np.uint32(LARGEST_SEED)])
def test_a_whole_number_in_range_comes_back_as_a_plain_one(seed):
    assert check_seed(seed) == seed
    assert type(check_seed(seed)) is int


@pytest.mark.parametrize("seed", WRONG, ids=repr)
def test_anything_else_is_refused_in_one_sentence(seed):
    with pytest.raises(InputError, match="seed must be a whole number from 0 to 4294967295; got ") as error:
        check_seed(seed)
    assert str(error.value).endswith(f"got {seed!r}")


def test_the_largest_seed_is_one_that_every_library_takes():
    np.random.default_rng(LARGEST_SEED)
    np.random.RandomState(LARGEST_SEED)
    torch.Generator().manual_seed(LARGEST_SEED)
    with pytest.raises(ValueError, match="2\\*\\*32"):
        np.random.RandomState(LARGEST_SEED + 1)


def test_there_are_functions_that_take_a_seed():
    assert {"geometry.nmf", "geometry.umap", "probes.sweep", "probes.transfer_matrix"} <= SEEDED.keys()


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("seed", WRONG[:3], ids=repr)
def test_every_public_function_refuses_a_wrong_seed_before_it_looks_at_anything_else(name, seed):
    function = inspect.unwrap(SEEDED[name])  # without the types that only tests check
    needed = {
        parameter.name: object()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.name != "seed"
    }
    with pytest.raises(InputError, match=re.escape(f"seed must be a whole number from 0 to 4294967295; got {seed}")):
        function(**needed, seed=seed)


def test_every_public_value_that_notes_a_seed_refuses_a_wrong_one():
    """Prompts note a seed too, but draw nothing with it."""
    values = {
        name
        for name, value in PUBLIC.items()
        if inspect.isclass(value) and "seed" in inspect.signature(value).parameters
    }
    assert values == {"cache.Prompts", "cache.SequenceDesign", "probes.Direction"}
    vector = torch.tensor([1.0, 0.0])
    with pytest.raises(InputError, match="seed must be"):
        SequenceDesign((FAMILIES["digits"],), seed=-1)
    with pytest.raises(InputError, match="seed must be"):
        probes.Direction(cache.Hook("resid_post", 0), vector, 1.0, "drawn", seed=2**32)


def test_a_version_is_that_of_what_is_installed_and_read_once(monkeypatch):
    assert version_of("numpy") == np.__version__
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"another {name}")
    assert versions_of(["numpy", "py"]) == {"numpy": np.__version__, "py": "another py"}
    version_of.cache_clear()


def test_a_library_that_is_not_there_has_no_version():
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        version_of("no-such-library")
