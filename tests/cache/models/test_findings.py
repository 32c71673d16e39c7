"""Findings are made once for each content, kept in the user's cache, and made anew where that cannot be trusted."""

import json

import pytest

from cache.models import findings as module
from cache.models.findings import Finding, Findings, places_of

CONTENT = {"weights": "abc", "dtype": "float32"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_folder", lambda: tmp_path / "findings")
    return tmp_path / "findings"


class Counted:
    """A check that counts how often it is run."""

    def __init__(self):
        self.runs = 0

    def __call__(self):
        self.runs += 1
        return Finding("logits", "", 1e-7), Finding("blocks.0.attn.hook_z", "it does not fire", None, (3, 11))


def test_a_check_runs_once_and_its_findings_are_read_again(folder):
    check = Counted()
    first = Findings(CONTENT)
    found = first.of("whole", check)
    assert first.of("whole", check) == found
    assert Findings(dict(CONTENT)).of("whole", check) == found
    assert check.runs == 1
    assert found[1].shape == (3, 11)
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_other_content_or_another_check_finds_anew(folder):
    check = Counted()
    Findings(CONTENT).of("whole", check)
    Findings({**CONTENT, "dtype": "bfloat16"}).of("whole", check)
    Findings(CONTENT).of("sites", check)
    assert check.runs == 3


def test_a_check_whose_module_changed_finds_anew(folder, monkeypatch):
    check = Counted()
    Findings(CONTENT).of("whole", check)
    monkeypatch.setattr(module, "_source", lambda check: "changed")
    Findings(CONTENT).of("whole", check)
    assert check.runs == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"abc"', '"other"'),
        lambda text: text.replace('"fault": ""', '"fault": 3'),
        lambda text: text.replace('"logits"', "null"),
        lambda text: json.dumps({"content": CONTENT, "findings": "none"}),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_made_anew(folder, damage):
    check = Counted()
    found = Findings(CONTENT).of("whole", check)
    (path,) = folder.iterdir()
    path.write_text(damage(path.read_text()))
    assert Findings(CONTENT).of("whole", check) == found
    assert check.runs == 2
    assert Findings(CONTENT).of("whole", check) == found
    assert check.runs == 2


def test_a_cache_that_cannot_be_written_is_done_without(folder):
    folder.write_text("a file where the folder would be")
    check = Counted()
    findings = Findings(CONTENT)
    assert findings.of("whole", check) == findings.of("whole", check)
    Findings(CONTENT).of("whole", check)
    assert check.runs == 2


def test_places_are_those_that_are_still_there(folder, tmp_path):
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.mkdir()
    for place in (here, gone):
        Findings({**CONTENT, "dtype": place.name}, str(place)).of("whole", Counted())
    (folder / "broken.json").write_text("{")
    assert places_of("abc") == [str(here)]
    assert places_of("another") == []
