"""Stores: what is read is what the file holds, of finished blocks only, whoever wrote it and however it ended."""

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import ActivationStore, Hook, Prompts, head_outputs, open_stores, plan_recording, record, verify_store
from cache.errors import CorruptFileError, FingerprintError, InputError, NotAvailableError, StoppedError
from cache.prompts.prompt import Prompt
from cache.store.store import check_source
from tests.recordings import recorded

SITES = "resid_pre,z,attn_out,resid_post"
SMALL = ["1,2,3,", "Van done in one. Car", "one", "x y z"]
COLUMNS = ["prompt", "position", "token", "token_text", "member", "is_last", "value", "shown", "family", "frame"]
COLUMNS += ["template", "kind", "group", "answer", "distractor", "pair_key"]


def plain_h5py(path: Path) -> h5py.File:
    """A file as anybody reads it; from memory, since this process may have it open with other flags."""
    return h5py.File(io.BytesIO(path.read_bytes()), "r")


@pytest.fixture(scope="module")
def few(prompts) -> Prompts:
    """A dozen prompts of three families, of several lengths."""
    return prompts.subset(range(0, len(prompts), 9))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def path(gpt2, few, folder) -> Path:
    record(gpt2, plan_recording(gpt2, few, sites=SITES, batch_tokens=64), folder / "a.h5")
    return folder / "a.h5"


@pytest.fixture(scope="module")
def store(path):
    with ActivationStore.open(path) as opened:
        yield opened


class Arrays(dict[str, np.ndarray]):
    def __repr__(self) -> str:  # which hypothesis asks for, and finds too long
        return f"<{len(self)} arrays>"


