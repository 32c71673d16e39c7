"""Which directions are the same, and whether two steps make a third."""
