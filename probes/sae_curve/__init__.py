"""What SAEs gain by more text, more features and other shares of sequences, and its picture."""
