"""The model behind a store, for commands that can say more with it and do without."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import GeometryError, InputError
from geometry.cli.console.terminal import console, load_model_aloud

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.store.store import ActivationStore

RecordedModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model recorded, for tokens and the readout control; default: the one that the store names; none "
        "to do without.",
    ),
]


NeededModel = Annotated[
    str | None, typer.Option("--model", help="The model recorded; default: the one that the store names.")
]

_COMMIT = 40  # hexadecimal digits of a Hub commit; a GGUF file's SHA-256 has 64


def recorded_model(store: "ActivationStore", name: str | None, *, quiet: bool) -> "LoadedModel | None":
    """Load the model that a store was recorded from.

    A model that the user names must be there and be the right one; where only the store names it, its absence is said
    and costs the readout control, not the command.

    Raises:
        GeometryError: the model that the user named is not there, or is not the one recorded.
    """
    if name == "none":
        return None
    if name is None and not _named(store):
        console(quiet=quiet).print("the store names no model: no tokens, no readout control")
        return None
    try:
        return _load(store, name or _named(store), quiet=quiet)
    except GeometryError as error:
        if name is not None:
            raise
        console(quiet=quiet).print(f"without the model ({error}): no tokens, no readout control")
        return None


def needed_model(store: "ActivationStore", name: str | None, *, quiet: bool) -> "LoadedModel":
    """Load the model that a store was recorded from, for commands that cannot do without.

    Raises:
        GeometryError: it is not there, or is not the one recorded.
    """
    wanted = name or _named(store)
    if wanted in ("", "none"):
        raise InputError("this command runs the model that was recorded; name it with --model")
    return _load(store, wanted, quiet=quiet)


def model_words(store: "ActivationStore") -> list[str]:
    """The options by which another command loads the model as it was recorded."""
    fields = store.manifest["hard"]
    words = ["--model", _named(store) or "MODEL"]
    if len(commit := str(fields["model revision"])) == _COMMIT:
        words += ["--revision", commit]
    if fields["model processing"] != "none":
        words += ["--processing", str(fields["model processing"])]
    return words if fields["bos"] else [*words, "--no-bos"]


def _named(store: "ActivationStore") -> str:
    return str(store.manifest["soft"].get("model", ""))


def _load(store: "ActivationStore", name: str, *, quiet: bool) -> "LoadedModel":
    """Load a model as it was recorded, and make sure that it is the one."""
    from cache.models.findings import places_of
    from cache.store.store import check_source

    fields = store.manifest["hard"]
    commit = str(fields["model revision"])
    if name == _named(store) and Path(name).is_absolute() and not Path(name).exists():  # moved, or another machine's
        name = next(iter(places_of(str(fields["model weights"]))), name)
    model = load_model_aloud(
        name,
        device="cpu",
        bos=bool(fields["bos"]),
        revision=commit if len(commit) == _COMMIT else None,
        processing=str(fields["model processing"]),
        quiet=quiet,
    )
    check_source(store, model)
    return model
