"""One file of a store: its tables fit each other and the log, or one sentence says which part does not."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import ActivationStore, Hook, Prompts, plan_recording, record, verify_store
from cache.errors import CorruptFileError, StoppedError
from cache.prompts.prompt import Prompt
from cache.sealed.verify import Damage
from cache.sealed.writer import open_writer
from cache.store.file import open_store_file, site_name
from cache.store.recording import prepare_recording
from tests.cache.resealing import change
from tests.cache.sealed_files import open_files
from tests.fork_server import ROOT

SMALL = Prompts(
    (
        Prompt("1,2,3,", values=(1, 2, 3), members=("1", "2", "3"), spans=((0, 1), (2, 3), (4, 5))),
        Prompt("Van done in one. Car"),
        Prompt("one", values=(1,), members=("one",), spans=((0, 3),)),
        Prompt("x y z"),
    )
)


@pytest.fixture(scope="module")
def small(gpt2):
    """A plan of four blocks of one prompt each."""
    return plan_recording(gpt2, SMALL, sites="z,resid_post", layers="0,2", batch_tokens=1)


@pytest.fixture(scope="module")
def small_path(gpt2, small, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "small.h5"
    record(gpt2, small, path)
    return path


@pytest.fixture
def path(tmp_path, small_path) -> Path:
    """A copy to be damaged."""
    path = tmp_path / "damaged.h5"
    path.write_bytes(small_path.read_bytes())
    return path


def place_of(path: Path, name: str) -> int:
    with h5py.File(path, "r") as file:
        return file[name].id.get_offset()


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


# --- what a sound file gives


def test_an_opened_file_has_what_plain_h5py_reads(small, small_path):
    before = open_files()
    opened = open_store_file(small_path)
    with h5py.File(small_path, "r") as file:
        for name in ("fingerprint", "created", "command"):
            assert getattr(opened, name) == file.attrs[name].decode()
        for name in ("prompt", "position", "token", "member", "is_last"):
            np.testing.assert_array_equal(opened.rows[name], file[f"rows/{name}"][:])
        assert opened.prompts["text"] == [text.decode() for text in file["prompts/text"][:]]
        for hook in opened.hooks:
            assert file[site_name(hook)].shape == (opened.n_rows, *opened.row_shape(hook))
    assert opened.path == small_path
    assert opened.recorded.tolist() == list(range(opened.n_rows))
    assert opened.log.mark == "right"
    assert opened.manifest["hard"]["hooks"] == {"resid_post": [0, 2], "z": [0, 2]}
    opened.reader.close()
    assert open_files() == before


def test_hooks_stand_in_the_order_of_a_forward_pass_whatever_their_names(gpt2, tmp_path):
    record(gpt2, plan_recording(gpt2, ["1,2"], sites="resid_post,mlp_post,z,q,resid_pre"), tmp_path / "a.h5")
    opened = open_store_file(tmp_path / "a.h5")
    kinds = ["resid_pre", "q", "z", "mlp_post", "resid_post"]
    assert opened.hooks == tuple(Hook(kind, layer) for layer in range(3) for kind in kinds)
    opened.reader.close()


@pytest.mark.parametrize("blocks", range(5))
def test_the_recorded_rows_are_those_of_finished_blocks(gpt2, small, tmp_path, blocks):
    asked = itertools.count()
    if blocks < 4:
        with pytest.raises(StoppedError):
            record(gpt2, small, tmp_path / "a.h5", should_stop=lambda: next(asked) >= blocks)
    else:
        record(gpt2, small, tmp_path / "a.h5")
    opened = open_store_file(tmp_path / "a.h5")
    done = {prompt for block in small.blocks[:blocks] for prompt in block}
    assert opened.recorded.tolist() == np.flatnonzero(np.isin(opened.rows["prompt"], [*done])).tolist()
    assert opened.n_prompts == len(SMALL)
    opened.reader.close()


def test_what_a_file_holds_is_told_without_libraries_that_take_longer_than_the_file(small, small_path):
    asked = f"from cache.store.file import open_store_file; open_store_file(Path({str(small_path)!r})).reader.close()"
    code = f"import sys; from pathlib import Path; {asked}; print(*{{'pandas', 'torch'}} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment).strip() == b""


# --- what does not fit


def set_value(name: str, value: object, row: int = -1):
    def change_it(file):
        file[name][row] = value

    return change_it


def replace(name: str, content: object):
    def change_it(file):
        del file[name]
        file[name] = content

    return change_it


def regroup(name: str):
    def change_it(file):
        del file[name]
        file.create_group(name)

    return change_it


def lose(name: str):
    def change_it(file):
        del file[name]

    return change_it


def retype(dtype: str, shape: tuple[int, ...] = (33,)):
    """Another type of numbers at one site."""

    def change_it(file):
        rows = len(file["rows/token"])
        del file["activations/blocks.0.hook_resid_post"]
        file["activations/blocks.0.hook_resid_post"] = np.zeros((rows, *shape), dtype)

    return change_it


def shorten_rows(file):
    for name in list(file["rows"]):
        content = file["rows"][name][:-1]
        del file["rows"][name]
        file["rows"][name] = content


def add_site(name: str):
    """One more site, of which the log knows."""

    def change_it(file):
        sites = [*file["log/sites"][:], f"activations/{name}".encode()]
        file[f"activations/{name}"] = np.zeros((len(file["rows/token"]), 3), "f4")
        checksums = np.pad(file["log/checksum"][:], ((0, 0), (0, 1)))
        replace("log/sites", np.array(sites))(file)
        replace("log/checksum", checksums)(file)
        for part in ("state", "complete"):
            file[f"log/{part}"][:] = 0

    return change_it


MISFIT = r"^[^ ]*damaged\.h5 has a log whose parts do not fit together$"
UNREADABLE = r"^[^ ]*damaged\.h5 cannot be read: "
LISTS = r"^[^ ]*damaged\.h5 has something else than lists in /prompts/"
NUMBERS = r"has data of type .* at activations/blocks\.0\.hook_resid_post$"
CHANGES = {
    "block number one too large": (set_value("log/block", 4), MISFIT),
    "block number negative": (set_value("log/block", -1), MISFIT),
    "block number huge": (set_value("log/block", 1 << 30), MISFIT),
    "site of fewer rows": (
        replace("activations/blocks.0.attn.hook_z", np.zeros((2, 3, 11), np.float32)),
        r"damaged\.h5 has another number of rows at activations/blocks\.0\.attn\.hook_z$",
    ),
    "tables of fewer rows": (shorten_rows, r"damaged\.h5 has \d+ rows where its tables have \d+$"),
    "one table of fewer rows": (replace("rows/token", np.zeros(3, "i4")), UNREADABLE),
    "prompt one too large": (set_value("rows/prompt", 4), r"damaged\.h5 has rows of prompts that it does not have$"),
    "prompt negative": (set_value("rows/prompt", -1), r"damaged\.h5 has rows of prompts that it does not have$"),
    "no tokens": (lose("rows/token"), UNREADABLE + r".*(token|component not found)"),
    "tokens a group": (regroup("rows/token"), UNREADABLE),
    "no activations": (lose("activations"), UNREADABLE),
    "no log": (lose("log"), r"damaged\.h5 is HDF5 but not a file that geometry wrote$|cannot be read"),
    "no state": (lose("log/state"), UNREADABLE),
    "text that is not UTF-8": (set_value("prompts/text", b"\xff"), UNREADABLE + ".*invalid start byte"),
    "members a number": (set_value("prompts/members", b"3"), LISTS + "members$"),
    "values a number": (set_value("prompts/values", b"3"), LISTS + "values$"),
    "values a text": (set_value("prompts/values", b'"3"'), LISTS + "values$"),
    "values null": (replace("prompts/values", np.array([b"null"] * 4)), LISTS + "values$"),
    "spans an object": (replace("prompts/spans", np.array([b"{}"] * 4)), LISTS + "spans$"),
    "values no JSON": (set_value("prompts/values", b"]"), UNREADABLE),
    "values nested endlessly": (replace("prompts/values", np.array([b"[" * 100_000] * 4)), UNREADABLE),
    "a member that is not shown": (
        set_value("rows/member", 5),
        r"damaged\.h5: a row names a member that its prompt does not show$",
    ),
    "a member of a prompt without": (
        set_value("rows/member", 0),
        r"damaged\.h5: a row names a member that its prompt does not show$",
    ),
    "fewer values than members": (
        set_value("prompts/values", b"[1]", 0),
        r"damaged\.h5: a row names a member that its prompt does not show$",
    ),
    "double precision": (retype("<f8"), NUMBERS),
    "big-endian": (retype(">f4"), NUMBERS),
    "whole numbers": (retype("<i4"), NUMBERS),
    "rows of no shape": (retype("<f4", ()), NUMBERS),
    "a site of an unknown name": (add_site("mine"), r"^[^ ]*damaged\.h5 has a site of an unknown name: .*mine"),
    "a site of no layer": (add_site("blocks.x.hook_resid_post"), r"^[^ ]*damaged\.h5 has a site of an unknown name: "),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_damaged_store_under_a_valid_footer_is_refused_in_a_sentence_with_its_path(path, kind):
    how, message = CHANGES[kind]
    change(path, how)
    before = open_files()
    for opener in (open_store_file, ActivationStore.open):
        with pytest.raises(CorruptFileError, match=message) as refusal:
            opener(path)
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).startswith(str(path))
    assert open_files() == before


def test_what_cannot_be_opened_for_reading_cannot_be_written_either(gpt2, small, path):
    change(path, lose("log/state"))
    content = path.read_bytes()
    with pytest.raises(CorruptFileError, match="cannot be read"), open_writer(path):
        pass
    with pytest.raises(CorruptFileError, match="cannot be read"):
        record(gpt2, small, path)
    assert path.read_bytes() == content


# --- damaged records

MENDS = r"damaged\.h5 has a damaged log; the geometry cache command that made it mends that$"


@pytest.mark.parametrize("name", ["log/state", "log/checksum"])
def test_a_damaged_record_is_refused_when_opened_and_mended_by_recording_again(gpt2, small, path, name):
    whole = path.read_bytes()
    place = place_of(path, name)
    width = {"log/state": 8, "log/checksum": 8 * 4}[name]
    for blocks in ([0], [2], [0, 3], [0, 1, 2, 3]):
        path.write_bytes(whole)
        for block in blocks:
            at = place + block * width
            overwrite(path, at, bytes([whole[at] ^ 1]))
        with pytest.raises(CorruptFileError, match=MENDS):
            open_store_file(path)
        state = prepare_recording(gpt2, small, path)
        assert (state.n_pending, state.complete) == (len(blocks), False)
        record(gpt2, small, path)
        assert path.read_bytes() == whole


def test_a_record_torn_while_recording_is_a_block_not_recorded_and_mended_by_going_on(gpt2, small, path):
    whole = path.read_bytes()
    overwrite(path, place_of(path, "log/complete"), bytes(8))
    states = place_of(path, "log/state")
    overwrite(path, states + 12, bytes(4 + 16))  # half of block 1's, and all of the others'
    assert verify_store(path).damage == (Damage("log", 1),)
    opened = open_store_file(path)  # it is not marked complete: recording goes on with that block
    assert set(opened.rows["prompt"][opened.recorded]) == set(small.blocks[0])
    opened.reader.close()
    record(gpt2, small, path)
    assert path.read_bytes() == whole


def test_a_damaged_mark_is_refused_when_opened_and_mended_by_recording_again(gpt2, small, path):
    whole = path.read_bytes()
    overwrite(path, place_of(path, "log/complete"), b"\1\2\3\4\5\6\7\10")
    with pytest.raises(CorruptFileError, match=MENDS):
        open_store_file(path)
    assert not prepare_recording(gpt2, small, path).complete
    record(gpt2, small, path, on_block=lambda _: pytest.fail("recorded again"))
    assert path.read_bytes() == whole
    assert prepare_recording(gpt2, small, path).complete


def test_changed_activations_do_not_keep_a_file_from_opening_and_are_refused_when_read(path):
    place = place_of(path, "activations/blocks.2.hook_resid_post") + 5
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))  # of row 0, of prompt 0
    before = open_files()
    with ActivationStore.open(path) as store:
        for hook in store.hooks[:-1]:
            assert store.load(hook).isfinite().all()
        for read in (store.load, lambda hook: list(store.blocks(hook, n_rows=1))):
            with pytest.raises(CorruptFileError, match=r"block \d of activations/blocks\.2\.hook_resid_post is not"):
                read(store.hooks[-1])
        others = store.rows["prompt"] > 0
        assert len(store.load(store.hooks[-1], others)) == others.sum()
    assert open_files() == before
    assert [found.part for found in verify_store(path).damage] == ["activations/blocks.2.hook_resid_post"]


def test_an_array_that_no_log_knows_is_no_site_and_keeps_nothing_from_opening(path, small_path):
    change(path, lambda file: file.update({"activations/mine": np.zeros(len(file["rows/token"]))}))
    with ActivationStore.open(path) as store, ActivationStore.open(small_path) as small:
        assert store.hooks == small.hooks
        for hook in store.hooks:
            assert store.load(hook).equal(small.load(hook))
    assert verify_store(path).damage == ()
