"""Activations that were recorded elsewhere become a store like any other, or one sentence says what is amiss."""

import numpy as np
import pandas as pd
import pytest
import torch

from cache import ActivationStore, Hook, verify_store
from cache.errors import FingerprintError, InputError, NumbersError
from cache.store import elsewhere
from geometry import between_pairs, demix_by_layer, pca_by_layer
from geometry.between.summary import summary

SITE = ("resid_post", 0)
FAMILIES = ("en", "fr", "xx", *(f"control:{i}" for i in range(20)))
LINES = [
    {"family": f, "pair": f"p{m}", "template": f"t{t}", "score": 1.5 * m}
    for f in FAMILIES
    for m in range(7)
    for t in range(6)
]


def planted(seed=0, d=40):
    """English and French code seven pairs alike, all others each in its own way."""
    rng = np.random.default_rng(seed)
    shared, rows = rng.normal(size=(7, d)), []
    own = {family: shared if family in ("en", "fr") else rng.normal(size=(7, d)) for family in FAMILIES}
    for line in LINES:
        rows.append(own[line["family"]][int(line["pair"][1:])] + 0.3 * rng.normal(size=d))
    return np.array(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    x = planted()
    arrays = {("resid_post", layer): x + layer for layer in (1, 0)}
    path = tmp_path_factory.mktemp("elsewhere") / "own.h5"
    with ActivationStore.from_arrays(arrays, pd.DataFrame(LINES), path) as store:
        yield store, x


def test_what_is_given_is_what_is_read_with_its_labels(made):
    store, x = made
    assert [hook.name for hook in store.hooks] == ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    for layer in (0, 1):
        assert torch.equal(store.load(("resid_post", layer)), torch.tensor(x + layer).float())
    expected = pd.DataFrame(LINES)
    for name in ("family", "pair", "score"):
        assert store.rows[name].tolist() == expected[name].tolist()
    assert store.rows["is_last"].all()
    assert (store.complete, store.weights, len(store.controls)) == (True, "", 20)
    assert verify_store(store.paths[0]).damage == ()


def test_nulls_and_verdicts_work_on_it(made):
    store, _ = made
    found = summary(between_pairs(store.view(), [("en", "fr"), ("en", "xx")], measures=["matched_cosine"]))
    assert found["verdict"].tolist()[0] == "shared"
    assert found["verdict"].tolist()[1] != "shared"
    assert demix_by_layer(store.view(), ["en", "fr"]).table["p_layers"].min() < 0.01
    assert len(pca_by_layer(store.view(), k=2).table) == 4


def test_rows_of_one_prompt_are_its_tokens(tmp_path):
    rows = pd.DataFrame(
        {
            "prompt": ["a", "a", "b", "b", "b"],
            "text": ["one cat", "one cat", "the two dogs", "the two dogs", "the two dogs"],
            "token_text": ["one", " cat", "the", " two", None],
            "group": ["x", "x", "y", "y", "y"],
        },
        index=[9, 8, 7, 6, 5],
    )
    x = np.arange(10.0).reshape(5, 2)
    with ActivationStore.from_arrays({SITE: x}, rows, tmp_path / "tokens.h5") as store:
        assert store.prompts["text"].tolist() == ["one cat", "the two dogs"]
        assert store.rows["position"].tolist() == [0, 1, 0, 1, 2]
        assert store.rows["is_last"].tolist() == [False, True, False, False, True]
        assert store.rows["token_text"].tolist() == ["one", " cat", "the", " two", ""]
        assert store.rows["token"].eq(-1).all()
        assert store.load(SITE, "is_last and group == 'y'").tolist() == [[8, 9]]
    given = rows.assign(position=[1, 0, 4, 5, 6], token=range(5), is_last=[1, 0, 0, 1, 0])
    with ActivationStore.from_arrays({SITE: x}, given, tmp_path / "given.h5") as store:
        assert store.rows["position"].tolist() == [1, 0, 4, 5, 6]
        assert store.rows["token"].tolist() == [0, 1, 2, 3, 4]
        assert store.rows["is_last"].tolist() == [True, False, False, True, False]


def test_heads_stay_heads_and_halves_are_stored_as_halves(tmp_path):
    z = torch.randn(4, 3, 5, dtype=torch.bfloat16, requires_grad=True)
    arrays = {"blocks.2.attn.hook_z": z, ("mlp_out", 2): np.ones((4, 6), dtype=np.float16)}
    with ActivationStore.from_arrays(arrays, ["a", "b", "c", "d"], tmp_path / "h.h5", dtype="float16") as store:
        heads = store.load("blocks.2.attn.hook_z")
        assert torch.equal(heads, z.detach().float().reshape(4, 15).half().float())
        assert store.manifest["hard"]["storage dtype"] == "float16"
        assert store.prompts["text"].tolist() == ["a", "b", "c", "d"]


def test_many_rows_are_written_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "ROWS_PER_BLOCK", 3)
    x = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    with ActivationStore.from_arrays({SITE: x}, [str(i) for i in range(10)], tmp_path / "many.h5") as store:
        assert np.array_equal(store.load(SITE).numpy(), x)
        assert verify_store(store.paths[0]).n_blocks == 4


