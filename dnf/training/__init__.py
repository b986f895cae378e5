"""Training flows and baselines."""
