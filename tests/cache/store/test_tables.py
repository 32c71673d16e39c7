"""What a store's file says of its rows and prompts: exactly what a loop over the tokenizer's output says."""

import datetime
import json
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import ActivationStore, Prompts, load_dataset, open_stores, plan_recording, record
from cache.errors import CorruptFileError, FingerprintError, InputError
from cache.prompts.prompt import Prompt
from cache.sealed.opening import safe_open
from cache.sealed.writer import create_sealed
from cache.store.manifest import FEATURES, fingerprint_of, hard_fields, soft_fields
from cache.store.tables import (
    PROMPT_COLUMNS,
    ROW_COLUMNS,
    copied_tables,
    kind_of,
    read_manifest,
    read_prompt_table,
    read_rows,
    store_layout,
)
from tests.cache.resealing import change
from tests.recordings import recorded
from tests.rerecording import rerecorded

UNICODE = Prompts(
    (
        Prompt(
            "één, twee,", "Zahl", "list", 3, "increasing", (1, 2), ("één", "twee"), ((0, 3), (5, 9)), " drie", "twee"
        ),
        Prompt("日本語 🎉👩‍👩‍👧 e\u0301", "日本", answer="🎌", distractor=" ", group="g\tg"),
        Prompt(" \n leading and trailing \n ", group="Ω"),
        Prompt("مرحبا", answer="\u200f"),
    ),
    seed=5,
)


def keep(positions: str, bos: bool, members: list[int], place: int) -> bool:
    """Whether a plan keeps a token; `place` counts from 0 at BOS, or at the first token without BOS."""
    last = place == len(members) + bos - 1
    if positions == "all":
        return True
    is_member = place >= bos and members[place - bos] >= 0
    return last or (positions == "members" and is_member)


def naive_rows(model, prompts: Prompts, positions: str) -> list[tuple]:
    """The rows one by one, from the tokenizer alone."""
    rows = []
    for number, prompt in enumerate(prompts):
        encoded = model.tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
        ids, members = list(encoded["input_ids"]), []
        for start, end in encoded["offset_mapping"]:
            inside = [i for i, span in enumerate(prompt.spans) if start <= span[1] - 1 < end]
            members.append(inside[-1] if inside else -1)
        if model.bos:
            ids = [model.tokenizer.bos_token_id, *ids]
        for place, token in enumerate(ids):
            if keep(positions, model.bos, members, place):
                position = place - model.bos
                text = model.tokenizer.decode([token])
                member = members[position] if position >= 0 else -1
                rows.append((number, position, token, text, member, place == len(ids) - 1))
    return rows


