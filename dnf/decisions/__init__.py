"""Calibration, decisions and the figures made of them."""
