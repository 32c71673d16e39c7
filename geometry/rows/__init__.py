"""Which rows and which cells of a store are analysed."""
