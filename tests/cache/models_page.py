"""docs/models.md: what becomes of each architecture. Write it anew with: python -m tests.cache.models_page."""

import re
import sys
from pathlib import Path

from cache.errors import GeometryError
from cache.loading.load import open_model, refuse
from cache.models.hooks import Hook, layers_by_kind
from tests.cache.architectures import TYPES, tiny_model
from tests.word_tokenizer import word_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HEAD = """# Which models are read rightly

`geometry` reads a model through TransformerLens's `TransformerBridge`. Every model is checked on twenty tokens when it
is loaded, and what fails is refused in a sentence, never recorded: a model whose logits change when it is wrapped, or
whose tokens are changed by what follows them, altogether; else only the site, the restart (sweep, transfer, erase) or
the readout that fails. A model that says other things with its key/value cache than without generates without.
`geometry models --check NAME` prints what was found about a model; it is kept in the user's cache under the content of
the weights, the configuration and the versions of the libraries.

The table is made, by `python -m tests.cache.models_page`, from small random models of {n} architectures of
transformers'; a test holds each against plain Hugging Face (1e-5 of the largest value, at every site, in logits,
generation and restart), and this page against the models. It is of the architectures as these sizes show them: a
configuration of yours can fare otherwise, and is checked itself.

| type | read | sites not shown | why | cache | restart | readout |
|---|---|---|---|---|---|---|
"""


def opened_or_told(hf_model, tokenizer):
    """The model, unrefused, or the sentence with which it cannot even be opened."""
    try:
        return open_model(hf_model, tokenizer=tokenizer)
    except GeometryError as error:
        return str(error)


def page(models):
    """The page for models, or sentences in their place, by name."""
    return HEAD.format(n=len(models)) + "".join(f"| {' | '.join(_cells(n, m))} |\n" for n, m in models.items())


def _cells(name, model):
    if isinstance(model, str):
        return [name, "refused", "", _plain(model), "", "", ""]
    try:
        refuse(model)
    except GeometryError as error:
        return [name, "refused", "", _plain(str(error)), "", "", ""]
    faults = {check: finding.fault for check, finding in model.findings.items() if finding.fault}
    hooks = [Hook.parse(check) for check in faults if check.startswith("blocks.")]
    sites = [
        kind if len(layers) == model.n_layers else f"{kind} of {', '.join(map(str, layers))}"
        for kind, layers in layers_by_kind(hooks).items()
    ]
    why = dict.fromkeys(_plain(fault) for check, fault in faults.items() if check.startswith("blocks."))
    whole = [_plain(faults[check]) if check in faults else "yes" for check in ("generation", "restart", "readout")]
    return [name, "right" if not faults else "right, but for:", "; ".join(sites), "; ".join(why), *whole]


def _plain(sentence):
    """Without the model's own name and the numbers, which differ between machines."""
    text = re.sub(r"^'?\w+'? \(type [\w.-]+\) ", "", sentence)
    text = re.sub(r", by [\d.e+-]+ of the largest( logit)?", "", text)
    return re.sub(r"transformer-lens [\d.]+", "transformer-lens", text).replace("|", "/")


if __name__ == "__main__":
    words = word_tokenizer()
    PAGE.write_text(
        page({name: opened_or_told(tiny_model(name, len(words)), words) for name in TYPES}), encoding="utf-8"
    )
    sys.stdout.write(f"{PAGE}\n")
