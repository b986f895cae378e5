"""Log-likelihoods of one recording, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnf.features.recording_frames import RecordingFrames
from dnf.models.checkpoint import Trained
from dnf.scoring.channel_compensation import Correction, centred


class Block(NamedTuple):
    """Vectors of one block.

    Attributes:
        centres: ``(B,)`` int64, their central frames.
        z: ``(B, D)`` latents.
        logp: ``(B, K)`` log prior density under each class, nats.
        logdet: ``(B,)`` nats.
    """

    centres: Tensor
    z: Tensor
    logp: Tensor
    logdet: Tensor


def log_density(blocks: Iterable[Block]) -> float:
    """Mean over vectors of the log of the classes' mean density, nats."""
    total, count = 0.0, 0
    for block in blocks:
        mixture = block.logp.double().logsumexp(1) - math.log(block.logp.shape[1])
        total, count = total + float((mixture + block.logdet.double()).sum()), count + len(mixture)
    return total / count


@torch.no_grad()
def score(
    frames: RecordingFrames,
    stats: np.ndarray,
    trained: Trained,
    device: torch.device,
    correction: Correction | None = None,
    every: int = 1,
) -> Iterator[Block]:
    """Latents and densities of the vectors of a recording, as in stage latents.

    Args:
        stats: CMVN statistics.
        correction: of the channel; centring uses the recording as its unit, and one more pass for its mean.
        every: score every N-th vector.

    Raises:
        ValueError: a log density is not finite.
    """
    prior, shifts = trained.model.prior, None
    if correction:
        total, count = 0.0, 0
        for _, z, *_ in score(frames, stats, trained, device, every=every):
            total, count = total + z[:, : prior.cond_dim].double().sum(0), count + len(z)
        shifts = correction.shift((total / count).numpy()[None]).to(device)
    hop = trained.config.splice.hop * every
    for centres, vectors in frames.inputs(stats, hop, device):
        z, logdet = trained.model(vectors)
        z = centred(z, shifts, torch.zeros(len(z), dtype=torch.long))
        logp = prior.of_all(z)
        if not (torch.isfinite(logp).all() and torch.isfinite(logdet).all()):
            raise ValueError("a log density is not finite; the frames are too far from training")
        yield Block(centres, z.cpu(), logp.cpu(), logdet.cpu())
