"""The command line: a command parses, calls the library, writes, and prints where."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the `geometry` program; see `geometry.cli.app.main`."""
    try:
        from geometry.cli.console.surroundings import settle

        settle()
        from geometry.cli.app import main as run

        run(arguments)
    except KeyboardInterrupt:  # while the program itself was being loaded
        sys.stderr.write("interrupted\n")
        sys.exit(130)
