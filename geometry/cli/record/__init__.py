"""Commands that make and look at prompts, models and stores."""
