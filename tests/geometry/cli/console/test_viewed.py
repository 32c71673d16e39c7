"""What is said when an analysis is interrupted: what is kept, if anything is, and what the same command does."""

import re
from pathlib import Path

import pytest

from cache.errors import StoppedError
from geometry.cli.console.viewed import watched


def stopped_after(n_done, n_sites):
    with watched(n_sites, Path("out"), quiet=True, passes=2) as loop:
        for _ in range(n_done):
            loop.on_hook(None)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("n_sites", "n_done", "said"),
    [
        (4, 0, "interrupted before anything was finished; the same command begins again"),
        (None, 0, "interrupted before anything was finished; the same command begins again"),
        (4, 1, "interrupted; 1 of 8 layers (2 passes) are kept in out, and the same command goes on from there"),
        (None, 1, "interrupted; what was finished is kept in out, and the same command goes on from there"),
    ],
)
def test_an_interrupted_loop_says_what_is_kept(n_sites, n_done, said):
    with pytest.raises(StoppedError, match=f"^{re.escape(said)}$"):
        stopped_after(n_done, n_sites)
