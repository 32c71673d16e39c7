"""The one loop over sites: watched, on one thread, and taken up where it was broken off."""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from cache import Hook
from cache.whole_files import write_whole
from geometry.results.packing import pack, unpack
from geometry.results.result import LIBRARIES

T = TypeVar("T")


_FOLDER = re.compile(r"unfinished-[0-9a-f]{16}")


def _nobody(_: Any) -> None:
    """Who is told where nobody is named."""


@dataclass(frozen=True)
class Loop:
    """How a loop over sites is run: who is told of it, and where finished sites are kept until all are.

    Attributes:
        on_hook: called after every site.
        kept: a folder for finished sites, from which the same analysis goes on when it was broken off; None keeps
            nothing. `forget` empties it once the result is written.
        say: called with a sentence when kept sites are used, or dropped since they are of another analysis.

    Example:
        >>> seen = []
        >>> result = pca_by_layer(view, k=2, loop=Loop(on_hook=seen.append))
        >>> seen == list(view.hooks)
        True
    """

    on_hook: Callable[[Hook], None] = field(default=_nobody, repr=False)
    kept: Path | None = None
    say: Callable[[str], None] = field(default=_nobody, repr=False)


ALONE = Loop()
"""A loop that nobody watches and that keeps nothing."""


@dataclass(frozen=True)
class Analysis:
    """What the values of a site depend on, besides the site.

    Attributes:
        name: the analysis.
        parameters: every choice, the seed among them, as JSON knows them.
        source: the fingerprint of what is analysed.
        part: which of the analysis's loops over sites it is, if it has several.
        types: dataclasses of ours that a site's values are made of.
        many_threads: whether products are large enough, or a model is run, so that several threads pay.
    """

    name: str
    parameters: Mapping[str, Any]
    source: str
    part: str = ""
    types: Sequence[type] = ()
    many_threads: bool = False


def over(hooks: Sequence[Hook], unit: Callable[[Hook], T], analysis: Analysis, loop: Loop = ALONE) -> list[T]:
    """What a function gives at every site, in their order; a site that was finished before is not computed again.

    Args:
        hooks: the sites.
        unit: from a site to its values: a pure function of it and of what `analysis` names, so that it gives the same
            bytes on any machine, in any order. Its values are such as `geometry.results.packing.pack` takes.
        analysis: what the values depend on besides.
        loop: who watches, and where finished sites are kept.

    Raises:
        NotAvailableError: the folder for kept sites takes no file.
        NoSpaceError: there is no room in it.
    """
    folder = None if loop.kept is None else _opened(loop.kept, analysis, loop.say)
    found = []
    for hook in hooks:
        with nullcontext() if analysis.many_threads else threadpool_limits(1):
            found.append(_unit(hook, unit, analysis, folder))
        loop.on_hook(hook)
    return found


def forget(kept: Path) -> None:
    """Remove the sites that loops have kept in a folder, and the folder if nothing else is in it."""
    for folder in _folders(kept):
        _remove(folder)
    with suppress(OSError):
        kept.rmdir()


def _unit(hook: Hook, unit: Callable[[Hook], T], analysis: Analysis, folder: Path | None) -> T:
    if folder is None:
        return unit(hook)
    path = folder / f"{analysis.part}{hook.name}.npz"
    with suppress(OSError, ValueError):  # not there, or not whole: computed
        kept: T = unpack(path.read_bytes(), analysis.types)
        return kept
    found = unit(hook)
    write_whole(path, pack(found))
    return found


def _opened(kept: Path, analysis: Analysis, say: Callable[[str], None]) -> Path:
    """The folder of an analysis's finished sites; those of other analyses are dropped."""
    described = {"name": analysis.name, "parameters": dict(analysis.parameters), "source": analysis.source}
    described["versions"] = {name: importlib.metadata.version(name) for name in LIBRARIES}
    text = json.dumps(described, sort_keys=True)
    mine = kept / f"unfinished-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    others = [folder for folder in _folders(kept) if folder != mine]
    for folder in others:
        say(f"what was kept in {kept} is of another {_differing(folder, described)}; all is computed anew")
        _remove(folder)
    n_kept = len(list(mine.glob(f"{analysis.part}blocks.*.npz")))
    if n_kept:
        say(f"{n_kept} finished before and kept in {kept} are not computed again")
    write_whole(mine / "analysis.json", text)
    return mine


def _differing(folder: Path, described: Mapping[str, Any]) -> str:
    """In what another analysis differs: its name, or the first of its parameters that does."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        other = json.loads((folder / "analysis.json").read_text())
        here, there = ({**one, **one["parameters"]} for one in (described, other))
        names = [name for name in here if name != "parameters" and here[name] != there.get(name)]
        return names[0] if names else "analysis"
    return "analysis"


def _folders(kept: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(one for one in kept.iterdir() if _FOLDER.fullmatch(one.name) and not one.is_symlink())
    return []


def _remove(folder: Path) -> None:
    for path in [*folder.glob("*.npz"), folder / "analysis.json"]:
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()
