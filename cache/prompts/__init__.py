"""Prompts: what members are shown in, how they are made, read and written."""
