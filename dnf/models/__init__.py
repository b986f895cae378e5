"""What is trained: flows, their prior, the DNF made of both, and the baselines."""

from dnf.models.checkpoint import Trained, load_model
from dnf.models.dnf import DNF

__all__ = ["DNF", "Trained", "load_model"]
