"""Turn `2` into `two`: steer digit prompts along a direction that has not seen the answer, and print what came of it.

geometry cache --model smollm2-135m --dataset digits,numwords,months --positions members --out activations/demo.h5
python scripts/steer_digit_to_word.py activations/demo.h5
"""

import sys

from cache import ActivationStore, load_model
from probes import Grid, sweep, sweep_summary
from probes.steering.cells import before_and_after


def main(path: str, source: str = "digits", target: str = "numwords") -> None:
    """Sweep the last quarter of the layers, choose each answer's cell on other answers, and print before and after."""
    with ActivationStore.open(path) as store:
        model = load_model(store.manifest["soft"]["model"])
        last = model.n_layers - 1
        result = sweep(
            store.view(layers=f"{last - model.n_layers // 4}-{last}"),
            model,
            source,
            target,
            Grid(alphas=(1.0, 1.5, 2.0), positions=("last",), methods=("mean_difference",)),
        )
    summary = sweep_summary(result)
    print(
        summary[["method", "success", "se", "worst_answer", "layer", "alpha", "n_members", "n_rows"]].to_string(
            index=False
        )
    )
    print(f"\n{'prompt':72} {'before':>8} {'after':>8} {'wanted':>8}")
    for line in before_and_after(result).drop_duplicates("answer").itertuples():
        print(f"{line.prompt!r:72} {line.before!r:>8} {line.after!r:>8} {line.wanted!r:>8}")


if __name__ == "__main__":
    main(*sys.argv[1:])
