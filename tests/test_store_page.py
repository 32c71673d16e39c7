"""docs/store.md is run: its snippets read and check a store with nothing of ours."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import plan_recording, record
from cache.errors import StoppedError
from tests.recordings import recorded

PAGE = (Path(__file__).parents[1] / "docs" / "store.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def store(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with recorded(
        gpt2, plan_recording(gpt2, ["1,2,3,", "one two"], sites="resid,z", batch_tokens=8), "store.h5"
    ) as store:
        yield store


def run(number: int) -> dict[str, object]:
    scope: dict[str, object] = {}
    exec(SNIPPETS[number], scope)
    return scope


def test_the_page_reads_a_store_as_we_do(store):
    said = run(0)
    truth = store["resid_post", 1].numpy()
    np.testing.assert_array_equal(said["x"], truth)
    np.testing.assert_array_equal(said["mapped"], truth)
    assert said["text"].tolist() == [store.prompts["text"][prompt] for prompt in store.rows["prompt"]]


CHECKED = ("frozen", "log", "data")


def test_the_page_finds_a_store_sound_that_is_not_complete(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_recording(gpt2, ["1,2,3,", "one two"], sites="resid,z", batch_tokens=8)
    done = []
    with pytest.raises(StoppedError):
        record(gpt2, plan, "store.h5", on_block=done.append, should_stop=lambda: bool(done))
    said = run(1)
    assert [said[name] for name in CHECKED] == [True, True, True]
    assert len(said["recorded"]) == 1


def test_the_page_checks_a_store_and_sees_damage_where_it_is(store):
    said = run(1)
    assert [said[name] for name in CHECKED] == [True, True, True]
    content = Path("store.h5").read_bytes()
    spans = dict(zip(said["numbers"][::2], said["numbers"][1::2], strict=True))
    frozen = next(i for i in range(200, len(content)) if not any(s <= i < s + n for s, n in spans.items()))
    with h5py.File("store.h5") as file:
        log = [file[f"log/{name}"].id.get_offset() for name in ("checksum", "state", "complete")]
    for place, seen in ((frozen, "frozen"), (max(spans), "data"), *((place, "log") for place in log)):
        Path("store.h5").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        said = run(1)
        assert [name for name in CHECKED if not said[name]] == [seen]


def test_the_documented_datasets_are_those_of_a_store(store):
    named = set(
        re.findall(r"`(?:/\w+/)?(\w+)`", "".join(line.split("|")[1] for line in PAGE.splitlines()[6:23] if "|" in line))
    )
    with h5py.File("store.h5") as file:
        present = {name for group in ("rows", "prompts", "log") for name in file[group]}
        assert set(file.attrs) == {"format", "fingerprint", "manifest", "created", "command"}
    assert present <= named
