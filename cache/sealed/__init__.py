"""Sealed files: HDF5 that is made whole, filled block by block, and proves what it holds."""
