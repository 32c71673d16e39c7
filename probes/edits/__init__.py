"""Edits: what is changed in a model's activations, at which tokens, and how the model goes on."""
