"""What a public function takes: masks as well as queries, numbers as well as strings, names of sites; no paths."""

import inspect
import json
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import geometry
import probes
from cache import Hook
from cache.rows import query_rows, where_text
from tests.probes.sweeps import small_store

PAIR = ("digits", "numwords")
SITE = "blocks.1.hook_resid_post"
WHERE = {
    "between_families": lambda s, m, **o: geometry.between_families(s, *PAIR, **o),
    "between_layers": lambda s, m, **o: geometry.between_layers(s, **o),
    "between_pairs": lambda s, m, **o: geometry.between_pairs(s, [PAIR], **o),
    "between_stores": lambda s, m, **o: geometry.between_stores(s, s, **o),
    "contrast": lambda s, m, **o: probes.contrast(s, *PAIR, **o),
    "cosines_by_layer": lambda s, m, **o: probes.cosines_by_layer(s, [PAIR], **o),
    "demix_by_layer": lambda s, m, **o: geometry.demix_by_layer(s, PAIR, **o),
    "member_edit": lambda s, m, **o: probes.member_edit(s, (SITE), "digits", 2, 4, **o),
    "nmf_by_layer": lambda s, m, **o: geometry.nmf_by_layer(s, k=2, **o),
    "pca_by_layer": lambda s, m, **o: geometry.pca_by_layer(s, k=2, **o),
    "per_layer": lambda s, m, **o: geometry.per_layer(s, lambda x: {"sum": ((), x.sum().numpy())}, [SITE], **o),
    "plan_cells": lambda s, m, **o: geometry.plan_cells(s, **o),
    "probe_by_layer": lambda s, m, **o: probes.probe_by_layer(s, families=PAIR, n_permutations=1, **o),
    "reversal": lambda s, m, **o: probes.reversal(s, ("resid_post", 1), "digits", **o),
    "svd_by_layer": lambda s, m, **o: geometry.svd_by_layer(s, k=2, **o),
    "sweep": lambda s, m, **o: probes.sweep(s, m, *PAIR, alphas=(1.0,), positions=("last",), methods=("pca",), **o),
}
SPREAD = {
    "erasure_matrix": lambda s, m, **o: probes.erasure_matrix(s, m, receivers=PAIR, donors=PAIR, n_contexts=1, **o),
    "last_or_answer": lambda s, m, **o: probes.last_or_answer(s, m, families=PAIR, n_contexts=1, **o),
    "site_hooks": lambda s, m, **o: geometry.site_hooks(s, "resid_post", **o),
    "transfer_matrix": lambda s, m, **o: probes.transfer_matrix(s, m, receivers=PAIR, donors=PAIR, n_contexts=1, **o),
}
SLOW = "umap_by_layer"  # chooses its rows by the same function as nmf_by_layer, and compiles for ten seconds
QUERIES = {"member_edit": "member >= 0 and kind == 'increasing'", "sweep": "is_last and kind == 'increasing'"}
QUERY = "is_last and kind != 'nothing'"


@cache
def taking(name):
    """The public functions with a parameter of that name."""
    found = set()
    for package in (geometry, probes):
        for one in package.__all__:
            value = getattr(package, one)
            if inspect.isfunction(value) and name in inspect.signature(value).parameters:
                found.add(one)
    return found


def content(value):
    """All that a result says but how its rows were described."""
    if hasattr(value, "arrays"):
        value = {name: values.tobytes() for name, (_, values) in value.arrays.items()} | {"n": len(value.table)}
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return repr(value)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    with small_store(gpt2, folder, names="digits,numwords", kinds=("increasing", "decreasing")) as store:
        yield store


def test_every_public_function_that_chooses_rows_or_layers_is_tried_here():
    assert taking("where") == {*WHERE, SLOW}
    assert taking("layers") <= {*WHERE, *SPREAD, SLOW}


@pytest.mark.parametrize("name", WHERE)
def test_a_mask_of_any_make_gives_what_its_query_gives_and_is_noted_in_json(name, store, gpt2):
    query = QUERIES.get(name, QUERY)
    mask = query_rows(store.rows, query)
    options = {"layers": [1]} if name in taking("layers") else {}
    expected = WHERE[name](store, gpt2, where=query, **options)
    for given in (mask, pd.Series(mask), torch.tensor(mask)):
        found = WHERE[name](store, gpt2, where=given, **options)
        assert content(found) == content(expected)
        if hasattr(found, "parameters"):
            assert where_text(mask) in json.loads(json.dumps(dict(found.parameters)))["where"]
            assert query in expected.parameters["where"]


