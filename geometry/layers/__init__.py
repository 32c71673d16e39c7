"""One analysis at every layer, and the result it gives."""
