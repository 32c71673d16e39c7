"""Loading models: from a Hub cache, folders, GGUF and memory; what is refused, and what is known of them."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cache import Hook, load_model
from cache.errors import GeometryError, InputError, NotAvailableError
from cache.loading.hashes import tokenizer_hash, weights_hash
from tests.fork_server import server
from tests.variants import some


def test_logits_equal_hugging_faces(loaded, model_folders):
    tokens = torch.tensor([[0, 5, 9, 40, 2]])
    for name, model in loaded.items():
        expected = AutoModelForCausalLM.from_pretrained(model_folders[name])(tokens).logits[:, -1]
        torch.testing.assert_close(model.last_logits(tokens), expected, atol=1e-4, rtol=1e-4)


def test_weights_are_as_they_are_unless_processing_is_asked_for(model_folders):
    plain, processed = (
        load_model(str(model_folders["gpt2"]), device="cpu", processing=p) for p in ("none", "compatibility")
    )
    stored = load_file(model_folders["gpt2"] / "model.safetensors")
    mean = stored["transformer.h.1.mlp.c_proj.weight"].mean(dim=-1).abs().max()
    assert mean > 0.01
    torch.testing.assert_close(plain.bridge.blocks[1].mlp.W_out.data, stored["transformer.h.1.mlp.c_proj.weight"])
    assert processed.bridge.blocks[1].mlp.W_out.mean(dim=-1).abs().max() < 1e-5
    assert (plain.processing, processed.processing) == ("none", "compatibility")


def test_the_hash_is_that_of_the_model_before_it_was_wrapped(model_folders, loaded):
    for name in ("gpt2", "llama"):
        hf_model = AutoModelForCausalLM.from_pretrained(model_folders[name])
        assert weights_hash(hf_model) == loaded[name].weights


def test_one_bit_of_one_weight_changes_the_hash(model_folders):
    hf_model = AutoModelForCausalLM.from_pretrained(model_folders["gpt2"])
    before = weights_hash(hf_model)
    bits = hf_model.transformer.h[2].attn.c_attn.bias.data.view(torch.int32)
    bits[7] ^= 1
    assert weights_hash(hf_model) != before
    bits[7] ^= 1
    assert weights_hash(hf_model) == before


def test_a_merge_changes_the_tokenizers_hash_and_padding_does_not(loaded, model_folders, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folders["gpt2"])
    assert tokenizer_hash(tokenizer) == loaded["gpt2"].tokenizer_rules
    tokenizer.backend_tokenizer.enable_padding(length=5)
    assert tokenizer_hash(tokenizer) == loaded["gpt2"].tokenizer_rules
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "other")
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["model"]["merges"][0], rules["model"]["merges"][1] = rules["model"]["merges"][1], rules["model"]["merges"][0]
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    assert tokenizer_hash(AutoTokenizer.from_pretrained(folder)) != loaded["gpt2"].tokenizer_rules


def test_row_shapes_are_those_of_the_architecture(loaded):
    llama = loaded["llama"]
    shapes = {kind: llama.row_shape(Hook(kind, 2)) for kind in ("resid_post", "q", "k", "v", "z", "mlp_post")}
    assert shapes == {"resid_post": (42,), "q": (6, 10), "k": (2, 10), "v": (2, 10), "z": (6, 10), "mlp_post": (53,)}


def test_bos_is_refused_where_the_tokenizer_has_none(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "no-bos")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("bos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has no BOS token; use --no-bos"):
        load_model(str(folder), device="cpu")
    assert not load_model(str(folder), device="cpu", bos=False).bos


def test_a_model_computes_in_the_dtype_asked_for_and_says_so(model_folders):
    # not run: on a CPU without bfloat16, oneDNN fails and then fails for float32 as well
    model = load_model(str(model_folders["llama"]), device="cpu", dtype="bfloat16")
    assert model.dtype == "bfloat16"
    assert {parameter.dtype for parameter in model.bridge.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, mps; got 'tpu'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16; got 'int8'"),
        ({"processing": "fold"}, "processing must be one of none, compatibility; got 'fold'"),
        ({"revision": "main"}, "names a commit on the Hub"),
    ],
)
def test_choices_that_do_not_exist_are_refused(model_folders, argument, message):
    with pytest.raises(InputError, match=message):
        load_model(str(model_folders["gpt2"]), **{"device": "cpu", **argument})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_a_device_that_is_not_there_is_told(model_folders):
    with pytest.raises(NotAvailableError, match="has no cuda device for torch; use --device cpu"):
        load_model(str(model_folders["gpt2"]), device="cuda")


def test_objects_that_are_no_model_are_refused(model_folders):
    with pytest.raises(InputError, match="got Linear"):
        load_model(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="needs its tokenizer"):
        load_model(AutoModelForCausalLM.from_pretrained(model_folders["gpt2"]))


def test_a_loaded_model_and_a_bridge_load_again(gpt2):
    assert load_model(gpt2) is gpt2
    again, more = (load_model(gpt2.bridge, tokenizer=gpt2.tokenizer) for _ in range(2))
    assert again.bridge is gpt2.bridge
    assert again.weights == more.weights


def test_pickled_weights_are_never_run(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    canary = tmp_path / "canary"
    evil = f"cos\nsystem\n(S'touch {canary}'\ntR."
    (folder / "pytorch_model.bin").write_text(evil)
    with pytest.raises(NotAvailableError, match="no safetensors weights; pickled weights are not loaded"):
        load_model(str(folder), device="cpu")
    assert not canary.exists()


def test_code_beside_a_model_is_never_run(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "modeling_x.C", "AutoModelForCausalLM": "modeling_x.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_x.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(NotAvailableError, match="cannot be loaded"):
        load_model(str(folder), device="cpu")
    assert not (tmp_path / "canary").exists()


def test_a_damaged_folder_is_told_in_one_sentence(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "damaged")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(NotAvailableError, match="cannot be loaded: "):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize(
    "broken",
    [
        {"n_embd": None},
        {"n_embd": "wide"},
        {"n_head": 0},
        {"n_layer": -1},
        {"activation_function": "none such"},
        {"dtype": "float7"},
        {"n_embd": 0},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"model_type": ["gpt2"]},
    ],
    ids=str,
)
def test_a_broken_configuration_is_told_in_one_sentence(model_folders, tmp_path, broken):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | broken))
    with pytest.raises(GeometryError) as caught:
        load_model(str(folder), device="cpu")
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"model_type": 7}'])
def test_a_configuration_that_is_none_is_told_in_one_sentence(model_folders, tmp_path, content):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "none")
    (folder / "config.json").write_text(content)
    with pytest.raises(NotAvailableError, match=r"the model in '.*none' cannot be loaded: .+"):
        load_model(str(folder), device="cpu")


def test_missing_weights_are_not_filled_with_random_ones(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["gpt2"], tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotAvailableError, match=r"transformer.h.1.mlp.c_fc.weight"):
        load_model(str(folder), device="cpu")


def test_gpt2_small_loads_from_the_hugging_face_cache(model_folders, tmp_path):
    """The real loading code of gpt2-small, offline, on a small model in the cache's own layout."""
    commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    repo = tmp_path / "hub" / "models--gpt2"
    shutil.copytree(model_folders["gpt2"], repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = (
        f"from huggingface_hub import constants\nconstants.HF_HUB_CACHE = {str(tmp_path / 'hub')!r}\n"
        "from cache import load_model\nfrom cache.loading.sources import available_models\n"
        "m = load_model('gpt2-small', device='cpu')\n"
        "print(m.name, m.revision, m.n_layers, [a['name'] for a in available_models()])"
    )
    done = server(model_folders["gpt2"]).run("code", tmp_path, code=code)
    assert done["out"].split()[:3] == ["gpt2-small", commit, "3"], done["err"]
    assert "'gpt2'" in done["out"]


@pytest.mark.parametrize("offline", some(["0", "1"], "0"))
def test_without_a_network_one_sentence_comes_before_the_model_library_is_imported(tmp_path, offline):
    code = """import sys
from geometry.cli import main
try:
    main(['cache', '--model', 'gpt2-small'])
finally:
    print(*sys.modules)
"""
    done = run_python(
        code, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE=offline, HF_ENDPOINT="http://127.0.0.1:9", cwd=tmp_path
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: model 'gpt2-small' (gpt2) is not in the local Hugging Face cache")
    assert done.stderr.count("\n") == 1
    assert "transformer_lens" not in done.stdout.split()


def run_python(code, *, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_notebook_shows_which_model_it_is(gpt2):
    shown = gpt2._repr_html_()
    assert "tiny-gpt2" in shown
    assert ": 3 layers, 33 wide</b>" in shown
    assert f"architecture: gpt2<br>computes in: float32 on cpu<br>weights: {gpt2.weights[:8]}" in shown