@pytest.fixture(scope="module")
def raw(path) -> Arrays:
    """The file's arrays, read by the bytes of their place in it."""
    content = path.read_bytes()
    with plain_h5py(path) as file:
        spans = {}
        file.visititems(lambda name, item: spans.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return Arrays(
            (name, np.frombuffer(content, item.dtype, item.size, item.id.get_offset()).reshape(item.shape))
            for name, item in spans.items()
        )


@pytest.fixture(scope="module")
def small(gpt2):
    """A plan of four blocks of one prompt each."""
    return plan_recording(gpt2, SMALL, sites="z,resid_post", layers="0,2", batch_tokens=1)


def raw_rows(raw, hook: Hook) -> np.ndarray:
    return raw[f"activations/{hook.name}"].reshape(len(raw["rows/prompt"]), -1)


def content_of(path: Path) -> dict[str, object]:
    """All that a file holds, without when and by which command it was made, by plain h5py."""
    with plain_h5py(path) as file:
        content = {name: value for name, value in file.attrs.items() if name not in ("created", "command")}
        file.visititems(
            lambda name, item: content.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return content


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- reading one store


def test_every_site_is_read_as_it_lies_in_the_file_heads_side_by_side(store, raw):
    assert len(store.hooks) == 12
    for hook in store.hooks:
        loaded = store.load(hook)
        assert loaded.dtype == torch.float32
        np.testing.assert_array_equal(loaded.numpy(), raw_rows(raw, hook))


def test_a_head_is_its_part_of_the_site(store, raw):
    for head in range(3):
        z = raw["activations/blocks.1.attn.hook_z"]
        np.testing.assert_array_equal(store.load(Hook("z", 1, head)).numpy(), z[:, head])
    with pytest.raises(InputError, match=r"blocks\.1\.attn\.hook_z has heads 0 to 2; got 3"):
        store.load(Hook("z", 1, 3))


@pytest.mark.parametrize("head", [-1, -9])
def test_a_negative_head_is_refused(store, head):
    with pytest.raises(InputError, match=f"got (head )?{head}"):
        store.load(Hook("z", 1, head))


def test_a_site_can_be_named_in_four_ways(store):
    expected = store.load(Hook("resid_post", 2))
    for name in ("blocks.2.hook_resid_post", ("resid_post", 2), ("resid_post", -1)):
        assert torch.equal(store.load(name), expected)
        assert torch.equal(store[name], expected)
    assert torch.equal(store["resid_post", -3], store["resid_post", 0])
    assert not torch.equal(store["resid_post", 1], expected)


def test_hooks_are_listed_in_the_order_of_a_forward_pass(store):
    kinds = ["resid_pre", "z", "attn_out", "resid_post"]
    assert store.hooks == tuple(Hook(kind, layer) for layer in range(3) for kind in kinds)


def test_each_block_reads_what_the_block_before_it_wrote(store):
    for layer in range(2):
        assert torch.equal(store["resid_post", layer], store["resid_pre", layer + 1])
    assert not torch.equal(store["resid_pre", 0], store["resid_post", 0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    share=st.sampled_from([0, 0.01, 0.3, 0.9, 1]),
    n_rows=st.sampled_from([1, 3, 50, 100_000]),
    hook=st.sampled_from([Hook("resid_pre", 0), Hook("z", 2), Hook("z", 0, 2), Hook("attn_out", 1)]),
)
def test_any_mask_chooses_its_rows_in_order_whole_or_in_blocks(store, raw, seed, share, n_rows, hook):
    mask = np.random.default_rng(seed).random(len(store.rows)) < share
    expected = raw_rows(raw, hook)[mask]
    expected = expected if hook.head is None else expected[:, 11 * hook.head : 11 * (hook.head + 1)]
    where = pd.Series(mask, index=store.rows.index) if seed % 2 else mask
    np.testing.assert_array_equal(store.load(hook, where).numpy(), expected)
    blocks = list(store.blocks(hook, where, n_rows=n_rows))
    assert all(0 < len(block) <= n_rows for block in blocks)
    np.testing.assert_array_equal(np.concatenate([expected[:0], *blocks]), expected)
    pd.testing.assert_frame_equal(store.select(where), store.rows[mask].reset_index(drop=True))


@pytest.mark.parametrize(
    ("query", "choose"),
    [
        ("family == 'digits' and is_last", lambda rows: (rows["family"] == "digits") & rows["is_last"]),
        ("member >= 0", lambda rows: rows["member"] >= 0),
        ("position == -1", lambda rows: rows["position"] == -1),
        ("family == 'nobody'", lambda rows: rows["prompt"] < 0),
        ("prompt in (1, 2) or value == 3", lambda rows: rows["prompt"].isin([1, 2]) | (rows["value"] == 3)),
    ],
)
def test_a_query_chooses_the_same_rows_as_its_mask(store, raw, query, choose):
    mask = choose(store.rows).to_numpy()
    assert mask.any() == ("nobody" not in query)
    for hook in (Hook("resid_post", 1), Hook("z", 1)):
        np.testing.assert_array_equal(store.load(hook, query).numpy(), raw_rows(raw, hook)[mask])
    assert store.select(query)["token"].tolist() == store.rows["token"][mask].tolist()


def test_choosing_no_row_gives_no_row_of_the_right_width(store):
    assert store.load("blocks.0.attn.hook_z", "prompt < 0").shape == (0, 33)
    assert store.load(Hook("z", 0, 1), np.zeros(len(store.rows), bool)).shape == (0, 11)
    assert list(store.blocks(("resid_post", 0), "prompt < 0")) == []


def test_rows_and_prompts_have_the_documented_columns_in_the_files_order(store, few, raw):
    assert store.rows.columns.tolist() == COLUMNS
    for name in ("prompt", "position", "token", "member", "is_last"):
        np.testing.assert_array_equal(store.rows[name], raw[f"rows/{name}"])
    assert store.prompts["text"].tolist() == [prompt.text for prompt in few]
    for row in store.rows.itertuples():
        prompt = few[row.prompt]
        assert (row.family, row.frame, row.template, row.kind) == (
            prompt.family,
            prompt.frame,
            prompt.template,
            prompt.kind,
        )
        assert (row.answer, row.distractor, row.pair_key) == (prompt.answer, prompt.distractor, prompt.pair_key)
        member = (prompt.values[row.member], prompt.members[row.member]) if row.member >= 0 else (-1, "")
        assert (row.value, row.shown) == member
    assert store.complete
    assert store.manifest["hard"]["hooks"] == {kind: [0, 1, 2] for kind in SITES.split(",")}
    assert len(store.fingerprint) == 64


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            "blocks.1.hook_resid_pst",
            r"a\.h5 has no 'blocks\.1\.hook_resid_pst'; near it are blocks\.1\.hook_resid_post",
        ),
        ("nonsense", r"a\.h5 has no 'nonsense'; near it are blocks\."),
        (("resid_post", 7), r"a\.h5 has no 'blocks\.7\.hook_resid_post'; near it are .*blocks\.2\.hook_resid_post"),
        (Hook("mlp_out", 1), r"a\.h5 has no 'blocks\.1\.hook_mlp_out'; near it are "),
        (("resid", 1), r"no site kind 'resid'; did you mean resid_pre or resid_mid or resid_post\?"),
        (("resid_post", -4), r"a\.h5 has layers up to 2 of resid_post; got -4"),
    ],
)
def test_a_site_that_is_not_there_is_refused_with_its_neighbours(store, hook, message):
    for read in (store.load, store.blocks, store.__getitem__):
        with pytest.raises(InputError, match=f"^{message}"):
            read(hook)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (np.ones(3, bool), r"where must be a query or a boolean mask over \d+ rows; got bool \(3,\)"),
        (pd.Series([0, 1]), r"where must be a query or a boolean mask over \d+ rows; got int64 \(2,\)"),
        (
            "famly == 'x'",
            r"no query \"famly == 'x'\": name 'famly' is not defined; columns are prompt, position, .*key$",
        ),
        (
            "family",
            r"no query 'family': it gives no true or false for each row \(equality is written ==\); columns are",
        ),
    ],
)
def test_a_choice_of_rows_that_is_none_is_refused_at_once(store, where, message):
    for read in (store.load, store.blocks):
        with pytest.raises(InputError, match=message):
            read(("resid_post", 0), where)
    with pytest.raises(InputError, match=message):
        store.select(where)