@pytest.mark.parametrize("name", sorted(taking("layers") - {SLOW}))
def test_numbers_of_layers_give_what_their_string_gives_and_are_noted_as_it(name, store, gpt2, tmp_path):
    call = {**WHERE, **SPREAD}[name]
    options = {"where": QUERIES[name]} if name in QUERIES else {}
    for given, text in ((1, "1"), (np.int64(1), "1"), ([1, 0], "0,1"), (np.array([0, 1]), "0,1"), (range(2), "0,1")):
        found, expected = (call(store, gpt2, layers=layers, **options) for layers in (given, text))
        assert content(found) == content(expected)
        if hasattr(found, "parameters"):
            assert found.parameters["layers"] == text
            found.save(tmp_path)
            assert json.loads((tmp_path / "result.json").read_text())["parameters"]["layers"] == text
        if name not in ("site_hooks", "between_layers"):
            break  # one kind of number tells that the function hands them on


@pytest.mark.parametrize("site", [SITE, ("resid_post", 1), ("resid_post", np.int64(-2)), Hook("resid_post", 1)])
def test_a_site_is_a_hook_its_name_or_kind_and_layer(site, store, tmp_path):
    pairs = probes.contrast(store, *PAIR, "is_last and kind == 'increasing'")
    found = probes.find_direction(store, pairs, site)
    assert found.hook == Hook("resid_post", 1)
    assert probes.load_direction(probes.save_direction(found, tmp_path / "a.safetensors")).hook == found.hook
    plan = geometry.plan_cells(store)
    cells, same = (geometry.load_cells(store, one, plan) for one in (site, found.hook))
    torch.testing.assert_close(cells, same, rtol=0, atol=0, equal_nan=True)
    edits = [probes.member_edit(store, one, "digits", 2, 4, where=QUERIES["member_edit"]) for one in (site, found.hook)]
    assert edits[0].hook == edits[1].hook


@pytest.mark.parametrize("site", [SITE, ("resid_post", 1), Hook("resid_post", 1)])
def test_a_site_that_no_store_knows_may_be_named_too(site):
    x = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0))
    made = [
        probes.direction_of(x[0, 0], site, "by hand"),
        probes.index_subspace(x, 1, site),
        probes.leace(x[0], ["a", "b", "a"], hook=site),
        probes.random_subspace(x[0], 1, 0, site),
    ]
    assert [one.hook for one in made] == [Hook("resid_post", 1)] * 4


BARE = """
import inspect, json
import torch
import geometry, probes
from cache import Hook, head_outputs
from cache.errors import InputError
from geometry.basis import LinearBasis
from probes.collateral import collateral

known = {
    "pairs": [("a", "b")], "where": None, "layers": "all", "i": 1, "j": 2, "a": "a", "b": "b", "source": "a",
    "target": "b", "family": "a", "hooks": [Hook("resid_post", 0)], "hook": Hook("resid_post", 0),
}
said = {}
for package in (geometry, probes):
    for name in package.__all__:
        function = getattr(package, name)
        parameters = list(inspect.signature(function).parameters.values()) if inspect.isfunction(function) else []
        if parameters and "ActivationStore" in str(parameters[0].annotation):
            rest = [known.get(one.name) for one in parameters[1:] if one.default is one.empty]
            if name == "find_direction":
                rest[0] = probes.Contrast("a", "b", None, None)
            try:
                function("x.h5", *rest)
            except InputError as error:
                said[name] = str(error)
            except Exception as error:
                said[name] = repr(error)
            else:
                said[name] = "nothing"
try:
    head_outputs("x.h5", None, 0)
except InputError as error:
    said["head_outputs"] = str(error)
direction = probes.Direction(("resid_post", 1), torch.tensor([1.0]), 1.0, "by hand")
basis = LinearBasis(torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1), "blocks.1.hook_resid_post")
assert direction.hook == basis.hook == Hook("resid_post", 1)
print(json.dumps(said))
"""


def test_a_path_in_place_of_a_store_is_told_to_be_opened():
    """In a process without checks of annotations, as users have it."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {*taking("store"), "between_stores", "head_outputs"} <= set(said)
    sentence = "an analysis takes an open store; open it with ActivationStore.open('x.h5')"
    assert said == dict.fromkeys(said, sentence)
