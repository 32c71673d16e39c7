"""Directions on disk come back as they were, or not at all and with one sentence."""

import json
import os
import struct
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save

from cache import Hook
from cache.errors import CorruptFileError, InputError, NoSpaceError, NotAvailableError
from probes.directions.direction import Direction, direction_of
from probes.directions.files import FORMAT, load_direction, save_direction


def a_direction(hook=None, seed=0):
    vector = torch.randn(48, generator=torch.Generator().manual_seed(seed))
    return direction_of(
        vector,
        hook or Hook("resid_post", 6),
        "mean_difference",
        norm=1 / 3,
        source="numwords",
        target='zwölf\n"',
        fingerprint="ab+cd",
        weights="ef",
        seed=7,
    )


def same(a, b):
    described = [(d.hook, d.norm, d.method, d.source, d.target, d.fingerprint, d.weights, d.seed) for d in (a, b)]
    return described[0] == described[1] and torch.equal(a.vector, b.vector)


@pytest.fixture
def path(tmp_path):
    return save_direction(a_direction(), tmp_path / "two.safetensors")


@pytest.mark.parametrize("hook", [Hook("resid_post", 6), Hook("resid_pre", 0), Hook("z", 3, 0), Hook("z", 11, 4)])
def test_a_direction_comes_back_as_it_was(tmp_path, hook):
    direction = a_direction(hook)
    path = save_direction(direction, tmp_path / "new" / "folder" / "two.safetensors")
    assert same(load_direction(path), direction)
    assert [file.name for file in path.parent.iterdir()] == ["two.safetensors"]


def test_writing_again_replaces(path):
    save_direction(a_direction(seed=1), path)
    assert same(load_direction(str(path)), a_direction(seed=1))


def test_a_vector_of_double_precision_is_written_as_directions_are(tmp_path):
    vector = torch.zeros(8, dtype=torch.float64)
    vector[2] = 1
    path = save_direction(Direction(Hook("resid_post", 0), vector, 1.0, "by hand"), tmp_path / "d.safetensors")
    assert torch.equal(load_direction(path).vector, vector.float())


