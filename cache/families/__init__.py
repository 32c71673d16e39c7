"""Families of words that stand in an order, and controls that stand in none."""
