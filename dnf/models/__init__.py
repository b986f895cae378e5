"""Trained models: flows, their prior, and the DNF of both."""

from dnf.models.checkpoint import Trained, load_model
from dnf.models.dnf import DNF

__all__ = ["DNF", "Trained", "load_model"]
