"""Extraction writes what the SAE reads, block by block, and goes on to the same bytes where it was broken off."""

import datetime
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from cache import ActivationStore, load_dataset, plan_recording, verify_store
from cache.errors import (
    CorruptFileError,
    FingerprintError,
    InputError,
    LockedError,
    NoSpaceError,
    NumbersError,
    StoppedError,
)
from cache.sealed.lock import writer_lock
from cache.store import manifest
from probes.sae.basis import Transcoder
from probes.sae.load import load_sae
from probes.sae_features import extract as extracting
from probes.sae_features.extract import extract_features
from probes.sae_features.features import open_features
from tests.probes.sae.saved import SITE, random_tensors, save
from tests.probes.sae_features.extractions import FORMS, encoded, sae_of, silent, small_blocks
from tests.recordings import recorded

every_form = pytest.mark.parametrize("form", FORMS)


def dense(features, where=None):
    return torch.from_numpy(features.to_csr(where).toarray())


@pytest.fixture
def one_second(monkeypatch):
    """Files that are made in this test are made in the same second."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, tzinfo=tz)

    monkeypatch.setattr(manifest.datetime, "datetime", Clock)


@every_form
def test_reading_back_gives_what_the_sae_reads_bit_by_bit(form, small, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    sae = sae_of(form, small)
    with extract_features(sae, small, tmp_path / "f.h5") as features:
        found = encoded(sae, small, 40)
        assert torch.equal(dense(features), found)
        assert features.n_features == 99
        assert features.rows.drop(columns="row").equals(small.rows)
        assert features.prompts.equals(small.prompts)
        assert features.rows["row"].tolist() == list(range(len(small.rows)))
        most = (found != 0).sum(dim=1).max()
        assert features.active()[0].shape == (len(small.rows), 6 if "topk" in form else most)
        assert (found < 0).any() == (form == "abstopk")
        assert (features.origin, features.hook, features.store) == (sae.origin, SITE, small.fingerprint)
    assert verify_store(tmp_path / "f.h5").damage == ()


def test_any_hdf5_reader_finds_the_same(small, tmp_path):
    sae = sae_of("jumprelu", small)
    extract_features(sae, small, tmp_path / "f.h5").close()
    with h5py.File(tmp_path / "f.h5") as file:
        numbers, values = file["features/number"][:], file["features/value"][:]
        assert (numbers.dtype, values.dtype) == (np.int32, np.float32)
        assert file.attrs["format"] == b"sae-features"
        assert not values[numbers < 0].any()
        found = np.zeros((len(numbers), 100), np.float32)
        np.put_along_axis(found, numbers, values, axis=1)  # of -1 the last column
        assert np.array_equal(found[:, :99], encoded(sae, small).numpy())
        assert file["prompts/text"].asstr()[:].tolist() == small.prompts["text"].tolist()


@every_form
def test_rows_are_chosen_by_a_query_and_known_by_their_numbers(form, small, tmp_path):
    sae, where = sae_of(form, small), "is_last and family == 'months'"
    with extract_features(sae, small, tmp_path / "f.h5", where) as features:
        assert torch.equal(dense(features), encoded(sae, small, where=where))
        assert set(features.rows["family"]) == {"months"}
        of_store = small.rows.iloc[features.rows["row"]].reset_index(drop=True)
        assert features.rows.drop(columns="row").equals(of_store)
        assert features.prompts.equals(small.prompts)
        assert features.file.manifest["soft"]["where"] == where


@every_form
def test_named_features_alone_are_kept_and_have_the_values_that_they_have_among_all(form, small, tmp_path):
    sae, wanted = sae_of(form, small), [90, 3, 17, 3]
    with extract_features(sae, small, tmp_path / "f.h5", features=wanted) as features:
        found = dense(features)
        assert features.extracted.tolist() == [3, 17, 90]
        assert features.active()[0].shape[1] <= 3
    whole = encoded(sae, small)
    torch.testing.assert_close(found[:, [3, 17, 90]], whole[:, [3, 17, 90]], rtol=1e-5, atol=1e-5)
    rest = np.delete(np.arange(99), [3, 17, 90])
    assert not found[:, rest].any()


def test_named_features_of_which_none_depends_on_others_are_all_that_is_computed(small, tmp_path, monkeypatch):
    from probes.sae import basis

    widths = []
    read = basis.preactivations
    monkeypatch.setattr(
        basis, "preactivations", lambda x, c, encoder, b: widths.append(encoder.shape[1]) or read(x, c, encoder, b)
    )
    extract_features(sae_of("gated", small), small, tmp_path / "a.h5", features=[3, 17]).close()
    assert set(widths) == {2}
    extract_features(sae_of("topk", small), small, tmp_path / "b.h5", features=[3, 17]).close()
    assert widths[-1] == 99


def test_rows_without_an_active_feature_are_empty(small, tmp_path):
    with extract_features(silent(small), small, tmp_path / "f.h5") as features:
        numbers, values = features.active()
        assert numbers.shape == (len(small.rows), 1)
        assert (numbers == -1).all()
        assert not values.any()
        assert features.to_csr().nnz == 0
        assert not features.frequency().any()


def test_a_transcoder_is_read_where_it_reads(small, tmp_path):
    w = random_tensors()
    sae = sae_of("relu", small)
    both = Transcoder(w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], sae.nonlinearity, reads=SITE, weights="")
    with extract_features(both, small, tmp_path / "f.h5") as features:
        assert torch.equal(dense(features), both.encode(small.load(SITE)))


def test_labels_of_own_prompts_come_along(gpt2, tmp_path):
    lines = [
        {"text": f"{i % 10},{i % 7}", "group": "ab"[i % 2], "colour": ["red", ""][i % 2], "size": i / 2}
        for i in range(8)
    ]
    with recorded(gpt2, plan_recording(gpt2, load_dataset(lines), sites="resid"), tmp_path / "a.h5") as store:
        sae = sae_of("relu", store)
        with extract_features(sae, store, tmp_path / "f.h5") as features:
            assert features.rows.drop(columns="row").equals(store.rows)
            assert features.prompts.equals(store.prompts)
            red = features.to_csr("colour == 'red' and size > 1")
        assert red.shape[0] == len(store.select("colour == 'red' and size > 1"))


def stop_after(n):
    """A question that is answered with yes once it was asked so often."""
    asked = iter(range(n))
    return lambda: next(asked, None) is None


@every_form
def test_stopped_after_any_block_it_goes_on_to_the_same_bytes(form, small, tmp_path, monkeypatch, one_second):
    small_blocks(monkeypatch, 75)
    sae, whole, parts = sae_of(form, small), tmp_path / "whole.h5", tmp_path / "parts.h5"
    extract_features(sae, small, whole).close()
    found = encoded(sae, small, 75)
    n_blocks = -(-len(small.rows) // 75)
    assert n_blocks >= 4
    count = 0 if "topk" in form else n_blocks
    with pytest.raises(StoppedError, match="written" if count else "stopped after 0 of"):
        extract_features(sae, small, parts, should_stop=stop_after(0))
    assert parts.exists() == (not count)
    for done in range(1, n_blocks):
        asked = (count if done == 1 else 0) + 1
        with pytest.raises(StoppedError, match=f"^stopped after {done} of {n_blocks} blocks$"):
            extract_features(sae, small, parts, should_stop=stop_after(asked))
        with open_features(parts) as part:
            assert not part.complete
            assert torch.equal(dense(part), found[: 75 * done])
            assert part.rows.drop(columns="row").equals(small.rows[: 75 * done])
        assert verify_store(parts).damage == ()
    told = []
    extract_features(sae, small, parts, on_block=lambda *one: told.append(one)).close()
    assert told == [(n_blocks, n_blocks)]
    assert parts.read_bytes() == whole.read_bytes()
    extract_features(sae, small, parts, on_block=lambda *_: pytest.fail("extracted again")).close()
    assert parts.read_bytes() == whole.read_bytes()


def test_progress_counts_both_readings_and_what_reads_once_has_one(small, tmp_path, monkeypatch):
    small_blocks(monkeypatch, 75)
    n_blocks = -(-len(small.rows) // 75)
    for form, readings in (("relu", 2), ("topk", 1)):
        told, out = [], tmp_path / f"{form}.h5"
        extract_features(sae_of(form, small), small, out, on_block=lambda *one, told=told: told.append(one)).close()
        assert told == [(done, readings * n_blocks) for done in range(1, readings * n_blocks + 1)]


KILLED = """
import os, signal, sys
from pathlib import Path
from cache import ActivationStore
from probes.sae.load import load_sae
from probes.sae_features import plan
from probes.sae_features.extract import extract_features

