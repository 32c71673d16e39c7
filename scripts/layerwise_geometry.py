"""The shape of concepts, layer by layer: every decomposition and comparison of one store, with figures and a verdict.

make study    # records digits, numwords, months, days, letters and 20 control families, and runs this on them
python scripts/layerwise_geometry.py activations/study.h5 figures/study
"""

import sys
import time
from itertools import combinations
from pathlib import Path

from cache import ActivationStore, LoadedModel, load_model
from cache.whole_files import check_folder
from geometry import (
    LayerResult,
    between_layers,
    between_pairs,
    demix_by_layer,
    loadings,
    nmf_by_layer,
    pca_by_layer,
    svd_by_layer,
    umap_by_layer,
    write_report,
)
from geometry.between.summary import summary
from geometry.figures.compare import described_by_layer, shared_index_by_layer
from geometry.figures.loadings import loading_table
from geometry.figures.overview import layer_heatmap
from geometry.figures.scatter import scatter_by_layer
from geometry.figures.spectra import demixed_by_layer, explained_variance_by_layer, spectra_by_layer


def decompositions(store: ActivationStore, model: LoadedModel, families: list[str], folder: Path) -> None:
    """SVD, PCA, NMF, UMAP and the demixed parts of the query rows of all families but the controls."""
    view = store.view(where=f"is_last and family in {families}")
    for name, by_layer in (("svd", svd_by_layer), ("pca", pca_by_layer), ("nmf", nmf_by_layer)):
        result = by_layer(view)
        table = loadings(result, model)
        figures = {"scatter": scatter_by_layer(result), "loadings": loading_table(table, title=name)}
        if name != "nmf":
            figures |= {"spectra": spectra_by_layer(result), "variance": explained_variance_by_layer(result)}
        write_report(result, figures, folder / name, {"loadings": table})
    result = umap_by_layer(store.view(layers="spread", where=f"is_last and family in {families}"))
    write_report(result, {"scatter": scatter_by_layer(result)}, folder / "umap")
    result = demix_by_layer(store.view(), families[:3])
    write_report(result, {"demixed": demixed_by_layer(result)}, folder / "demix")


def comparisons(store: ActivationStore, model: LoadedModel, families: list[str], folder: Path) -> LayerResult:
    """Families against families: first what decides, then what merely describes; then layers against layers."""
    deciding = between_pairs(store.view(), list(combinations(families, 2)), model=model)
    figures = {name: shared_index_by_layer(deciding, measure=name) for name in deciding.parameters["measures"]}
    write_report(deciding, figures, folder / "families", {"summary": summary(deciding)})
    described = dict.fromkeys((families[1], families[2 % len(families)], families[-1]))
    pairs = [(families[0], other) for other in described if other != families[0]]
    describing = between_pairs(store.view(), pairs, measures=("cka", "cca"))
    write_report(describing, {"described": described_by_layer(describing, ("cka", "cca"))}, folder / "described")
    grid = between_layers(store.view(where=f"is_last and family in {families[:3]}"))
    write_report(grid, {"grid": layer_heatmap(grid)}, folder / "layers")
    return deciding


def main(path: str, folder: str) -> None:
    """Measure, draw, and print which families share an index code."""
    check_folder(folder)
    started = time.perf_counter()
    with ActivationStore.open(path) as store:
        families = list(store.families)
        model = load_model(store.manifest["soft"]["model"])
        decompositions(store, model, families, Path(folder))
        deciding = comparisons(store, model, families, Path(folder))
    print(summary(deciding).to_string(index=False, float_format="%.3g"))
    print(f"{time.perf_counter() - started:.0f} s; figures and tables are in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
