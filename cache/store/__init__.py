"""The store: a recording planned, written, and read back by site and row."""
