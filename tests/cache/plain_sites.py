"""What a plain Hugging Face model computes at each site, read with torch's own hooks: nothing of a bridge is used."""

import re
from contextlib import ExitStack

import torch

ATTENTION = re.compile(r"att|mixer|mamba|conv", re.IGNORECASE)  # or what stands in its place
MLP = re.compile(r"mlp|ff|feed|moe|fc", re.IGNORECASE)
OUT = {
    "z": ("o_proj", "out_proj", "dense", "wo", "Wo", "c_proj"),
    "mlp_post": ("down_proj", "c_proj", "fc_out", "fc2", "dense_4h_to_h", "w2", "Wo"),
}


def blocks_of(model):
    """The model's blocks: the list of modules that has one for each layer."""
    n_layers = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n_layers]
    return lists[0]


class Plain:
    """One pass of a plain model: every module's first input and output, by block and name within it."""

    def __init__(self, model, tokens):
        self.model, self.tokens = model, tokens
        self.inputs, self.outputs = {}, {}
        self.blocks = blocks_of(model)

        def keep(key):
            def hook(_, args, kwargs, output):
                given = args[0] if args else kwargs.get("hidden_states")
                first = output[0] if isinstance(output, tuple | list) else output
                for kept, value in ((self.inputs, given), (self.outputs, first)):
                    if isinstance(value, torch.Tensor):
                        kept.setdefault(key, value.clone())  # some models add to what a part gave in its place

            return hook

        with ExitStack() as stack, torch.inference_mode():
            for layer, block in enumerate(self.blocks):
                for name, module in block.named_modules():
                    handle = module.register_forward_hook(keep((layer, name)), with_kwargs=True)
                    stack.callback(handle.remove)
            self.logits = model(tokens, use_cache=False).logits

    def added(self, layer, pattern):
        """Everything of the stream's shape that a part of a block gives, scaled as the block scales it too."""
        scale = getattr(self.model.config, "residual_multiplier", 1.0)
        found = [
            value
            for (at, name), value in self.outputs.items()
            if at == layer and name and pattern.search(name) and self._is_stream(value)
        ]
        return [value.reshape(self.stream_shape) for value in found] + [
            scale * value.reshape(self.stream_shape) for value in found if scale != 1.0
        ]

    def read(self, layer, kind):
        """Everything that a linear map named as an output projection reads in a part of a block."""
        pattern = ATTENTION if kind == "z" else MLP
        return [
            value
            for (at, name), value in self.inputs.items()
            if at == layer and name.split(".")[-1] in OUT[kind] and (pattern.search(name) or "." not in name)
        ]

    def given(self, layer):
        """Every tensor of the stream's shape that a part of a block reads."""
        return [
            value.reshape(self.stream_shape)
            for (at, name), value in self.inputs.items()
            if at == layer and name and self._is_stream(value)
        ]

    def projected(self, layer, kind):
        """q, k or v of every head: a projection of its own, or its part of a fused one."""
        for (at, name), value in self.outputs.items():
            last = name.split(".")[-1]
            if at == layer and ATTENTION.search(name) and last in (f"{kind}_proj", {"q": "query"}.get(kind, ""), kind):
                return [value]
        return [
            part
            for (at, name), value in self.outputs.items()
            if at == layer and name.split(".")[-1] in ("c_attn", "query_key_value", "Wqkv", "qkv_proj")
            for part in self._parts(value, kind)
        ]

    def _parts(self, value, kind):
        """The ways in which fused projections lay out q, k and v of the 4 heads (and 2 or 1 groups) of 8."""
        number, lead = "qkv".index(kind), value.shape[:-1]
        width = value.shape[-1] // 8
        groups = (width - 4) // 2
        by_kind = value.split([32, 8 * groups, 8 * groups], dim=-1)[number]
        found = [by_kind]
        if groups == 4:
            found.append(value.reshape(*lead, 4, 3, 8)[..., number, :].flatten(-2))  # NeoX, BLOOM: a head's own q, k, v
            a_quarter = value.reshape(*lead, 4, 24)  # CodeGen: four parts, each with its own q, v and k
            found.append(a_quarter[..., 8 * "qvk".index(kind) :][..., :8].flatten(-2))
        if groups in (1, 2):  # Falcon: a group's queries, then its key and value
            a_group = value.reshape(*lead, groups, 4 // groups + 2, 8)
            part = {"q": a_group[..., :-2, :], "k": a_group[..., -2:-1, :], "v": a_group[..., -1:, :]}[kind]
            found.append(part.flatten(-3))
        return found

    @property
    def stream_shape(self):
        return self.outputs[0, ""].shape

    def _is_stream(self, value):
        return value.numel() == self.outputs[0, ""].numel()
