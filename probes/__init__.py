"""What we can do with it: interventions along recorded directions (from the next part on)."""
