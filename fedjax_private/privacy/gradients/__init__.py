"""Per-example gradients: their norms and their weighted sums."""
