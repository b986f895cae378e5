"""Apply a trained model to recordings and other data."""
