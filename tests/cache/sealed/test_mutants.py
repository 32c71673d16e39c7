"""Thousands of damaged stores: each is read as what it was, or refused in a sentence; none is silently different."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cache import plan_recording, record

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("count", [60, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_a_damaged_store_is_read_as_it_was_or_refused_in_a_sentence(gpt2, tmp_path, count):
    store = tmp_path / "a.h5"
    plan = plan_recording(gpt2, ["one two", "1,2,3", "a"], sites="resid_post,z", layers="1", batch_tokens=8)
    record(gpt2, plan, store)
    command = [sys.executable, "-m", "tests.cache.mutants", str(store), str(count), "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    print(summary)  # noqa: T201  # for the one who runs the slow one by hand
    assert set(summary["counts"]) <= {"told", "identical"}, summary["counts"]
    assert sum(summary["counts"].values()) == count
    assert summary["counts"]["told"] > 0.8 * count, "hardly a byte of a store is nobody's"
    assert summary["peak_mib"] < 1024