def written(model, prompts, path: Path, **options) -> Path:
    """A store of which no block is recorded."""
    create_sealed(path, store_layout(model, plan_recording(model, prompts, **{"sites": "z", **options})))
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.mark.parametrize("positions", ["all", "members", "last"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("texts", ["unicode", "sequences"])
def test_rows_equal_a_loop_over_prompts_and_tokens(gpt2, prompts, path, texts, bos, positions):
    chosen = UNICODE if texts == "unicode" else prompts.subset(range(0, len(prompts), 9))
    model = replace(gpt2, bos=bos)
    written(model, chosen, path, positions=positions)
    with safe_open(path) as file:
        table = pd.DataFrame(read_rows(file))
    expected = pd.DataFrame(naive_rows(model, chosen, positions), columns=list(ROW_COLUMNS))
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert (table.dtypes[["prompt", "position", "token", "member"]] == np.int32).all()
    assert table["is_last"].sum() == len(chosen)


def test_each_row_belongs_to_the_block_of_its_prompt(gpt2, prompts, path):
    chosen = prompts.subset(range(0, len(prompts), 5))
    plan = plan_recording(gpt2, chosen, sites="z", positions="members", batch_tokens=64)
    assert len(plan.blocks) > 3
    layout = store_layout(gpt2, plan)
    for prompt, block in zip(layout.frozen["rows/prompt"], layout.block, strict=True):
        assert prompt in plan.blocks[block]
    assert set(layout.block) == set(range(len(plan.blocks)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_sites_have_the_models_shapes_and_the_plans_dtype(loaded, name, dtype):
    sites = ["resid_mid", "q", "k", "v", "z", "attn_out", "mlp_post", "mlp_out"]
    plan = plan_recording(loaded[name], ["a"], sites=sites, layers="1", dtype=dtype)
    shapes = {"gpt2": [(3, 11), (3, 11), (3, 11), (33,), (71,)], "llama": [(6, 10), (2, 10), (2, 10), (42,), (53,)]}
    q, k, v, d_model, d_mlp = shapes[name]
    expected = {"attn.hook_q": q, "attn.hook_k": k, "attn.hook_v": v, "attn.hook_z": q, "mlp.hook_post": d_mlp}
    expected |= dict.fromkeys(("hook_resid_mid", "hook_attn_out", "hook_mlp_out"), d_model)
    assert store_layout(loaded[name], plan).sites == {
        f"activations/blocks.1.{site}": (shape, dtype) for site, shape in expected.items()
    }


def test_every_label_of_every_prompt_comes_back(gpt2, prompts, path):
    for chosen in (UNICODE, prompts.subset(range(0, len(prompts), 9)), Prompts.from_texts(["only", "texts"])):
        written(gpt2, chosen, path)
        with safe_open(path) as file:
            table = pd.DataFrame(read_prompt_table(file))
        assert set(table) == set(PROMPT_COLUMNS) == {field.name for field in fields(Prompt)} - {"labels"} | {"pair_key"}
        for name, column in chosen.table().items():
            if name != "spans":
                assert table[name].tolist() == column.tolist(), name
        rebuilt = [tuple(tuple(span) for span in spans) for spans in table["spans"]]
        assert rebuilt == chosen.table()["spans"].tolist()


LABELLED = [
    {"text": "one", "size": 1.5, "note": "x"},
    {"text": "two", "size": 2, "note": "y"},
    {"text": "three and four", "size": 3, "note": ""},
]


def test_further_labels_are_columns_of_prompts_and_rows_and_can_be_asked_for(gpt2, path):
    with recorded(gpt2, plan_recording(gpt2, load_dataset(LABELLED), sites="resid"), path) as store:
        assert store.prompts[["size", "note"]].to_numpy().tolist() == [[1.5, "x"], [2, "y"], [3, ""]]
        assert store.rows["size"].tolist() == store.prompts["size"].iloc[store.rows["prompt"]].tolist()
        assert set(store.select("size >= 2 and note != 'y'")["prompt"]) == {2}


def test_files_with_other_labels_are_joined(gpt2, tmp_path):
    for name, text in (("size", "one"), ("note", "two")):
        plan = plan_recording(gpt2, load_dataset([{"text": text, name: 1}]), sites="resid")
        recorded(gpt2, plan, tmp_path / f"{name}.h5").close()
    with open_stores([tmp_path / "size.h5", tmp_path / "note.h5"]) as store:
        assert store.prompts[["size", "note"]].to_numpy().tolist() == [[1, ""], ["", 1]]


@pytest.mark.parametrize(
    "text", ["[]", '{"size": [1]}', '{"text": "a"}', '{"": 1}', '{"member": 1}', "{", '{"a": null}']
)
def test_other_things_than_labels_are_refused(gpt2, path, text):
    recorded(gpt2, plan_recording(gpt2, load_dataset(LABELLED), sites="resid"), path).close()
    with rerecorded(path) as file:
        content = file["prompts/labels"][:]
        content[1] = text.encode()
        file["prompts/labels"][:] = content
    with pytest.raises(CorruptFileError), safe_open(path) as file:
        read_prompt_table(file)


@pytest.mark.parametrize("column", ["pair", "member"])
def test_files_whose_pairs_were_numbered_apart_are_not_joined(gpt2, tmp_path, column):
    for name, pairs in (("a", "xy"), ("b", "yx")):
        records = [{"text": f"{name} {pair}", "family": name, column: pair} for pair in pairs]
        recorded(gpt2, plan_recording(gpt2, load_dataset(records), sites="resid"), tmp_path / f"{name}.h5").close()
    with pytest.raises(InputError, match=r"^pairs 'x' and 'y' have the same number, since they were read apart"):
        open_stores([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_spans_come_back_as_tuples_of_tuples(gpt2, path):
    written(gpt2, UNICODE, path)
    with safe_open(path) as file:
        table = pd.DataFrame(read_prompt_table(file))
    assert table["spans"].tolist() == UNICODE.table()["spans"].tolist()


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=10)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts.filter(bool), texts, texts), min_size=1, max_size=4))
def test_any_unicode_text_survives_the_file(gpt2, path, labels):
    chosen = [Prompt(text, answer=answer, group=group) for text, answer, group in labels]
    written(gpt2, Prompts(tuple(chosen)), path, positions="last")
    with safe_open(path) as file:
        table = pd.DataFrame(read_prompt_table(file))
        tokens = read_rows(file)["token_text"]
    for name in ("text", "answer", "group"):
        assert table[name].tolist() == [getattr(prompt, name) for prompt in chosen]
    assert len(tokens) == len(chosen)


def test_a_token_whose_text_has_a_nul_is_shown_with_a_replacement(gpt2, path, monkeypatch):
    monkeypatch.setattr(gpt2.tokenizer, "decode", lambda ids: "a\0")
    written(gpt2, ["one"], path)
    with safe_open(path) as file:
        assert set(read_rows(file)["token_text"]) == {"a\ufffd"}


def test_the_manifest_holds_both_kinds_of_fields_and_its_fingerprint(gpt2, path):
    plan = plan_recording(gpt2, UNICODE, sites="z")
    create_sealed(path, store_layout(gpt2, plan, command="geometry cache 'a b'"))
    with safe_open(path) as file:
        manifest = read_manifest(file)
        attributes = {name: value.decode() for name, value in file.attrs.items()}
    expected = {"hard": hard_fields(gpt2, plan), "soft": soft_fields(gpt2)}
    assert manifest == json.loads(json.dumps(expected))
    assert attributes["fingerprint"] == fingerprint_of(expected["hard"])
    assert attributes["command"] == "geometry cache 'a b'"
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(attributes["created"])
    assert datetime.timedelta(seconds=-1) <= age < datetime.timedelta(minutes=5)


def change_attributes(path: Path, **attributes) -> None:
    def set_them(file):
        for name, value in attributes.items():
            if value is None:
                del file.attrs[name]
            else:
                file.attrs[name] = np.bytes_(value)

    change(path, set_them)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"format": None}, "a.h5 is HDF5 but not an activation store; geometry cache makes them"),
        ({"format": "anndata"}, "a.h5 is HDF5 but not an activation store"),
        ({"manifest": None}, "a.h5 has no readable manifest; record it anew"),
        ({"manifest": "{not json"}, "a.h5 has no readable manifest"),
        ({"manifest": "[" * 5000}, "a.h5 has no readable manifest"),
        ({"manifest": "[]"}, "a.h5 has no readable manifest"),
        ({"manifest": "{}"}, "a.h5 has no readable manifest"),
        ({"fingerprint": None}, "a.h5 has no readable manifest"),
        ({"fingerprint": "0" * 64}, "a.h5 has a manifest that does not match its fingerprint; record it anew"),
        ({"manifest": '{"hard":{"bos":true},"soft":{}}'}, "a.h5 has a manifest that does not match its fingerprint"),
    ],
)
def test_a_file_without_a_sound_manifest_of_this_format_is_refused(gpt2, path, attributes, message):
    written(gpt2, ["one"], path)
    change_attributes(path, **attributes)
    with safe_open(path) as file, pytest.raises(CorruptFileError, match=message.replace(".", r"\.")) as refusal:
        read_manifest(file)
    assert str(path) in str(refusal.value)
    with pytest.raises(CorruptFileError):
        ActivationStore.open(path)


