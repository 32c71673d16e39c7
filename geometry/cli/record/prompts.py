"""`geometry prompts`: see, save, and try prompts on a model."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.terminal import console, load_model_aloud, print_tables, progress, say_own_prompts
from geometry.cli.tables.cells import intervals
from geometry.cli.tables.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from cache.prompts.prompt import Prompts
    from cache.tasks import TaskTable

_SHOWN = 24
_LONGEST = 1000  # characters of a text that are shown


def prompts(
    dataset: options.Dataset = "digits,numwords,months",
    frame: options.FrameNames = "quote,list",
    kind: options.KindNames = "increasing",
    length: options.Lengths = "4",
    starts: options.Starts = "all",
    templates: options.Templates = 4,
    sample: options.Sample = None,
    model: Annotated[
        str | None, typer.Option(help="Print the task table of this model: accuracy by frame and family.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save: prompts as .jsonl, the task table as .csv.")] = None,
    device: options.Device = "auto",
    bos: options.Bos = True,
    revision: options.Revision = None,
    processing: options.Processing = "none",
    batch_tokens: options.BatchTokens = 256,
    seed: options.Seed = 0,
    full: options.Full = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Print or save prompts; with --model, the task table that says which of them a model can continue."""
    design = options.sequence_design(
        frame=frame, kind=kind, length=length, starts=starts, templates=templates, sample=sample, seed=seed
    )
    from cache.prompts.datasets import load_dataset

    if out is not None:
        _check_out(out, as_prompts=model is None)
    made = load_dataset(dataset, design)
    if model is None:
        _show_prompts(made, out, as_json=as_json, full=full, quiet=quiet)
        return
    loaded = load_model_aloud(model, device=device, bos=bos, revision=revision, processing=processing, quiet=quiet)
    from cache.tasks import task_table

    with progress(quiet=quiet) as bar:
        task = bar.add_task("trying prompts", total=None, speed="")
        result = task_table(loaded, made, batch_tokens=batch_tokens, on_batch=lambda n: bar.advance(task, n))
    _show_task_table(result, out, as_json=as_json, full=full, quiet=quiet)


def _check_out(out: Path, *, as_prompts: bool) -> None:
    """Refuse a name or a place that is none for what is saved, before anything is worked out."""
    from cache.whole_files import check_file

    if as_prompts and out.suffix.lower() != ".jsonl":
        raise InputError(f"prompts are saved as .jsonl; got {str(out)!r}")
    check_file(out)


def _show_prompts(made: "Prompts", out: Path | None, *, as_json: bool, full: bool, quiet: bool) -> None:
    if out is not None:
        from cache.prompts.files import write_prompts

        write_prompts(made, out)
        use = f"use them with --dataset {shlex.quote(str(out))}"
        console(quiet=quiet).print(f"{len(made)} prompts -> {out}; {use}")
        return
    if as_json:
        for prompt in made:
            sys.stdout.write(json.dumps(asdict(prompt), ensure_ascii=False) + "\n")
        return
    from cache.prompts.prompt import family_counts

    table = made.table()
    lines = table[["family", "text", "answer", "distractor", "frame", "kind", "template"]]
    lines = lines.assign(**{name: lines[name].map(_quoted) for name in ("text", "answer", "distractor")})
    print_tables([Shown(lines, keys=("family", "text"), most=_SHOWN)], full=full, quiet=quiet)
    counts = ", ".join(f"{count} {family}" for family, count in family_counts(table["family"], table["kind"]).items())
    say_own_prompts(made, quiet=quiet)
    console(quiet=quiet).print(f"{len(made)} prompts: {counts}; --out FILE.jsonl saves them all")


def _quoted(text: str) -> str:
    """A text as it stands between quotation marks; of a whole document its beginning."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r} ..."


def _show_task_table(result: "TaskTable", out: Path | None, *, as_json: bool, full: bool, quiet: bool) -> None:
    if out is not None:
        from cache.whole_files import write_whole

        write_whole(out, result.table.to_csv(index=False, float_format="%.6g"))
        console(quiet=quiet).print(f"task table -> {out}")
    if as_json:
        sys.stdout.write(result.table.to_json(orient="records", indent=2) + "\n")
    else:
        title = "task table: top-1 accuracy with its 95 % interval over answers"
        print_tables([Shown(_short(result), title, ("frame", "family", "kind"))], full=full, quiet=quiet)
        console(quiet=quiet).print(
            "an interval needs 5 different answers; distractor: share of prompts continued with the last member shown"
            " (for repeated and copy, with its successor)"
        )


def _short(result: "TaskTable") -> "pd.DataFrame":
    table = result.table.assign(interval=intervals(result.table))
    names = {
        "accuracy": "accuracy",
        "interval": "95 %",
        "answer_probability": "p(answer)",
        "distractor_rate": "distractor",
        "n_members": "answers",
        "n_prompts": "prompts",
        "member_tokens": "member tokens",
        "answer_tokens": "answer tokens",
        "n_dropped": "dropped",
        "dropped_why": "why dropped",
    }
    return table[["frame", "family", "kind", *names]].rename(columns=names)
