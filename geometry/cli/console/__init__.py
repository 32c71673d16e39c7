"""What the commands share: options, the terminal, and what surrounds the program."""
