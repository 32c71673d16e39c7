"""Sparse autoencoders: read, checked against a store or model, and their features used as any basis's."""
