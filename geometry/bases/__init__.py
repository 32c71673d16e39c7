"""Sets of features: directions to write with, and a way to read."""