@pytest.mark.parametrize("version", [1, 3, 12])
def test_a_store_of_another_format_version_is_refused_by_its_number(gpt2, path, version):
    written(gpt2, ["one"], path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"geometry sealed file 2\r\n", f"geometry sealed file {version}\r\n".encode()))
    told = rf"a\.h5 has format version {version}; this geometry reads 2$"
    with pytest.raises(FingerprintError, match=told) as refusal:
        ActivationStore.open(path)
    assert str(refusal.value).startswith(str(path))
    assert refusal.value.exit_code == 5


@pytest.mark.parametrize("name", ["created", "command"])
def test_a_store_without_an_attribute_is_refused(gpt2, path, name):
    written(gpt2, ["one"], path)
    change_attributes(path, **{name: None})
    with pytest.raises(CorruptFileError, match=rf"a\.h5 cannot be read: .*{name}"):
        ActivationStore.open(path)


def test_everything_in_a_store_has_fixed_length(gpt2, path):
    written(gpt2, UNICODE, path)

    def check(name, item):
        if isinstance(item, h5py.Dataset):
            string = h5py.check_string_dtype(item.dtype)
            assert string is None or (string.encoding == "utf-8" and string.length), name

    with h5py.File(path, "r") as file:
        file.visititems(check)
        assert set(file["rows"]) == set(ROW_COLUMNS)
        assert set(file["prompts"]) == set(PROMPT_COLUMNS)


def test_a_stores_own_tables_are_written_again_as_they_were(gpt2, path):
    lines = [{"text": one.text, "group": "ab"[i % 2], "size": i} for i, one in enumerate(UNICODE)]
    plan = plan_recording(gpt2, load_dataset(lines), sites="z")
    first = store_layout(gpt2, plan).frozen
    with record(gpt2, plan, path) as store:
        again = copied_tables(store.prompts, store.rows)
    assert set(again) == set(first)
    for name, content in first.items():
        assert (again[name].dtype, again[name].tolist()) == (content.dtype, content.tolist()), name
    some = copied_tables(store.prompts, store.rows.iloc[[2, 0]])
    assert some["rows/token"].tolist() == first["rows/token"][[2, 0]].tolist()
    assert some["prompts/text"].tolist() == first["prompts/text"].tolist()


def test_a_file_of_another_kind_is_named(gpt2, path):
    written(gpt2, ["one"], path)
    change_attributes(path, format="sae-features")
    told = r"a\.h5 is a file of SAE features, not an activation store; geometry cache makes them$"
    with safe_open(path) as file, pytest.raises(CorruptFileError, match=told):
        read_manifest(file)
    with safe_open(path) as file:
        assert kind_of(file) is FEATURES
    with safe_open(path) as file, pytest.raises(CorruptFileError, match=r"a\.h5 has no readable manifest"):
        read_manifest(file, FEATURES)
