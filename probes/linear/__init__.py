"""Linear probes: what can be read off activations."""
