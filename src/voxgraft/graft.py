"""Where starting weights meet models."""
