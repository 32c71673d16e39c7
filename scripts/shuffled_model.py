"""A model whose weights are shuffled, each matrix within itself: it has the sizes and norms, and has learned nothing.

    python scripts/shuffled_model.py OUT [--model smollm2-135m] [--seed 0]

What an SAE finds in it is no more than sizes, norms and the tokens themselves give.
"""

import argparse
from pathlib import Path

import torch

from cache.loading.sources import find_model


def main() -> None:
    """Load, shuffle, save; the folder is loaded as any other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the shuffled model")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = find_model(arguments.model).folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    draw = torch.Generator().manual_seed(arguments.seed)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(matrix.flatten()[torch.randperm(matrix.numel(), generator=draw)].reshape(matrix.shape))
    model.save_pretrained(arguments.out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(arguments.out)
    print(f"{arguments.out}: {arguments.model} with {len(matrices)} matrices shuffled")


if __name__ == "__main__":
    main()
