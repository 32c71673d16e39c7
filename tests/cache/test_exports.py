"""What other libraries are given is what the store has, and comes back as a store."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from cache import ActivationStore, load_dataset, plan_recording, to_anndata, to_pandas, to_xarray
from cache.errors import InputError, NotAvailableError
from cache.exports import row_labels
from geometry import between_families
from tests.recordings import recorded

SITES = ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    plan = plan_recording(
        gpt2, load_dataset("digits,months,control:0"), sites="resid", layers="0-2", positions="members"
    )
    with recorded(gpt2, plan, tmp_path_factory.mktemp("exports") / "s.h5") as store:
        yield store


def view_of(store, where="is_last and kind == 'increasing'"):
    return store.view(layers="1,2", where=where)


def test_pandas_has_the_labels_and_the_numbers_of_each_site(store):
    view = view_of(store)
    frame = to_pandas(view)
    assert [*dict.fromkeys(frame.columns.get_level_values(0))] == ["rows", *SITES]
    for hook in view.hooks:
        assert np.array_equal(frame[hook.name].to_numpy(), store.load(hook, view.where).numpy())
    rows = store.rows[view.chosen()]
    assert frame.index.equals(rows.index)
    for name in ("family", "frame", "template", "answer", "token_text", "is_last", "prompt"):
        assert frame["rows"][name].tolist() == rows[name].tolist()


def test_a_row_is_labelled_by_the_member_it_is_or_the_last_one_shown(store):
    labels = row_labels(store.view(layers=0, where="position >= 0"))
    shown = (store.rows["member"] >= 0).to_numpy()
    assert labels["member"][shown].tolist() == store.rows["shown"][shown].tolist()
    prompts = store.prompts.iloc[store.rows["prompt"]]
    last = [members[-1] for members in prompts["members"]]
    assert labels["member"][~shown].tolist() == [one for one, there in zip(last, shown, strict=True) if not there]
    assert labels["text"].tolist() == prompts["text"].tolist()


def test_xarray_has_named_axes_and_labels_as_coordinates(store):
    view = view_of(store)
    array = to_xarray(view)
    assert (array.dims, array.name) == (("hook", "row", "dimension"), "resid_post")
    assert array["layer"].values.tolist() == [1, 2]
    for i, hook in enumerate(view.hooks):
        assert np.array_equal(array[i].values, store.load(hook, view.where).numpy())
    means = array.groupby("family").mean("row")
    digits = store.load(view.hooks[1], f"({view.where}) and family == 'digits'").mean(dim=0)
    np.testing.assert_allclose(means.sel(family="digits").isel(hook=1), digits, rtol=1e-4, atol=1e-5)
    assert array.attrs["fingerprint"] == store.fingerprint


def test_the_embedding_is_layer_minus_1(store):
    assert to_xarray(store.view(where="is_last"))["layer"].values.tolist() == [-1, 0, 1, 2]


def test_anndata_written_and_read_gives_the_same_store_and_verdict(store, tmp_path):
    anndata = pytest.importorskip("anndata")
    view = view_of(store)
    made = to_anndata(view)
    made.write_h5ad(tmp_path / "a.h5ad")
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert found.uns["fingerprint"] == store.fingerprint
    assert np.array_equal(found.X, found.layers[SITES[-1]])
    assert found.obs["family"].cat.categories.tolist() == ["control:0", "digits", "months"]
    with ActivationStore.from_arrays(dict(found.layers), found.obs, tmp_path / "back.h5") as back:
        for hook in view.hooks:
            assert torch.equal(back.load(hook), store.load(hook, view.where))
        assert back.rows["family"].tolist() == found.obs["family"].tolist()
        tables = [
            between_families(one, "digits", "months", measures="matched_cosine").table["value"]
            for one in (view, back.view())
        ]
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)


def test_pandas_comes_back_as_a_store(store, tmp_path):
    frame = to_pandas(view_of(store))
    arrays = {name: frame[name] for name in SITES}
    with ActivationStore.from_arrays(arrays, frame["rows"], tmp_path / "back.h5") as back:
        assert torch.equal(back.load(SITES[0]), store.load(SITES[0], view_of(store).where))
        assert back.rows["frame"].tolist() == frame["rows"]["frame"].tolist()


def test_no_row_and_no_anndata_are_told_in_a_sentence(store, monkeypatch):
    for export in (to_pandas, to_xarray, to_anndata):
        with pytest.raises(InputError, match=r"^no row fits \"position >= 0 and family == 'none'\"$"):
            export(view_of(store, "family == 'none'"))
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(NotAvailableError, match=r"pip install 'representation-geometry\[anndata\]'$"):
        to_anndata(view_of(store))


def test_labels_keep_their_types(store):
    labels = row_labels(view_of(store))
    assert isinstance(labels, pd.DataFrame)
    assert labels["ordinal"].dtype.kind == "i"
    assert labels["is_last"].dtype == bool
