"""A finished recording is known without its model; whatever differs, or is not known, is left to the model to tell."""

import sys
from dataclasses import replace

import pytest

from cache import SequenceDesign, load_dataset, plan_recording, record
from cache.errors import NotAvailableError, StoppedError
from cache.families.family import FAMILIES
from cache.loading.sources import ModelSource
from cache.store.manifest import soft_fields
from geometry.cli.record.finished import is_finished

WORDS = ["cache", "--model", "tiny", "--sites", "resid", "--out", "a.h5"]
DESIGN = SequenceDesign((FAMILIES["digits"],), ("quote",), lengths=(2,), starts=(1, 2), templates=1)


@pytest.fixture
def prompts():
    return load_dataset("digits", DESIGN)


@pytest.fixture
def source(monkeypatch, tmp_path):
    """What the name `tiny` stands for now; a test may change it."""
    now = {"revision": "abc"}

    def find(name, *, revision=None):
        if not now["revision"]:
            raise NotAvailableError("not there")
        return ModelSource(name, tmp_path, now["revision"])

    monkeypatch.setattr("cache.loading.sources.find_model", find)
    return now


@pytest.fixture
def finished(gpt2, prompts, source, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/bin/geometry", *WORDS])
    model = replace(gpt2, name="tiny", revision="abc")
    record(model, plan_recording(model, prompts, sites="resid"), tmp_path / "a.h5").close()
    return tmp_path / "a.h5"


def test_the_same_command_on_the_same_model_has_nothing_to_do(finished, prompts):
    assert is_finished(finished, WORDS, "tiny", None, prompts)
    assert is_finished(finished, [*WORDS, "--quiet"], "tiny", None, prompts)


def test_other_words_prompts_or_model_files_are_for_the_model_to_tell(finished, prompts, source):
    assert not is_finished(finished, [*WORDS, "--dtype", "float16"], "tiny", None, prompts)
    assert not is_finished(finished, WORDS, "tiny", None, prompts.subset(range(len(prompts) - 1)))
    for revision in ("abd", ""):
        source["revision"] = revision
        assert not is_finished(finished, WORDS, "tiny", None, prompts)


def test_other_versions_of_libraries_are_for_the_model_to_tell(finished, prompts, monkeypatch):
    other = soft_fields(None) | {"libraries": {"torch": "0"}}
    monkeypatch.setattr("cache.store.manifest.soft_fields", lambda model: other)
    assert not is_finished(finished, WORDS, "tiny", None, prompts)


def test_words_that_are_another_programs_tell_nothing(finished, prompts, gpt2, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["pytest", "tests"])
    model = replace(gpt2, name="tiny", revision="abc")
    record(model, plan_recording(model, prompts, sites="resid"), tmp_path / "b.h5").close()
    assert not is_finished(tmp_path / "b.h5", ["tests"], "tiny", None, prompts)


def test_what_is_not_whole_is_not_finished(gpt2, prompts, source, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/bin/geometry", *WORDS])
    path, model = tmp_path / "a.h5", replace(gpt2, name="tiny", revision="abc")
    assert not is_finished(path, WORDS, "tiny", None, prompts)
    with pytest.raises(StoppedError):
        record(model, plan_recording(model, prompts, sites="resid"), path, should_stop=lambda: True)
    assert not is_finished(path, WORDS, "tiny", None, prompts)
    path.write_bytes(b"nothing of ours")
    assert not is_finished(path, WORDS, "tiny", None, prompts)
