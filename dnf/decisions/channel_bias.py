"""What a channel adds to log-likelihoods: kernel ridge regression on copies of dev with other channels.

A channel moves all ratios to one side: in noise every recording looks like the same class. For each shifted copy
(``dnf.scoring.shifted_copies``) of an utterance of dev, x is the difference of its profile from that of the utterance, in standard
deviations within training sets, and y that of its mean log-likelihoods, centred over the classes. The differences know nothing of
the class, since the utterance is the same. The *bias* of a channel is

    bias_k(x) = sum_n weight_nk exp(-|x - x_n|^2 / (2 LENGTH^2))

so it goes to zero for channels that are unlike all copies. One more x_n with y = 0 stands for the originals: home has no bias. In use, x is
the difference from the mean of the training sets. The mean spectrum counts only where frames are not normalized.

Condition-dependent shifts of scores are those of M. I. Mandasari et al., "Quality measure functions for calibration of speaker
recognition systems in various duration conditions", IEEE Trans. Audio, Speech, and Language Processing 21, 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import run_again

# Both chosen on dev, by the squared error for speakers, and for kinds of copies, that were left out.
LENGTH = 8.0  # standard deviations
GAMMA = 1 / (2 * LENGTH**2)
RIDGE = 0.5
FOLDS = 5  # of speakers


@dataclass(frozen=True)
class ChannelBias:
    """The regression.

    Attributes:
        home: ``(P,)`` profile that has no bias, of the last P dims, which count.
        scale: ``(P,)`` standard deviation of profiles.
        copies: ``(N + 1, P)`` differences of the profiles of N copies and the originals, in standard deviations.
        weights: ``(N + 1, K)`` of their kernels, nats.
    """

    home: np.ndarray
    scale: np.ndarray
    copies: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(
        cls,
        home: np.ndarray,
        scale: np.ndarray,
        profiles: np.ndarray,
        loglik: np.ndarray,
        speakers: np.ndarray,
        originals: int,
    ) -> tuple[ChannelBias, np.ndarray]:
        """Fit, and the bias ``(N, K)`` of each copy by fits without its speaker, nats.

        Args:
            home, scale: ``(P,)``.
            profiles: ``(N, P)`` of N copies, less those of their originals.
            loglik: ``(N, K)`` mean log-likelihoods of copies, less those of their originals, nats.
            speakers: ``(N,)``.
            originals: their number.
        """
        from sklearn.kernel_ridge import KernelRidge  # slow to import, and only a fit needs it
        from sklearn.model_selection import GroupKFold

        x, y = (np.vstack([rows, 0 * rows[:1]]) for rows in (profiles / scale, loglik - loglik.mean(1, keepdims=True)))
        weights, of_originals = np.append(np.ones(len(profiles)), originals), [len(profiles)]

        def fit_on(rows: np.ndarray) -> KernelRidge:
            regression, rows = KernelRidge(alpha=RIDGE, kernel="rbf", gamma=GAMMA), np.append(rows, of_originals)
            return regression.fit(x[rows], y[rows], sample_weight=weights[rows])

        left_out = np.zeros_like(loglik)
        if (folds := min(FOLDS, len(set(speakers)))) > 1:
            for kept, out in GroupKFold(folds).split(profiles, groups=speakers):
                left_out[out] = fit_on(kept).predict(x[out])
        return cls(home, scale, x, fit_on(np.arange(len(profiles))).dual_coef_), left_out

    def __call__(self, profiles: np.ndarray) -> np.ndarray:
        """Bias ``(U, K)`` of mean log-likelihoods, nats, of channels with profiles ``(U, P or more)``."""
        gaps = cdist((profiles[:, -len(self.home) :] - self.home) / self.scale, self.copies, "sqeuclidean")
        return np.exp(-GAMMA * gaps) @ self.weights

    def save(self, path: Path) -> None:
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> ChannelBias:
        """Raises ``ValueError`` if the file is missing or damaged."""
        with intact(path, run_again("decide")), np.load(path) as arrays:
            return cls(**arrays)
