"""Sealed files: whole from the start, true after any interruption, the same bytes however often it was broken off."""

import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import CorruptFileError, NoSpaceError, NotAvailableError, StoppedError
from cache.sealed.log import read_log
from cache.sealed.opening import safe_open
from cache.sealed.writer import SealedLayout, check_space, create_sealed, open_writer
from tests.cache.resealing import sealed_around
from tests.cache.sealed_files import (
    BLOCK,
    FINGERPRINT,
    SITES,
    TEXTS,
    Calls,
    create_and_fill,
    fill,
    layout,
    open_files,
    seal,
    span,
    truly_committed,
    values,
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a file made without interruption."""
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    create_and_fill(path)
    return path.read_bytes()


# --- what is created


def test_a_new_file_is_whole_contiguous_and_reserved_to_the_last_byte(path):
    create_sealed(path, layout())
    with h5py.File(path, "r") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert set(names) == {*SITES, "rows/prompt", "prompts/text"} | {
            f"log/{name}" for name in ("block", "sites", "checksum", "state", "complete")
        }
        assert all(file[name].chunks is None and file[name].id.get_offset() for name in names)
        assert [text.decode() for text in file["prompts/text"][:]] == ["één", "", "日本 twee"]
        assert h5py.check_string_dtype(file["prompts/text"].dtype) == ("utf-8", TEXTS.itemsize)
        assert [name.decode() for name in file["log/sites"][:]] == list(SITES)
        assert file["log/block"][:].tolist() == BLOCK.tolist()
        assert not any(file[f"log/{name}"][:].any() for name in ("checksum", "state", "complete"))
        assert {name: (file[name].shape[1:], file[name].dtype.name) for name in SITES} == SITES
        assert file.attrs["fingerprint"].decode() == FINGERPRINT
        kinds = [h5py.h5g.get_objinfo(file.id, name.encode()) for name in names]
        assert {kind.mtime for kind in kinds} == {0}, "nothing but the content may differ between two runs"
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


def test_all_its_space_is_taken_before_the_first_row_is_written(path):
    sites = {"activations/a": ((1000,), "float32")}
    create_sealed(path, SealedLayout(sites, {}, np.zeros(1000, np.int32), {"fingerprint": "f"}))
    assert path.stat().st_size > 4_000_000
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_filling_changes_no_byte_outside_sites_and_log(path, whole):
    create_sealed(path, layout())
    before = path.read_bytes()
    fill(path)
    after = path.read_bytes()
    assert after == whole
    changed = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    parts = [span(path, name) for name in (*SITES, "log/checksum", "log/state", "log/complete")]
    assert changed <= {i for part in parts for i in range(part.start, part.stop)}
    assert all(changed & set(range(part.start, part.stop)) for part in parts)


def test_the_log_holds_the_documented_checksums_seals_and_mark(path, whole):
    path.write_bytes(whole)
    truth = values()
    with h5py.File(path, "r") as file:
        for number, sums in enumerate(file["log/checksum"][:]):
            expected = [xxhash.xxh3_64_intdigest(truth[site][number == BLOCK].tobytes()) for site in SITES]
            assert sums.tolist() == expected
            assert int(file["log/state"][number]) == seal(number, np.array(expected, "<u8").tobytes())
        assert file["log/complete"][:].tolist() == [seal(4, file["log/state"][:].astype("<u8").tobytes())]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), numbers=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_blocks_of_any_rows_committed_in_any_order_give_the_same_bytes(path, data, numbers):
    block = np.array(numbers, dtype=np.int32)
    contents = []
    for order in (range(block.max() + 1), data.draw(st.permutations(range(block.max() + 1)))):
        create_sealed(path, layout(block))
        fill(path, block, order)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    with h5py.File(path, "r") as file:
        for site, truth in values(block).items():
            np.testing.assert_array_equal(file[site][:], truth)
    with safe_open(path) as file:
        assert read_log(file).committed.all()


# --- replacing, and refusing


def test_a_file_is_replaced_at_once_and_its_readers_keep_the_old_one(path, whole):
    path.write_bytes(whole)
    with path.open("rb") as reader:
        create_sealed(path, layout(fingerprint="0" * 64))
        assert reader.read() == whole
    with h5py.File(path, "r") as file:
        assert file.attrs["fingerprint"].decode() == "0" * 64
        assert not file["log/state"][:].any()
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


def test_what_a_dead_writer_left_is_tidied_up(path):
    path.with_name("a.h5.tmp").write_bytes(b"half a file")
    create_sealed(path, layout())
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


def test_a_file_larger_than_what_is_free_is_refused_with_both_numbers(path, whole, monkeypatch):
    path.write_bytes(whole)
    need = layout().nbytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - need + 1, need - 1))
    expected = re.escape(f"not enough space in {str(path.parent)!r}: need {need:,} bytes, have {need - 1:,}")
    with pytest.raises(NoSpaceError, match=expected) as refusal:
        create_sealed(path, layout())
    assert refusal.value.exit_code == 7
    assert path.read_bytes() == whole
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 0, need))
    create_sealed(path, layout())


def test_exactly_enough_space_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(1000))
    check_space(tmp_path, 1000)
    with pytest.raises(NoSpaceError, match="need 1,001 bytes, have 1,000"):
        check_space(tmp_path, 1001)


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_limit_on_file_size_ends_in_an_error_and_not_in_a_signal(path, whole, foreseen):
    path.write_bytes(whole)
    script = """
import pathlib, resource, sys
import numpy as np
import cache.sealed.writer
from cache.errors import NoSpaceError
from cache.sealed.writer import SealedLayout, create_sealed
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
layout = SealedLayout({"activations/a": ((64,), "float32")}, {}, np.zeros(50_000, np.int32), {"fingerprint": "f"})
if sys.argv[2] == "False":
    cache.sealed.writer.check_space = lambda folder, need: None
try:
    create_sealed(pathlib.Path(sys.argv[1]), layout)
except NoSpaceError as error:
    print(error, layout.nbytes, cache.sealed.writer.blueprint(layout).footer.size, sep="|")
    sys.exit(error.exit_code)
"""
    command = [sys.executable, "-c", script, str(path), str(foreseen)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 7, done.stderr
    message, need, size = done.stdout.strip().split("|")
    assert message == (
        f"files may have 1,048,576 bytes here (ulimit -f): need {int(need):,} bytes, have 1,048,576"
        if foreseen
        else f"no room to write {str(path)!r} (File too large); the file needs {int(size):,} bytes"
    )
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, None])
def test_where_space_cannot_be_reserved_the_file_is_made_all_the_same(path, whole, monkeypatch, code):
    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    if code is None:  # macOS
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.delattr(os, "fdatasync")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    create_sealed(path, layout())
    assert path.stat().st_size == len(whole)
    fill(path)
    assert path.read_bytes() == whole


def test_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path):
    with pytest.raises(NotAvailableError, match=r"no such folder|No such file"):
        create_sealed(tmp_path / "no" / "a.h5", layout())


def test_a_command_with_bytes_that_are_no_text_can_be_noted(path):
    command = os.fsdecode(b"geometry cache --out caf\xe9.h5")
    create_sealed(path, SealedLayout(SITES, {}, BLOCK, {"fingerprint": FINGERPRINT, "command": command}))
    with h5py.File(path, "r") as file:
        assert file.attrs["command"].decode().startswith("geometry cache --out caf")


def test_a_command_longer_than_hdf5_can_note_is_told_in_a_sentence_and_leaves_nothing(path):
    attributes = {"fingerprint": FINGERPRINT, "command": "x" * 70_000}
    with pytest.raises(NotAvailableError, match=r"cannot write '.*a\.h5': Unable to .*too large"):
        create_sealed(path, SealedLayout(SITES, {}, BLOCK, attributes))
    assert list(path.parent.iterdir()) == []


def test_only_a_sealed_file_of_its_own_name_can_be_written(path, whole):
    before = open_files()
    with pytest.raises(NotAvailableError, match=r"cannot write '.*a\.h5': No such file"), open_writer(path):
        pass
    path.write_bytes(b"no HDF5 here")
    with (
        pytest.raises(CorruptFileError, match="is not an HDF5 file, or its first bytes"),
        open_writer(path),
    ):
        pass
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    with (
        pytest.raises(CorruptFileError, match="is HDF5 but not a file that this geometry wrote"),
        open_writer(path),
    ):
        pass
    sealed_around(path, lambda file: file.update(x=np.zeros(3)))
    with pytest.raises(CorruptFileError, match=r"a\.h5 is HDF5 but not a file that geometry wrote"), open_writer(path):
        pass
    path.with_name("real.h5").write_bytes(whole)
    path.unlink()
    path.symlink_to(path.with_name("real.h5"))
    with pytest.raises(NotAvailableError, match=r"cannot write '.*a\.h5': Too many levels"), open_writer(path):
        pass
    assert path.with_name("real.h5").read_bytes() == whole
    assert open_files() == before


# --- writing


def test_a_writer_knows_what_is_committed(path):
    create_sealed(path, layout())
    fill(path, order=[2])
    with open_writer(path) as writer:
        assert writer.committed.tolist() == [False, False, True, False]
        truth = values()
        writer.commit(0, {site: writer.write(0, site, truth[site][BLOCK == 0]) for site in SITES})
        assert writer.committed.tolist() == [True, False, True, False]
    assert truly_committed(path) == [0, 2]


def test_rows_need_not_be_contiguous_in_memory(path):
    create_sealed(path, layout())
    truth = values()
    with open_writer(path) as writer:
        rows = np.asfortranarray(truth["activations/a"][BLOCK == 0])
        assert writer.write(0, "activations/a", rows) == xxhash.xxh3_64_intdigest(np.ascontiguousarray(rows).tobytes())
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["activations/a"][:][BLOCK == 0], rows)


def test_more_rows_than_a_block_has_are_refused_and_overwrite_no_other_block(path, whole):
    path.write_bytes(whole)
    with open_writer(path) as writer, pytest.raises(ValueError, match="block 1 has 2 rows at activations/a; got 8"):
        writer.write(1, "activations/a", np.ones((8, 3), np.float32))
    with h5py.File(path, "r") as file:
        others = BLOCK != 1
        np.testing.assert_array_equal(file["activations/a"][:][others], values()["activations/a"][others])


def test_fewer_rows_than_a_block_has_are_refused(path):
    create_sealed(path, layout())
    with open_writer(path) as writer, pytest.raises(ValueError, match="block 1 has 2 rows at activations/a; got 1"):
        writer.write(1, "activations/a", np.ones((1, 3), np.float32))


def test_what_vouches_for_something_is_written_only_after_that_is_synced_and_is_synced_itself(path, monkeypatch):
    create_sealed(path, layout())
    places = {name: span(path, f"log/{name}") for name in ("checksum", "state", "complete")}
    monkeypatch.setattr("cache.sealed.writer.os", calls := Calls())
    fill(path)

    def what(name, content=b"", offset=0):
        found = [part for part, place in places.items() if place.start <= offset < place.stop]
        return name if name != "pwrite" else found[0] if found else "data"

    steps = [step for step, _ in itertools.groupby(what(*call) for call in calls.made)]
    assert steps == ["data", "checksum", "fdatasync", "state", "fdatasync"] * 4 + ["complete", "fdatasync"]


def test_a_file_is_marked_complete_once_every_block_counts_and_not_before(path, whole):
    create_sealed(path, layout())
    mark = span(path, "log/complete")
    for done in range(4):
        fill(path, order=[done])
        assert any(path.read_bytes()[mark]) == (done == 3)
    assert path.read_bytes() == whole
    fill(path)
    assert path.read_bytes() == whole


def test_short_writes_are_continued(path, whole, monkeypatch):
    create_sealed(path, layout())
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, offset: real(handle, bytes(content)[:5], offset))
    fill(path)
    assert path.read_bytes() == whole


# --- interruptions


@pytest.mark.parametrize(
    ("failure", "told", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), NoSpaceError, "no room to write"),
        pytest.param(
            OSError(errno.EIO, "Input/output error"),
            NotAvailableError,
            "cannot write .*: Input/output error",
            marks=pytest.mark.slow,
        ),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
    ids=["full", "broken", "interrupted"],
)
def test_a_failure_at_any_call_is_told_and_a_second_run_ends_in_the_same_bytes(
    path, whole, monkeypatch, failure, told, message
):
    before = open_files()
    seen = set()
    for number in itertools.count(1):
        monkeypatch.setattr("cache.sealed.writer.os", calls := Calls(number, failure))
        said = None
        try:
            create_and_fill(path)
        except told as error:
            said = str(error)
        folder_sync = number <= len(calls.made) and calls.made[number - 2 : number] == [("replace",), ("fsync",)]
        assert (said is None) == (len(calls.made) < number or (folder_sync and told is not KeyboardInterrupt))
        assert said is None or re.search(message, said)
        if len(calls.made) < number:
            break
        monkeypatch.setattr("cache.sealed.writer.os", os)
        assert [file.name for file in path.parent.iterdir()] in ([], ["a.h5"])
        if path.exists():
            blocks = truly_committed(path)
            assert blocks == list(range(len(blocks)))
            seen.add(len(blocks))
        create_and_fill(path)
        assert path.read_bytes() == whole
        path.unlink()
    assert seen == {0, 1, 2, 3, 4}
    assert number > 30
    assert open_files() == before


@pytest.mark.parametrize("call", ["posix_fallocate", "replace", "fsync"])
def test_a_replacement_that_fails_leaves_the_old_file(path, whole, monkeypatch, call):
    path.write_bytes(whole)

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    need = f"{len(whole):,}"
    with pytest.raises(
        NoSpaceError, match=rf"no room to write .* \(No space left on device\); the file needs {need} b"
    ):
        create_sealed(path, layout(fingerprint="0" * 64))
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


def test_every_prefix_of_a_runs_writes_is_a_file_with_exactly_its_committed_blocks(path, whole, monkeypatch):
    create_sealed(path, layout())
    content = bytearray(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("cache.sealed.writer.os", calls := Calls())
        fill(path)
    states = span(path, "log/state")
    done = 0
    for _, written, offset in [call for call in calls.made if call[0] == "pwrite"]:
        for part in (len(written) // 2, len(written)):  # torn, and whole
            content[offset : offset + part] = written[:part]
            path.write_bytes(content)
            done += offset in range(states.start, states.stop) and part == len(written)
            assert truly_committed(path) == list(range(done))
    assert done == 4
    assert bytes(content) == whole


def test_whatever_of_the_unsynced_writes_survives_a_power_cut_no_committed_block_is_wrong(path, monkeypatch):
    create_sealed(path, layout())
    safe = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("cache.sealed.writer.os", calls := Calls())
        fill(path)
    random = np.random.default_rng(0)
    epochs = [
        [call[1:] for call in group]
        for is_write, group in itertools.groupby(calls.made, lambda call: call[0] == "pwrite")
        if is_write
    ]
    for number, writes in enumerate(epochs):
        for _ in range(25):
            content = bytearray(safe)
            for written, offset in writes:
                if random.random() < 0.5:
                    kept = len(written) if random.random() < 0.7 else random.integers(len(written))
                    content[offset : offset + kept] = written[:kept]
            path.write_bytes(content)
            blocks = truly_committed(path)
            assert set(range(number // 2)) <= set(blocks) <= set(range((number + 1) // 2))
        content = bytearray(safe)
        for written, offset in writes:
            content[offset : offset + len(written)] = written
        safe = bytes(content)


def test_a_writer_killed_in_the_middle_of_a_write_is_continued_to_the_same_bytes(path, whole):
    real = os.pwrite
    for number in range(1, 20, 3):
        count = itertools.count(1)

        def die(handle, content, offset, number=number, count=count):
            if next(count) == number:
                real(handle, bytes(content)[: len(content) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(handle, content, offset)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking where torch has threads
            child = os.fork()
        if child == 0:
            os.pwrite = die
            create_and_fill(path)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        if path.exists():
            truly_committed(path)
        create_and_fill(path)
        assert path.read_bytes() == whole
        assert [file.name for file in path.parent.iterdir()] == ["a.h5"]
        path.unlink()


def test_blocks_that_do_not_count_are_filled_in_turn_until_it_is_stopped(path, whole):
    create_sealed(path, layout())
    fill(path, order=[1])
    truth, told, stop = values(), [], []
    with open_writer(path) as writer:

        def run(number):
            return {site: writer.write(number, site, truth[site][number == BLOCK]) for site in SITES}

        def tell(*one):
            told.append(one)
            stop.append(len(told) == 2)

        with pytest.raises(StoppedError, match=r"^stopped after 3 of 4 blocks$"):
            writer.fill(run, tell, lambda: any(stop))
        assert truly_committed(path) == [0, 1, 2]
        stop.clear()
        writer.fill(run, tell, lambda: False)
    assert told == [(0, 2), (2, 3), (3, 4)]
    assert path.read_bytes() == whole
