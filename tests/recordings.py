"""What tests that record share: plans, an uninterrupted recording, and comparing a broken-off one with it."""

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from cache import ActivationStore, plan_recording, record, verify_store
from cache.errors import GeometryError

_NEAR = 64  # bytes around one that differs between two uninterrupted recordings: the time of creation, a digest
_ALL_SITES = "resid,heads,mlp,neurons,q,k,v,attn_out,resid_mid"
SIZES = {
    "kills": (120, {"batch_tokens": 18}),  # 60 blocks
    "fitting": (400, {"batch_tokens": 100, "sites": _ALL_SITES}),  # with 4 MiB to spare less than 24 MiB
    "large": (900, {"batch_tokens": 4096, "sites": _ALL_SITES}),  # more than that
}


def plan_of(model, size="kills"):
    """One of the recordings that tests make; the same in every process."""
    count, options = SIZES[size]
    texts = [f"{i % 10},{i // 10 % 10},{i // 100},{i % 7}," for i in range(count)]
    return plan_recording(model, texts, **options)


def recorded(model, prompts, path, **options):
    """What was recorded, opened."""
    return record(model, prompts, path, **options)


class Reference:
    """An uninterrupted recording; tells of other files whether they are the same or a part of it."""

    def __init__(self, make, plan):
        """`make(number)` records without interruption to a file of its own and returns its path."""
        self.path = make(0)
        self.blocks = plan.blocks
        with ActivationStore.open(self.path) as store:
            self.rows, self.created = store.rows, store.created
            self.values = {hook: store[hook] for hook in store.hooks}
        while (other := self._another(make)) is None:
            time.sleep(0.3)
        differing = np.flatnonzero(self._content(self.path) != self._content(other))
        self.n_differing = len(differing)
        self._fixed = np.ones(self.path.stat().st_size, dtype=bool)
        for at in differing:
            self._fixed[max(0, at - _NEAR) : at + _NEAR + 1] = False

    def _another(self, make):
        """A second recording, created in another second; None if it was the same one."""
        path = make(1)
        with ActivationStore.open(path) as store:
            if store.created != self.created:
                return path
        path.unlink()
        return None

    @staticmethod
    def _content(path):
        return np.frombuffer(Path(path).read_bytes(), np.uint8)

    def same(self, path):
        """Whether a file is this recording byte by byte, but for the time of its creation and what hangs on it."""
        content, mine = self._content(path), self._content(self.path)
        return len(content) == len(mine) and bool((content == mine)[self._fixed].all())

    def state(self, path, acknowledged=0, at_most=None):
        """How a broken-off file is, of which so many blocks were reported done.

        absent or sound: as promised; unreadable, damaged, lost (a block reported done is not there), ragged (it
        shows other than whole blocks in order, `at_most` so many or else one more) or wrong (rows or values).
        """
        if not Path(path).exists():
            return "lost" if acknowledged else "absent"
        try:
            if verify_store(path).damage:
                return "damaged"
            with ActivationStore.open(path) as part:
                return self._compare(part, acknowledged, at_most or acknowledged + 1)
        except GeometryError:
            return "unreadable"

    def shown(self, n_blocks):
        return {prompt for block in self.blocks[:n_blocks] for prompt in block}

    def _compare(self, part, acknowledged, at_most):
        prompts = set(part.rows["prompt"])
        if not prompts >= self.shown(acknowledged):
            return "lost"
        if prompts not in [self.shown(n) for n in range(acknowledged, at_most + 1)]:
            return "ragged"
        mask = self.rows["prompt"].isin(prompts).to_numpy()
        rows = self.rows[mask].reset_index(drop=True).astype(part.rows.dtypes)  # no row, no type of its own
        same = part.rows.reset_index(drop=True).equals(rows)
        same &= set(part.hooks) == set(self.values)
        same &= all(torch.equal(part[hook], values[mask]) for hook, values in self.values.items())
        return "sound" if same else "wrong"


def acknowledged(log):
    """The blocks that a writer reported done, by its log."""
    done = 0
    with suppress(FileNotFoundError):
        for line in Path(log).read_text().splitlines():
            if line.startswith("done "):
                done = int(line.removeprefix("done "))
    return done


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())
