"""Training that is broken off goes on: what all SAEs of a folder were at some step, whole or not there."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from cache.errors import CorruptFileError, FingerprintError
from cache.repeatable import versions_of
from cache.whole_files import storage_error, write_whole
from probes.sae_training.run import Run

FIELDS = "training.json"
_NAME = re.compile(r"step-(\d+)")


def check_fields(folder: Path, fields: dict[str, Any]) -> None:
    """Note what is trained in a folder, or make sure that it is what was.

    Raises:
        FingerprintError: other SAEs were trained there; the message names the fields that differ.
        CorruptFileError: what they were cannot be read.
    """
    path = folder / FIELDS
    if not path.exists():
        noted = {**fields, "versions": versions_of(("sae-lens", "torch"))}  # which refuse nothing
        write_whole(path, json.dumps(noted, indent=2) + "\n")
        return
    try:
        there = {
            name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name != "versions"
        }
        differ = sorted(name for name in {*there, *fields} if there.get(name) != fields.get(name))
    except (ValueError, AttributeError, TypeError) as error:
        raise CorruptFileError(f"{path} is damaged; train into another folder") from error
    if differ:
        told = ", ".join(f"{name} ({there.get(name)!r}, now {fields.get(name)!r})" for name in differ[:3])
        raise FingerprintError(f"{folder} holds SAEs trained otherwise: {told}; train into another folder")


def save_checkpoint(folder: Path, step: int, runs: Sequence[Run], curve: Sequence[dict[str, Any]]) -> None:
    """Put down all SAEs, their optimisers and the curve so far; the checkpoint before it goes.

    Raises:
        NoSpaceError, NotAvailableError: it cannot be written; the one before stays.
    """
    there = _steps(folder)
    new, place = folder / f".step-{step}.new", folder / f"step-{step}"
    try:
        shutil.rmtree(new, ignore_errors=True)
        for run in runs:
            kept = new / run.name
            kept.mkdir(parents=True)
            save_file(
                {name: one.contiguous() for name, one in run.trainer.sae.state_dict().items()}, kept / "sae.safetensors"
            )
            run.trainer.save_trainer_state(kept)
        (new / "curve.json").write_text(json.dumps(list(curve)), encoding="utf-8")
        os.replace(new, place)
    except Exception as error:
        shutil.rmtree(new, ignore_errors=True)
        raise storage_error(error, place) from error
    for one in there:
        shutil.rmtree(folder / f"step-{one}", ignore_errors=True)


def load_checkpoint(folder: Path, runs: Sequence[Run]) -> tuple[int, list[dict[str, Any]]]:
    """Bring all SAEs to where the last checkpoint was; gives its step and the curve up to it, 0 where there is none.

    Raises:
        CorruptFileError: it is damaged.
    """
    steps = _steps(folder)
    if not steps:
        return 0, []
    place = folder / f"step-{max(steps)}"
    try:
        for run in runs:
            run.trainer.sae.load_state_dict(load_file(place / run.name / "sae.safetensors"))
            run.trainer.load_trainer_state(place / run.name)  # by torch.load, which reads weights alone
        return max(steps), json.loads((place / "curve.json").read_text(encoding="utf-8"))
    except Exception as error:
        raise CorruptFileError(f"{place} is damaged; remove it to begin anew") from error


def remove_checkpoints(folder: Path) -> None:
    """Take away what is only needed to go on."""
    for step in _steps(folder):
        shutil.rmtree(folder / f"step-{step}", ignore_errors=True)


def _steps(folder: Path) -> list[int]:
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return [int(one[1]) for one in found if one]
