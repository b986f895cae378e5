"""Recordings and data directories: reading, checking and writing them."""
