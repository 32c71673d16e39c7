"""The model that a store names is found from any directory, and after it has moved, by what it holds."""

import shutil

import pytest

from cache import load_model
from cache.errors import FingerprintError, NotAvailableError
from geometry.cli.console.recorded_model import needed_model
from tests.recordings import recorded


@pytest.fixture
def here(model_folders, tmp_path, monkeypatch):
    """A model's folder, a store recorded from it by its relative name, and another directory to read it from."""
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "models" / "mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("cache.models.findings._folder", lambda: tmp_path / "findings")
    monkeypatch.chdir(tmp_path / "models")
    with recorded(load_model("mine", device="cpu"), ["1,2,3,"], tmp_path / "a.h5") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        yield folder, store


def test_a_relative_folder_is_noted_whole_and_found_from_another_directory(here):
    folder, store = here
    assert store.manifest["soft"]["model"] == str(folder)
    assert needed_model(store, None, quiet=True).name == str(folder)


def test_a_folder_that_moved_is_found_by_its_weights_once_it_was_loaded_from_there(here, tmp_path):
    folder, store = here
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(NotAvailableError, match=r"no model folder '.*mine'"):
        needed_model(store, None, quiet=True)
    load_model(str(moved), device="cpu")
    assert needed_model(store, None, quiet=True).name == str(moved)


def test_another_model_in_its_place_is_refused(here, model_folders):
    folder, store = here
    shutil.rmtree(folder)
    shutil.copytree(model_folders["llama"], folder)
    with pytest.raises(FingerprintError, match="comes from other weights than"):
        needed_model(store, None, quiet=True)
