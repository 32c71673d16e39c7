"""Folders of SAEs that are damaged, pickled or not whole end in one sentence each."""

import json

import pytest
import torch
from safetensors.torch import save_file

from cache.errors import CorruptFileError, InputError, NotAvailableError
from probes.sae.files import current_config, read_files
from probes.sae.load import load_sae
from probes.sae.sources import SAESource
from tests.probes.sae.saved import config_of, perfect_tensors, random_tensors, save


def without(tensors, *names):
    return {name: one for name, one in tensors.items() if name not in names}


def test_a_folder_is_read_as_it_was_saved(tmp_path):
    tensors = random_tensors()
    saved = read_files(SAESource("mine", save(tmp_path, tensors)))
    assert saved.config == config_of(tensors)
    assert all(torch.equal(saved.tensors[name], one) for name, one in tensors.items())
    assert (saved.name, saved.scale, saved.whitening) == ("mine", None, None)


@pytest.mark.parametrize("name", ["sae.pt", "weights.bin", "params.npz", "SAE.PTH"])
def test_pickled_weights_are_not_read(name, tmp_path):
    with pytest.raises(InputError, match=rf"{name} is not read: pickled weights may run code; give a folder with cfg"):
        load_sae(str(tmp_path / name))
    (tmp_path / "cfg.json").write_text("{}")
    (tmp_path / name).write_bytes(b"cposix\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(
        InputError, match=rf"has pickled weights \({name}\), which are not loaded; it needs sae_weights"
    ):
        load_sae(tmp_path)


def test_a_folder_that_lacks_a_file_names_it(tmp_path):
    for lacking in ("cfg.json", "sae_weights.safetensors"):
        folder = save(tmp_path / lacking)
        (folder / lacking).unlink()
        with pytest.raises(NotAvailableError, match=rf"is not an SAE's folder: it has no {lacking}$"):
            load_sae(folder)


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', '{"metadata": 3}', "", "[" * 100_000, " " * (1 << 21)])
def test_a_damaged_configuration_is_told(text, tmp_path):
    (save(tmp_path) / "cfg.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"no configuration in JSON|no JSON object with the fields of an SAE"):
        load_sae(tmp_path)


@pytest.mark.parametrize("content", [b"", b"cposix\nsystem\n", b"\xff" * 64])
def test_damaged_weights_are_told(content, tmp_path):
    (save(tmp_path) / "sae_weights.safetensors").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"sae_weights.safetensors is no file of safetensors"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            without(perfect_tensors(), "b_enc"),
            r"whose tensors are W_dec, W_enc, b_dec, b_enc; its file has W_dec, W_enc,",
        ),
        (perfect_tensors() | {"other": torch.ones(3)}, r"its file has W_dec, W_enc, b_dec, b_enc, other$"),
        (
            perfect_tensors() | {"b_enc": torch.ones(3)},
            r"has b_enc of the shape \(3,\); its configuration says \(66,\)$",
        ),
        (perfect_tensors() | {"W_dec": torch.ones(33, 66)}, r"has W_dec of the shape \(33, 66\); its configuration"),
        (perfect_tensors() | {"b_dec": torch.full((33,), torch.nan)}, r"has b_dec with numbers that are not finite$"),
    ],
)
def test_tensors_that_are_not_those_of_the_configuration_are_told(tensors, said, tmp_path):
    folder = save(tmp_path, tensors)
    (folder / "cfg.json").write_text(json.dumps(config_of(perfect_tensors())))
    with pytest.raises(CorruptFileError, match=said):
        load_sae(folder)


@pytest.mark.parametrize(
    ("architecture", "config", "error", "said"),
    [
        ("other", {}, InputError, r"is of the architecture 'other'; those that are read are standard, topk, abstopk, "),
        (
            "standard",
            {"d_in": "33"},
            CorruptFileError,
            r"needs a whole number of 1 or more as d_in; its file has '33'$",
        ),
        ("standard", {"d_sae": 0}, CorruptFileError, r"needs a whole number of 1 or more as d_sae; its file has 0$"),
        ("topk", {}, CorruptFileError, r"needs a whole number of 1 or more as k; its file has None$"),
        ("topk", {"k": 67}, CorruptFileError, r"keeps the 67 largest of 66 features$"),
        (
            "standard",
            {"normalize_activations": "else"},
            InputError,
            r"normalises activations by 'else', which is none of",
        ),
        (
            "transcoder",
            {"d_out": 33},
            CorruptFileError,
            r"takes what it writes off what it reads, which is another site",
        ),
    ],
)
def test_a_configuration_that_makes_no_sense_is_told(architecture, config, error, said, tmp_path):
    with pytest.raises(error, match=said):
        load_sae(save(tmp_path, None, architecture, **config))


@pytest.mark.parametrize("scale", [-1, 0, "a", [1.0], float("inf"), float("nan")])
def test_a_scale_that_is_none_is_told(scale, tmp_path):
    folder = save(tmp_path, normalize_activations="expected_average_only_in")
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    with pytest.raises(CorruptFileError, match="has a scale of activations that is no positive number"):
        load_sae(folder)


def test_a_whitening_without_one_of_its_parts_is_told(tmp_path):
    folder = save(tmp_path, normalize_activations="covariance_whitening")
    save_file({"mean": torch.zeros(33), "matrix": torch.eye(33)}, folder / "activation_whitening.safetensors")
    with pytest.raises(CorruptFileError, match=r"activation_whitening.safetensors has no inverse_matrix"):
        load_sae(folder)


def test_weights_in_half_precision_are_read_in_single_and_double_stays(tmp_path):
    for dtype, kept in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ):
        folder = save(tmp_path / str(dtype), {name: one.to(dtype) for name, one in random_tensors().items()})
        assert load_sae(folder).encoder.dtype == kept


def test_another_activation_of_a_former_version_is_refused():
    with pytest.raises(InputError, match="mine has the activation 'tanh-relu', which is not read; relu and topk are"):
        current_config({"activation_fn_str": "tanh-relu"}, "mine")
