"""Recording: what is stored is what an independent Hugging Face forward computes."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from cache import load_model, plan_recording, record
from cache.hooks import KINDS
from cache.prompts import Prompts

RAGGED = Prompts.from_texts(["1,2,3,", "Van done in one. Car", "one", "January,February,March,April,May,", "x y z"])


def oracle(folder, ids: list[int], n_layers: int = 3) -> dict[str, Tensor]:
    """All kinds at all layers for one text, by plain torch hooks on a fresh Hugging Face model."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    seen: dict[str, Tensor] = {}
    handles = []

    def keep(module, name, *, of_input: bool):
        if of_input:
            handles.append(
                module.register_forward_pre_hook(
                    lambda m, args, kwargs, name=name: seen.__setitem__(
                        name, (args[0] if args else kwargs["hidden_states"])[0].clone()
                    ),
                    with_kwargs=True,
                )
            )
        else:
            handles.append(
                module.register_forward_hook(
                    lambda m, args, out, name=name: seen.__setitem__(
                        name,
                        (out[0] if isinstance(out, tuple) else out)[0].clone()
                        if not isinstance(out, tuple)
                        else out[0][0].clone(),
                    )
                )
            )

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


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 64])
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_every_value_equals_an_independent_forward(model_folders, tmp_path, name, batch_tokens, bos):
    model = load_model(str(model_folders[name]), device="cpu", bos=bos)
    sites = [kind for kind in KINDS if name != "neox" or kind not in ("resid_mid", "q", "k", "v")]
    plan = plan_recording(model, RAGGED, sites=sites, batch_tokens=batch_tokens)
    with record(model, plan, tmp_path / "a.h5") as store:
        assert len(store.hooks) == 3 * len(sites)
        assert_equals_oracle(store, model_folders[name])
