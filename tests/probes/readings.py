"""Independent ways to read and change a model while it runs, for tests of edits."""

from contextlib import ExitStack, contextmanager

import torch

from cache import Hook
from probes.directions.direction import Direction

BLOCK_SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


def random_tokens(model, batch=2, length=9, seed=0):
    """BOS and random words."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, model.bridge.original_model.config.vocab_size, (batch, length), generator=generator)
    tokens[:, 0] = model.tokenizer.bos_token_id
    return tokens


def random_direction(model, hook, seed=0, norm=3.0):
    """A direction of random entries: LayerNorm hides nothing of it but their mean."""
    width = model.row_shape(hook)[-1] if hook.head is not None else int(torch.tensor(model.row_shape(hook)).prod())
    vector = torch.randn(width, generator=torch.Generator().manual_seed(100 + seed))
    return Direction(hook, vector / vector.norm(), norm, "random", source="here", target="there")


@contextmanager
def rewritten(model, hook, change):
    """A plain torch hook in whose place `change(output)` stands."""
    handle = model.points[hook.name].register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def read(model, tokens, hooks):
    """What stands at each site during one pass; call it inside the block whose edits are to be seen."""
    found = {}

    def keep(hook):
        return lambda _, __, output: found.__setitem__(hook, output.detach().clone())

    with ExitStack() as stack, torch.inference_mode():
        for hook in hooks:
            stack.callback(model.points[hook.name].register_forward_hook(keep(hook)).remove)
        logits = model.bridge.original_model(tokens, use_cache=False).logits
    return found, logits


def block_sites(model):
    """The sites of every block's residual stream and of what is added to it, where the model has them."""
    hooks = [Hook(kind, layer) for layer in range(model.n_layers) for kind in BLOCK_SITES]
    return [hook for hook in hooks if hook.name in model.points]


def n_hooks(model):
    """Hooks of all modules of a model, points and blocks among them."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.bridge.modules()
    ) + sum(len(point._forward_hooks) + len(point._forward_pre_hooks) for point in model.points.values())
