"""What the tests that run every command share: a small store, and how each command is called on it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cache import Hook, SequenceDesign, load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompts
from geometry.cli.app import app
from probes.directions.direction import direction_of
from probes.directions.files import save_direction

COMMANDS = tuple(command.callback.__name__ for command in app.registered_commands)
IN_GROUPS = tuple(
    f"{group.name} {command.name or command.callback.__name__}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
)
STEPS = ("--from", "digits", "--to", "numwords")
ONE = ("--layers", "2")


@dataclass(frozen=True)
class Place:
    """Where the inputs of every command lie."""

    model: Path
    store: Path
    direction: Path

    def call(self, command: str) -> list[str]:
        """The arguments of a call that succeeds; without --out."""
        measured, loaded = (str(self.store), *ONE), ("--model", str(self.model))
        calls = {
            "cache": (*loaded, "--dataset", "digits", "--templates", "1", "--frame", "list", "--overwrite"),
            "prompts": (*loaded, "--dataset", "digits", "--templates", "1", "--frame", "list"),
            "models": (),
            "info": (str(self.store),),
            "verify": (str(self.store),),
            "direction": (str(self.store), *STEPS, "--layer", "1"),
            "steer": (*loaded, "--direction", str(self.direction), "--prompt", "1,2,3,"),
            "sweep": (*measured, *STEPS, "--alphas", "1", "--positions", "last"),
            "probe": (*measured, "--permutations", "1", "--target", "number", "--leave-out", "member"),
            "compare": (*measured, "--model", "none"),
            "transfer": (*measured, "--contexts", "2"),
            "erase": (*measured, "--contexts", "2"),
            "query": (*measured, "--families", "digits", "--contexts", "2"),
        }
        return [command, *calls.get(command, measured), "--quiet"]


def make_place(model, folder: Path, model_folder: Path) -> Place:
    """Record the store and draw the direction that the calls read."""
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), lengths=(2,), starts=(1, 2, 3, 4, 5, 6), templates=3
    )
    backwards = load_dataset("digits", replace(design, kinds=("decreasing",)))
    prompts = Prompts((*load_dataset("digits,numwords,months,control:0-1", design), *backwards))
    record(model, plan_recording(model, prompts, sites="resid", positions="members"), folder / "a.h5")
    step = torch.randn(model.d_model, generator=torch.Generator().manual_seed(3))
    drawn = direction_of(step, Hook("resid_post", 1), "drawn", source="a", target="b")
    return Place(model_folder, folder / "a.h5", save_direction(drawn, folder / "d.safetensors"))
