"""Prompts of a store come back as they were recorded, and stand in the context that they say."""

import json

import numpy as np
import pytest

from cache import load_dataset, plan_recording
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from probes.directions.prompts import contexts_of, frame_of, stored_prompts
from tests.recordings import recorded


@pytest.fixture(scope="module")
def prompts():
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote", "list"), lengths=(2,), starts=(1, 2), templates=2)
    return load_dataset("digits,months", design)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    plan = plan_recording(gpt2, prompts, positions="last", sites="resid_pre", layers="0")
    with recorded(gpt2, plan, tmp_path_factory.mktemp("prompts") / "a.h5") as store:
        yield store


def test_stored_prompts_are_those_recorded(store, prompts, gpt2, tmp_path):
    assert stored_prompts(store, range(len(prompts))).items == prompts.items
    assert stored_prompts(store, np.array([4, 1])).items == (prompts[4], prompts[1])
    lines = [{"text": f"{name} is {mood}", "group": mood} for mood in ("blue", "green") for name in ("Tom", "Sam")]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    mine = load_dataset(str(tmp_path / "own.jsonl"))
    with recorded(gpt2, plan_recording(gpt2, mine, sites="resid_pre", layers="0"), tmp_path / "own.h5") as own:
        assert stored_prompts(own, [0, 3]).items == mine.subset([0, 3]).items


def test_a_context_is_a_frame_and_a_template(store):
    contexts = contexts_of(store.prompts)
    assert contexts == [f"{frame}|{template}" for frame, template in store.prompts[["frame", "template"]].to_numpy()]
    assert [frame_of(context) for context in contexts] == store.prompts["frame"].tolist()
    assert frame_of("a|b|3") == "a|b"
