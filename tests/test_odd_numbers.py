"""No number given to a public function ends in anything but a result or one sentence of ours."""

import inspect
import math
import types
import typing
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import cache
import geometry
import probes
from cache import ActivationStore, Hook
from cache.errors import GeometryError
from probes.directions.direction import direction_of
from probes.directions.subspaces import index_subspace
from probes.sae.basis import SAEBasis
from probes.sae.coding import Nonlinearity
from tests.geometry.cli.every_command import make_place
from tests.public import PUBLIC

ODD = {int: (-1, 0, 10**20), float: (-1.0, 0.0, math.nan, math.inf, -math.inf, 1e300)}


@dataclass(frozen=True)
class Rig:
    """What the functions are called on."""

    x: torch.Tensor
    y: torch.Tensor
    codes: torch.Tensor
    cells: torch.Tensor
    store: ActivationStore
    model: cache.LoadedModel


@pytest.fixture(scope="module")
def rig(gpt2, model_folders, tmp_path_factory):
    place = make_place(gpt2, tmp_path_factory.mktemp("odd"), model_folders["gpt2"])
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(24, 6, generator=draw) for _ in range(2))
    codes, cells = torch.randn(4, 5, 6, generator=draw), torch.randn(2, 4, 5, 6, generator=draw)
    with ActivationStore.open(place.store) as store:
        yield Rig(x, y, codes, cells, store, gpt2)


def kind_of(annotation):
    """int or float, where a parameter takes one; None where it takes something else."""
    among = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in (int, float) if any(one is kind for one in among)), None)


def numbers_of(function):
    hints = typing.get_type_hints(inspect.unwrap(function))
    found = {name: kind_of(hints[name]) for name in inspect.signature(function).parameters}
    return {name: kind for name, kind in found.items() if kind is not None and name != "seed"}


FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
NUMBERS = {name: numbers_of(function) for name, function in FUNCTIONS.items() if numbers_of(function)}

LAST = {"layers": "2"}
SITE = Hook("resid_post", 1)


def sae_of(width):
    """An SAE that explains all."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    zeros = torch.zeros(2 * width), torch.zeros(width)
    return SAEBasis(both.T, *zeros, both, zeros[1], Nonlinearity("relu"), hook=SITE)


CALLS = {
    "cache.head_outputs": lambda rig: ((rig.store, rig.model), {"layer": 1}),
    "cache.plan_recording": lambda rig: ((rig.model, ["one", "two"]), {}),
    "cache.task_table": lambda rig: ((rig.model, cache.load_dataset("digits").subset(range(4))), {}),
    "geometry.cca": lambda rig: ((rig.x, rig.y), {}),
    "geometry.demix": lambda rig: ((rig.cells,), {}),
    "geometry.demix_by_layer": lambda rig: ((rig.store.view(**LAST),), {}),
    "geometry.held_out_cca": lambda rig: ((rig.x, rig.y, np.arange(24) % 6), {}),
    "geometry.lag_profile": lambda rig: ((rig.codes, rig.codes.flip(0)), {}),
    "geometry.loadings": lambda rig: ((geometry.pca_by_layer(rig.store.view(**LAST), k=2),), {}),
    "geometry.nmf": lambda rig: ((rig.x,), {"k": 2}),
    "geometry.nmf_by_layer": lambda rig: ((rig.store.view(**LAST),), {}),
    "geometry.pca": lambda rig: ((rig.x,), {"k": 2}),
    "geometry.pca_by_layer": lambda rig: ((rig.store.view(**LAST),), {}),
    "geometry.svcca": lambda rig: ((rig.x, rig.y), {}),
    "geometry.svd": lambda rig: ((rig.x,), {"k": 2}),
    "geometry.svd_by_layer": lambda rig: ((rig.store.view(**LAST),), {}),
    "geometry.umap": lambda rig: ((rig.x,), {}),
    "geometry.umap_by_layer": lambda rig: ((rig.store.view(**LAST),), {}),
    "probes.addition": lambda rig: ((direction_of(rig.x[0], Hook("resid_post", 0), "drawn"),), {}),
    "probes.direction_of": lambda rig: ((rig.x[0], Hook("resid_post", 0), "drawn"), {}),
    "probes.erasure_matrix": lambda rig: ((rig.store.view(**LAST), rig.model, probes.Roles(n_contexts=2)), {}),
    "probes.feature_direction": lambda rig: (
        (index_subspace(rig.codes, 2, Hook("resid_post", 1)),),
        {"i": 1},
    ),
    "probes.generate": lambda rig: ((rig.model, "1,2,3,"), {"n_tokens": 2}),
    "probes.index_subspace": lambda rig: ((rig.codes,), {"rank": 2}),
    "probes.last_or_answer": lambda rig: ((rig.store.view(**LAST), rig.model), {"families": ["digits"]}),
    "probes.leace": lambda rig: ((rig.x, [i % 3 for i in range(24)]), {}),
    "probes.member_edit": lambda rig: ((rig.store, Hook("resid_post", 1), "digits"), {"i": 1, "j": 2}),
    "probes.probe_by_layer": lambda rig: (
        (rig.store.view(**LAST), probes.Question("angle", families=["months"])),
        {"n_permutations": 1},
    ),
    "probes.sae_quality": lambda rig: (
        (sae_of(rig.store.width(SITE)), rig.store),
        {"model": rig.model, "n_prompts": 2},
    ),
    "probes.steer": lambda rig: (
        (rig.model, direction_of(torch.ones(33), Hook("resid_post", 1), "ones")),
        {},
    ),
    "probes.transfer_matrix": lambda rig: ((rig.store.view(**LAST), rig.model, probes.Roles(n_contexts=2)), {}),
}


def test_every_function_that_takes_a_number_is_tried():
    assert NUMBERS.keys() <= CALLS.keys()


@pytest.mark.parametrize(("name", "parameter"), [(name, one) for name, taken in NUMBERS.items() for one in taken])
def test_an_odd_number_gives_a_result_or_one_sentence(rig, name, parameter, circles):
    function = FUNCTIONS[name]
    arguments, options = CALLS[name](rig)
    for odd in ODD[NUMBERS[name][parameter]]:
        with suppress(GeometryError):
            function(*arguments, **(options | {parameter: odd}))
