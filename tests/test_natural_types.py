"""What a public function takes: masks as well as queries, numbers as well as strings, names of sites; no paths."""

import inspect
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import geometry
import probes
from cache import Hook
from cache.errors import InputError
from cache.store.view import View, query_rows, where_text
from geometry.rows.cells import load_cells, plan_cells
from probes.cosines.by_layer import cosines_by_layer
from probes.directions.contrasts import contrast
from probes.directions.direction import direction_of
from probes.directions.members import member_edit, reversal
from probes.directions.subspaces import index_subspace, leace
from probes.sae.basis import SAEBasis
from probes.sae.coding import Nonlinearity
from probes.sae.quality import sae_quality
from probes.transfer.query_position import last_or_answer
from tests.fork_server import server
from tests.probes.sweeps import small_store
from tests.public import PUBLIC
from tests.variants import some

PAIR = ("digits", "numwords")
SITE = "blocks.1.hook_resid_post"
GRID = probes.Grid((1.0,), ("last",), ("pca",))
ROLES = probes.Roles(PAIR, PAIR, n_contexts=1)
VIEWED = {
    "between_families": lambda v, m: geometry.between_families(v, *PAIR),
    "between_layers": lambda v, m: geometry.between_layers(v),
    "between_pairs": lambda v, m: geometry.between_pairs(v, [PAIR]),
    "between_stores": lambda v, m: geometry.between_stores(v, v),
    "contrast": lambda v, m: contrast(v, *PAIR),
    "cosines_by_layer": lambda v, m: cosines_by_layer(v, [PAIR]),
    "demix_by_layer": lambda v, m: geometry.demix_by_layer(v, PAIR),
    "nmf_by_layer": lambda v, m: geometry.nmf_by_layer(v, k=2),
    "pca_by_layer": lambda v, m: geometry.pca_by_layer(v, k=2),
    "per_layer": lambda v, m: geometry.per_layer(v, lambda x: {"sum": ((), x.sum().numpy())}),
    "plan_cells": lambda v, m: plan_cells(v),
    "probe_by_layer": lambda v, m: probes.probe_by_layer(v, probes.Question(families=PAIR), n_permutations=1),
    "svd_by_layer": lambda v, m: geometry.svd_by_layer(v, k=2),
    "sweep": lambda v, m: probes.sweep(v, m, *PAIR, GRID),
}
WHERE = {name: lambda s, m, call=call, **o: call(s.view(**o), m) for name, call in VIEWED.items()} | {
    "member_edit": lambda s, m, **o: member_edit(s, (SITE), "digits", 2, 4, **o),
    "reversal": lambda s, m, **o: reversal(s, ("resid_post", 1), "digits", **o),
    "sae_quality": lambda s, m, **o: sae_quality_of(s, **o),
}
EDITED = {
    "erasure_matrix": lambda v, m: probes.erasure_matrix(v, m, ROLES),
    "last_or_answer": lambda v, m: last_or_answer(v, m, families=PAIR, n_contexts=1),
    "transfer_matrix": lambda v, m: probes.transfer_matrix(v, m, ROLES),
}
"""Functions that take a view of no chosen rows."""


def sae_quality_of(store, **options):
    """The table of an SAE that explains all."""
    eye = torch.eye(store.width(Hook("resid_post", 1)))
    both = torch.cat([eye, -eye])
    zeros = torch.zeros(len(both)), torch.zeros(len(eye))
    sae = SAEBasis(both.T, *zeros, both, zeros[1], Nonlinearity("relu"), hook=Hook("resid_post", 1))
    return sae_quality(sae, store, **options)


SLOW = "umap_by_layer"  # chooses its rows by the same function as nmf_by_layer, and compiles for ten seconds
QUERIES = {"member_edit": "member >= 0 and kind == 'increasing'", "sweep": "is_last and kind == 'increasing'"}
QUERY = "is_last and kind != 'nothing'"


@cache
def taking(kind):
    """The public functions with a parameter of that name, or annotated with that type."""
    found = set()
    for one, value in PUBLIC.items():
        if inspect.isfunction(value) and not one.startswith("cache."):
            parameters = inspect.signature(value).parameters.values()
            if any(kind in (p.name, p.annotation) for p in parameters):
                found.add(one.partition(".")[2])
    return found


def content(value):
    """All that a result says but how its rows were described."""
    if hasattr(value, "dataset"):
        value = {name: value.values(name).tobytes() for name in value.dataset.data_vars} | {"n": len(value.table)}
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return repr(value)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    with small_store(gpt2, folder, names="digits,numwords", kinds=("increasing", "decreasing")) as store:
        yield store


