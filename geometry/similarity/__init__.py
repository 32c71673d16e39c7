"""Measures of two representations, what they give by chance, and the verdict."""
