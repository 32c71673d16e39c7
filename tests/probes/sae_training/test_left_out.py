"""How bases do on what was left out of training, against sums done one by one."""

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


def naive_index_variance(store, basis, rows, *, last):
    """1 - errors / spread of members' codes, one context and member after the other."""
    table = store.rows.iloc[rows]
    x = store.load(HOOK)[rows].double()
    out = basis.decode(basis.encode(x.float())).double()
    values = [store.prompts["values"][prompt] for prompt in table["prompt"]]
    codes = {}
    contexts = {}
    for i, (row, shown) in enumerate(zip(table.itertuples(), values, strict=True)):
        if row.is_last if last else row.member >= 0:
            member = shown[-1] if last else shown[row.member]
            context = (row.family, row.frame, row.template, -1 if last else row.member)
            contexts.setdefault(context, {}).setdefault(member, []).append(i)
    for (family, *_), members in contexts.items():
        means = {member: torch.cat([x, out], dim=1)[mine].mean(dim=0) for member, mine in members.items()}
        middle = torch.stack(list(means.values())).mean(dim=0)
        for member, mean in means.items():
            codes.setdefault((family, member), []).append(mean - middle)
    all_codes = torch.stack([torch.stack(one).mean(dim=0) for one in codes.values()])
    own, made = all_codes.chunk(2, dim=1)
    return 1 - float((own - made).square().sum() / (own - own.mean(dim=0)).square().sum())


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
        for name, last in (("index_variance", False), ("index_variance_last", True)):
            naive = naive_index_variance(store, basis, rows, last=last)
            assert table.loc[part, name] == pytest.approx(naive, abs=1e-6)


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
