"""Extracted features read back by row, by column and as a sparse array; damage and strange files are refused."""

import h5py
import numpy as np
import pytest
import torch

from cache import ActivationStore, verify_store
from cache.errors import CorruptFileError, InputError, NotAvailableError
from cache.sealed.opening import safe_open
from cache.sealed.writer import SealedWriter
from probes.sae_features.extract import extract_features
from probes.sae_features.features import NUMBER, VALUE, open_features
from tests.cache.resealing import change
from tests.cache.sealed_files import open_files
from tests.probes.sae_features.extractions import encoded, sae_of

WHERE = "is_last and family == 'digits'"


@pytest.fixture(scope="module")
def path(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "f.h5"
    extract_features(sae_of("abstopk", small), small, path).close()
    return path


@pytest.fixture(scope="module")
def truth(small):
    return encoded(sae_of("abstopk", small), small)


@pytest.fixture
def features(path):
    with open_features(path) as features:
        yield features


@pytest.fixture(params=[7, 1 << 20])
def at_once(request, monkeypatch):
    """Few slots in memory, and all."""
    monkeypatch.setattr("probes.sae_features.features._AT_ONCE", request.param)


@pytest.mark.parametrize("where", [None, WHERE, "position < -5"])
def test_every_way_of_reading_agrees_with_dense_values(features, truth, small, where, at_once):
    chosen = truth[torch.from_numpy(small.rows.eval(where).to_numpy() if where else np.ones(len(small.rows), bool))]
    sparse = features.to_csr(where)
    assert (sparse.dtype, sparse.shape, sparse.has_sorted_indices) == (np.float32, tuple(chosen.shape), True)
    assert np.array_equal(sparse.toarray(), chosen.numpy())
    assert sparse.nnz == (chosen != 0).sum()
    assert torch.equal(features.column(17, where), chosen[:, 17])
    assert torch.equal(features.columns([5, 98, 5, 0], where), chosen[:, [5, 98, 5, 0]])
    numbers, values = features.active(where)
    assert (numbers.dtype, values.dtype, numbers.shape) == (torch.int32, torch.float32, (len(chosen), 6))
    assert torch.equal(features.n_active(where), (chosen != 0).sum(dim=1))
    if len(chosen):
        torch.testing.assert_close(features.frequency(where), (chosen != 0).double().mean(dim=0))
    else:
        with pytest.raises(InputError, match=r"^no row is chosen to count how often features are active in it$"):
            features.frequency(where)


def test_a_mask_chooses_rows_as_a_query_does(features, small):
    mask = (small.rows["is_last"] & small.rows["family"].eq("digits")).to_numpy()
    assert torch.equal(features.columns([1, 2], mask), features.columns([1, 2], WHERE))
    with pytest.raises(InputError, match=r"columns are prompt, position, .*, row"):
        features.column(1, "colour == 2")
    of_store = features.rows["row"][mask].tolist()
    assert torch.equal(features.column(3, f"row in {of_store}"), features.column(3, WHERE))


def test_slots_are_what_an_sae_decodes(features, small):
    sae = sae_of("abstopk", small)
    numbers, values = features.active(WHERE)
    whole = sae.decode(sae.encode(small.load(sae.hook, WHERE)))
    torch.testing.assert_close(sae.decode_active(numbers.long(), values), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([99], "^features of this SAE are numbered 0 to 98; got 99$"),
        ([-1], "^features of this SAE are numbered 0 to 98; got -1$"),
        ([], "^features of this SAE are numbered 0 to 98; got none$"),
    ],
)
def test_what_is_no_feature_is_refused(features, asked, said):
    with pytest.raises(InputError, match=said):
        features.columns(asked)


def test_what_was_not_extracted_is_not_zero(small, tmp_path, truth):
    with extract_features(sae_of("abstopk", small), small, tmp_path / "f.h5", features=[3, 17]) as features:
        told = r"^f\.h5 has 2 features, and 4 is none of them$"
        with pytest.raises(InputError, match=told):
            features.column(4)
        shares = features.frequency()
        assert shares.isnan().sum() == 97
        torch.testing.assert_close(shares[[3, 17]], (truth[:, [3, 17]] != 0).double().mean(dim=0))


def test_a_closed_file_is_told(path):
    features = open_features(path)
    features.close()
    with pytest.raises(InputError, match=r"^f\.h5 is closed; open it again$"):
        features.column(1)
    assert len(features.rows)


