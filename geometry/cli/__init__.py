"""The command line: a command parses, calls the library, writes, and prints where."""


def main(arguments: list[str] | None = None) -> None:
    """Run the `geometry` program; see `geometry.cli.app.main`."""
    from geometry.cli.app import main as run

    run(arguments)
