"""Features that sae-lens's synthetic model plants in superposition, correlated and as rare as Zipf's law has them."""

import warnings

import pandas as pd
import pytest
import torch

from cache import ActivationStore
from probes.sae.load import load_sae
from probes.sae_training.plan import plan_training
from probes.sae_training.train import train_saes

N_FEATURES, D, N_ROWS = 192, 64, 120_000


def planted(seed):
    """Activations, the features in them, and how often each fires."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens  # noqa: F401
    from sae_lens.synthetic import (
        ActivationGenerator,
        FeatureDictionary,
        generate_random_correlation_matrix,
        zipfian_firing_probabilities,
    )

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        often = zipfian_firing_probabilities(N_FEATURES, exponent=0.7, max_prob=0.3, min_prob=5e-4)
        correlated = generate_random_correlation_matrix(
            N_FEATURES, min_correlation_strength=0.05, max_correlation_strength=0.2, seed=seed
        )
        generator = ActivationGenerator(
            N_FEATURES, often, std_firing_magnitudes=0.3, mean_firing_magnitudes=1.5, correlation_matrix=correlated
        )
        features = FeatureDictionary(N_FEATURES, D, bias=3.0, seed=seed)
        with torch.no_grad():
            fired = generator.sample(N_ROWS)
            x = features(fired) + 0.01 * torch.randn(N_ROWS, D)
    return x, features.feature_vectors.detach(), (fired > 0).float().mean(dim=0)


def recovered(folder, features):
    """The largest cosine of each planted feature with one of the SAE's."""
    found = load_sae(folder).directions
    return (features @ (found / found.norm(dim=1, keepdim=True)).T).max(dim=1).values


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_nine_of_ten_features_that_fire_once_in_a_thousand_rows_are_found(tmp_path, seed):
    x, features, often = planted(seed)
    labels = pd.DataFrame({"text": "a text", "prompt": range(N_ROWS), "position": 1, "group": "one"})
    with ActivationStore.from_arrays({("resid_post", 0): x}, labels, tmp_path / "store.h5") as store:
        k = round(float((often).sum()))
        plan = plan_training(
            store, [("resid_post", 0)], width=256, k=k, steps=3000, batch_size=1024, seeds=(seed,), documents=0
        )
        (folder,) = train_saes(store, plan, tmp_path / "saes")
    cosines = recovered(folder, features)
    enough = often > 1e-3
    assert 1 < k < 12
    assert enough.sum() > 100
    assert (cosines[enough] > 0.9).float().mean() >= 0.9, (cosines[enough] > 0.9).float().mean()
