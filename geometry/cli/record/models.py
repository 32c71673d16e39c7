"""`geometry models`: what can be loaded here and now, and what was found about one model."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from geometry.cli.console import options
from geometry.cli.console.terminal import console, print_json, print_tables
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from cache.models.findings import Finding
    from cache.models.model import LoadedModel

_MEANINGS = {
    "logits": "the same logits wrapped and unwrapped",
    "causal": "no token is changed by what follows it",
    "readout": "logits are read from the last stream",
    "generation": "the same logits with and without a key/value cache",
    "restart": "restarted from a block as in a full pass",
}


def models(
    check: Annotated[
        str | None,
        typer.Option(help="Print what was found about this model: a name, folder or .gguf file, as for --model."),
    ] = None,
    device: options.Device = "auto",
    revision: options.Revision = None,
    processing: options.Processing = "none",
    bos: options.Bos = True,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models that can be loaded here and now, and how to get others; or check one of them."""
    if check is None:
        _list(as_json=as_json, full=full, quiet=quiet)
        return
    with console(quiet=quiet).status(f"loading and checking {check}"):
        from cache.loading.load import open_model, refuse

        model = open_model(check, device=device, revision=revision, processing=processing, bos=bos)
    if as_json:
        findings = list(map(asdict, model.findings.values()))
        print_json({"model": model.name, "type": model.model_type, "findings": findings})
    else:
        title = f"{model.name} (type {model.model_type}), on some twenty tokens"
        print_tables([Shown(_found(model), title, ("check",))], full=full, quiet=quiet)
    refuse(model)


def _found(model: "LoadedModel") -> "pd.DataFrame":
    """The checks of the whole model, then the sites by kind."""
    import pandas as pd

    from cache.models.hooks import Hook

    lines = []
    by_kind: dict[str, list[str]] = {}
    for name in model.findings:
        if name in _MEANINGS:
            lines.append(_line(model, name, _MEANINGS[name], [name]))
        else:
            by_kind.setdefault(Hook.parse(name).kind, []).append(name)
    lines += [_line(model, kind, f"{len(names)} sites", names) for kind, names in by_kind.items()]
    return pd.DataFrame(lines)


def _line(model: "LoadedModel", check: str, what: str, names: list[str]) -> dict[str, object]:
    findings = [model.findings[name] for name in names]
    faults = [finding for finding in findings if finding.fault]
    many = f"{len(faults)} of {len(names)}, {faults[0].check}: " if faults and len(names) > 1 else ""
    return {
        "check": check,
        "found": f"{many}{faults[0].fault}" if faults else "not compared" if _unseen(check, findings) else "right",
        "largest difference": max((one.difference for one in findings if one.difference is not None), default=None),
        "what": what,
    }


def _unseen(check: str, findings: "list[Finding]") -> bool:
    """Whether a model came wrapped, so that nothing is known of its logits before."""
    return check == "logits" and findings[0].difference is None


def _list(*, as_json: bool, full: bool, quiet: bool) -> None:
    import pandas as pd

    from cache.loading.hub import hub_reachable
    from cache.loading.sources import available_models

    rows = pd.DataFrame(available_models())
    reachable = hub_reachable()
    if as_json:
        print_json({"models": rows.to_dict("records"), "hub_reachable": reachable})
        return
    print_tables([Shown(rows, keys=("name",))], full=full, quiet=quiet)
    others = (
        "any other causal model is downloaded from the Hub when named: gpt2-small, EleutherAI/pythia-70m"
        if reachable
        else "the Hub cannot be reached: copy a folder (config.json, safetensors, tokenizer) here and give its path"
    )
    console(quiet=quiet).print(f"{others}; folders and .gguf files load by their path")
