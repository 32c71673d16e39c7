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
        A row a part: `part`; what `Reconstruction.said` says of its rows; `index_variance`, 1 - squared error /
        squared distance of the mean last rows of each member from those of its family in its frame, controls left out
        (nan where no family shows two members).

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
            {"part": part, **found[part].said(), "index_variance": _index_variance(basis, store, split.rows(part))}
            for part in parts
            if part in found
        ]
    )


def _index_variance(basis: FeatureBasis, store: ActivationStore, part: Int[np.ndarray, " row"]) -> float:
    """The share of variance between members that is kept, over all families and frames."""
    table = store.rows.iloc[part]
    family = table["family"]
    asked = table["is_last"] & (family != "") & ~family.str.startswith(CONTROL_PREFIX)
    mask = np.zeros(len(store.rows), dtype=bool)
    mask[part[asked.to_numpy()]] = True
    if basis.hook is None or not mask.any():
        return float("nan")
    x = store.load(basis.hook, mask)
    shown = table[asked][["family", "frame"]].assign(member=unit_of_rows(store, table[asked]))
    return explained_variance(_indices(x, shown), _indices(basis.decode(basis.encode(x)), shown))


def _indices(x: Float[Tensor, "row d"], shown: pd.DataFrame) -> Float[Tensor, "member d"]:
    """The mean of each member in a family and frame, less the mean over members there; none with one member alone."""
    means: Any = pd.DataFrame(x.double().numpy()).groupby([shown[name].to_numpy() for name in shown]).mean()
    levels = list(range(shown.shape[1] - 1))
    return torch.from_numpy((means - means.groupby(level=levels).transform("mean")).to_numpy())
