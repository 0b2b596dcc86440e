"""Training steps that are recorded and replayed, where that is exact."""
