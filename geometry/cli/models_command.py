"""`geometry models`: what can be loaded here and now."""

import json
import sys

from geometry.cli import options
from geometry.cli.terminal import console, print_table


def models(as_json: options.AsJson = False) -> None:
    """List the models that can be loaded here and now, and how to get others."""
    import pandas as pd

    from cache.model_sources import available_models, hub_reachable

    rows = pd.DataFrame(available_models())
    reachable = hub_reachable()
    if as_json:
        content = {"models": rows.to_dict("records"), "hub_reachable": reachable}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    print_table(rows)
    others = (
        "any other causal model is downloaded from the Hub when named: gpt2-small, EleutherAI/pythia-70m"
        if reachable
        else "the Hub cannot be reached: copy a folder (config.json, safetensors, tokenizer) here and give its path"
    )
    console().print(f"{others}; folders and .gguf files load by their path", markup=False)
