"""Calibration, decisions, and the figures computed from them."""
