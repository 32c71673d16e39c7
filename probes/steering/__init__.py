"""The steering experiment: one family's prompts turned into another's answers."""
