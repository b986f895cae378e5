"""Utterances of models of many classes, a block at a time: their log-likelihoods do not fit in memory together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnf.metrics.figures import MOST_CLASSES
from dnf.scoring.latent_store import Latents

CELLS = 4_000_000  # most log-likelihoods of the utterances that a calibration is fitted on
BLOCK = 500_000  # most log-likelihoods of a block: larger arrays are returned to the system each time, which costs as much again


def for_fit(latents: Latents) -> Latents:
    """The utterances that a calibration is fitted on: all, or of more than ``MOST_CLASSES`` classes as many as ``CELLS`` allows."""
    count = len(latents.utts)
    if len(latents.classes) <= MOST_CLASSES or count * len(latents.classes) <= CELLS:
        return latents
    rows = np.linspace(0, count - 1, CELLS // len(latents.classes)).round().astype(int)
    return latents._replace(utts=[latents.utts[row] for row in rows])


def blocks(latents: Latents) -> Iterator[Latents]:
    """The utterances of a set, those of a model of more than ``MOST_CLASSES`` classes in blocks of at most ``BLOCK`` log-likelihoods."""
    if len(latents.classes) <= MOST_CLASSES:
        yield latents
        return
    utts, most = latents.utts, max(1, BLOCK // len(latents.classes))
    for first in range(0, len(utts), most):
        yield latents._replace(utts=[utts[row] for row in range(first, min(first + most, len(utts)))])
