"""`python -m geometry`."""

from geometry.cli import main

main()
