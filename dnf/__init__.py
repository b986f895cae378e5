"""Discriminative normalization flows on speech.

Importing the package loads nothing heavy: every stage is a module of its own, run as ``python3 -m dnf.<verb>``.
"""

__version__ = "0.3.0"
