"""How bases do on what was left out of training, against sums done one by one."""

import numpy as np
import pytest
import torch

from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign, make_prompts
from geometry import pca
from probes.directions.features import basis_at
from probes.sae_training.left_out import left_out_quality
from probes.sae_training.split import split_rows
from tests.recordings import recorded

HOOK = ("resid_post", 1)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    families = (FAMILIES["digits"], FAMILIES["numwords"])
    prompts = make_prompts(SequenceDesign(families, lengths=(3,), templates=3))
    with recorded(gpt2, prompts, tmp_path_factory.mktemp("left") / "store.h5") as store:
        yield store


@pytest.fixture(scope="module")
def basis(store):
    return basis_at(store, HOOK, pca(store.load(HOOK), k=3).basis)


def naive_index_variance(store, basis, rows):
    """1 - errors / spread of members' means about their family's in a frame, last tokens alone."""
    error = spread = 0.0
    table = store.rows.iloc[rows]
    x = store.load(HOOK)[rows].double()
    out = basis.decode(basis.encode(x.float())).double()
    last = [store.prompts["values"][prompt][-1] for prompt in table["prompt"]]
    for family in ("digits", "numwords"):
        for frame in ("quote", "list"):
            means = []
            for member in set(last):
                mine = (table["family"] == family) & (table["frame"] == frame) & table["is_last"]
                chosen = np.flatnonzero(mine & (np.array(last) == member))
                if len(chosen):
                    means.append((x[chosen].mean(dim=0), out[chosen].mean(dim=0)))
            if means:
                own, made = (torch.stack(one) for one in zip(*means, strict=True))
                own, made = own - own.mean(dim=0), made - made.mean(dim=0)
                error, spread = error + float((own - made).square().sum()), spread + float(own.square().sum())
    return 1 - error / spread


def test_each_part_is_told_and_so_is_how_much_of_the_index_is_kept(store, basis):
    split = split_rows(store.rows, frames=["list"])
    table = left_out_quality(basis, store, split).set_index("part")
    assert table.index.tolist() == ["templates", "frames"]
    for part in table.index:
        rows = split.rows(part)
        x = store.load(HOOK)[rows].double()
        left = (basis.decode(basis.encode(x.float())).double() - x).square().sum()
        assert table.loc[part, "n_rows"] == len(rows)
        assert table.loc[part, "explained_variance"] == pytest.approx(
            float(1 - left / (x - x.mean(dim=0)).square().sum()), abs=1e-6
        )
        assert table.loc[part, "index_variance"] == pytest.approx(naive_index_variance(store, basis, rows), abs=1e-6)
    assert table["index_variance"].between(-1, 1).all()


def test_what_keeps_everything_keeps_the_index_and_what_keeps_nothing_none(store):
    split = split_rows(store.rows)
    x = store.load(HOOK)
    whole = basis_at(store, HOOK, pca(x, k=x.shape[1]).basis)
    assert left_out_quality(whole, store, split)["index_variance"].item() == pytest.approx(1, abs=1e-4)
    noise = torch.randn(200, x.shape[1], generator=torch.Generator().manual_seed(0))
    other = basis_at(store, HOOK, pca(noise, k=1).basis)
    assert abs(left_out_quality(other, store, split)["index_variance"].item()) < 0.3


def test_a_part_without_rows_is_told(store, basis):
    with pytest.raises(InputError, match="no row of the store is in documents"):
        left_out_quality(basis, store, split_rows(store.rows), ["documents"])
