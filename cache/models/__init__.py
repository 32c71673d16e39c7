"""A loaded model: its sites, its tokens, how it runs, and whether it is what it says."""
