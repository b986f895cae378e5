"""Copies of dev with other channels, scored by the flow: what the evidence of a foreign channel looks like.

Stage latents writes ``shifted.npz``, and ``dnf.decisions.doubt`` learns from it what a channel adds to log-likelihoods, and how far
to trust them.
Each kind of shift gives every utterance a channel of its own, drawn as in augmentation (``dnf.features.augment``).
Speech marks are those of the original.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.settings import Augment
from dnf.features.augment import PROBES, Augmenter, window_keys
from dnf.features.cmvn import normalize
from dnf.features.frame_store import FrameStore
from dnf.features.rows import evenly_spaced
from dnf.features.statistics import cmvn_stats
from dnf.models.checkpoint import Trained
from dnf.scoring.channel_compensation import Correction, centred
from dnf.scoring.channel_mismatch import frequencies_of
from dnf.scoring.channel_statistics import statistics
from dnf.scoring.shifted_evidence import Shifted

MOST = 400  # most utterances, spread over the classes
LONGEST = 2000  # frames of an utterance that are used
NONE = {"probability": 1.0, "eq": 0.0, "tilt": 0.0, "band_limit": 0.0, "reverb": 0.0, "noise": [], "renormalize": True}
KINDS = {
    "noise": {"noise": [5.0, 25.0]},
    "reverberation": {"reverb": 0.8},
    "band": {"band_limit": 0.4},
    "microphone": {"eq": 4.0, "tilt": 6.0, "noise": [20.0, 40.0], "band_limit": 0.2},
}


def shift(augmenter: Augmenter, key: Tensor, frames: Tensor, speech: Tensor) -> Tensor:
    """Frames ``(T, F)`` of an utterance through the channel of ``key`` ``(1,)``; ``speech`` are numbers of frames."""
    before = frames[:1].expand(augmenter.history, -1)
    probes = speech[torch.arange(PROBES) * len(speech) // PROBES]
    probes = frames[(probes[:, None] - augmenter.lags).clamp(min=0)]
    return augmenter.pass_through(key, torch.cat([before, frames])[None], probes[None])[0][0]


@torch.no_grad()
def evidence(
    trained: Trained, correction: Correction | None, frames: Tensor, marks: np.ndarray, device: torch.device
) -> tuple[np.ndarray, int]:
    """Mean log-likelihoods ``(K,)`` and number of scored frames of one utterance.

    Args:
        frames: ``(T, F)`` before normalization.
        marks: ``(T,)`` bool, which are speech.
    """
    config, prior = trained.config, trained.model.prior
    vectors = normalize(frames.numpy(), marks, cmvn_stats(frames[marks].numpy()), config.cmvn)
    speech = torch.from_numpy(np.flatnonzero(marks))
    window = torch.arange(-config.splice.left, config.splice.right + 1)
    index = (speech[:: config.splice.hop, None] + window).clamp(0, len(frames) - 1)
    z, logdet = trained.model(vectors[index].flatten(1).to(device))
    if correction:
        shifts = correction.shift(z[:, : prior.cond_dim].double().mean(0).cpu().numpy()[None]).to(device)
        z = centred(z, shifts, torch.zeros(len(z), dtype=torch.long))
    loglik = prior.of_all(z).double() + logdet.double()[:, None]
    return loglik.mean(0).cpu().numpy(), len(z)


def shifted_copies(
    trained: Trained, correction: Correction | None, stores: list[FrameStore], device: torch.device
) -> Shifted:
    """Shifted copies of utterances of known classes in ``stores``, evenly spaced in each class; of vectors there are none."""
    config, rows = trained.config, []
    frequencies, kinds = frequencies_of(config), {} if config.has_vectors else KINDS
    trained.model.eval()
    for number, (kind, settings) in enumerate(kinds.items()):
        augmenter = Augmenter(Augment(**NONE | settings), config.seed, number, config.features.frame_shift)
        for place, (store, u) in enumerate(chosen(stores, trained.classes)):
            first, last = store.offsets[u : u + 2].tolist()
            speech = store.centres[store.spoken[u] : store.spoken[u + 1]] - first
            speech = speech[speech < LONGEST]
            if not len(speech):
                continue
            key = window_keys(torch.tensor([place]), config.seed, number)
            frames = shift(augmenter, key, store.frames[first : min(last, first + LONGEST)].float(), speech)
            marks = np.zeros(len(frames), bool)
            marks[speech.numpy()] = True
            of_channel = statistics([(frames.numpy(), marks)], frequencies)
            scored = evidence(trained, correction, frames, marks, device)
            rows.append((kind, store.utterances[u], store.classes[u], store.speakers[u], *scored, of_channel))
    return Shifted(*map(np.array, zip(*rows) if rows else [()] * len(fields(Shifted))))


def chosen(stores: list[FrameStore], classes: list[str]) -> list[tuple[FrameStore, int]]:
    """Utterances of the classes, at most MOST in all."""
    utterances = []
    for name in classes:
        of_class = [(store, u) for store in stores for u, label in enumerate(store.classes) if label == name]
        utterances += [of_class[i] for i in evenly_spaced(len(of_class), MOST // len(classes)).tolist()]
    return utterances
