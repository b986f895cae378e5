"""Class evidence and spectrogram of a recording over time, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 1200  # most columns of the picture


class Timeline:
    """Means over columns of time, filled block by block.

    Attributes:
        sound_part: what the latents add to the predicted score, points; None without a predicted score.
        pauses: first and last second of each pause.

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
        self.sound, self.sound_part = np.zeros((columns, 1)), None
        self.pauses: list[tuple[float, float]] = []

    def add_frames(self, first: int, frames: np.ndarray) -> None:
        """Add log-mel frames ``(n, F)`` from frame ``first`` on."""
        column = (first + np.arange(len(frames))) // self.width
        add(self.spectrum, self.count, column, frames)

    def add_scores(self, centres: np.ndarray, loglik: np.ndarray, sound: np.ndarray | None = None) -> None:
        """Add log-likelihoods ``(B, K)``, and parts of the predicted score ``(B,)``, of vectors centred on ascending frames ``(B,)``."""
        if sound is not None:
            add(self.sound, np.zeros(len(self.vectors)), centres // self.width, sound[:, None])
        add(self.loglik, self.vectors, centres // self.width, loglik)

    def window(self, seconds: float | None) -> float:
        """Seconds of the moving average: ``seconds`` if given, else the larger of 3 s and a hundredth of the recording."""
        return max(self.step, max(3.0, self.seconds / 100) if seconds is None else seconds)

    def evidence(self, window: float) -> np.ndarray:
        """Log-likelihood ratio of each class against the mean density of the others, nats per frame, ``(columns, K)``.

        Means over the vectors of a moving ``window``, seconds; NaN for a window without vectors.
        """
        mean = self._means(self.loglik, window)
        with np.errstate(invalid="ignore", divide="ignore"):
            others = np.arange(len(self.classes))
            rest = [np.logaddexp.reduce(mean[:, others != k], axis=1) - np.log(len(others) - 1) for k in others]
        return mean - np.stack(rest, axis=1)

    def sound_evidence(self, window: float) -> np.ndarray:
        """What the sound of a moving ``window``, seconds, adds to the predicted score, points, ``(columns,)``.

        The mean over all vectors is ``sound_part``.
        """
        whole = self.sound.sum() / self.vectors.sum()
        return self._means(self.sound, window)[:, 0] - whole + self.sound_part

    def _means(self, sums: np.ndarray, window: float) -> np.ndarray:
        """Means ``(columns, N)`` over the vectors of a moving window; NaN for a window without vectors."""
        width = 2 * round(window / self.step / 2) + 1
        weights, half = np.ones(width), width // 2
        count = np.convolve(self.vectors, weights)[half : half + len(self.vectors)]
        moving = np.stack([np.convolve(k, weights)[half : half + len(k)] for k in sums.T], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return moving / count[:, None]


def add(sums: np.ndarray, counts: np.ndarray, column: np.ndarray, values: np.ndarray) -> None:
    """Add ``values`` ``(n, F)`` to the columns ``(n,)``, ascending, of ``sums`` ``(columns, F)``, and count them."""
    if len(column):
        first = np.flatnonzero(np.diff(column, prepend=-1))
        sums[column[first]] += np.add.reduceat(values.astype(np.float64), first)
        counts += np.bincount(column, minlength=len(counts))
