"""A bar where somebody looks, at a terminal or in a notebook, once the work has taken a second."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_SHORT = 1.0  # seconds: what takes no longer has no bar
_PAUSE = 0.2  # seconds between two pictures of it

Tell = Callable[[int], None]


@contextmanager
def progress_bar(what: str, total: int, *, show: bool = True) -> Iterator[Tell]:
    """A function to call with how much is done, of `total`; nothing is shown in a log file, a pipe or a test.

    Args:
        what: what the bar is called.
        total: how much there is to do.
        show: whether it may be shown.
    """
    if show and _notebook() is not None:
        yield _Bar(what, total, _in_notebook(_notebook())).tell
    elif show and sys.stderr is not None and sys.stderr.isatty():
        with _at_terminal() as draw:
            yield _Bar(what, total, draw).tell
    else:
        yield lambda _: None


@dataclass(frozen=True)
class Done:
    """How far the work is; a notebook shows it as a bar."""

    what: str
    done: int
    total: int
    seconds: float

    def __str__(self) -> str:
        left = self.seconds * (self.total - self.done) / max(self.done, 1)
        when = f"about {left:.0f} s left" if self.done < self.total else f"{self.seconds:.0f} s"
        return f"{self.what}: {self.done} of {self.total}, {when}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.done}" max="{self.total}"></progress> '
        return (bar if self.done < self.total else "") + html.escape(str(self))


class _Bar:
    """Shows how far the work is, not at once and not too often."""

    def __init__(self, what: str, total: int, draw: Callable[[Done], None]) -> None:
        self._what, self._total, self._draw = what, total, draw
        self._started, self._drawn = time.monotonic(), 0.0

    def tell(self, done: int) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if now - self._started < _SHORT and not self._drawn:
            return
        if now - self._drawn >= _PAUSE or done == self._total:
            self._drawn = now
            self._draw(Done(self._what, done, self._total, now - self._started))


def _notebook() -> Any:
    """What shows things in the notebook that this runs in; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return ipython.display.display if ipython is not None and hasattr(shell, "kernel") else None


def _in_notebook(display: Any) -> Callable[[Done], None]:
    handles: list[Any] = []

    def draw(done: Done) -> None:
        if handles:
            handles[0].update(done)
        else:
            handles.append(display(done, display_id=True))

    return draw


@contextmanager
def _at_terminal() -> Iterator[Callable[[Done], None]]:
    """A line at the end of the terminal that goes away with the work."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(), TextColumn("{task.description}", markup=False)
    bars = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)

    def draw(done: Done) -> None:
        if not bars.task_ids:
            bars.add_task("", total=done.total)
            bars.start()
        bars.update(bars.task_ids[0], completed=done.done, description=str(done))

    try:
        yield draw
    finally:
        bars.stop()
