"""Loading a model: where its files are, what they hold, and whether to trust them."""
