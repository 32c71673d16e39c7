"""A bar is shown at a terminal and in a notebook, once the work has taken a second, and nowhere else."""

import io
import sys
from types import SimpleNamespace

import pytest

from cache.shown import progress
from cache.shown.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by half a second whenever it is looked at."""
    times = (number / 2 for number in range(1000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook shows: each output's pictures, one after the other."""
    outputs = []

    def display(shown, *, display_id):
        assert display_id
        outputs.append([shown])
        return SimpleNamespace(update=outputs[-1].append)

    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return outputs


def work(n, **options):
    with progress_bar("pca", n, **options) as tell:
        for done in range(1, n + 1):
            tell(done)


def test_a_terminal_shows_how_far_it_is_and_is_clean_afterwards(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    work(9)
    assert "pca: 9 of 9, 4 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_file_and_a_closed_stream_show_nothing(clock, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    work(9)
    assert stream is None or stream.getvalue() == ""


def test_a_notebook_shows_one_bar_that_ends_as_a_line(clock, notebook, capsys):
    work(9)
    (bar,) = notebook
    assert [one.done for one in bar] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert str(bar[0]) == repr(bar[0]) == "pca: 2 of 9, about 4 s left"
    assert bar[0]._repr_html_() == '<progress value="2" max="9"></progress> pca: 2 of 9, about 4 s left'
    assert bar[-1]._repr_html_() == "pca: 9 of 9, 4 s"
    assert capsys.readouterr() == ("", "")


def test_what_is_short_or_not_wanted_has_no_bar(clock, notebook):
    work(1)
    work(9, show=False)
    assert notebook == []


def test_names_are_no_markup(clock, notebook):
    with progress_bar("<b>", 9) as tell:
        tell(1), tell(2)
    assert "&lt;b&gt;: 2 of 9" in notebook[0][0]._repr_html_()


def test_ipython_at_a_terminal_is_no_notebook(clock, notebook, monkeypatch):
    sys.modules["IPython"].get_ipython = lambda: SimpleNamespace()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work(9)
    assert notebook == []
    assert "pca: 9 of 9" in terminal.getvalue()


def broken_off(n):
    with progress_bar("pca", n) as tell:
        for done in range(1, n):
            tell(done + 1 // (5 - done))


def test_a_failure_leaves_no_bar_behind(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ZeroDivisionError):
        broken_off(9)
    assert "pca: 5 of 9" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")
