"""The command line: a command parses, calls the library, writes, and prints where."""

from geometry.cli.app import main

__all__ = ["main"]
