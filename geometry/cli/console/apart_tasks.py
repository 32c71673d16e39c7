"""The child process of `geometry.cli.console.apart`: reads one file within limits, and answers in lines of JSON."""

import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.errors import GeometryError

if TYPE_CHECKING:
    from cache.store.file import StoreFile

_SECONDS = 10  # of processor time, and what the file's size explains
_BYTES_A_SECOND = 20_000_000
_MEMORY = 512 << 20  # beside what is loaded, and what tables take: text in the file is far smaller than in a table
_MEMORY_A_BYTE = 64
_MOST_COMPRESSED = 8  # what a file system that compresses may make of activations


def main() -> None:
    """Run the task named in the arguments and print its answer."""
    task, file, *options = sys.argv[1:]
    try:
        run = TASKS[task]
        _limit(Path(file))
        answer: dict[str, Any] = {"result": run(Path(file), *options)}
    except GeometryError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        answer = {
            "error": "CorruptFileError",
            "message": f"{file} takes more memory to read than a store of its size can; do not open it",
        }
    _say(answer)


def facts(file: Path) -> dict[str, Any]:
    """What `geometry info` tells of a store, or of a file of SAE features."""
    from cache.store.file import open_rows_file  # not the store, which takes torch and pandas: seconds
    from cache.store.manifest import FEATURES

    opened = open_rows_file(file)
    opened.reader.close()
    return _of_features(opened) if opened.kind is FEATURES else _of_store(opened)


def _of_features(found: "StoreFile") -> dict[str, Any]:
    hard, soft = found.manifest["hard"], found.manifest["soft"]
    given = soft.get("origin")
    origin = given if isinstance(given, dict) else {}
    slots = [site.row_shape[0] for site in found.log.sites.values() if site.row_shape]
    return {
        "file": str(found.path),
        "bytes": found.path.stat().st_size,
        "complete": len(found.recorded) == found.n_rows,
        "holds": "features of an SAE; probes.sae_features.features.open_features reads them",
        "sae": origin.get("name", "not noted"),
        "architecture": origin.get("architecture", "not noted"),
        "site": hard["hook"] + (f", head {hard['head']}" if hard["head"] >= 0 else ""),
        "model": soft.get("model") or "not noted",
        "features": hard["n features"],
        "extracted": len(found.further["features/of_sae"]),
        "slots": max(slots, default=0),
        "rows": len(found.recorded),
        "rows planned": found.n_rows,
        "where": soft.get("where", "not noted"),
        "store": hard["store"],
        "fingerprint": found.fingerprint,
        "created": found.created,
        "command": found.command,
    }


def _of_store(store: "StoreFile") -> dict[str, Any]:
    from cache.prompts.prompt import family_counts

    hard, soft = store.manifest["hard"], store.manifest["soft"]
    counts: dict[str, Counter[str]] = {name: Counter(store.prompts[name]) for name in ("frame", "kind")}
    n_recorded = len(store.recorded)
    return {
        "file": str(store.path),
        "bytes": store.path.stat().st_size,
        "complete": n_recorded == store.n_rows,
        "model": soft.get("model") or "not noted",
        "revision": hard["model revision"] or "none",
        "processing": hard["model processing"],
        "bos": hard["bos"],
        "prompts": store.n_prompts,
        "families": family_counts(store.prompts["family"], store.prompts["kind"]),
        "frames": dict(counts["frame"]),
        "kinds": dict(counts["kind"]),
        "rows": n_recorded,
        "rows planned": store.n_rows,
        "positions": hard["positions"],
        "sites": hard["hooks"],
        "dtype": hard["storage dtype"],
        "fingerprint": store.fingerprint,
        "created": store.created,
        "command": store.command,
    }


def verification(file: Path, *options: str) -> dict[str, Any]:
    """What `geometry verify` tells of a store: counts of blocks, and each damage as part, block and rows."""
    from cache.sealed.verify import verify_store
    from cache.store.file import open_rows_file

    result = verify_store(file, quick="quick" in options, on_site=lambda done, total: _say({"step": [done, total]}))
    if not result.damage:
        open_rows_file(file).reader.close()
    return {
        "n_blocks": result.n_blocks,
        "n_committed": result.n_committed,
        "damage": [[damage.part, damage.block, damage.rows] for damage in result.damage],
    }


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"facts": facts, "verification": verification}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _limit(file: Path) -> None:
    """Take away what no honest file of this size needs; the libraries are loaded before they are counted."""
    import cache.sealed.verify
    import cache.store.file  # noqa: F401
    from cache.sealed.footer import read_footer
    from cache.sealed.opening import open_regular

    handle = open_regular(file)
    try:
        footer, on_disk = read_footer(handle, file), 512 * os.fstat(handle).st_blocks
    finally:
        os.close(handle)
    size = min(footer.size, _MOST_COMPRESSED * on_disk)  # of a file that is mostly holes little is on the disk
    frozen = min(size, footer.size - sum(length for _, length in footer.spans))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _SECONDS + size // _BYTES_A_SECOND
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, seconds)
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere what is loaded cannot be told apart from what is asked for
        loaded = int(statm.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, loaded + _MEMORY + _MEMORY_A_BYTE * frozen)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    main()
