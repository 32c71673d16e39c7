"""A recording is tokenized, laid out and compared with its digest once, and once more only if its file has changed."""

import os
import shutil
import sys
import time
from collections import Counter

import pytest
from transformers import PreTrainedTokenizerBase

from cache import load_dataset, load_model, plan_recording, record
from cache.errors import CorruptFileError, FingerprintError, NoSpaceError, StoppedError
from cache.sealed.path import check_path
from cache.store.recording import carry_out, prepare_recording
from geometry.cli import main
from tests.cache.sealed_files import open_files, span

TEXTS = ["1,2,3,", "Van done in one. Car", "one", "x y z"]
A_TICK = 0.05  # seconds, in which the clock of any file system here goes on


@pytest.fixture
def done(monkeypatch):
    """How often a text was tokenized, a recording laid out, a file made of it, and the frozen part of one hashed."""
    counts = {"texts": Counter(), "layouts": 0, "files": 0, "digests": 0}

    def count(place, name):
        module, attribute = place.rsplit(".", 1)
        real = getattr(sys.modules[module], attribute)

        def counted(*arguments, **options):
            counts[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(place, counted)

    count("cache.store.recording.store_layout", "layouts")
    count("cache.sealed.writer.blueprint", "files")
    count("cache.sealed.writer.frozen_digest", "digests")
    count("cache.sealed.footer.frozen_digest", "digests")
    tokenize = PreTrainedTokenizerBase.__call__

    def tokenized(tokenizer, text, *arguments, **options):
        counts["texts"].update([text] if isinstance(text, str) else text)
        return tokenize(tokenizer, text, *arguments, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", tokenized)
    return counts


@pytest.fixture
def command(model_folders, tmp_path, monkeypatch, done):
    """Run `geometry cache`; returns its exit code, and sets the counts to 0 before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["geometry"])

    def command(*options):
        done.update(texts=Counter(), layouts=0, files=0, digests=0)
        with pytest.raises(SystemExit) as left:
            main(
                [
                    "cache",
                    "--model",
                    str(model_folders["gpt2"]),
                    "--dataset",
                    "digits,months",
                    "--out",
                    "a.h5",
                    *options,
                ]
            )
        return left.value.code

    return command


def break_off(path, n_lost=2):
    """Make a complete recording one that lacks its last blocks; the file is otherwise as it was."""
    states, mark = span(path, "log/state"), span(path, "log/complete")
    with path.open("r+b") as file:
        for start, stop in ((mark.start, mark.stop), (states.stop - 8 * n_lost, states.stop)):
            file.seek(start)
            file.write(bytes(stop - start))


def stopped(model, plan, path, after=2):
    """A recording broken off after some of its blocks."""
    finished = []
    with pytest.raises(StoppedError):
        record(model, plan, path, on_block=finished.append, should_stop=lambda: len(finished) == after)
    return path


@pytest.fixture
def plan(gpt2):
    return plan_recording(gpt2, TEXTS, sites="resid", batch_tokens=1)


def assert_tokenized_once(texts):
    prompts = load_dataset("digits,months")
    expected = [*(prompt.text for prompt in prompts), *(prompt.text + prompt.answer for prompt in prompts)]
    assert {text: texts[text] for text in expected} == dict.fromkeys(expected, 1)


# --- the command


def test_a_fresh_command_tokenizes_lays_out_and_hashes_once(command, done):
    assert command() == 0
    assert_tokenized_once(done["texts"])
    assert (done["layouts"], done["files"], done["digests"]) == (1, 1, 1)


def test_a_resumed_command_tokenizes_lays_out_and_hashes_once(command, done, tmp_path):
    assert command() == 0
    whole = (tmp_path / "a.h5").read_bytes()
    break_off(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() != whole
    assert command() == 0
    assert (tmp_path / "a.h5").read_bytes() == whole
    assert_tokenized_once(done["texts"])
    assert (done["layouts"], done["files"], done["digests"]) == (1, 0, 1)


def test_a_complete_command_hashes_once_and_makes_nothing(command, done):
    assert command() == 0
    assert command() == 0
    assert (done["layouts"], done["files"], done["digests"]) == (1, 0, 1)
    assert command("--overwrite") == 0
    assert (done["layouts"], done["files"], done["digests"]) == (1, 1, 1)


def test_a_file_damaged_while_the_model_is_loaded_is_refused(command, tmp_path, monkeypatch, capsys):
    assert command() == 0
    path, label = tmp_path / "a.h5", span(tmp_path / "a.h5", "prompts/text")
    break_off(path)

    def load_and_damage(name, **options):
        loaded = load_model(name, device="cpu")
        damage(path, label.start)
        return loaded

    monkeypatch.setattr("geometry.cli.record.cache.load_model_aloud", load_and_damage)
    assert command() == 4
    assert "a.h5 is damaged outside its activations" in capsys.readouterr().err


# --- from Python


def test_record_tokenizes_lays_out_and_hashes_once(gpt2, done, tmp_path):
    path = tmp_path / "a.h5"
    record(gpt2, TEXTS, path)
    assert done == {"texts": Counter(TEXTS), "layouts": 1, "files": 1, "digests": 2}  # one when it is opened
    whole = path.read_bytes()
    break_off(path, 1)
    record(gpt2, TEXTS, path)
    assert done == {"texts": Counter(TEXTS * 2), "layouts": 2, "files": 1, "digests": 4}
    assert path.read_bytes() == whole


def test_record_says_where_the_file_is_and_leaves_none_open_but_its_store(gpt2, plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = open_files()
    with record(gpt2, plan, "a.h5") as store:
        assert store.paths == (tmp_path / "a.h5",)
    assert open_files() == before


# --- a file that changes between the look and the writing


def damage(path, at):
    """Turn a bit, and set the file's times back as a careful program may."""
    time.sleep(A_TICK)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        bit = file.read(1)[0] ^ 1
        file.seek(at)
        file.write(bytes([bit]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def recorded_blocks(recording):
    seen = []
    carry_out(recording, on_block=seen.append, should_stop=lambda: False)
    return len(seen)


def test_an_unchanged_file_is_gone_on_with_from_what_was_seen(gpt2, plan, tmp_path, done):
    path = stopped(gpt2, plan, tmp_path / "a.h5")
    done["digests"] = 0
    known = check_path(path, overwrite=False)
    recording = prepare_recording(gpt2, plan, path, known=known)
    assert (recording.n_pending, recording.complete, recording.nbytes) == (2, False, path.stat().st_size)
    assert recorded_blocks(recording) == 2
    assert done["digests"] == 1
    assert prepare_recording(gpt2, plan, path).complete


def test_what_another_recorded_meanwhile_is_not_recorded_again(gpt2, plan, tmp_path, done):
    path = stopped(gpt2, plan, tmp_path / "a.h5", after=1)
    recording = prepare_recording(gpt2, plan, path)
    time.sleep(A_TICK)
    stopped(gpt2, plan, path, after=2)
    done["digests"] = 0
    assert recorded_blocks(recording) == 1
    assert done["digests"] == 1  # the file was written: what was known of it counts no more
    fresh = prepare_recording(gpt2, plan, tmp_path / "b.h5")
    stopped(gpt2, plan, tmp_path / "b.h5", after=3)
    assert recorded_blocks(fresh) == 1


def test_what_another_configuration_recorded_meanwhile_is_refused_and_left_alone(gpt2, plan, tmp_path):
    other = plan_recording(gpt2, TEXTS, sites="resid", batch_tokens=1, positions="last")
    fresh = prepare_recording(gpt2, plan, tmp_path / "a.h5")
    (path,) = record(gpt2, other, tmp_path / "a.h5").paths
    resumed = prepare_recording(gpt2, plan, stopped(gpt2, plan, tmp_path / "b.h5"))
    shutil.copyfile(path, tmp_path / "c.h5")
    os.replace(tmp_path / "c.h5", tmp_path / "b.h5")
    for recording in (fresh, resumed):
        with pytest.raises(FingerprintError, match=r"another .*positions \(last, now all\)"):
            recorded_blocks(recording)
        assert recording.path.read_bytes() == path.read_bytes()


def test_what_was_damaged_meanwhile_is_refused(gpt2, plan, tmp_path):
    path = stopped(gpt2, plan, tmp_path / "a.h5")
    recording = prepare_recording(gpt2, plan, path)
    damage(path, span(path, "prompts/text").start)
    with pytest.raises(CorruptFileError, match="is damaged outside its activations"):
        recorded_blocks(recording)


def test_what_was_removed_meanwhile_is_recorded_anew_if_there_is_room(gpt2, plan, tmp_path, monkeypatch):
    path = stopped(gpt2, plan, tmp_path / "a.h5")
    recording = prepare_recording(gpt2, plan, path)
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
        with pytest.raises(NoSpaceError, match=r"need [\d,]+ bytes, have 1,000"):
            recorded_blocks(recording)
    assert recorded_blocks(recording) == 4
