"""What a model's own weights say, its readout first."""
