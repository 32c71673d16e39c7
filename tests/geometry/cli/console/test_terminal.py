"""How wide standard output is: as COLUMNS says, or the terminal; a pipe is as wide as a line."""

import fcntl
import os
import struct
import sys
import termios

import pandas as pd
import pytest

from geometry.cli.console.terminal import line_width, print_tables
from geometry.cli.tables.shown import Shown


@pytest.fixture
def terminal(monkeypatch):
    """Standard output is a terminal of so many columns."""
    ends = os.openpty()

    def of(columns):
        fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        monkeypatch.setattr(sys, "stdout", os.fdopen(ends[1], "w", closefd=False))

    yield of
    for end in ends:
        os.close(end)


def test_a_terminal_has_its_own_width_and_80_where_it_tells_none(terminal):
    for columns, width in ((57, 57), (0, 80)):
        terminal(columns)
        assert line_width() == width


@pytest.mark.parametrize(("named", "width"), [("100", 100), ("", 57), ("0", 57), ("-3", 57), ("wide", 57), ("²", 57)])
def test_columns_go_before_the_terminal_if_they_are_a_number(terminal, monkeypatch, named, width):
    terminal(57)
    monkeypatch.setenv("COLUMNS", named)
    assert line_width() == width


def test_a_pipe_has_lines_of_any_length_unless_columns_say_otherwise(monkeypatch, capsys):
    assert line_width() is None
    monkeypatch.setenv("COLUMNS", "44")
    assert line_width() == 44


def test_tables_have_a_blank_line_between_them_and_none_are_printed_quietly(capsys):
    tables = [Shown(pd.DataFrame({"x": [value]}), "a title") for value in (1, 2)]
    print_tables(tables, full=False, quiet=False)
    assert capsys.readouterr() == ("a title\nx\n-\n1\n\na title\nx\n-\n2\n", "")
    print_tables(tables, full=True, quiet=True)
    assert capsys.readouterr() == ("", "")
