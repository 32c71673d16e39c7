"""The fingerprint: every field that values depend on is in it and is named when it differs, and nothing else is."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from cache import Prompts, plan_recording, record
from cache.errors import FingerprintError
from cache.loading.hashes import tokenizer_hash, weights_hash
from cache.prompts.prompt import Prompt
from cache.store.manifest import canonical, differences, fingerprint_of, hard_fields, soft_fields

PROMPTS = Prompts(
    (
        Prompt("1,2,", "digits", "list", 0, "increasing", (1, 2), ("1", "2"), ((0, 1), (2, 3)), "3", "2", "g"),
        Prompt("x, y. Van", group="h"),
        Prompt("one two"),
    )
)
FIELDS = {
    "format version",
    "model weights",
    "model revision",
    "model processing",
    "compute dtype",
    "attention",
    "tokenizer",
    "bos",
    "prompt texts",
    "prompt order",
    "prompt labels",
    "prompt tokens",
    "template seed",
    "hooks",
    "positions",
    "storage dtype",
    "block plan",
}
OPTIONS = {"sites": "resid_post,z", "layers": "0-1", "batch_tokens": 16}


def fields_of(model, prompts=PROMPTS, **options) -> dict:
    return hard_fields(model, plan_recording(model, prompts, **{**OPTIONS, **options}))


def names(lines: list[str]) -> set[str]:
    return {line.split(" (")[0] for line in lines}


@pytest.fixture(scope="module")
def stored(gpt2) -> dict:
    return fields_of(gpt2)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory) -> Path:
    """A complete store of `PROMPTS` and `OPTIONS`."""
    path = tmp_path_factory.mktemp("store") / "a.h5"
    record(gpt2, plan_recording(gpt2, PROMPTS, **OPTIONS), path)
    return path


def test_the_fields_are_those_listed_here(stored):
    assert set(stored) == FIELDS


def one_bit_of_one_weight(gpt2) -> dict:
    plain = AutoModelForCausalLM.from_pretrained(gpt2.name)
    assert weights_hash(plain) == gpt2.weights
    with torch.no_grad():
        plain.transformer.h[1].mlp.c_fc.weight.view(torch.int32)[3, 5] ^= 1
    return {"model": replace(gpt2, weights=weights_hash(plain))}


def one_more_token(gpt2) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(gpt2.name)
    assert tokenizer_hash(tokenizer) == gpt2.tokenizer_rules
    tokenizer.add_tokens([AddedToken("never in a prompt")])
    return {"model": replace(gpt2, tokenizer_rules=tokenizer_hash(tokenizer))}


def one_merge_less(gpt2) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(gpt2.name)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["model"]["merges"].pop()
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    return {"model": replace(gpt2, tokenizer_rules=tokenizer_hash(tokenizer))}


def another_attention(gpt2) -> dict:
    config = SimpleNamespace(_attn_implementation="sdpa")
    embeddings = gpt2.bridge.original_model.get_input_embeddings
    model = SimpleNamespace(base_model=None, config=config, get_input_embeddings=embeddings)
    return {"model": replace(gpt2, bridge=SimpleNamespace(cfg=gpt2.bridge.cfg, original_model=model))}


def relabelled(**labels) -> dict:
    return {"prompts": Prompts((PROMPTS[0], replace(PROMPTS[1], **labels), PROMPTS[2]))}


BLOCKS = "block plan"
CHANGES = {
    "one bit of one weight": (one_bit_of_one_weight, {"model weights"}),
    "revision": (lambda gpt2: {"model": replace(gpt2, revision="0123abc")}, {"model revision"}),
    "processing": (lambda gpt2: {"model": replace(gpt2, processing="compatibility")}, {"model processing"}),
    "compute dtype": (lambda gpt2: {"model": replace(gpt2, dtype="bfloat16")}, {"compute dtype"}),
    "attention": (another_attention, {"attention"}),
    "one merge less": (one_merge_less, {"tokenizer"}),
    "one more token": (one_more_token, {"tokenizer"}),
    "no bos": (lambda gpt2: {"model": replace(gpt2, bos=False)}, {"bos"}),
    "a family": (lambda gpt2: relabelled(family="animals"), {"prompt labels"}),
    "a group": (lambda gpt2: relabelled(group=""), {"prompt labels"}),
    "an answer": (lambda gpt2: relabelled(answer=" z"), {"prompt labels"}),
    "a text": (
        lambda gpt2: relabelled(text="x, z. Van"),
        {"prompt texts", "prompt order", "prompt tokens"},
    ),
    "a prompt less": (
        lambda gpt2: {"prompts": PROMPTS.subset([0, 1])},
        {"prompt texts", "prompt order", "prompt labels", "prompt tokens", BLOCKS},
    ),
    "the order": (
        lambda gpt2: {"prompts": PROMPTS.subset([1, 0, 2])},
        {"prompt order", "prompt labels", "prompt tokens", BLOCKS},
    ),
    "the seed": (lambda gpt2: {"prompts": Prompts(PROMPTS.items, seed=1)}, {"template seed"}),
    "a site more": (lambda gpt2: {"sites": "resid_post,z,mlp_out"}, {"hooks"}),
    "a layer less": (lambda gpt2: {"layers": "0"}, {"hooks"}),
    "positions": (lambda gpt2: {"positions": "last"}, {"positions"}),
    "storage dtype": (lambda gpt2: {"dtype": "float16"}, {"storage dtype"}),
    "batch tokens": (lambda gpt2: {"batch_tokens": 17}, {BLOCKS}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_configuration_is_refused_naming_exactly_what_differs(gpt2, store, stored, change):
    make, expected = CHANGES[change]
    changed = {"model": gpt2, "prompts": PROMPTS, **make(gpt2)}
    model, prompts = changed.pop("model"), changed.pop("prompts")
    if change == "batch tokens":
        assert (
            plan_recording(model, prompts, **{**OPTIONS, **changed}).blocks
            == plan_recording(model, prompts, **OPTIONS).blocks
        ), "only the number differs"
    assert names(differences(stored, fields_of(model, prompts, **changed))) == expected
    before = store.read_bytes()
    with pytest.raises(FingerprintError, match=f"^{re.escape(str(store))} was recorded with another ") as refusal:
        record(model, plan_recording(model, prompts, **{**OPTIONS, **changed}), store)
    said = str(refusal.value).removeprefix(f"{store} was recorded with another ").split("; choose another --out")[0]
    assert {name for name in FIELDS if re.search(rf"(^|, ){name}\b", said)} == expected
    assert refusal.value.exit_code == 5
    assert store.read_bytes() == before
    assert [file.name for file in store.parent.iterdir()] == ["a.h5"]


def test_a_store_of_another_format_version_is_refused_naming_both(gpt2, store, tmp_path):
    content = store.read_bytes()
    other = tmp_path / "other.h5"
    other.write_bytes(content.replace(b"geometry sealed file 2", b"geometry sealed file 7", 1))
    before = other.read_bytes()
    with pytest.raises(FingerprintError, match=r"other\.h5 has format version 7; this geometry reads 2") as refusal:
        record(gpt2, plan_recording(gpt2, PROMPTS, **OPTIONS), other)
    assert refusal.value.exit_code == 5
    assert other.read_bytes() == before


def test_the_same_configuration_planned_anew_is_never_refused(gpt2, store):
    before = store.read_bytes()
    record(gpt2, plan_recording(gpt2, PROMPTS, **OPTIONS), store)
    assert store.read_bytes() == before


@pytest.mark.parametrize(("name", "device"), [("another/name", "cpu"), ("", "cuda:3")])
def test_names_and_machines_never_refuse(gpt2, store, monkeypatch, name, device):
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    monkeypatch.setattr("platform.python_version", lambda: "3.99")
    monkeypatch.setattr("cache.repeatable.version_of", lambda name: "99.0")
    elsewhere, here = replace(gpt2, name=name or gpt2.name), soft_fields(gpt2)
    monkeypatch.setattr(type(gpt2), "device", device)
    assert soft_fields(elsewhere) != here
    assert fields_of(elsewhere) == fields_of(gpt2)
    record(elsewhere, plan_recording(elsewhere, PROMPTS, **OPTIONS), store)


def test_soft_fields_say_where_the_store_comes_from(gpt2):
    soft = soft_fields(gpt2)
    assert (soft["model"], soft["device"]) == (gpt2.name, "cpu")
    assert soft["libraries"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert soft["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_each_field_alone_changes_the_fingerprint_and_is_named(stored, field):
    for other in ("another value", None, {**stored}):
        changed = {**stored, field: other}
        assert names(differences(stored, changed)) == names(differences(changed, stored)) == {field}
        assert fingerprint_of(changed) != fingerprint_of(stored)
    missing = {name: value for name, value in stored.items() if name != field}
    assert names(differences(missing, stored)) == names(differences(stored, missing)) == {field}


@pytest.mark.parametrize(
    ("stored", "asked", "told"),
    [
        ("all", "last", "positions (all, now last)"),
        ("", "abc", "positions (none, now abc)"),
        (True, False, "positions (True, now False)"),
        (1, 2, "positions (1, now 2)"),
        ("x" * 20, "y", "positions (xxxxxxxxxxxxxxxxxxxx, now y)"),
        ("x" * 21, "y", "positions"),
        ("y", "x" * 21, "positions"),
        (True, 1, "positions (True, now 1)"),
    ],
)
def test_short_values_are_shown_and_hashes_are_not(stored, asked, told):
    assert differences({"bos": True, "positions": stored}, {"bos": True, "positions": asked}) == [told]


def test_differing_fields_are_named_in_the_order_asked():
    assert differences({"d": 1, "a": 1, "c": 1}, {"c": 2, "b": 2, "a": 2}) == [
        "c (1, now 2)",
        "b (None, now 2)",
        "a (1, now 2)",
        "d (1, now None)",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.randoms(use_true_random=False))
def test_canonical_json_is_one_ascii_text_whatever_the_order_of_keys(fields, random):
    text = canonical(fields)
    shuffled = list(fields.items())
    random.shuffle(shuffled)
    assert canonical(dict(shuffled)) == text
    assert json.loads(text) == fields
    assert text.isascii()
    assert canonical(json.loads(text)) == text
    assert json.dumps(json.loads(text), indent=None, separators=(",", ":"), sort_keys=True) == text
    assert fingerprint_of(fields) == hashlib.sha256(text.encode()).hexdigest()
    assert differences(fields, dict(shuffled)) == []


def test_canonical_json_is_this_text():
    assert canonical({"b": [1, "é"], "a": {"y": None, "x": True}}) == r'{"a":{"x":true,"y":null},"b":[1,"\u00e9"]}'


def test_the_fingerprint_is_the_same_in_another_process_with_another_hash_seed(gpt2, stored):
    script = """
import pickle, sys
from dataclasses import replace
from cache.store.manifest import fingerprint_of, hard_fields
from cache.models.hooks import select_hooks
from cache.store.plan import plan_blocks
model, plan = pickle.load(sys.stdin.buffer)
hooks = select_hooks({"z", "resid_post"}, "0-1", 3)
print(fingerprint_of(hard_fields(model, replace(plan, hooks=hooks, blocks=plan_blocks(plan.tokenized.lengths, 16)))))
"""
    fields = ("weights", "revision", "processing", "dtype", "attention", "tokenizer_rules")
    model = SimpleNamespace(**{name: getattr(gpt2, name) for name in fields})
    content = pickle.dumps((model, plan_recording(gpt2, PROMPTS, **OPTIONS)))
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=content,
        capture_output=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
    )
    assert done.stdout.decode().strip() == fingerprint_of(stored)