def test_a_folder_or_an_unwritable_place_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"is a folder; give a file name"):
        save_direction(a_direction(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAvailableError, match=r"cannot make the folder .*file"):
        save_direction(a_direction(), tmp_path / "file" / "two.safetensors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(NoSpaceError, match=r"no room to write .*two\.safetensors' \(No space left on device\)"):
        save_direction(a_direction(), tmp_path / "two.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_not_there_is_told(tmp_path):
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(NotAvailableError, match=r"no direction '.*'; geometry direction makes one") as error:
            load_direction(missing)
        assert error.value.exit_code == 3


# --- damage


def assert_corrupt(path):
    with pytest.raises(CorruptFileError, match="is no direction") as error:
        load_direction(path)
    assert error.value.exit_code == 4
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_a_file_cut_anywhere_is_corrupt(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 10), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert_corrupt(path)
    path.write_bytes(whole + b"\0")
    assert_corrupt(path)


def test_a_changed_byte_is_found_or_changes_nothing(path):
    """Every byte of the file; only one of the header's padding can be another without saying another thing."""
    whole, direction = path.read_bytes(), a_direction()
    harmless = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= (0x01, 0x80, 0x10)[place % 3]
        path.write_bytes(damaged)
        found = None
        with suppress(CorruptFileError):
            found = load_direction(path)
        assert found is None or same(found, direction), place
        harmless += found is not None
    assert harmless < 20


def written(path, tensors=None, **changed):
    """A file as ours, its checksum made anew, with some of it changed; None leaves a field out."""
    from probes.directions.files import _checksum

    vector = torch.eye(8)[2]
    metadata = {"format": FORMAT, "hook": "blocks.0.hook_resid_post", "head": "", "norm": "1.5", "method": "pca"}
    metadata |= {"source": "a", "target": "b", "fingerprint": "", "weights": "", "seed": "0"}
    metadata = {name: value for name, value in {**metadata, **changed}.items() if value is not None}
    tensors = tensors or {"vector": vector}
    metadata["sha256"] = _checksum(metadata, tensors.get("vector", vector))
    path.write_bytes(save(tensors, metadata=metadata))


def test_the_files_of_the_next_test_are_sound_but_for_what_they_change(path):
    written(path)
    assert load_direction(path).norm == 1.5


@pytest.mark.parametrize(
    "changed",
    [
        {"format": None},
        {"format": "geometry-direction-2"},
        {"format": "x" * 5000},
        {"hook": None},
        {"hook": "blocks.0.hook_nothing"},
        {"hook": "blocks.-1.hook_resid_post"},
        {"hook": "blocks.٣.hook_resid_post\n"},
        {"head": "3"},
        {"head": "first"},
        {"hook": "blocks.0.attn.hook_z", "head": "-1"},
        {"norm": None},
        {"norm": "nan"},
        {"norm": "inf"},
        {"norm": "1e999"},
        {"norm": "-1"},
        {"norm": "long\nlines" * 100},
        {"method": None},
        {"source": None},
        {"target": None},
        {"fingerprint": None},
        {"weights": None},
        {"seed": None},
        {"seed": "0.5"},
        {"seed": "9" * 5000},
        {"tensors": {"vectors": torch.eye(8)[2]}},
        {"tensors": {"vector": torch.eye(8)[2], "other": torch.zeros(1)}},
        {"tensors": {"vector": torch.eye(8)[2].double()}},
        {"tensors": {"vector": torch.eye(8)[2].half()}},
        {"tensors": {"vector": torch.eye(8)[2].long()}},
        {"tensors": {"vector": torch.eye(8)[2:3]}},
        {"tensors": {"vector": torch.tensor(1.0)}},
        {"tensors": {"vector": torch.zeros(0)}},
        {"tensors": {"vector": torch.zeros(8)}},
        {"tensors": {"vector": torch.eye(8)[2] * 1.01}},
        {"tensors": {"vector": torch.full((8,), float("nan"))}},
        {"tensors": {"vector": torch.full((8,), float("inf"))}},
    ],
    ids=lambda changed: ",".join(f"{name}={str(value)[:20]!r}" for name, value in changed.items()),
)
def test_a_file_that_says_something_else_is_no_direction(path, changed):
    written(path, **changed)
    assert_corrupt(path)


def test_metadata_changed_behind_the_checksum_are_found(path):
    whole = path.read_bytes()
    assert whole.count(b"numwords") == 1
    path.write_bytes(whole.replace(b"numwords", b"numworbs"))
    assert_corrupt(path)


@pytest.mark.parametrize("declared", [2**63, 2**40, 10**8, 5, 0])
def test_a_header_that_claims_a_wrong_length_is_corrupt(path, declared):
    path.write_bytes(struct.pack("<Q", declared) + path.read_bytes()[8:])
    assert_corrupt(path)


def test_a_huge_header_or_file_is_not_read(path):
    header = json.dumps({"__metadata__": {"format": FORMAT, "x": "y" * (1 << 21)}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert_corrupt(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert_corrupt(path)


def test_a_pickle_is_never_run(path, tmp_path):
    """Pickled code that would make a folder, bare and as torch.save writes it."""
    mark = tmp_path / "was-run"
    code = b"cos\nmkdir\n(V" + str(mark).encode() + b"\ntR."
    path.write_bytes(code)
    assert_corrupt(path)
    torch.save({"vector": torch.eye(8)[0]}, path)
    assert_corrupt(path)
    assert not mark.exists()


def test_a_file_that_cannot_be_read_is_told(path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("probes.directions.files.safe_open", denied)
    with pytest.raises(NotAvailableError, match=r"cannot read .*: Permission denied"):
        load_direction(path)
