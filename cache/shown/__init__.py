"""What a person sees of a value, and of how far the work is: in a notebook, and at a terminal."""
