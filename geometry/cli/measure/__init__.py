"""Commands that decompose and compare."""
