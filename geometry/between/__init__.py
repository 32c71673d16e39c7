"""Comparisons over layers: of families, and of layers and models."""
