import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from cache import Hook
from cache.errors import InputError
from cache.store.view import query_rows
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.direction import direction_of
from probes.edits.generation import text_tokens
from probes.edits.hooks import steer
from probes.steering.collateral import collateral, divergence
from probes.steering.sentences import PLAIN_SENTENCES
from probes.steering.settings import Grid
from probes.steering.sweep import sweep
from tests.probes.sweeps import small_store


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("collateral")) as store:
        yield store


@pytest.fixture(autouse=True)
def every_fifth_sentence(monkeypatch):
    monkeypatch.setattr("probes.steering.collateral.PLAIN_SENTENCES", PLAIN_SENTENCES[::5])


def swept(store, model, alpha):
    return sweep(store.view(layers="1"), model, "digits", "numwords", Grid((alpha,), ("last",), ("mean_difference",)))


def test_divergence_is_scipys():
    logits = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0))
    p, q = logits.softmax(dim=2).double().numpy()
    want = [scipy.stats.entropy(a, b) for a, b in zip(p, q, strict=True)]
    assert divergence(*logits) == pytest.approx(want, abs=1e-6)
    assert divergence(logits[0], logits[0]).tolist() == [0.0] * 7


def test_plain_sentences_are_measured_as_steering_each_by_hand(store, gpt2):
    table = collateral(store.view(), gpt2, swept(store, gpt2, 3.0)).set_index("texts")
    hook = Hook("resid_post", int(table["layer"].iloc[0]))
    x, y = load_pairs(store, hook, contrast(store.view(), "digits", "numwords"))
    one = direction_of((y - x).mean(dim=0), hook, "by hand")
    found = []
    for text in PLAIN_SENTENCES[::5]:
        tokens = text_tokens(gpt2, text)
        with torch.inference_mode():
            clean = gpt2.last_logits(tokens)
            with steer(gpt2, one, 3.0):
                found.append(divergence(clean, gpt2.last_logits(tokens))[0])
    assert table.loc["plain sentences", "kl"] == pytest.approx(np.mean(found), rel=1e-3)
    assert table.loc["plain sentences", "n_texts"] == len(PLAIN_SENTENCES) / 5


def test_other_families_are_measured_and_the_two_steered_are_not(store, gpt2):
    table = collateral(store.view(), gpt2, swept(store, gpt2, 1.0))
    assert table["texts"].tolist() == ["plain sentences", "months", "controls"]
    assert (table["kl_random"] > 0).all()
    assert (table["kl"] > 0).all()


def test_alpha_zero_spills_nothing(store, gpt2):
    table = collateral(store.view(), gpt2, swept(store, gpt2, 0.0))
    assert table["kl"].max() < 1e-8
    assert table["top1_changed"].eq(0).all()


def test_a_sweep_on_a_mask_is_measured_on_the_same_mask_and_on_no_other(store, gpt2):
    mask = query_rows(store.rows, "is_last")
    result = sweep(store.view(layers=1, where=mask), gpt2, "digits", "numwords", Grid((1.0,), ("last",)))
    table = collateral(store.view(where=mask), gpt2, result)
    pd.testing.assert_frame_equal(table, collateral(store.view(), gpt2, swept(store, gpt2, 1.0)))
    other = r"^the sweep was of other rows \(a mask of \d+ of \d+ rows \(sha256 .{8}\)\) than is_last; give its view$"
    with pytest.raises(InputError, match=other):
        collateral(store.view(), gpt2, result)
