"""Class evidence and spectrogram of a recording over time, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 1200  # most columns of the picture


class Timeline:
    """Means over columns of time, filled block by block.

    Args:
        frames: number of frames N of the recording.
        dim: number of mel bins F.
        classes: classes of the model; the first is the reference.
        shift: frame shift, seconds.
    """

    def __init__(self, frames: int, dim: int, classes: Sequence[str], shift: float):
        self.classes, self.width = list(classes), -(-frames // MOST)
        columns = -(-frames // self.width)
        self.step, self.seconds = self.width * shift, frames * shift
        self.spectrum, self.count = np.zeros((columns, dim)), np.zeros(columns)
        self.loglik, self.vectors = np.zeros((columns, len(classes))), np.zeros(columns)

    def add_frames(self, first: int, frames: np.ndarray) -> None:
        """Add log-mel frames ``(n, F)`` from frame ``first`` on."""
        column = (first + np.arange(len(frames))) // self.width
        add(self.spectrum, self.count, column, frames)

    def add_scores(self, centres: np.ndarray, loglik: np.ndarray) -> None:
        """Add log-likelihoods ``(B, K)`` of vectors centred on ascending frames ``(B,)``."""
        add(self.loglik, self.vectors, centres // self.width, loglik)

    def window(self, seconds: float | None) -> float:
        """Seconds of the moving average: ``seconds`` if given, else the larger of 3 s and a hundredth of the recording."""
        return max(self.step, max(3.0, self.seconds / 100) if seconds is None else seconds)

    def evidence(self, window: float) -> np.ndarray:
        """Log-likelihood ratio of each class against the mean density of the others, nats per frame, ``(columns, K)``.

        Means over the vectors of a moving ``window``, seconds; NaN for a window without vectors.
        """
        width = 2 * round(window / self.step / 2) + 1
        weights = np.ones(width)
        half = width // 2
        count = np.convolve(self.vectors, weights)[half : half + len(self.vectors)]
        sums = np.stack([np.convolve(k, weights)[half : half + len(k)] for k in self.loglik.T], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums / count[:, None]
            others = np.arange(len(self.classes))
            rest = [np.logaddexp.reduce(mean[:, others != k], axis=1) - np.log(len(others) - 1) for k in others]
        return mean - np.stack(rest, axis=1)


def add(sums: np.ndarray, counts: np.ndarray, column: np.ndarray, values: np.ndarray) -> None:
    """Add ``values`` ``(n, F)`` to the columns ``(n,)``, ascending, of ``sums`` ``(columns, F)``, and count them."""
    if len(column):
        first = np.flatnonzero(np.diff(column, prepend=-1))
        sums[column[first]] += np.add.reduceat(values.astype(np.float64), first)
        counts += np.bincount(column, minlength=len(counts))
