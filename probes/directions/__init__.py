"""Directions and subspaces: how to get from one group of prompts, or one index, to another."""
