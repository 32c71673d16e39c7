"""What was found out about a model by running it, kept in the user's cache under the content that it is about."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import TypeAdapter, ValidationError

from cache.errors import GeometryError
from cache.whole_files import write_whole


@dataclass(frozen=True)
class Finding:
    """What one check of a model found.

    Attributes:
        check: what was checked: `logits`, `causal`, `readout`, `generation`, `restart`, or a hook's name.
        fault: what is wrong, as a clause that a sentence can end with; empty where nothing is.
        difference: the largest difference seen between two ways to the same numbers, in units of the largest of
            them; None where there was nothing to compare.
        shape: of a hook, the shape of one of its rows.
    """

    check: str
    fault: str = ""
    difference: float | None = None
    shape: tuple[int, ...] = ()


Check = Callable[[], tuple[Finding, ...]]
_RUN_BY_CHECKS = ("checks", "site_checks", "restart", "model", "hooks", "sharing", "wrapping")
_FINDINGS = TypeAdapter(tuple[Finding, ...])


class Findings:
    """The findings about one model. What is asked twice, in this process or a later one, is found once.

    A file that cannot be read or written is done without: everything can be found again.
    """

    def __init__(self, content: Mapping[str, Any], place: str = "") -> None:
        """Findings about the model that `content` describes whole: weights, configuration, dtype, library versions.

        Args:
            content: what the findings depend on; another content has findings of its own.
            place: a folder that the model can be loaded from, noted for `places_of`.
        """
        self._content, self._place = dict(content), place
        key = hashlib.sha256(json.dumps(self._content, sort_keys=True).encode()).hexdigest()
        self._path = _folder() / f"{key}.json"
        self._found, noted = self._read()
        if self._found and place and place != noted:  # it was loaded from elsewhere before
            self._write()

    def of(self, name: str, check: Check) -> tuple[Finding, ...]:
        """What a check finds, from memory or from the user's cache; else it is run.

        Findings of a check whose module has changed since are found anew.
        """
        maker = f"{name} {_source(check)}"
        if maker not in self._found:
            self._found[maker] = check()
            self._write()
        return self._found[maker]

    def _read(self) -> tuple[dict[str, tuple[Finding, ...]], str]:
        """What was found before, and the place noted with it."""
        try:
            stored = json.loads(self._path.read_bytes())
            if stored["content"] != self._content:
                return {}, ""
            found = {str(name): _FINDINGS.validate_python(one) for name, one in stored["findings"].items()}
            return found, str(stored["place"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError):
            return {}, ""

    def _write(self) -> None:
        findings = {name: [asdict(one) for one in found] for name, found in self._found.items()}
        text = json.dumps({"content": self._content, "place": self._place, "findings": findings}, indent=1)
        with suppress(GeometryError):
            write_whole(self._path, text)


def places_of(weights: str) -> list[str]:
    """Folders that models with these weights (a content hash) were loaded from and that are still there."""
    places = []
    for path in sorted(_folder().glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(path.read_bytes())
            if stored["content"]["weights"] == weights and stored["place"] and Path(stored["place"]).is_dir():
                places.append(str(stored["place"]))
    return list(dict.fromkeys(places))


def _folder() -> Path:
    return Path(platformdirs.user_cache_dir("representation-geometry")) / "findings"


def _source(check: Check) -> str:
    """A digest of the modules that a check runs: one that changes finds anew."""
    while isinstance(check, partial):
        check = check.func
    module = inspect.getmodule(check)
    try:
        paths = [Path(inspect.getfile(module))] if module else []
        paths += [Path(__file__).with_name(f"{name}.py") for name in _RUN_BY_CHECKS]
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
    except (OSError, TypeError):
        return ""
