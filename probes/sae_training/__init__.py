"""Sparse autoencoders trained by sae-lens on what a store holds, many sites at once."""