def test_a_model_that_is_given_is_noted_as_the_one_recorded(gpt2, tmp_path):
    x = {SITE: np.ones((2, gpt2.d_model))}
    with ActivationStore.from_arrays(x, ["a", "b"], tmp_path / "m.h5", model=gpt2) as store:
        assert store.weights == gpt2.weights
        assert store.manifest["soft"]["model"] == gpt2.name


def test_the_same_again_is_left_as_it_is_and_others_are_not_replaced(tmp_path):
    path, x = tmp_path / "again.h5", np.ones((2, 3))
    ActivationStore.from_arrays({SITE: x}, ["a", "b"], path).close()
    before = path.read_bytes()
    ActivationStore.from_arrays({SITE: x}, ["a", "b"], path).close()
    assert path.read_bytes() == before
    for arrays, rows in (({SITE: 2 * x}, ["a", "b"]), ({SITE: x}, ["a", "c"]), ({("mlp_out", 0): x}, ["a", "b"])):
        with pytest.raises(FingerprintError, match="holds other activations; choose another path, or overwrite=True"):
            ActivationStore.from_arrays(arrays, rows, path)
    assert path.read_bytes() == before
    with ActivationStore.from_arrays({SITE: 2 * x}, ["a", "b"], path, overwrite=True) as store:
        assert store.load(SITE).eq(2).all()
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(InputError, match="is no store, and is not replaced"):
        ActivationStore.from_arrays({SITE: x}, ["a", "b"], other, overwrite=True)


def test_one_that_was_broken_off_is_written_anew(tmp_path, monkeypatch):
    path, x = tmp_path / "broken.h5", np.ones((2, 3))

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(elsewhere, "_fill", fail)
        with pytest.raises(KeyboardInterrupt):
            ActivationStore.from_arrays({SITE: x}, ["a", "b"], path)
    with ActivationStore.from_arrays({SITE: x}, ["a", "b"], path) as store:
        assert store.complete


X = np.ones((2, 3))
FRAME = pd.DataFrame(X, index=["b", "a"])
NAMED = pd.DataFrame({"text": ["one", "two"]}, index=["a", "b"])


@pytest.mark.parametrize(
    ("arrays", "rows", "message"),
    [
        ({}, ["a", "b"], "arrays come by site, as {('resid_post', 3): x}; got dict"),
        ({SITE: X}, ["a"], "blocks.0.hook_resid_post has 2 rows, and the table of rows 1"),
        ({SITE: X, "blocks.0.hook_resid_post": X}, ["a", "b"], "two arrays are of one site; give each site once"),
        (
            {("z", 0): X},
            ["a", "b"],
            "blocks.0.attn.hook_z: the axes (row, head, d_head) are wanted; got 2, of the shape (2, 3)",
        ),
        (
            {Hook("z", 0, 1): X},
            ["a", "b"],
            "blocks.0.attn.hook_z comes with all of its heads, as (row, head, d_head); got head 1",
        ),
        (
            {SITE: FRAME},
            NAMED,
            "blocks.0.hook_resid_post: the rows of the table in another order; x.loc[rows.index] puts them right",
        ),
        ({SITE: X}, NAMED[:0], "the table of rows has no row"),
        ({SITE: X}, NAMED.assign(prompt=["p", None]), "row 1 names no prompt, and others do"),
        (
            {SITE: X},
            NAMED.assign(prompt="p"),
            "rows of one prompt differ in 'text': 'one' and, in row 1, 'two'; give rows of different labels different "
            "prompts",
        ),
        (
            {SITE: X},
            NAMED.assign(position=["first", "second"]),
            "the column 'position' of the table of rows holds whole numbers; got 'first'",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_a_sentence(arrays, rows, message, tmp_path):
    with pytest.raises(InputError) as caught:
        ActivationStore.from_arrays(arrays, rows, tmp_path / "no.h5")
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_numbers_that_no_store_can_hold_are_told(tmp_path):
    with pytest.raises(NumbersError, match=r"^blocks\.0\.hook_resid_post: not all finite; nan at \[0, 0\]"):
        ActivationStore.from_arrays({SITE: X * np.nan}, ["a", "b"], tmp_path / "nan.h5")
    with pytest.raises(NumbersError, match=r"has a value of 1e\+05: more than float16 can hold$"):
        ActivationStore.from_arrays({SITE: X * 1e5}, ["a", "b"], tmp_path / "large.h5", dtype="float16")
    with pytest.raises(InputError, match=r"^dtype must be one of float32, float16; got 'int8'$"):
        ActivationStore.from_arrays({SITE: X}, ["a", "b"], tmp_path / "type.h5", dtype="int8")
