"""Whether a recording is finished already, found out without its model, which takes far longer to load."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import GeometryError

if TYPE_CHECKING:
    from cache.prompts.prompt import Prompts

_NO_MATTER = ("--quiet", "-q", "--overwrite", "--debug")


def is_finished(path: Path, words: Sequence[str], model: str, revision: str | None, prompts: "Prompts") -> bool:
    """Whether a file holds all that a command would record, by what can be told of it without the model.

    That is: the file is complete; it was made by a command of the same words; from model files of the same content, by
    their revision; of these prompts, none left out; with the same versions of libraries. False where any of it differs
    or is not known: the model then tells.

    Args:
        path: the file.
        words: the command's, without the program's name.
        model: the model's name.
        revision: which of it, on the Hub.
        prompts: what it is to be shown.
    """
    from cache.loading.sources import find_model
    from cache.store.file import open_store_file
    from cache.store.manifest import prompt_fields, soft_fields

    if words[:1] != ["cache"] or not path.exists():  # called from Python, whose words are another program's
        return False
    try:
        opened = open_store_file(path)
        opened.reader.close()
        made_by, hard, soft = shlex.split(opened.command)[1:], opened.manifest["hard"], opened.manifest["soft"]
        if len(opened.recorded) < opened.n_rows or opened.log.mark != "right" or _told(made_by) != _told(words):
            return False
        fields = prompt_fields(prompts)
        if any(hard[name] != value for name, value in fields.items()):
            return False
        if soft.get("libraries") != soft_fields(None)["libraries"]:
            return False
        found = find_model(model, revision=revision).revision
        return bool(found) and found == hard["model revision"]
    except (GeometryError, ValueError):  # the latter of a command that is no shell's
        return False


def _told(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in _NO_MATTER]
