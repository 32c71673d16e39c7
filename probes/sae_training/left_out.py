"""How an SAE does on what did not train it: documents, templates and frames left out, and the index within them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.store.store import ActivationStore
from geometry.bases.basis import FeatureBasis
from geometry.bases.reconstruction import explained_variance
from geometry.rows.analysed import unit_of_rows
from probes.sae.quality import tallies
from probes.sae_training.split import PARTS, Split


def left_out_quality(
    basis: FeatureBasis, store: ActivationStore, split: Split, parts: Sequence[str] = PARTS[2:]
) -> pd.DataFrame:
    """Explained variance, L0 and dead features part by part, and how much of the index is kept where members are shown.

    Args:
        basis: the SAE; or what it is compared with, at the same site.
        store: the store that it was trained on.
        split: what trained, and what was left out (`split_rows`).
        parts: of `PARTS`; those without rows are left out.

    Returns:
        A row a part: `part`; what `Reconstruction.said` says of its rows; `index_variance`, the share kept of the
        variance between members' codes at the tokens that show them, and `index_variance_last`, at prompts' last
        tokens (nan where no family shows two members): a member's code is the mean over contexts, in each of which the
        mean over its family's members is taken off; controls are left out.

    Raises:
        InputError: the basis knows no site (`tallies`), or no part has a row.

    Example:
        >>> from probes.sae_training.split import split_rows
        >>> table = left_out_quality(load_sae("sae", store=store), store, split_rows(store.rows, frames=["list"]))
        >>> table["part"].tolist(), bool((table["explained_variance"] > 0.99).all())
        (['templates', 'frames'], True)
    """
    mask = np.isin(split.part, [PARTS.index(part) for part in parts])
    if not mask.any():
        raise InputError(f"no row of the store is in {', '.join(parts)}")
    found = tallies(basis, store, mask, np.array(PARTS)[split.part[mask]])
    return pd.DataFrame(
        [
            {"part": part, **found[part].said(), **_index_variance(basis, store, split.rows(part))}
            for part in parts
            if part in found
        ]
    )


def _index_variance(basis: FeatureBasis, store: ActivationStore, part: Int[np.ndarray, " row"]) -> dict[str, float]:
    """What is kept of members' codes, where they are shown and at the end."""
    table = store.rows.iloc[part]
    families = (table["family"] != "") & ~table["family"].str.startswith(CONTROL_PREFIX)
    kept = {}
    for name, asked in (("index_variance", table["member"] >= 0), ("index_variance_last", table["is_last"])):
        mask = np.zeros(len(store.rows), dtype=bool)
        mask[part[(families & asked).to_numpy()]] = True
        kept[name] = float("nan")
        if basis.hook is not None and mask.any():
            x, rows = store.load(basis.hook, mask), store.rows[mask]
            shown = rows[["family", "frame", "template", "kind"]].assign(place=rows["member"])
            shown = shown.assign(member=unit_of_rows(store, rows))
            kept[name] = explained_variance(_codes(x, shown), _codes(basis.decode(basis.encode(x)), shown))
    return kept


def _codes(x: Float[Tensor, "row d"], shown: pd.DataFrame) -> Float[Tensor, "code d"]:
    """Each family's code of each member."""
    means: Any = pd.DataFrame(x.double().numpy()).groupby([shown[name].to_numpy() for name in shown]).mean()
    centred = means - means.groupby(level=list(range(shown.shape[1] - 1))).transform("mean")
    return torch.from_numpy(centred.groupby(level=[0, shown.shape[1] - 1]).mean().to_numpy())
