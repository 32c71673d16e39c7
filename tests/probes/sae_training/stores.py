"""A small store with text and sequences, in which sparse features are planted."""

import numpy as np
import pandas as pd

from cache import ActivationStore

HOOK = ("resid_post", 1)


def planted(n_rows, d=24, n_features=20, seed=0):
    """Activations with features that fire rarely, around a mean that is far from 0; and the features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_features, d))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    codes = rng.uniform(2.0, 4.0, (n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.1)
    return (codes @ features + 5.0 + 0.01 * rng.normal(size=(n_rows, d))).astype(np.float32), features


def labels(n_documents=8, n_tokens=60, frames=("quote", "list", "lines"), n_templates=2, n_prompts=10):
    """Labels of documents' tokens, and of sequences' in some frames and templates; each prompt begins with BOS."""
    rows = [
        {"text": f"document {one}", "family": "", "group": f"d{one}", "frame": "", "template": 0, "prompt": one}
        for one in range(n_documents)
        for _ in range(n_tokens)
    ]
    prompt = n_documents
    for frame in frames:
        for template in range(n_templates):
            for _ in range(n_prompts):
                one = {"text": f"sequence {prompt}", "family": "digits", "group": "", "frame": frame}
                rows += [one | {"template": template, "prompt": prompt} for _ in range(8)]
                prompt += 1
    table = pd.DataFrame(rows)
    table["position"] = table.groupby("prompt").cumcount() - 1
    return table


def make_store(path, **sizes):
    """The store, open, and what was planted."""
    table = labels(**sizes)
    x, features = planted(len(table))
    other, _ = planted(len(table), seed=1)
    return ActivationStore.from_arrays({HOOK: x, ("resid_post", 2): other}, table, path), features
