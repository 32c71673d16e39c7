"""What a component stands for: the members that score highest, and the tokens that its direction promotes."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import LoadedModel
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.models.model import check_loaded
from geometry.results.result import LayerResult
from geometry.weights.readout import readout_map


def loadings(result: LayerResult, model: LoadedModel | None = None, *, n: int = 5) -> pd.DataFrame:
    """One line a layer and component: its share, the members at both ends, and its logit effect.

    Args:
        result: of `pca_by_layer`, `svd_by_layer` or `nmf_by_layer`.
        model: the model recorded; None leaves the tokens out, as do sites that are not in d_model.
        n: how many members and tokens.

    Returns:
        Columns `layer, component, explained_variance_ratio, highest, lowest` (members by mean score, `family:member`)
        and, with a model, `promotes, suppresses` (tokens by the product of the direction with the final norm's gain
        and the unembedding, the vocabulary's mean taken off).

    Raises:
        InputError: the result has no directions or scores.
    """
    if model is not None:
        check_loaded(model)
    directions, scores = result.values("directions"), result.values("scores")
    if model is not None and directions.shape[2] != model.d_model:
        model = None
    n_components = directions.shape[1]
    flat = np.nan_to_num(directions.reshape(-1, directions.shape[2]))
    tokens = None if model is None else top_tokens(model, torch.from_numpy(flat), n=n)
    lines = []
    for i, hook in enumerate(result.hooks):
        for component in range(n_components):
            ends = _ends(result.rows, scores[i, :, component], n)
            share = float(result.values("explained_variance_ratio")[i, component])
            line = {"layer": hook.table_layer, "component": component, "explained_variance_ratio": share} | ends
            if tokens is not None:
                line |= dict(zip(("promotes", "suppresses"), tokens[i * n_components + component], strict=True))
            lines.append(line)
    return pd.DataFrame(lines)


def top_tokens(
    model: LoadedModel, directions: Float[Tensor, "direction d_model"], *, n: int = 5
) -> list[tuple[str, str]]:
    """The tokens whose logits each direction raises most, and lowers most, joined by spaces.

    Raises:
        InputError: the directions are not of the model's width.
    """
    if directions.shape[1] != model.d_model:
        raise InputError(f"{model.name} has d_model {model.d_model}; got directions of {directions.shape[1]}")
    readout = readout_map(model)
    effects = directions.float() @ (readout - readout.mean(dim=1, keepdim=True))
    high, low = effects.topk(n, dim=1).indices.tolist(), (-effects).topk(n, dim=1).indices.tolist()
    return [(_words(model, up), _words(model, down)) for up, down in zip(high, low, strict=True)]


def _ends(rows: pd.DataFrame, scores: Float[np.ndarray, " row"], n: int) -> dict[str, str]:
    """The members with the highest and with the lowest mean score; controls only where there is nothing else."""
    named = ~rows["family"].str.startswith(CONTROL_PREFIX).to_numpy()
    if not named.any():
        named[:] = True
    names = rows["family"].where(rows["family"] != "", "prompts") + ":" + rows["shown"]
    means = pd.Series(scores[named]).groupby(names.to_numpy()[named]).mean().sort_values(kind="stable")
    return {"highest": " ".join(means.index[::-1][:n]), "lowest": " ".join(means.index[:n])}


def _words(model: LoadedModel, tokens: list[int]) -> str:
    """Tokens as they are written, spaces visible, whatever is not plain text escaped."""
    texts = [str(model.tokenizer.decode([token])) for token in tokens]
    return " ".join(text.replace(" ", "_").encode("unicode_escape").decode("ascii") or "''" for text in texts)
