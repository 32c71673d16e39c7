"""Whose prompts are edited, whose codes are given to them, and how they were answered unedited."""