store, sae, out, blow = sys.argv[1:]
plan._AT_ONCE = 66 * 30

def on_block(done, total):
    if done == int(blow):
        os.kill(os.getpid(), signal.SIGKILL)

with ActivationStore.open(store) as opened:
    extract_features(load_sae(sae), opened, out, on_block=on_block).close()
"""


@pytest.mark.slow
def test_killed_it_loses_no_block_and_goes_on_to_the_same_content(small, tmp_path):
    sae = save(tmp_path / "sae")
    out = tmp_path / "f.h5"

    def run(blow):
        words = [sys.executable, "-c", KILLED, str(small.paths[0]), str(sae), str(out), str(blow)]
        return subprocess.run(words, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    n_blocks = -(-len(small.rows) // 30)
    assert run(n_blocks - 2).returncode == -signal.SIGKILL  # while it counts
    assert not out.exists()
    assert run(n_blocks + 3).returncode == -signal.SIGKILL
    with open_features(out) as part:
        assert len(part.rows) == 90
    before = out.read_bytes()
    assert run(7).returncode == -signal.SIGKILL
    with open_features(out) as part:
        assert len(part.rows) == 210
    done = run(0)
    assert done.returncode == 0, done.stderr
    after = out.read_bytes()
    with open_features(out) as features, h5py.File(out) as file:
        assert features.complete
        basis = load_sae(sae)
        torch.testing.assert_close(dense(features), basis.encode(small.load(SITE)), rtol=1e-5, atol=1e-5)
        place = file["features/number"].id.get_offset()
        first = slice(place, place + 90 * file["features/number"].shape[1] * 4)
    assert before[first] == after[first]
    assert verify_store(out).damage == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.h5", "sae"]


def change_all(one):
    return {
        "another sae": {"sae": sae_of("relu", one, seed=1)},
        "another sae (form)": {"sae": replace(sae_of("relu", one), nonlinearity=sae_of("topk", one).nonlinearity)},
        "another rows": {"where": "is_last"},
        "another features": {"features": [1, 2]},
    }


@pytest.mark.parametrize("what", ["another sae", "another sae (form)", "another rows", "another features"])
def test_a_file_of_something_else_is_refused_by_name_and_overwritten_only_on_request(what, small, tmp_path):
    asked = {"sae": sae_of("relu", small), "store": small, "out": tmp_path / "f.h5"}
    extract_features(**asked).close()
    before = asked["out"].read_bytes()
    other = asked | change_all(small)[what]
    field = what.split(" (")[0]
    with pytest.raises(FingerprintError, match=rf"f\.h5 was extracted with {field}; choose another --out, or --over"):
        extract_features(**other)
    assert asked["out"].read_bytes() == before
    with extract_features(**other, overwrite=True) as features:
        assert len(features.rows) == (len(small.select("is_last")) if "rows" in what else len(small.rows))


def test_the_same_by_another_name_is_the_same(small, tmp_path):
    sae = sae_of("relu", small)
    extract_features(sae, small, tmp_path / "f.h5").close()
    named = replace(sae, origin=replace(sae.origin, name="another"))
    mask = np.ones(len(small.rows), dtype=bool)
    with extract_features(named, small, tmp_path / "f.h5", mask, range(99)) as features:
        assert features.origin.name == "random"


def test_another_store_model_site_or_width_is_refused(small, gpt2, tmp_path):
    sae = sae_of("relu", small)
    out = tmp_path / "f.h5"
    with pytest.raises(FingerprintError, match=r"^random belongs to other weights than those of sweep.h5 \(0{8} and"):
        extract_features(replace(sae, weights="0" * 64), small, out)
    strange = replace(sae.origin, model="pythia-70m")
    with pytest.raises(InputError, match=r"was trained on pythia-70m, and sweep.h5 is of"):
        extract_features(replace(sae, weights="", origin=strange), small, out)
    with pytest.raises(InputError, match=r"blocks.1.mlp.hook_post, and sweep.h5 has no such site"):
        extract_features(replace(sae, hook=replace(SITE, kind="mlp_post")), small, out)
    with pytest.raises(InputError, match="no such site"):
        extract_features(replace(sae, hook=None), small, out)
    cut = {"encoder": sae.encoder[:20], "centre": sae.centre[:20], "directions": sae.directions[:, :20]}
    narrow = replace(sae, **cut, offset=sae.offset[:20])
    with pytest.raises(InputError, match=r"has width 20, and blocks.1.hook_resid_post of sweep.h5 has 33"):
        extract_features(narrow, small, out)
    with recorded(gpt2, plan_recording(gpt2, ["1,2"], sites="resid"), tmp_path / "other.h5") as other:
        extract_features(sae, other, out).close()
    with pytest.raises(FingerprintError, match=r"another store, rows; choose"):
        extract_features(sae, small, out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "position < -1"}, "^no row is chosen to extract features of$"),
        ({"where": "colour == 1"}, "^no query"),
        ({"features": [99]}, "^features of this SAE are numbered 0 to 98; got 99$"),
        ({"features": [-1]}, "^features of this SAE are numbered 0 to 98; got -1$"),
        ({"features": []}, "^features of this SAE are numbered 0 to 98; got none$"),
    ],
)
def test_what_cannot_be_extracted_is_one_sentence(options, said, small, tmp_path):
    with pytest.raises(InputError, match=said):
        extract_features(sae_of("relu", small), small, tmp_path / "f.h5", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_complete_is_refused(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1,2,3,", "one two"], sites="resid", batch_tokens=8)
    done = []
    with pytest.raises(StoppedError):
        recorded(gpt2, plan, tmp_path / "a.h5", on_block=done.append, should_stop=lambda: bool(done))
    told = r"^a\.h5 is not complete; finish its recording first$"
    with ActivationStore.open(tmp_path / "a.h5") as store, pytest.raises(InputError, match=told):
        extract_features(sae_of("relu", store), store, tmp_path / "f.h5")


def test_numbers_too_large_are_told_by_feature_and_row_and_leave_no_block(small, tmp_path):
    sae = sae_of("relu", small)
    large = replace(sae, encoder=sae.encoder.double() * 1e39)
    with pytest.raises(NumbersError, match=r"^feature \d+ of random is inf at row 0 of the store$"):
        extract_features(large, small, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


def test_where_numbers_come_out_otherwise_it_is_not_gone_on_with(small, tmp_path, monkeypatch):
    monkeypatch.setattr(extracting, "_n_slots", lambda *_: 2)
    with pytest.raises(FingerprintError, match=r"f\.h5 has 2 slots a row, and a row has \d+ active features: it was"):
        extract_features(sae_of("relu", small), small, tmp_path / "f.h5")


def test_a_second_writer_waits_and_a_store_is_not_written_over(small, tmp_path, gpt2):
    sae, out = sae_of("relu", small), tmp_path / "f.h5"
    with writer_lock(out), pytest.raises(LockedError, match=r"^f\.h5 is being written by process \d+"):
        extract_features(sae, small, out)
    recorded(gpt2, plan_recording(gpt2, ["1,2"], sites="resid"), tmp_path / "a.h5").close()
    told = r"a\.h5 is an activation store, not a file of SAE features; geometry sae extract makes them$"
    with pytest.raises(CorruptFileError, match=told):
        extract_features(sae, small, tmp_path / "a.h5")
    (tmp_path / "text.h5").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises((CorruptFileError, InputError)):
            extract_features(sae, small, tmp_path / "text.h5", overwrite=overwrite)
    assert (tmp_path / "text.h5").read_text() == "mine"


def test_what_does_not_fit_is_told_before_any_row_is_read(small, tmp_path, monkeypatch):
    from cache.sealed import writer

    class Full:
        free = 10_000

    monkeypatch.setattr(writer.shutil, "disk_usage", lambda folder: Full)
    monkeypatch.setattr(ActivationStore, "load", lambda *_: pytest.fail("read"))
    with pytest.raises(NoSpaceError, match=r"^not enough space in .*: need [\d,]+ bytes, have 10,000$"):
        extract_features(sae_of("relu", small), small, tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []
