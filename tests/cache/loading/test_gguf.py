"""A GGUF file's copy is put in place whole; a full or closed cache is told as what it is, and not as a damaged file."""

import errno
import os

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors import SafetensorError

from cache import load_model
from cache.errors import CorruptFileError, InputError, NoSpaceError, NotAvailableError
from cache.loading import gguf
from tests.cache.tiny_gguf import write_gguf


class Saved:
    """What stands for a model and a tokenizer: writes a file, or fails as its library does."""

    def __init__(self, name, failure=None):
        self.name, self.failure = name, failure

    def save_pretrained(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / self.name).write_text(self.name)
        if self.failure:
            raise self.failure


@pytest.fixture
def source(tmp_path, user_cache):
    (tmp_path / "m.gguf").write_bytes(b"GGUF of a kind")
    return tmp_path / "m.gguf"


@pytest.fixture
def put(monkeypatch):
    """Have every GGUF file hold these."""
    return lambda model, tokenizer: monkeypatch.setattr(gguf, "_read", lambda _: (model, tokenizer))


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_copy_is_made_once_and_its_folder_may_be_read_by_all(source, put, user_cache):
    put(Saved("weights"), Saved("tokenizer"))
    folder = gguf.convert_once(source)
    assert names_in(user_cache) == ["tokenizer", "weights"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert folder.stat().st_mode & 0o777 == user_cache.stat().st_mode & 0o777
    put(None, None)
    assert gguf.convert_once(source) == folder


@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), NoSpaceError, "no room to write .*No space left on device"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), NoSpaceError, "no room to write"),
        (Exception("Disk quota exceeded (os error 122)"), NoSpaceError, "no room to write .*Disk quota exceeded"),
        (PermissionError(errno.EACCES, "Permission denied"), NotAvailableError, "cannot write .*: Permission denied"),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_a_copy_that_cannot_be_written_is_told_and_nothing_is_left(
    source, put, user_cache, failure, kind, told, second
):
    put(Saved("weights", None if second else failure), Saved("tokenizer", failure))
    with pytest.raises(kind, match=told):
        gguf.convert_once(source)
    assert names_in(user_cache) == []


def test_a_cache_that_takes_no_file_is_told_before_the_model_is_read(source, user_cache, monkeypatch):
    monkeypatch.setattr(gguf, "_read", lambda _: pytest.fail("read the model"))
    user_cache.write_text("a file where the cache should be")
    with pytest.raises(NotAvailableError, match=r"cannot make the folder .*gguf'"):
        gguf.convert_once(source)


def test_another_process_that_was_first_is_not_disturbed(source, put, monkeypatch):
    put(Saved("weights"), Saved("tokenizer"))

    def first(_, folder):
        folder.mkdir()
        (folder / "theirs").write_text("")
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(os, "replace", first)
    assert names_in(gguf.convert_once(source)) == ["theirs"]


def test_a_file_that_is_none_or_is_no_model_is_told(tmp_path, source, user_cache):
    with pytest.raises(NotAvailableError, match="no GGUF file"):
        gguf.convert_once(tmp_path / "none.gguf")
    with pytest.raises(CorruptFileError, match="cannot be converted"):
        gguf.convert_once(source)
    assert names_in(user_cache) == []


def test_a_whole_file_loads_with_its_own_weights(tmp_path, user_cache):
    """Llama's GGUF files hold q and k with their halves interleaved; the other tensors are as they were written."""
    model = load_model(str(write_gguf(tmp_path / "whole.gguf")), device="cpu")
    written = {tensor.name: tensor.data for tensor in GGUFReader(str(tmp_path / "whole.gguf")).tensors}
    down = model.bridge.original_model.state_dict()
    name = next(name for name in down if "layers.1.mlp.down_proj" in name.replace("_original_component.", ""))
    np.testing.assert_array_equal(down[name].numpy(), written["blk.1.ffn_down.weight"])
    assert model.name == str(tmp_path / "whole.gguf")
    assert len(model.revision) == 64


@pytest.mark.parametrize("missing", ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight", "token_embd.weight"])
def test_a_file_that_lacks_a_tensor_is_refused_and_not_kept(tmp_path, user_cache, missing):
    path = write_gguf(tmp_path / "holes.gguf", without=[missing])
    for _ in range(2):  # nothing of it is in the cache the second time
        with pytest.raises((NotAvailableError, CorruptFileError), match=r"lacks 1 of its weights|cannot be converted"):
            load_model(str(path), device="cpu")
    assert names_in(user_cache) == []


def test_one_of_several_parts_is_refused(tmp_path, user_cache):
    path = write_gguf(tmp_path / "model-00001-of-00003.gguf", parts=3)
    with pytest.raises(InputError, match=r"is one of 3 parts of a model; merge them"):
        load_model(str(path), device="cpu")
    assert names_in(user_cache) == []
