"""The transfer and erasure experiments: does one family's index code act in another, and is it needed?"""
