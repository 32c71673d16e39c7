"""Many edits of the same texts at one site: copies of a run, of which only what follows the site is computed again.

`probes.edits.hooks` attaches edits to whatever a model runs, at any sites. Texts that were run once are edited here, at
a site between blocks, for a small part of a pass each copy. Both add what `Edit.difference` gives.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache import Hook
from cache.models.restart import CleanRun, first_block, restart

Slots = tuple[Int[Tensor, "*edited"], Int[Tensor, "*edited"]]
"""Which texts of a run are edited at which of their tokens, BOS counted."""


def edited_copies(
    clean: CleanRun, hook: Hook, slots: Slots, change: Float[Tensor, "copy *edited d"]
) -> Float[Tensor, "copy batch d"]:
    """The stream that leaves the last block at each text's last token, after changes are added to each copy.

    Args:
        clean: the run.
        hook: resid_pre or resid_post.
        slots: where.
        change: what is added there.

    Raises:
        InputError: the site is not between blocks.
    """
    block = first_block(hook)
    texts, tokens = (one.to(clean.streams.device) for one in slots)
    first = int(tokens.min())
    with torch.inference_mode():
        given = clean.streams[block][:, first:]
        stream = given.repeat(len(change), 1, 1, 1)
        stream[:, texts, tokens - first] = given[texts, tokens - first] + change.to(given)
        return restart(clean, stream, block)[:, :, -1]