def test_every_public_function_that_chooses_rows_or_layers_is_tried_here():
    assert taking("where") | taking(View) == {*WHERE, *EDITED, SLOW}
    assert taking("layers") == set()


@pytest.mark.parametrize("name", some(WHERE, *list(WHERE)[::2]))
def test_a_mask_of_any_make_gives_what_its_query_gives_and_is_noted_in_json(name, store, gpt2):
    query = QUERIES.get(name, QUERY)
    mask = query_rows(store.rows, query)
    options = {"layers": [1]} if name in VIEWED else {}
    expected = WHERE[name](store, gpt2, where=query, **options)
    for given in (mask, pd.Series(mask), torch.tensor(mask)):
        found = WHERE[name](store, gpt2, where=given, **options)
        assert content(found) == content(expected)
        if hasattr(found, "parameters"):
            assert where_text(mask) in json.loads(json.dumps(dict(found.parameters)))["where"]
            assert query in expected.parameters["where"]


def test_numbers_of_layers_give_what_their_string_gives_and_are_noted_as_it(store, gpt2, tmp_path):
    for given, text in ((1, "1"), (np.int64(1), "1"), ([1, 0], "0,1"), (np.array([0, 1]), "0,1"), (range(2), "0,1")):
        view, expected = store.view(layers=given), store.view(layers=text)
        assert (view.hooks, view.layers) == (expected.hooks, text)
    for call in (VIEWED["pca_by_layer"], EDITED["last_or_answer"]):
        call(store.view(layers=[1, 0]), gpt2).save(tmp_path)
        assert json.loads((tmp_path / "result.json").read_text())["parameters"]["layers"] == "0,1"


@pytest.mark.parametrize("site", [SITE, ("resid_post", 1), ("resid_post", np.int64(-2)), Hook("resid_post", 1)])
def test_a_site_is_a_hook_its_name_or_kind_and_layer(site, store, tmp_path):
    pairs = contrast(store.view(where="is_last and kind == 'increasing'"), *PAIR)
    found = probes.find_direction(store, pairs, site)
    assert found.hook == Hook("resid_post", 1)
    assert probes.load_direction(probes.save_direction(found, tmp_path / "a.safetensors")).hook == found.hook
    plan = plan_cells(store.view())
    cells, same = (load_cells(store, one, plan) for one in (site, found.hook))
    torch.testing.assert_close(cells, same, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(InputError, match=r"^a direction is found between matched rows, as from contrast\(store, "):
        inspect.unwrap(probes.find_direction)(store, PAIR, site)
    edits = [member_edit(store, one, "digits", 2, 4, where=QUERIES["member_edit"]) for one in (site, found.hook)]
    assert edits[0].hook == edits[1].hook


@pytest.mark.parametrize("site", [SITE, ("resid_post", 1), Hook("resid_post", 1)])
def test_a_site_that_no_store_knows_may_be_named_too(site):
    x = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0))
    made = [
        direction_of(x[0, 0], site, "by hand"),
        index_subspace(x, 1, site),
        leace(x[0], ["a", "b", "a"], hook=site),
    ]
    assert [one.hook for one in made] == [Hook("resid_post", 1)] * 3


BARE = """
import inspect, json
import torch
import probes
from cache import Hook
from cache.errors import InputError
from geometry.bases.basis import LinearBasis
from probes.directions.contrasts import Contrast
from tests.fork_server import server
from tests.public import PUBLIC

known = {
    "pairs": [("a", "b")], "where": None, "analysis": None, "i": 1, "j": 2, "a": "a", "b": "x.h5", "source": "a",
    "target": "b", "family": "a", "model": None, "layer": 0, "hooks": [Hook("resid_post", 0)],
    "hook": Hook("resid_post", 0),
}
said = {}
for name, function in PUBLIC.items():
    name = name.partition(".")[2]
    parameters = list(inspect.signature(function).parameters.values()) if inspect.isfunction(function) else []
    kinds = "ActivationStore", "View"
    stores = [one.name for one in parameters if any(kind in str(one.annotation) for kind in kinds)]
    if stores:
        needed = (one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD)
        given = {one: known.get(one) for one in needed} | {stores[0]: "x.h5"}
        if name == "find_direction":
            given["pairs"] = Contrast("a", "b", None, None)
        try:
            function(**given)
        except InputError as error:
            said[name] = str(error)
        except Exception as error:
            said[name] = repr(error)
        else:
            said[name] = "nothing"
direction = probes.Direction(("resid_post", 1), torch.tensor([1.0]), 1.0, "by hand")
basis = LinearBasis(torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1), "blocks.1.hook_resid_post")
assert direction.hook == basis.hook == Hook("resid_post", 1)
print(json.dumps(said))
"""