@pytest.mark.parametrize("n_rows", [0, -1])
def test_blocks_of_no_rows_are_refused(store, n_rows):
    with pytest.raises(InputError, match=f"n_rows must be 1 or more; got {n_rows}"):
        store.blocks(("resid_post", 0), n_rows=n_rows)


def test_half_precision_is_read_as_float32_equal_to_rounding(gpt2, few, store, tmp_path):
    plan = plan_recording(gpt2, few, sites=SITES, batch_tokens=64, dtype="float16")
    with recorded(gpt2, plan, tmp_path / "half.h5") as half:
        with h5py.File(tmp_path / "copy.h5", "w") as plain:
            plain.create_dataset("x", data=store["resid_post", 1].numpy(), dtype="f2")
            rounded = plain["x"][:].astype(np.float32)
        np.testing.assert_array_equal(half["resid_post", 1].numpy(), rounded)
        assert half["resid_post", 1].dtype == torch.float32
        assert not torch.equal(half["resid_post", 1], store["resid_post", 1])
        for hook in half.hooks:
            torch.testing.assert_close(half[hook], store[hook], rtol=2**-11, atol=2**-24)


def test_four_lines_of_plain_h5py_read_a_store_without_us(store, path):
    script = """
import sys
import h5py
with h5py.File(sys.argv[1]) as file:
    last = file["rows/is_last"][:] == 1
    x, text = file["activations/blocks.1.hook_resid_post"][last], file["prompts/text"].asstr()[:]
import json
assert not {"cache", "geometry", "torch"} & set(sys.modules)
print(json.dumps([x.tolist(), text.tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    x, text = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(x, np.float32), store.load(("resid_post", 1), "is_last").numpy())
    assert text == store.prompts["text"].tolist()


def test_a_store_can_be_open_twice_and_outlives_the_other_ones_closing(path, store):
    before = open_files()
    with ActivationStore.open(path) as one, ActivationStore.open(str(path)) as two:
        one.close()
        assert torch.equal(two["resid_post", 0], store["resid_post", 0])
        assert one.rows.equals(two.rows)
    one.close()
    assert open_files() == before


def test_a_closed_store_says_that_it_is_closed(path):
    store = ActivationStore.open(path)
    store.close()
    for read in (store.load, lambda hook: list(store.blocks(hook))):
        with pytest.raises(InputError, match=r"a\.h5 is closed; open it again"):
            read(("resid_post", 0))
    assert len(store.select("is_last")) == len(store.prompts)


def test_two_rows_far_apart_are_read_without_all_that_lies_between(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1," * 28] * 40, sites="mlp_post", layers="0", batch_tokens=256)
    with recorded(gpt2, plan, tmp_path / "a.h5") as long:
        touched = long.rows["prompt"].isin((*plan.blocks[0], *plan.blocks[-1])).sum() * 71 * 4
        where = np.zeros(len(long.rows), bool)
        where[[0, -1]] = True

        def bytes_read() -> int:
            return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])

        def bytes_read_for_them() -> int:
            before = bytes_read()
            (chosen,) = long.blocks(("mlp_post", 0), where, n_rows=2)
            read = bytes_read() - before
            assert torch.equal(chosen, expected)
            return read

        with ActivationStore.open(tmp_path / "a.h5") as other:
            expected = other["mlp_post", 0][[0, -1]]
        first, second = bytes_read_for_them(), bytes_read_for_them()
        size = len(long.rows) * 71 * 4
    assert size > 500_000
    assert touched < size / 4
    assert touched <= first < touched + 5000, "their blocks are read whole once, to be checked"
    assert second < 5000


# --- partial stores


def stop_after(blocks: int):
    asked = itertools.count()
    return lambda: next(asked) >= blocks


def assert_is_part_of(part: ActivationStore, whole: ActivationStore, prompts: set[int]) -> None:
    """`part` has the rows of just these prompts, equal to those of `whole` at every hook."""
    mask = whole.rows["prompt"].isin(prompts).to_numpy()
    assert part.rows["prompt"].drop_duplicates().tolist() == sorted(prompts)
    pd.testing.assert_frame_equal(part.rows, whole.rows[mask].reset_index(drop=True), check_dtype=False)
    assert part.hooks == whole.hooks
    for hook in part.hooks:
        assert torch.equal(part[hook], whole.load(hook, mask))


@pytest.fixture(scope="module")
def small_path(gpt2, small, folder) -> Path:
    record(gpt2, small, folder / "small.h5")
    return folder / "small.h5"


@pytest.fixture(scope="module")
def small_store(small_path):
    with ActivationStore.open(small_path) as opened:
        yield opened


def test_a_broken_off_store_shows_its_finished_blocks_aligned_over_hooks(gpt2, few, store, tmp_path):
    plan = plan_recording(gpt2, few, sites=SITES, batch_tokens=64)
    assert len(plan.blocks) >= 4
    with pytest.raises(StoppedError, match=f"stopped after 2 of {len(plan.blocks)} blocks"):
        record(gpt2, plan, tmp_path / "a.h5", should_stop=stop_after(2))
    with ActivationStore.open(tmp_path / "a.h5") as part:
        assert not part.complete
        assert len(part.prompts) == len(few)
        assert_is_part_of(part, store, {*plan.blocks[0], *plan.blocks[1]})
        where = "is_last and family == 'months'"
        assert torch.equal(part.load(("z", 1), where), part.load(("z", 1))[part.rows.eval(where).to_numpy()])
    with recorded(gpt2, plan, tmp_path / "a.h5") as whole:
        assert whole.complete
        assert_is_part_of(whole, store, set(range(len(few))))


def test_rows_of_any_subset_of_blocks_are_shown(small, small_path, small_store, tmp_path):
    whole = small_path.read_bytes()
    with plain_h5py(small_path) as file:
        offset, mark = (file[f"log/{name}"].id.get_offset() for name in ("state", "complete"))
    for missing in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(5)):
        content = bytearray(whole)
        if missing:
            content[mark : mark + 8] = bytes(8)
        for block in missing:
            content[offset + 8 * block : offset + 8 * block + 8] = bytes(8)
        (tmp_path / "a.h5").write_bytes(content)
        with ActivationStore.open(tmp_path / "a.h5") as part:
            assert part.complete == (not missing)
            shown = {prompt for number in range(4) if number not in missing for prompt in small.blocks[number]}
            assert_is_part_of(part, small_store, shown)


def test_a_reader_meanwhile_sees_just_the_blocks_that_are_reported_done(gpt2, small, small_store, tmp_path):
    seen = []

    def look(progress):
        with ActivationStore.open(tmp_path / "a.h5") as part:
            seen.append(progress.done_blocks)
            assert_is_part_of(part, small_store, {p for block in small.blocks[: progress.done_blocks] for p in block})

    record(gpt2, small, tmp_path / "a.h5", on_block=look)
    assert seen == [1, 2, 3, 4]


def test_every_prefix_of_a_recordings_writes_opens_with_just_its_committed_blocks(
    gpt2, small, small_path, small_store, tmp_path, monkeypatch
):
    path, real, made, start = tmp_path / "a.h5", os.pwrite, [], []

    def note(handle, content, offset):
        if start:
            made.append((offset, bytes(content)))
        return real(handle, content, offset)

    def begin() -> bool:
        start.extend([] if start else [path.read_bytes()])
        return False

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", note)
        record(gpt2, small, path, should_stop=begin)
    with plain_h5py(path) as file:
        states = range(file["log/state"].id.get_offset(), file["log/state"].id.get_offset() + 32)
    content, shown = bytearray(start[0]), set()
    for offset, written in made:
        content[offset : offset + len(written)] = written
        if offset in states:
            shown |= set(small.blocks[(offset - states.start) // 8])
        path.write_bytes(content)
        with ActivationStore.open(path) as part:
            assert_is_part_of(part, small_store, shown)
    assert shown == {0, 1, 2, 3}
    assert len(made) >= 24
    assert content_of(path) == content_of(small_path)


def test_a_recording_killed_in_the_middle_of_a_write_is_continued_to_the_same_content(
    gpt2, small, small_path, small_store, tmp_path
):
    path, real = tmp_path / "a.h5", os.pwrite
    lost = set()
    for number in (6, 13, 20, 26):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking where torch has threads
            child = os.fork()
        if child == 0:
            count = itertools.count(1)

            def die(handle, content, offset, number=number, count=count):
                if next(count) == number:
                    real(handle, bytes(content)[: len(content) // 2], offset)
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(handle, content, offset)

            os.pwrite = die
            with suppress(BaseException):
                torch.set_num_threads(1)
                record(gpt2, small, path)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        if path.exists():
            with ActivationStore.open(path) as part:
                assert_is_part_of(part, small_store, set(part.rows["prompt"]))
                lost.add(4 - part.rows["prompt"].nunique())
        record(gpt2, small, path)
        assert content_of(path) == content_of(small_path)
        assert verify_store(path).damage == ()
        assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
        path.unlink()
    assert lost == {1, 2, 3, 4}


# --- several files


@pytest.fixture(scope="module")
def parts(gpt2, few, folder) -> dict[str, Path]:
    """Files of the same model: sites a and b of the first prompts, sites a of the others."""
    first, others = few.subset(range(5)), few.subset(range(5, len(few)))
    plans = {
        "a_first": plan_recording(gpt2, first, sites="resid_post,z", batch_tokens=64),
        "b_first": plan_recording(gpt2, first, sites="attn_out,resid_pre", batch_tokens=1),
        "a_others": plan_recording(gpt2, others, sites="z,resid_post", batch_tokens=200),
    }
    for name, plan in plans.items():
        record(gpt2, plan, folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in plans}


def test_files_with_the_same_prompts_add_sites(parts, store):
    with open_stores([parts["a_first"], str(parts["b_first"])]) as joined:
        assert joined.hooks == store.hooks
        assert joined.complete
        assert joined.rows.equals(store.select("prompt < 5"))
        for hook in joined.hooks:
            torch.testing.assert_close(joined[hook], store.load(hook, "prompt < 5"), rtol=1e-4, atol=1e-4)
        assert joined.paths == (parts["a_first"], parts["b_first"])
        with ActivationStore.open(parts["a_first"]) as one, ActivationStore.open(parts["b_first"]) as two:
            assert joined.fingerprint == f"{one.fingerprint}+{two.fingerprint}"
            assert torch.equal(joined["z", 1], one["z", 1])
            assert torch.equal(joined["attn_out", 1], two["attn_out", 1])


def test_files_with_other_prompts_add_rows(parts, store):
    with open_stores([parts["a_others"], parts["a_first"]]) as joined:
        n_others = int((store.rows["prompt"] >= 5).sum())
        order = np.argsort(store.rows["prompt"].to_numpy() < 5, kind="stable")
        expected = store.rows.iloc[order].reset_index(drop=True)
        moved = (expected["prompt"] - 5) % len(store.prompts)
        pd.testing.assert_frame_equal(joined.rows, expected.assign(prompt=moved), check_dtype=False)
        assert joined.prompts["text"].tolist() == np.roll(store.prompts["text"], -5).tolist()
        assert {hook.kind for hook in joined.hooks} == {"z", "resid_post"}
        for hook in joined.hooks:
            torch.testing.assert_close(joined[hook], store[hook][order], rtol=1e-4, atol=1e-4)
        head = Hook("z", 1, 2)
        assert torch.equal(joined.load(head), joined["z", 1][:, 22:])
        where = np.zeros(len(joined.rows), bool)
        where[n_others - 2 : n_others + 2] = True  # across the seam
        assert torch.equal(joined.load(head, where), joined["z", 1][n_others - 2 : n_others + 2, 22:])
        assert [len(block) for block in joined.blocks(head, where, n_rows=3)] == [2, 2]


def test_files_that_label_the_same_texts_otherwise_add_rows(gpt2, tmp_path):
    for group in ("one", "two"):
        prompts = Prompts((Prompt("1,2,", group=group), Prompt("x", group=group)))
        record(gpt2, plan_recording(gpt2, prompts, sites="z", layers="0"), tmp_path / f"{group}.h5")
    with open_stores([tmp_path / "one.h5", tmp_path / "two.h5"]) as joined:
        assert joined.prompts["group"].tolist() == ["one", "one", "two", "two"]
        assert torch.equal(joined.load(("z", 0), "group == 'one'"), joined.load(("z", 0), "group == 'two'"))


def test_rows_joined_with_sites_have_the_sites_that_all_rows_have(parts):
    with open_stores(parts.values()) as joined:
        assert {hook.kind for hook in joined.hooks} == {"z", "resid_post"}
        assert len(joined.prompts) == joined.rows["prompt"].nunique()


def test_a_file_joined_with_itself_is_itself(path, store):
    with open_stores([path, path]) as joined:
        assert joined.rows.equals(store.rows)
        assert torch.equal(joined["z", 0], store["z", 0])


def test_sites_joined_from_a_partial_file_have_the_rows_that_both_have(gpt2, few, parts, tmp_path):
    plan = plan_recording(gpt2, few.subset(range(5)), sites="mlp_out", batch_tokens=64)
    with pytest.raises(StoppedError):
        record(gpt2, plan, tmp_path / "c.h5", should_stop=stop_after(1))
    with open_stores([parts["a_first"], tmp_path / "c.h5"]) as joined, ActivationStore.open(parts["a_first"]) as one:
        assert not joined.complete
        assert set(joined.rows["prompt"]) == set(plan.blocks[0])
        mask = one.rows["prompt"].isin(plan.blocks[0]).to_numpy()
        assert torch.equal(joined["z", 1], one.load(("z", 1), mask))
        assert len(joined["mlp_out", 1]) == mask.sum()


def test_rows_joined_to_a_partial_file_are_not_complete(gpt2, small, small_path, tmp_path):
    other = plan_recording(gpt2, ["another", "a b c d"], sites="z,resid_post", layers="0,2", batch_tokens=1)
    with pytest.raises(StoppedError):
        record(gpt2, other, tmp_path / "b.h5", should_stop=stop_after(1))
    for paths in ([small_path, tmp_path / "b.h5"], [tmp_path / "b.h5", small_path]):
        with open_stores(paths) as joined:
            assert not joined.complete
            assert joined.rows["prompt"].nunique() == 5
            assert len(joined.prompts) == 6
    record(gpt2, other, tmp_path / "b.h5")
    with open_stores([small_path, tmp_path / "b.h5"]) as joined:
        assert joined.complete


def test_files_of_two_models_are_not_joined(loaded, gpt2, small, small_path, tmp_path):
    before = open_files()
    others = {
        "model weights": loaded["llama"],
        "model processing (none, now compatibility)": replace(gpt2, processing="compatibility"),
        "compute dtype (float32, now bfloat16)": replace(gpt2, dtype="bfloat16"),
        "tokenizer (": replace(gpt2, tokenizer_rules="another"),
        "bos (True, now False)": replace(gpt2, bos=False),
    }
    for number, (field, model) in enumerate(others.items()):
        other = tmp_path / f"{number}.h5"
        record(model, plan_recording(model, SMALL, sites="resid_post", layers="0"), other)
        expected = f"{small_path} and {other} cannot be joined: another {field.removesuffix(' (')}"
        with pytest.raises(FingerprintError, match=re.escape(expected)) as refusal:
            open_stores([small_path, other])
        assert refusal.value.exit_code == 5
    assert open_files() == before


def test_what_cannot_be_opened_among_several_is_named_and_closes_the_others(small_path, tmp_path):
    before = open_files()
    with pytest.raises(InputError, match=r"no store given; give one or more \.h5 files"):
        open_stores([])
    with pytest.raises(NotAvailableError, match=r"none\.h5' is not there"):
        open_stores([small_path, tmp_path / "none.h5"])
    (tmp_path / "bad.h5").write_bytes(small_path.read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match=r"bad\.h5 has [\d,]+ bytes where it had [\d,]+; copy it again or"):
        open_stores([small_path, tmp_path / "bad.h5"])
    assert open_files() == before


def test_rows_without_a_common_site_are_not_joined(gpt2, small_path, tmp_path):
    record(gpt2, plan_recording(gpt2, ["another"], sites="mlp_out"), tmp_path / "b.h5")
    before = open_files()
    with pytest.raises(InputError, match=rf"no site is in all of {small_path}, .*b\.h5"):
        open_stores([small_path, tmp_path / "b.h5"])
    assert open_files() == before


def test_the_same_prompts_at_other_positions_are_not_joined(gpt2, small_path, tmp_path):
    plan = plan_recording(gpt2, SMALL, sites="z,resid_post", layers="0,2", batch_tokens=1, positions="last")
    record(gpt2, plan, tmp_path / "last.h5")
    before = open_files()
    with pytest.raises(InputError, match=r"small\.h5 and .*last\.h5 keep other positions of the same prompts"):
        open_stores([small_path, tmp_path / "last.h5"])
    assert open_files() == before


# --- heads


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_what_the_heads_write_sums_to_the_attentions_output(loaded, few, tmp_path, name):
    model = loaded[name]
    plan = plan_recording(model, few.subset(range(3)), sites="z,attn_out", positions="members")
    with recorded(model, plan, tmp_path / "a.h5") as store:
        for layer in range(3):
            for where in (None, "is_last"):
                heads = head_outputs(store, model, layer, where)
                bias = model.bridge.blocks[layer].attn.b_O
                expected = store.load(("attn_out", layer), where)
                assert heads.shape == (len(expected), model.bridge.cfg.n_heads, expected.shape[1])
                error = heads.sum(dim=1) + bias.detach() - expected
                assert error.abs().max() < 1e-5 * expected.abs().max()
                assert (heads.sum(dim=1) - expected).abs().max() > 1e-2, "the bias is not nothing here"


def test_a_heads_output_is_its_z_times_its_rows_of_the_output_weights(gpt2, store):
    weight = gpt2.bridge.original_model.transformer.h[1].attn.c_proj.weight.detach()  # (head d_head, d_model)
    heads = head_outputs(store, gpt2, 1)
    for head in range(3):
        expected = store.load(Hook("z", 1, head)).double() @ weight[11 * head : 11 * head + 11].double()
        torch.testing.assert_close(heads[:, head].double(), expected, rtol=1e-4, atol=1e-4)


def test_head_outputs_need_z_and_the_model_it_was_recorded_from(loaded, gpt2, store, parts):
    check_source(store, gpt2)
    message = (
        rf"a\.h5 comes from other weights than {re.escape(loaded['llama'].name)}'s; give the model that it came from "
        rf"\({re.escape(gpt2.name)}\)$"
    )
    for refused in (check_source, partial(head_outputs, layer=0)):
        with pytest.raises(FingerprintError, match=message):
            refused(store, loaded["llama"])
    with (
        ActivationStore.open(parts["b_first"]) as without,
        pytest.raises(InputError, match=r"b_first\.h5 has no 'blocks\.0\.attn\.hook_z'; near it are "),
    ):
        head_outputs(without, gpt2, 0)


def test_a_notebook_shows_what_a_store_and_a_view_hold_and_what_to_do_next(store):
    shown = store._repr_html_()
    assert f"<b>a.h5: {len(store.rows)} rows of {len(store.prompts)} prompts, {len(store.hooks)} sites</b>" in shown
    assert "families: digits, numwords, months" in shown
    assert "3 of z" in shown
    assert repr(store) == f"<ActivationStore a.h5: {len(store.rows)} rows, {len(store.hooks)} sites>"
    assert "<code>pca_by_layer(store.view(&quot;resid_post&quot;))</code>" in shown
    assert "not complete" not in shown
    view = store.view(where="is_last and family == 'digits'")
    n_rows = int(view.chosen().sum())
    assert f"<b>resid_post of a.h5: 4 sites, {n_rows} rows</b>" in view._repr_html_()
    assert "rows: is_last and family == &#x27;digits&#x27;" in view._repr_html_()
