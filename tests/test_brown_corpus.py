"""The Brown corpus is put together again: no tags, no mark twice, no space that nobody writes."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "brown_corpus.py"


@pytest.fixture(scope="module")
def brown():
    spec = importlib.util.spec_from_file_location("brown_corpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", ["", *sys.path])
        spec.loader.exec_module(module)
    return module


def test_tags_are_stripped_and_words_put_together(brown):
    tagged = (
        "\n\n\tThe/at jury/nn said/vbd ,/, ``/`` Why/wrb not/* ?/. ?/.\n"
        "It/pps 's/bez 1\\/2/cd (/( or/cc so/rb )/) ;/. ;/."
        "\nwell/uh ''/'' --/-- at/in 9:30/cd ./.\n\n\n\tNew/jj-tl paragraph/nn and/or/cc more/ap !/. !/.\n"
    )
    assert brown.running_text(tagged) == (
        'The jury said, "Why not? It \'s 1\\/2 (or so); well" -- at 9:30.\nNew paragraph and/or more!'
    )


def test_an_archive_of_other_content_is_refused_and_nothing_written(brown, tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is not the archive that is meant: its SHA-256 is "):
        brown.main(tmp_path / "a.tgz", tmp_path / "brown.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]
