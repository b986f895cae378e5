"""A trained model on single recordings."""
