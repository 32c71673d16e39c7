"""200,000 rows of width 768 are decomposed and compared within 1 GiB, by the commands that a user types."""

import subprocess
import sys

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from cache import SequenceDesign, load_dataset, load_model, plan_recording
from cache.families.family import FAMILIES
from tests.recordings import recorded

PEAK = """
import resource, sys
from geometry.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def large(tokenizer, tmp_path_factory):
    """A store of more than 200,000 tokens from a random model of GPT-2's width, two layers deep."""
    folder = tmp_path_factory.mktemp("large")
    shape = {"n_positions": 64, "n_embd": 768, "n_layer": 2, "n_head": 12, "n_inner": 16}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(4,), templates=15)
    prompts = load_dataset("digits,numwords,months,letters,control:0-11", design)
    model = load_model(str(folder / "model"), device="cpu")
    with recorded(model, plan_recording(model, prompts, sites="resid"), folder / "large.h5") as store:
        assert len(store.rows) > 200_000
    return folder / "large.h5"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("pca", "--where", "position >= 0"),
        ("svd", "--where", "position >= 0"),
        ("compare", "--between", "layers", "--where", "position >= 0", "--measure", "cka,cka_debiased,svcca"),
        ("compare", "--families", "digits,numwords"),
        ("demix", "--families", "digits,numwords,months"),
    ],
    ids=lambda arguments: "-".join(word.strip("-") for word in arguments[:3]),
)
def test_two_hundred_thousand_rows_are_measured_within_a_gibibyte(large, tmp_path, arguments):
    command, *rest = arguments
    model = [] if "layers" in rest or command == "demix" else ["--model", "none"]
    run = [sys.executable, "-c", PEAK, command, str(large), *rest, *model, "--out", "out", "--quiet"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    peak = int(done.stderr.split("peak")[1])
    assert peak < 1024
