"""Variants of a test of which the suite runs some, and `pytest -m slow` the rest."""

import pytest


def some(variants, *in_suite):
    """The variants, those that are not named marked slow."""
    assert all(one in variants for one in in_suite)
    return [one if one in in_suite else pytest.param(one, marks=pytest.mark.slow) for one in variants]