def test_it_is_shown_in_short(features):
    assert repr(features).startswith("FeatureActivations(path=")
    assert len(repr(features)) < 600


# --- files that are not what they should be


@pytest.fixture
def copy(path, tmp_path):
    place = tmp_path / "copy.h5"
    place.write_bytes(path.read_bytes())
    return place


def test_a_store_is_told_from_features_and_features_from_a_store(small, path, tmp_path):
    with pytest.raises(CorruptFileError, match=r"sweep\.h5 is an activation store, not a file of SAE features; "):
        open_features(small.paths[0])
    with pytest.raises(CorruptFileError, match=r"f\.h5 is a file of SAE features, not an activation store; geom"):
        ActivationStore.open(path)
    with pytest.raises(NotAvailableError, match="is not there"):
        open_features(tmp_path / "none.h5")


@pytest.mark.parametrize("name", [NUMBER, VALUE])
def test_a_damaged_byte_is_refused_when_read_and_found_by_verify(copy, name):
    with h5py.File(copy) as file:
        place = file[name].id.get_offset() + 40
    content = bytearray(copy.read_bytes())
    content[place] ^= 1
    copy.write_bytes(content)
    assert [one.part for one in verify_store(copy).damage] == [name]
    with open_features(copy) as features, pytest.raises(CorruptFileError, match=rf"block 0 of {name} is not what was"):
        features.column(1)


def test_a_byte_of_its_labels_is_refused_when_opened(copy):
    with h5py.File(copy) as file:
        place = file["features/of_sae"].id.get_offset() + 8
    content = bytearray(copy.read_bytes())
    content[place] ^= 1
    copy.write_bytes(content)
    with pytest.raises(CorruptFileError, match="is damaged outside its activations"):
        open_features(copy)


def link_out(file):
    del file[VALUE]
    file[VALUE] = h5py.ExternalLink("/etc/passwd", "/x")


def replaced(name, make):
    def how(file):
        content = make(file[name][:])
        del file[name]
        file.create_dataset(name, data=content)

    return how


def without_origin(file):
    text = file.attrs["manifest"].decode().replace('"origin"', '"orgin"')
    file.attrs["manifest"] = np.bytes_(text.encode())


MADE = {
    "an external link": (link_out, "holds a link at /features/value; stores have none"),
    "other types": (replaced(NUMBER, lambda x: x.astype("<i8")), "something else than features of an SAE"),
    "values of other slots": (replaced(VALUE, lambda x: x[:, 1:].copy()), "something else than features of an SAE"),
    "features beyond": (replaced("features/of_sae", lambda x: x + 1), "something else than features of an SAE"),
    "fewer numbers of rows": (replaced("rows/row", lambda x: x[1:].copy()), "something else than features of an SAE"),
    "numbers of rows of another type": (replaced("rows/row", lambda x: x.astype("<f4")), "data of type float32"),
    "no origin": (without_origin, "does not tell which SAE its features are of"),
}


@pytest.mark.parametrize("what", MADE)
def test_a_file_made_otherwise_under_a_valid_footer_is_refused_in_a_sentence(what, copy):
    how, told = MADE[what]
    change(copy, how)
    before = open_files()
    with pytest.raises(CorruptFileError, match=told) as refusal:
        open_features(copy)
    assert str(refusal.value).startswith(str(copy))
    assert open_files() == before


WRONG = {
    "descending": lambda numbers: numbers[:, ::-1],
    "twice the same": lambda numbers: numbers.clip(min=50),
    "beyond the last": lambda numbers: numbers + 90,
    "below the empty": lambda numbers: numbers - 1000,
}


@pytest.mark.parametrize("what", WRONG)
def test_numbers_that_no_extraction_gives_are_refused_when_read(what, small, tmp_path, monkeypatch):
    write = SealedWriter.write

    def otherwise(self, block, site, rows):
        return write(self, block, site, WRONG[what](rows) if site == NUMBER else rows)

    monkeypatch.setattr(SealedWriter, "write", otherwise)
    told = "something else than features of an SAE in its rows"
    with (
        extract_features(sae_of("topk", small), small, tmp_path / "f.h5") as features,
        pytest.raises(CorruptFileError, match=told),
    ):
        features.to_csr()


def test_it_can_be_opened_by_what_opens_sealed_files(path):
    with safe_open(path) as file:
        assert sorted(file) == ["features", "log", "prompts", "rows"]
