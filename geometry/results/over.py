"""The one loop over sites: watched, on one thread, and taken up where it was broken off."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from threadpoolctl import threadpool_limits

from cache.shown.progress import progress_bar
from cache.whole_files import write_whole
from geometry.results.described import json_text, versions
from geometry.results.packing import pack, unpack

T = TypeVar("T")


@runtime_checkable
class Site(Protocol):
    """What a loop goes over: a hook, or whatever else has a name that is one alone in its analysis."""

    @property
    def name(self) -> str:
        """Its name, which a kept file bears."""


S = TypeVar("S", bound=Site)


_DESCRIBED = "analysis.json"
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
        show: whether a bar is shown, where somebody looks, once the loop has taken a second.

    Example:
        >>> seen = []
        >>> result = pca_by_layer(view, k=2, loop=Loop(on_hook=seen.append))
        >>> seen == list(view.hooks)
        True
    """

    on_hook: Callable[[Any], None] = field(default=_nobody, repr=False)
    kept: Path | None = None
    say: Callable[[str], None] = field(default=_nobody, repr=False)
    show: bool = True


ALONE = Loop()
"""A loop that has its bar and that keeps nothing."""


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


def over(sites: Sequence[S], unit: Callable[[S], T], analysis: Analysis, loop: Loop = ALONE) -> list[T]:
    """What a function gives at every site, in their order; a site that was finished before is not computed again.

    Args:
        sites: the sites: hooks, or other parts of the work that have names.
        unit: from a site to its values: a pure function of it and of what `analysis` names, so that it gives the same
            bytes on any machine, in any order. Its values are such as `geometry.results.packing.pack` takes.
        analysis: what the values depend on besides.
        loop: who watches, and where finished sites are kept.

    Raises:
        NotAvailableError: the folder for kept sites takes no file.
        NoSpaceError: there is no room in it.
    """
    kept = None if loop.kept is None else _opened(loop, loop.kept, analysis, [site.name for site in sites])
    found: list[T] = []
    with progress_bar(f"{analysis.name} {analysis.part}".rstrip(" -"), len(sites), show=loop.show) as tell:
        for site in sites:
            with nullcontext() if analysis.many_threads else threadpool_limits(1):
                found.append(_unit(site, unit, analysis, kept))
            loop.on_hook(site)
            tell(len(found))
    return found


def forget(kept: Path) -> None:
    """Remove the sites that loops have kept in a folder, and the folder if nothing else is in it."""
    for folder in _folders(kept):
        _remove(folder)
    with suppress(OSError):
        kept.rmdir()


@dataclass(frozen=True)
class _Kept:
    """Where an analysis's finished sites are kept, and what it is described by there."""

    folder: Path
    described: str


def _unit(site: S, unit: Callable[[S], T], analysis: Analysis, kept: _Kept | None) -> T:
    if kept is None:
        return unit(site)
    path = kept.folder / _file(analysis, site.name)
    with suppress(OSError, ValueError):  # not there, or not whole: computed
        before: T = unpack(path.read_bytes(), analysis.types)
        return before
    found = unit(site)
    if not (kept.folder / _DESCRIBED).exists():  # only now: what is refused leaves nothing
        write_whole(kept.folder / _DESCRIBED, kept.described + "\n")
    write_whole(path, pack(found))
    return found


def _file(analysis: Analysis, site: str) -> str:
    return f"{analysis.part}{site}.npz"


def _opened(loop: Loop, kept: Path, analysis: Analysis, sites: Sequence[str]) -> _Kept:
    """The folder of an analysis's finished sites; those of other analyses are dropped."""
    described = {"name": analysis.name, "parameters": dict(analysis.parameters), "source": analysis.source}
    described["versions"] = versions()
    text = json_text(described, sort_keys=True)
    mine = kept / f"unfinished-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    others = [folder for folder in _folders(kept) if folder != mine]
    for folder in others:
        loop.say(
            f"what was kept in {kept} is of another run, which differs in {_differing(folder, described)}; "
            "all is computed anew"
        )
        _remove(folder)
    n_kept = sum((mine / _file(analysis, site)).is_file() for site in sites)
    if n_kept:
        loop.say(f"{n_kept} finished before and kept in {kept} are not computed again")
    return _Kept(mine, text)


def _differing(folder: Path, described: Mapping[str, Any]) -> str:
    """The first of what an analysis is described by in which another one differs."""
    with suppress(OSError, ValueError, AttributeError, TypeError, KeyError, IndexError):
        other = json.loads((folder / _DESCRIBED).read_text())
        here, there = ({**one, **one["parameters"]} for one in (described, other))
        names = [name for name in {**here, **there} if name != "parameters" and here.get(name) != there.get(name)]
        return names[0]
    return "what it analysed"


def _folders(kept: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(one for one in kept.iterdir() if _FOLDER.fullmatch(one.name) and not one.is_symlink())
    return []


def _remove(folder: Path) -> None:
    for path in [*folder.glob("*.npz"), *folder.glob(".*.tmp"), folder / _DESCRIBED]:
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()
