"""The evidence of the shifted copies of dev, as ``dnf.scoring.shifted_copies`` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import run_again


@dataclass(frozen=True)
class Shifted:
    """The evidence of N shifted copies about K classes.

    Attributes:
        kinds, utts, labels, speakers: ``(N,)`` kind of shift, utterance, class and speaker of each.
        mean: ``(N, K)`` mean over frames of log p(x | k), nats.
        frames: ``(N,)`` number of scored frames.
        statistics: ``(N, S)`` of the channel.
    """

    kinds: np.ndarray
    utts: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    mean: np.ndarray
    frames: np.ndarray
    statistics: np.ndarray

    def save(self, path: Path) -> None:
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Shifted:
        """Raises ``ValueError`` if the file is missing or damaged."""
        with intact(path, run_again("latents")), np.load(path) as arrays:
            return cls(**arrays)
