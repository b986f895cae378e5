"""Input of the open-set score: means of each utterance, from the latents of stage latents."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.experiment.layout import Z_MEAN_NPY, run_again
from dnf.metrics.log_sum_exp import log_sum_exp
from dnf.scoring.latent_store import Latents, mapped


class Summary(NamedTuple):
    """Means of U utterances, the input of the open-set score.

    Attributes:
        best: ``(U, 2)`` float64, the highest and the second of the classes' mean log prior densities of z over frames, nats;
            ``(U, 1)`` for one class.
        mixture: ``(U,)`` float64, mean over frames of the log of the classes' mean prior density, nats.
        logdet: ``(U,)`` float64, mean over frames, nats.
        z_mean: ``(U, D)`` mean latent; may be mapped from disk.
        frames: ``(U,)`` number of frames.
    """

    best: np.ndarray
    mixture: np.ndarray
    logdet: np.ndarray
    z_mean: np.ndarray
    frames: np.ndarray

    def rows(self, wanted: np.ndarray) -> Summary:
        """The means of some utterances, ``(U,)`` bool or indices."""
        whole = wanted.dtype == bool and wanted.all()  # then mean latents stay on disk
        return self if whole else Summary(*(array[wanted] for array in self))


def summary_of(logp: np.ndarray, logdet: np.ndarray, z_mean: np.ndarray) -> Summary:
    """The summary of one utterance, from its frames.

    Args:
        logp: ``(N, K)`` log prior density of the frames' z under each class, nats.
        logdet: ``(N,)`` nats.
        z_mean: ``(D,)`` mean of z.
    """
    logp = np.asarray(logp, np.float64)
    mixture = log_sum_exp(logp).mean() - np.log(logp.shape[1])
    means = best_two(logp.mean(0)[None]), np.array([mixture]), np.array([np.mean(logdet, dtype=np.float64)])
    return Summary(*means, np.asarray(z_mean, np.float64)[None], np.array([len(logp)]))


def best_two(values: np.ndarray) -> np.ndarray:
    """The highest and the second ``(U, 2)`` of ``(U, K)`` values of the classes; ``(U, 1)`` for one class."""
    return (np.sort(values, axis=1) if values.shape[1] < 3 else np.partition(values, (-2, -1), axis=1))[:, :-3:-1]


def read(directory: Path) -> tuple[Latents, Summary] | None:
    """Latents and summary of ``latents/<set>``; None without mean latents, as for baselines.

    Raises:
        ValueError: the number of mean latents is not the number of utterances.
    """
    path = directory / Z_MEAN_NPY
    if not path.is_file():
        return None
    latents, z_mean = Latents.open(directory), mapped(path)
    if len(z_mean) != len(latents.utts):
        raise ValueError(f"{path}: {len(z_mean)} rows for {len(latents.utts)} utterances; {run_again('latents')}")
    count = len(latents.utts)
    arrays = np.empty((count, min(2, len(latents.classes)))), np.empty(count), np.empty(count)
    frames = np.empty(count, np.int64)
    for u, utt in enumerate(latents.utts):
        rows = slice(utt["first"], utt["first"] + utt["rows"])
        one = summary_of(latents.logp[rows], latents.logdet[rows], z_mean[u])
        for array, (value,) in zip((*arrays, frames), (one.best, one.mixture, one.logdet, one.frames)):
            array[u] = value
    return latents, Summary(*arrays, z_mean, frames)
