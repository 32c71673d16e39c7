"""Every name that the packages export shows how it is used, and what a docstring shows is run."""

import ast
import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

import cache
import geometry
import probes
from cache import ActivationStore, Hook, plan_recording, record
from probes.directions.direction import direction_of
from tests.probes.sae.saved import save

PACKAGES = (cache, geometry, probes)
EXPORTED = {name: getattr(package, name) for package in PACKAGES for name in package.__all__}


def shown():
    """Where an example stands: module and name of every function and class whose docstring has one."""
    for package in PACKAGES:
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            module = path.relative_to(root.parent).with_suffix("").as_posix().replace("/", ".")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and ">>>" in (ast.get_docstring(node) or ""):
                    yield module, node.name


@pytest.fixture(scope="module")
def place(gpt2, prompts, tmp_path_factory):
    """A folder with two recordings of the same prompts, and an SAE."""
    place = tmp_path_factory.mktemp("examples")
    for name, sites in (("tour", None), ("neurons", "mlp_post")):
        plan = plan_recording(gpt2, prompts, sites=sites, positions="members")
        record(gpt2, plan, place / "activations" / f"{name}.h5")
    save(place / "sae")
    return place


@pytest.fixture
def known(place, gpt2, prompts, a_model_is_loaded_once, monkeypatch):
    """What examples may name: docs/architecture.md says what these are."""
    monkeypatch.chdir(place)
    with ActivationStore.open("activations/tour.h5") as store:
        site = Hook("resid_post", 1)
        x, y = (store.load(site, f"is_last and family == {name!r}") for name in ("digits", "numwords"))
        step = y.mean(dim=0) - x.mean(dim=0)
        direction = direction_of(step, site, "mean_difference", source="digits", target="numwords")
        values = {"model": gpt2, "prompts": prompts, "store": store, "view": store.view(), "direction": direction}
        yield EXPORTED | values | {"torch": torch, "load_model": cache.load_model}


COMPILED = {"umap", "umap_by_layer"}  # which take a quarter minute to compile


@pytest.mark.parametrize(
    ("module", "name"), [pytest.param(*one, marks=[pytest.mark.slow] * (one[1] in COMPILED)) for one in shown()]
)
def test_what_an_example_shows_is_what_comes(module, name, known):
    value = getattr(import_module(module), name)
    text = inspect.getdoc(value)
    test = doctest.DocTestParser().get_doctest(text, {name: value} | known, name, None, None)
    said = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_has_an_example(name):
    _, _, example = inspect.getdoc(EXPORTED[name]).partition("\nExample:\n")
    assert example.startswith("    >>> ")
