"""Recording: what is stored is what an independent Hugging Face forward computes."""

import functools
import gc
import os
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from cache import ActivationStore, SequenceDesign, head_outputs, load_dataset, load_model, plan_recording, record
from cache.errors import (
    CorruptFileError,
    FingerprintError,
    InputError,
    LockedError,
    NoSpaceError,
    NotAvailableError,
    NumbersError,
    StoppedError,
)
from cache.families.family import FAMILIES
from cache.loading.sources import find_model
from cache.models.hooks import KINDS, parse_layers
from cache.prompts.prompt import Prompts
from cache.sealed.lock import writer_lock
from cache.store.plan import DEFAULT_SITES
from cache.store.recording import prepare_recording
from tests.recordings import recorded
from tests.variants import some

RAGGED = Prompts.from_texts(["1,2,3,", "Van done in one. Car", "one", "January,February,March,April,May,", "x y z"])


@functools.cache
def hugging_face(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()


def oracle(folder, ids: list[int], n_layers: int = 3) -> dict[str, Tensor]:
    """All kinds at all layers for one text, by plain torch hooks on a fresh Hugging Face model."""
    model = hugging_face(folder)
    seen: dict[str, Tensor] = {}
    handles = []

    def first(value):
        return (value[0] if isinstance(value, tuple) else value)[0].clone()

    def keep(module, name, *, of_input: bool):
        def before(module, args, kwargs):
            seen[name] = first(args or kwargs["hidden_states"])

        def after(module, args, output):
            seen[name] = first(output)

        register = module.register_forward_pre_hook if of_input else module.register_forward_hook
        handles.append(register(before, with_kwargs=True) if of_input else register(after))

    kind = model.config.model_type
    layers = {
        "gpt2": lambda: model.transformer.h,
        "llama": lambda: model.model.layers,
        "gpt_neox": lambda: model.gpt_neox.layers,
    }[kind]()
    for i, layer in enumerate(layers):
        name = f"blocks.{i}."
        keep(layer, name + "hook_resid_pre", of_input=True)
        keep(layer, name + "hook_resid_post", of_input=False)
        keep(layer.mlp, name + "hook_mlp_out", of_input=False)
        if kind == "gpt2":
            keep(layer.ln_2, name + "hook_resid_mid", of_input=True)
            keep(layer.attn, name + "hook_attn_out", of_input=False)
            keep(layer.attn.c_attn, name + "qkv", of_input=False)
            keep(layer.attn.c_proj, name + "attn.hook_z", of_input=True)
            keep(layer.mlp.c_proj, name + "mlp.hook_post", of_input=True)
        elif kind == "llama":
            keep(layer.post_attention_layernorm, name + "hook_resid_mid", of_input=True)
            keep(layer.self_attn, name + "hook_attn_out", of_input=False)
            for letter in "qkv":
                keep(getattr(layer.self_attn, f"{letter}_proj"), name + f"attn.hook_{letter}", of_input=False)
            keep(layer.self_attn.o_proj, name + "attn.hook_z", of_input=True)
            keep(layer.mlp.down_proj, name + "mlp.hook_post", of_input=True)
        else:
            keep(layer.attention, name + "hook_attn_out", of_input=False)
            keep(layer.attention.dense, name + "attn.hook_z", of_input=True)
            keep(layer.mlp.dense_4h_to_h, name + "mlp.hook_post", of_input=True)
    with torch.no_grad():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    for name in [name for name in seen if name.endswith("qkv")]:
        for letter, part in zip("qkv", seen.pop(name).chunk(3, dim=-1), strict=True):
            seen[name.replace("qkv", f"attn.hook_{letter}")] = part
    return seen


def assert_equals_oracle(store, folder, *, tolerance: float = 1e-4) -> None:
    for prompt, rows in store.rows.groupby("prompt"):
        truth = oracle(folder, rows["token"].tolist())
        for hook in store.hooks:
            stored = store.load(hook, (store.rows["prompt"] == prompt).to_numpy())
            expected = truth[hook.name]
            assert stored.shape == expected.shape, hook.name
            assert (stored - expected).abs().max() <= tolerance * expected.abs().max(), hook.name


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
@pytest.mark.parametrize(("layers", "n_run"), [("0", 1), ("0-1", 2), ("1", 2), ("-1", 3), ("all", 3)])
def test_a_pass_ends_after_the_last_hooked_block_with_the_same_values(loaded, tmp_path, name, layers, n_run):
    model, calls = loaded[name], []
    whole = record(model, RAGGED, tmp_path / "whole.h5", sites=DEFAULT_SITES)
    handles = [
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
        for number, block in enumerate(model.blocks)
    ]
    part = record(model, RAGGED, tmp_path / "part.h5", sites=DEFAULT_SITES, layers=layers)
    for handle in handles:
        handle.remove()
    n_passes = len(plan_recording(model, RAGGED).blocks)
    assert [calls.count(number) for number in range(3)] == [n_passes] * n_run + [0] * (3 - n_run)
    assert {hook.layer for hook in part.hooks} == set(parse_layers(layers, 3))
    assert all(torch.equal(part.load(hook), whole.load(hook)) for hook in part.hooks)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("batch_tokens", some([1, 64], 64))
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_every_value_equals_an_independent_forward(model_folders, tmp_path, name, batch_tokens, bos):
    model = load_model(str(model_folders[name]), device="cpu", bos=bos)
    sites = [kind for kind in KINDS if name != "neox" or kind not in ("resid_mid", "q", "k", "v")]
    plan = plan_recording(model, RAGGED, sites=sites, batch_tokens=batch_tokens)
    with recorded(model, plan, tmp_path / "a.h5") as store:
        assert len(store.hooks) == 3 * len(sites)
        assert_equals_oracle(store, model_folders[name])


def test_the_real_model_is_recorded_as_hugging_face_computes_it(smollm2, tmp_path):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote", "list"), starts=(3,), templates=1)
    plan = plan_recording(smollm2, load_dataset("digits,months", design), sites=list(KINDS), layers="0,12,29")
    with recorded(smollm2, plan, tmp_path / "a.h5") as store:
        assert len(store.hooks) == 3 * len(KINDS)
        assert_equals_oracle(store, find_model("smollm2-135m").folder)


def test_streams_add_up_and_heads_sum_to_attention(loaded, tmp_path):
    for name in ("gpt2", "llama"):
        plan = plan_recording(loaded[name], RAGGED, sites="resid_pre,resid_mid,resid_post,attn_out,mlp_out,z")
        with recorded(loaded[name], plan, tmp_path / f"{name}.h5") as store:
            bias = loaded[name].bridge.blocks[1].attn.b_O
            heads = head_outputs(store, loaded[name], 1).sum(dim=1) + bias
            torch.testing.assert_close(heads, store["attn_out", 1], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(store["resid_post", 0], store["resid_pre", 1], atol=0, rtol=0)
            torch.testing.assert_close(store["resid_pre", 1] + store["attn_out", 1], store["resid_mid", 1])
            torch.testing.assert_close(store["resid_mid", 1] + store["mlp_out", 1], store["resid_post", 1])


def test_compatibility_processing_is_recorded_as_transformer_lens_computes_it(model_folders, tmp_path):
    model = load_model(str(model_folders["gpt2"]), device="cpu", processing="compatibility")
    plain = load_model(str(model_folders["gpt2"]), device="cpu")
    with recorded(model, plan_recording(model, RAGGED, sites="resid,z"), tmp_path / "a.h5") as store:
        ids = torch.tensor([store.rows.query("prompt == 1")["token"].tolist()])
        cached = model.bridge.run_with_cache(ids)[1]
        stored = store.load("blocks.1.hook_resid_post", "prompt == 1")
        torch.testing.assert_close(stored, cached["blocks.1.hook_resid_post"][0], atol=1e-5, rtol=1e-5)
        assert stored.mean(dim=1).abs().max() < 1e-4  # centred
    assert model.weights != plain.weights


@pytest.mark.parametrize("positions", ["members", "last"])
def test_fewer_positions_are_the_same_values_at_those_rows(gpt2, prompts, tmp_path, positions):
    few = prompts.subset(range(0, 105, 9))
    with recorded(gpt2, plan_recording(gpt2, few, sites="resid"), tmp_path / "all.h5") as everything:
        query = "is_last or member >= 0" if positions == "members" else "is_last"
        plan = plan_recording(gpt2, few, sites="resid", positions=positions)
        with recorded(gpt2, plan, tmp_path / "few.h5") as store:
            torch.testing.assert_close(
                store["resid_post", 2], everything.load(("resid_post", 2), query), atol=0, rtol=0
            )
            assert store.rows[["prompt", "position"]].equals(everything.select(query)[["prompt", "position"]])


def test_no_unembedding_and_one_forward_a_block(gpt2, prompts, tmp_path):
    calls = {"unembed": 0, "base": 0}
    hf_model = gpt2.bridge.original_model
    handles = [
        hf_model.get_output_embeddings().register_forward_hook(lambda *_: calls.update(unembed=calls["unembed"] + 1)),
        hf_model.base_model.register_forward_hook(lambda *_: calls.update(base=calls["base"] + 1)),
    ]
    plan = plan_recording(gpt2, prompts, sites=list(KINDS), batch_tokens=100)
    record(gpt2, plan, tmp_path / "a.h5")
    for handle in handles:
        handle.remove()
    assert calls == {"unembed": 0, "base": len(plan.blocks)}


def test_hooks_are_gone_afterwards_even_when_it_fails(gpt2, tmp_path, monkeypatch):
    before = [len(point._forward_hooks) for point in gpt2.points.values()]
    monkeypatch.setattr("cache.sealed.writer.os.pwrite", lambda *_: (_ for _ in ()).throw(OSError(5, "broken disk")))
    plan = plan_recording(gpt2, RAGGED)
    with pytest.raises(NotAvailableError, match="broken disk"):
        record(gpt2, plan, tmp_path / "a.h5")
    assert [len(point._forward_hooks) for point in gpt2.points.values()] == before


def test_plain_strings_and_loaded_hugging_face_models_are_accepted(model_folders, tokenizer, tmp_path):
    hf_model = AutoModelForCausalLM.from_pretrained(model_folders["llama"])
    model = load_model(hf_model, tokenizer=tokenizer)
    with recorded(model, ["1,2,3,", "one"], tmp_path / "a.h5") as store:
        assert store.prompts["text"].tolist() == ["1,2,3,", "one"]
        assert_equals_oracle(store, model_folders["llama"])


def test_one_call_makes_a_store_of_texts_families_or_tables(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = record(gpt2, ["1,2,3,", "one,"], sites="resid", layers=[1], positions="last", dtype="float16", out="x.h5")
    assert [hook.name for hook in store.hooks] == ["blocks.1.hook_resid_post"]
    assert (len(store.rows), store.manifest["hard"]["storage dtype"]) == (2, "float16")
    assert record(gpt2, "digits,months", sites="resid", out="y.h5").families == ("digits", "months")
    table = pd.DataFrame({"text": ["so big", "so small"], "pair": ["size", "size"]})
    assert record(gpt2, table, sites="resid", out="z.h5").prompts["text"].tolist() == ["so big", "so small"]
    planned = plan_recording(gpt2, ["1,2,3,", "one,"], sites="resid", layers=[1], positions="last", dtype="float16")
    assert record(gpt2, planned, "w.h5").fingerprint == store.fingerprint


def test_without_a_place_the_same_call_has_the_same_file(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = record(gpt2, ["1,2,3,"], sites="resid")
    (path,) = first.paths
    assert path.parent == tmp_path / "activations"
    assert path.name == f"tiny-gpt2-{first.fingerprint[:8]}.h5"
    written = path.stat().st_mtime_ns
    assert record(gpt2, ["1,2,3,"], sites="resid").paths == (path,)
    assert path.stat().st_mtime_ns == written
    assert record(gpt2, ["1,2,3,"], sites="resid", layers="0").paths != (path,)


def test_a_plan_is_not_chosen_again_and_one_text_is_no_data_set(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1,2,3,"])
    with pytest.raises(InputError, match="a plan has its own layers, dtype; choose in plan_recording, or give the"):
        record(gpt2, plan, tmp_path / "a.h5", layers="0", dtype="float16")
    with pytest.raises(InputError, match=r"no family 'one two'; .*; texts go in a file or, from Python, in a list"):
        record(gpt2, "one two", tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_shown_unless_blocks_are_told(gpt2, tmp_path, monkeypatch, bars):
    plan = plan_recording(gpt2, ["1,2,3,", "one,"], batch_tokens=1)
    record(gpt2, plan, tmp_path / "a.h5")
    assert bars == [("recording", 2, True, [1, 2])]
    record(gpt2, plan, tmp_path / "b.h5", on_block=lambda _: None)
    assert bars[1] == ("recording", 2, False, [])


def test_a_broken_off_recording_goes_on_to_the_same_content(gpt2, prompts, tmp_path):
    plan = plan_recording(gpt2, prompts, batch_tokens=200)
    record(gpt2, plan, tmp_path / "whole.h5")
    done = []
    with pytest.raises(StoppedError, match=r"stopped after 3 of \d+ blocks"):
        record(gpt2, plan, tmp_path / "a.h5", on_block=done.append, should_stop=lambda: len(done) == 3)
    assert prepare_recording(gpt2, plan, tmp_path / "a.h5").n_pending == len(plan.blocks) - 3
    with ActivationStore.open(tmp_path / "a.h5") as partial, ActivationStore.open(tmp_path / "whole.h5") as whole:
        assert not partial.complete
        assert 0 < len(partial.rows) < len(whole.rows)
    with recorded(gpt2, plan, tmp_path / "a.h5") as store, ActivationStore.open(tmp_path / "whole.h5") as whole:
        assert store.complete
        for hook in whole.hooks:
            assert torch.equal(store.load(hook), whole.load(hook))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "whole.h5"]


def test_a_complete_store_is_left_as_it_is(gpt2, tmp_path):
    plan = plan_recording(gpt2, RAGGED)
    record(gpt2, plan, tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    record(gpt2, plan, tmp_path / "a.h5", on_block=lambda _: pytest.fail("recorded again"))
    assert (tmp_path / "a.h5").read_bytes() == before
    assert prepare_recording(gpt2, plan, tmp_path / "a.h5").complete


def test_another_configuration_is_refused_by_name_and_overwrite_begins_anew(loaded, tmp_path):
    gpt2 = loaded["gpt2"]
    path = tmp_path / "a.h5"
    record(gpt2, plan_recording(gpt2, RAGGED), path)
    before = path.read_bytes()
    other = plan_recording(gpt2, RAGGED, positions="last")
    with pytest.raises(FingerprintError, match=r"positions \(all, now last\)"):
        record(gpt2, other, path)
    with pytest.raises(FingerprintError, match="model weights"):
        record(loaded["llama"], plan_recording(loaded["llama"], RAGGED), path)
    assert path.read_bytes() == before
    with recorded(gpt2, other, path, overwrite=True) as store:
        assert len(store.rows) == len(RAGGED)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (70000.0, "float16", r"blocks.1.hook_resid_post is 70000 at prompt 1 .*, position 2: more than float16"),
        (float("nan"), "float32", r"blocks.1.hook_resid_post is nan at prompt 1 .*, position 2; .* not finite"),
        (float("-inf"), "float32", r"blocks.1.hook_resid_post is -inf at prompt 1"),
    ],
)
def test_bad_numbers_are_named_by_hook_prompt_and_position(gpt2, tmp_path, value, dtype, message):
    def spoil(module, args, output):
        spoiled = output.clone()
        spoiled[1, 3, 5] = value  # the second prompt of the batch; index 3 is position 2 after BOS
        return spoiled

    texts = ["1,2,3,", "4,5,6,"]
    plan = plan_recording(gpt2, texts, sites="blocks.1.hook_resid_post", dtype=dtype)
    handle = gpt2.points["blocks.1.hook_resid_post"].register_forward_hook(spoil)
    with pytest.raises(NumbersError, match=message):
        record(gpt2, plan, tmp_path / "a.h5")
    handle.remove()


def test_a_value_float32_holds_is_stored_though_float16_would_not(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1,2,3,"], sites="blocks.1.hook_resid_post")
    handle = gpt2.points["blocks.1.hook_resid_post"].register_forward_hook(lambda m, a, out: out.fill_(70000.0))
    with recorded(gpt2, plan, tmp_path / "a.h5") as store:
        assert (store["resid_post", 1] == 70000).all()
    handle.remove()


def test_float16_is_within_half_a_unit_in_the_last_place(gpt2, tmp_path):
    plans = {dtype: plan_recording(gpt2, RAGGED, dtype=dtype) for dtype in ("float32", "float16")}
    with (
        recorded(gpt2, plans["float32"], tmp_path / "a.h5") as a,
        recorded(gpt2, plans["float16"], tmp_path / "b.h5") as b,
    ):
        for hook in a.hooks:
            assert torch.equal(a.load(hook).half().float(), b.load(hook))
    assert (tmp_path / "b.h5").stat().st_size < 0.8 * (tmp_path / "a.h5").stat().st_size


def test_a_second_writer_is_refused(gpt2, tmp_path):
    plan = plan_recording(gpt2, RAGGED)
    with (
        writer_lock(tmp_path / "a.h5"),
        pytest.raises(LockedError, match=f"a.h5 is being written by process {os.getpid()}"),
    ):
        record(gpt2, plan, tmp_path / "a.h5")


def test_a_full_disk_is_told_before_the_first_forward(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(gpt2.bridge.original_model.base_model, "forward", lambda *_, **__: pytest.fail("ran"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    plan = plan_recording(gpt2, RAGGED)
    for attempt in (record, prepare_recording):
        with pytest.raises(NoSpaceError, match=r"need [\d,]+ bytes, have 1,000"):
            attempt(gpt2, plan, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_a_store_are_refused(gpt2, tmp_path):
    plan = plan_recording(gpt2, RAGGED)
    (tmp_path / "link.h5").symlink_to(tmp_path / "elsewhere.h5")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a folder; give a file name"):
        record(gpt2, plan, tmp_path)
    with pytest.raises(InputError, match="is a symbolic link"):
        record(gpt2, plan, tmp_path / "link.h5")
    with pytest.raises(NotAvailableError, match="cannot make the folder"):
        record(gpt2, plan, tmp_path / "file" / "a.h5")
    (tmp_path / "not.h5").write_text("something of mine")
    with pytest.raises(CorruptFileError, match=r"not.h5 is not an HDF5 file, or its first bytes are damaged"):
        record(gpt2, plan, tmp_path / "not.h5")
    assert (tmp_path / "not.h5").read_text() == "something of mine"


def test_a_hook_that_stays_silent_is_named(gpt2, tmp_path):
    plan = plan_recording(gpt2, RAGGED, sites="blocks.0.hook_mlp_out,blocks.0.hook_resid_pre")
    dead = replace(gpt2, points={**gpt2.points, "blocks.0.hook_mlp_out": torch.nn.Identity()})
    with pytest.raises(NotAvailableError, match=r"blocks.0.hook_mlp_out does not fire"):
        record(dead, plan, tmp_path / "a.h5")


def test_an_architecture_without_a_site_is_told(loaded):
    with pytest.raises(InputError, match=r"tiny-neox has no blocks.0.hook_resid_mid"):
        plan_recording(loaded["neox"], RAGGED, sites="resid_mid")


def test_memory_does_not_grow_with_prompts(gpt2, tmp_path):
    """The most that live tensors take up at the end of any block."""

    def watch(progress):
        seen.append(sum(o.numel() for o in gc.get_objects() if type(o) is torch.Tensor))

    peaks = []
    for n in (60, 60, 240):  # the first warms up
        seen: list[int] = []
        gc.collect()
        plan = plan_recording(gpt2, [f"{i % 10},{i % 7},{i % 3}," for i in range(n)])
        record(gpt2, plan, tmp_path / "a.h5", overwrite=True, on_block=watch)
        peaks.append(max(seen))
    assert peaks[2] <= 1.05 * peaks[1]
