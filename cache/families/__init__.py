"""Families of words that stand in an order, relations of words in pairs, and controls."""
