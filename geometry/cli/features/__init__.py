"""Commands for features that are not of a decomposition: sparse autoencoders."""
