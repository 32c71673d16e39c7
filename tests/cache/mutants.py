"""Damaged copies of a store, each read by a process of its own that may crash, hang or swell.

Run as a program: `mutants.py STORE COUNT SEED` prints a summary as JSON. Reading a mutant gives what reading the
whole store gives, or one sentence; what else it gives is counted.
"""

import hashlib
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

LIMIT_S = 10
SENTENCE = (4, 5)  # exit codes: damaged; or, where just the version's digit was hit, of another version


def bit_flips(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def ones(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content) - 8)
    content[place : place + 8] = b"\xff" * 8


def zeros(content: bytearray, rng: random.Random) -> None:
    length = rng.choice((1, 8, 64, 512, 4096))
    place = rng.randrange(len(content))
    part = content[place : place + length]
    content[place : place + length] = bytes(len(part))


def noise(content: bytearray, rng: random.Random) -> None:
    length = rng.choice((2, 16, 512))
    place = rng.randrange(len(content))
    part = content[place : place + length]
    content[place : place + length] = rng.randbytes(len(part))


def moved(content: bytearray, rng: random.Random) -> None:
    length = rng.choice((8, 64, 512))
    source, target = (rng.randrange(len(content) - length) for _ in range(2))
    content[target : target + length] = content[source : source + length]


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def longer(content: bytearray, rng: random.Random) -> None:
    content.extend(rng.randbytes(rng.choice((1, 100, 5000))))


def shifted(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        content[place:place] = rng.randbytes(rng.choice((1, 8)))
    else:
        del content[place : place + rng.choice((1, 8))]


def at_the_start(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(800)] = rng.randrange(256)


def at_the_end(content: bytearray, rng: random.Random) -> None:
    content[-1 - rng.randrange(min(800, len(content)))] = rng.randrange(256)


MUTATIONS = (bit_flips, bit_flips, ones, zeros, noise, moved, cut, longer, shifted, at_the_start, at_the_end)


def readings(path: Path) -> dict[str, Any]:
    """What `info`, `verify` and `load` give: an answer, or an exit code and a sentence."""
    from cache import ActivationStore
    from cache.errors import GeometryError
    from geometry.cli.console.apart_tasks import facts, verification

    def loaded(path: Path) -> str:
        with ActivationStore.open(path) as store:
            digest = hashlib.sha256(store.rows.to_csv().encode() + store.prompts.to_csv().encode())
            for hook in store.hooks:
                digest.update(store.load(hook).numpy().tobytes())
        return digest.hexdigest()

    said: dict[str, Any] = {}
    for name, read in (("info", facts), ("verify", verification), ("load", loaded)):
        try:
            with redirect_stdout(StringIO()):  # of progress
                answer = read(path)
            if isinstance(answer, dict):
                answer.pop("file", None)
                answer.pop("bytes", None)
            said[name] = answer
        except GeometryError as error:
            said[name] = [error.exit_code, str(error)]
    return json.loads(json.dumps(said))


def verdict(said: dict[str, Any], truth: dict[str, Any]) -> str:
    """`identical`, `told`, or what is wrong."""
    for name, answer in said.items():
        refused = isinstance(answer, list)
        if refused and (answer[0] not in SENTENCE or "\n" in answer[1]):
            return f"{name} gave no sentence: {answer}"
        damage = name == "verify" and not refused and answer["damage"]
        if not refused and not damage and answer != truth[name]:
            return f"{name} is silently different"
    told = [name for name in ("verify", "load") if isinstance(said[name], list) or said[name] != truth[name]]
    return "told" if told else "identical"


def read_apart(path: Path, truth: dict[str, Any]) -> str:
    """The verdict on one file, from a child of this process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            said = verdict(readings(path), truth)
        except BaseException as error:
            said = f"traceback: {type(error).__name__}: {error}"
        os.write(theirs, said.encode()[:4000])
        os._exit(0)
    os.close(theirs)
    answered = select.select([ours], [], [], LIMIT_S)[0]
    said = os.read(ours, 4000).decode() if answered else "hang"
    os.close(ours)
    if not answered:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return said or f"crash by signal {os.WTERMSIG(status)}"


def main() -> None:
    """Mutate, read, count."""
    import torch

    torch.set_num_threads(1)
    store, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    whole, rng = store.read_bytes(), random.Random(seed)
    truth = readings(store)
    counts: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / store.name
        for _ in range(count):
            content = bytearray(whole)
            mutate = rng.choice(MUTATIONS)
            mutate(content, rng)
            path.write_bytes(content)
            said = read_apart(path, truth)
            counts[said] += 1
            by_kind.setdefault(mutate.__name__, Counter())[said] += 1
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps({"counts": counts, "by_kind": by_kind, "peak_mib": peak / 1024}) + "\n")


if __name__ == "__main__":
    main()