TALKATIVE = """
import json
import torch
import geometry, probes
from cache import plan_recording
from cache.errors import InputError
from cache.models.restart import clean_run
from geometry.similarity.of_rows import linear_cka
from probes.directions.direction import direction_of
from probes.edits.positions import member_positions

x = None
direction = direction_of(torch.ones(3), ("resid_post", 1), "by hand")
calls = {
    "generate": lambda: probes.generate("gpt2", "1,2,", 3),
    "steer": lambda: probes.steer("gpt2", direction).__enter__(),
    "clean_run": lambda: clean_run("gpt2", torch.zeros(1, 1, dtype=torch.int64)),
    "member_positions": lambda: member_positions("gpt2", None),
    "unembedding_difference": lambda: probes.unembedding_difference("gpt2", [("a", "b")]),
    "loadings": lambda: geometry.loadings(None, "gpt2"),
    "plan_recording": lambda: plan_recording("gpt2", ["a"]),
    "plan_recording of nothing": lambda: plan_recording(None, ["a"]),
    "sweep": lambda: probes.Grid(1.0, ["last"]),
    "pca": lambda: geometry.pca(x, k=1),
    "linear_cka": lambda: linear_cka(x, x),
    "cca": lambda: geometry.cca(x, x, k=1),
    "nmf": lambda: geometry.nmf(x, k=1),
}
said = {}
for name, call in calls.items():
    try:
        call()
    except InputError as error:
        said[name] = str(error)
    except Exception as error:
        said[name] = repr(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def unchecked(model_folders, tmp_path_factory):
    """What both scripts say, in a process without checks of annotations, as users have it."""
    done = server(model_folders["gpt2"]).run("code", tmp_path_factory.mktemp("unchecked"), code=BARE + TALKATIVE)
    assert done["code"] == 0, done["err"]
    return [json.loads(line) for line in done["out"].splitlines()]


def test_a_model_s_name_and_an_array_are_told_what_is_taken(unchecked):
    said = dict(unchecked[1])
    arrays = {"pca", "linear_cka", "cca", "nmf"}
    sentence = "x: numbers in an array, a tensor or a data frame are wanted; got NoneType"
    assert {name: said.pop(name) for name in arrays} == dict.fromkeys(arrays, sentence)
    assert said.pop("plan_recording of nothing") == "this takes a loaded model, as from load_model; got NoneType"
    assert said.pop("sweep") == "alphas must be finite numbers in a list; got 1.0"
    assert said == dict.fromkeys(said, "this takes a loaded model, as from load_model('gpt2')")


def test_names_may_stand_in_one_string_and_one_pair_alone(store, gpt2):
    one, same = (geometry.demix_by_layer(store.view(layers=1), names) for names in (PAIR, "digits, numwords"))
    assert content(one) == content(same)
    one, same = (geometry.between_pairs(store.view(layers=1), pairs, measures="cka") for pairs in ([PAIR], list(PAIR)))
    assert content(one) == content(same)
    one, same = (cosines_by_layer(store.view(layers=1), pairs) for pairs in ([PAIR], [list(PAIR)]))
    assert content(one) == content(same)
    assert probes.Grid([1.0], "last", "pca") == GRID
    with pytest.raises(InputError, match=r"^pairs are given as \[\('digits', 'numwords'\)\]; got 'digits,numwords'$"):
        geometry.between_pairs(store.view(), "digits,numwords")


def test_numpy_s_numbers_are_noted_as_numbers(store, tmp_path):
    result = geometry.pca_by_layer(store.view(layers=1), k=2, seed=3)
    numbers = {"k": np.int64(2), "seed": np.int32(3), "alphas": np.array([1.0])}
    replace(result, parameters={**result.parameters, **numbers}).save(tmp_path)
    noted = json.loads((tmp_path / "result.json").read_text())["parameters"]
    assert (noted["k"], noted["seed"], noted["alphas"]) == (2, 3, [1.0])


def test_a_path_in_place_of_a_store_is_told_to_be_opened(unchecked):
    said = unchecked[0]
    assert {*taking("store"), *taking(View), "head_outputs"} <= set(said)
    store = "an analysis takes an open store; open it with ActivationStore.open('x.h5')"
    view = (
        "an analysis takes a view of an open store, as ActivationStore.open(path).view('resid_post') gives it; got str"
    )
    views = {*taking(View), "to_pandas", "to_xarray", "to_anndata"}
    assert said == {name: view if name in views else store for name in said}
