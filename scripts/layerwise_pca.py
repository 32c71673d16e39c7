"""Principal components of the residual stream, layer by layer: the library in a few calls.

python scripts/layerwise_pca.py smollm2-135m digits,numwords,months figures/pca
"""

import sys
from pathlib import Path

from cache import load_dataset, load_model, record
from geometry import pca_by_layer, write_report
from geometry.figures import explained_variance_by_layer, scatter_by_layer


def main(model_name: str, dataset: str, folder: str) -> None:
    """Record, decompose, draw."""
    model = load_model(model_name)
    prompts = load_dataset(dataset)
    with record(model, prompts, Path("activations") / f"{Path(model_name).name}-pca.h5") as store:
        result = pca_by_layer(store, "resid_post", k=5)
    figures = {
        "scatter": scatter_by_layer(result),
        "explained_variance": explained_variance_by_layer(result),
    }
    for path in write_report(result, figures, folder):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
