"""Time decompositions and similarities against the bare products of the same data: one thread, CPU seconds.

    python scripts/bench/geometry.py [--quick] [--rounds 5] [--only P6,P8,P9] [--json out.json]

Rows are those of the table of bars: P6 principal components streamed from HDF5 against one float32 product in torch,
P8 layer-by-layer CKA against its products, P9 HALS against scikit-learn's coordinate descent. Products of P8 are
numpy's, whose `x.T @ x` is SYRK: half of torch's cost; the ratio to torch's is printed beside, without a bar.
Every round runs both sides, in reversed order each other round; the ratio is the median over rounds.
"""

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # else `geometry` would be this file
sys.path.append(str(Path(__file__).resolve().parent))  # last, for the modules beside this one

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import h5py
import numpy as np
import torch
from machine import ran_on
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from cache.whole_files import write_whole
from geometry.bases.nonnegative import hals, random_start, relative_error
from geometry.bases.principal import Decomposition, pca_of_moments
from geometry.similarity.of_rows import cka_of_moments
from geometry.stats.cross_moments import cross_moments
from geometry.stats.moments import moments

BLOCK = 8192
BARS: dict[str, dict[str, float]] = {
    "P6": {"ratio": 1.2, "error, top 50": 1e-6, "error, all": 1e-4},
    "P8": {"ratio": 1.1, "error": 1e-5},
    "P9": {"ratio": 0.8, "objective above": 1e-3},
}
Result = dict[str, object]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(ours: Callable[[], object], floor: Callable[[], object], rounds: int) -> Result:
    """Median over rounds of our CPU time over the floor's, after one warm-up of each."""
    sides = {"ours": ours, "floor": floor}
    times: dict[str, list[float]] = {name: [] for name in sides}
    ours()
    floor()
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            times[name].append(cpu_seconds(sides[name]))
    ratios = [a / b for a, b in zip(times["ours"], times["floor"], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ours_s": round(statistics.median(times["ours"]), 4),
        "floor_s": round(statistics.median(times["floor"]), 4),
    }


def activations(n_rows: int, d: int, seed: int, shared: np.ndarray | None = None) -> np.ndarray:
    """Rows as of a residual stream: a power-law spectrum, a mean, and two massive dimensions."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    rows = rng.standard_normal((n_rows, d)) * (1 if shared is None else 0.5)
    rows += 0 if shared is None else shared
    rows = rows * (30 * np.arange(1, d + 1) ** -0.8) @ rotation.T + rng.standard_normal(d) * 5
    rows[:, 3] += 300
    rows[:, 7] -= 150
    return rows.astype(np.float32)


def blocks(rows: np.ndarray | h5py.Dataset, n_rows: int = BLOCK) -> Iterator[torch.Tensor]:
    """Rows of an array, or of a dataset on disk, in pieces."""
    for start in range(0, len(rows), n_rows):
        yield torch.from_numpy(rows[start : start + n_rows])


def principal_components(rounds: int, n_rows: int, d: int) -> Result:
    """P6: full spectrum and all vectors, streamed from a contiguous HDF5 dataset."""
    x = activations(n_rows, d, 0)
    tensor = torch.from_numpy(x)
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "bench.h5", "w") as file:
        file.create_dataset("activations/blocks.0.hook_resid_post", data=x)
        file.flush()
        stored = file["activations/blocks.0.hook_resid_post"]
        result = compare(partial(streamed_pca, stored), lambda: tensor.T @ tensor, rounds)
        found = np.sqrt(streamed_pca(stored).spectrum)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    truth = np.sqrt(np.linalg.eigvalsh(centred.T @ centred)[::-1] / (n_rows - 1))
    errors = np.abs(found - truth) / truth
    return {**result, "error, top 50": float(errors[:50].max()), "error, all": float(errors.max())}


def streamed_pca(rows: np.ndarray | h5py.Dataset) -> Decomposition:
    """All components of rows read once."""
    return pca_of_moments(moments(blocks(rows)), k=rows.shape[1])


def layer_by_layer(rounds: int, n_rows: int, d: int, n_layers: int = 6) -> Result:
    """P8: CKA of every layer with every other, against each layer's and each pair's product."""
    shared = np.random.default_rng(0).standard_normal((n_rows, d))
    layers = [activations(n_rows, d, seed, shared) for seed in range(n_layers)]
    pairs = [(i, j) for i in range(n_layers) for j in range(i + 1, n_layers)]
    every = pairs + [(i, i) for i in range(n_layers)]
    ours = partial(cka_grid, layers, pairs)
    result = compare(ours, lambda: [layers[i].T @ layers[j] for i, j in every], rounds)
    tensors = [torch.from_numpy(layer) for layer in layers]
    result["ratio to torch"] = compare(ours, lambda: [tensors[i].T @ tensors[j] for i, j in every], rounds)["ratio"]
    centred = [layer.astype(np.float64) - layer.mean(axis=0, dtype=np.float64) for layer in layers]
    norms = {(i, j): np.linalg.norm(centred[i].T @ centred[j]) for i, j in every}
    grid = cka_grid(layers, pairs)
    errors = [abs(grid[i, j] - norms[i, j] ** 2 / (norms[i, i] * norms[j, j])) for i, j in pairs]
    return {**result, "error": float(max(errors))}


def cka_grid(layers: list[np.ndarray], pairs: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """What `geometry.between.layers` computes of streamed rows; point this elsewhere to time another route."""
    crossed = cross_moments([partial(blocks, layer) for layer in layers], pairs)
    return {pair: cka_of_moments(joint) for pair, joint in crossed}


def nonnegative(rounds: int, n_rows: int, d: int, k: int = 20) -> Result:
    """P9: 20 rounds of HALS against 60 of scikit-learn's coordinate descent, from the same start."""
    rng = np.random.default_rng(0)
    clean = rng.gamma(0.5, 1, (n_rows, k)) @ rng.gamma(0.5, 1, (k, d))
    x = (clean * (1 + 0.1 * rng.standard_normal((n_rows, d)))).clip(0).astype(np.float32)
    w, h = random_start(x, k, rng)
    ours = partial(hals, x, w, h, max_iter=20, tol=0.0)

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        model = NMF(k, init="custom", solver="cd", max_iter=60, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit_transform(x, W=w.copy(), H=h.copy()), model.components_

    result = compare(ours, theirs, rounds)
    objectives = [relative_error(x, *factors) for factors in (ours(), theirs())]
    return {**result, "objectives": objectives, "objective above": objectives[0] - objectives[1]}


def growth(n_rows: int, d: int) -> list[Result]:
    """CPU seconds of each streamed measure as rows, then dimensions, double; the least of three runs."""
    table: list[Result] = []
    shapes = [(n_rows // 4, d), (n_rows // 2, d), (n_rows, d), (n_rows, d // 4), (n_rows, d // 2)]
    for rows, width in shapes:
        x, y = activations(rows, width, 1), activations(rows, width, 2)
        works = {"pca": partial(streamed_pca, x), "cka": partial(cka_grid, [x, y], [(0, 1)])}
        times = {name: round(min(cpu_seconds(work) for _ in range(3)), 4) for name, work in works.items()}
        table.append({"rows": rows, "d": width, **times})
    return table


def measure(names: list[str], rounds: int, quick: bool) -> Result:
    """All that was asked for, with what it ran on."""
    d = 128 if quick else 768
    works: dict[str, Callable[[], Result]] = {
        "P6": lambda: principal_components(rounds, 10_000 if quick else 100_000, d),
        "P8": lambda: layer_by_layer(rounds, 1_000 if quick else 2_000, d),
        "P9": lambda: nonnegative(rounds, 500 if quick else 4_000, d),
    }
    results: dict[str, Result] = {}
    for name, work in works.items():
        if name.split()[0] in names:
            results[name] = {**work(), "bars": BARS[name]}
            print(line(name, results[name]), flush=True)
    table = growth(4_000 if quick else 20_000, d)
    print("\n" + "".join(f"{name:>9}" for name in table[0]) + "   (CPU seconds)")
    for entry in table:
        print("".join(f"{value!s:>9}" for value in entry.values()))
    return {
        "quick": quick,
        "rounds": rounds,
        "results": results,
        "growth": table,
        **ran_on("numpy", "scipy", "torch", "scikit-learn", "h5py"),
    }


def line(name: str, result: Result) -> str:
    """One row of the printed table: each figure beside its bar."""
    figures = [f"{key} {result[key]:.3g} (bar {bar:g})" for key, bar in BARS[name].items()]
    figures += [f"to torch's products {result['ratio to torch']}"] if "ratio to torch" in result else []
    return f"{name:12}{', '.join(figures)}; {result['ours_s']} s against {result['floor_s']} s"


def missed(results: dict[str, Result]) -> list[str]:
    """Figures more than a tenth beyond their bar."""
    return [
        f"{name}: {key} {results[name][key]} is more than a tenth above {bar:g}"
        for name in results
        for key, bar in BARS[name].items()
        if float(str(results[name][key])) > bar * 1.1
    ]


def main() -> None:
    """Measure, print, and fail where a bar is missed by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: a check that it runs; bars do not count")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="P6,P8,P9")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.only.split(","), arguments.rounds, arguments.quick)
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=2) + "\n")
    complaints = [] if arguments.quick else missed(result["results"])  # type: ignore[arg-type]
    for complaint in complaints:
        print(complaint)
    if complaints:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
