"""Moving utterances from one class to another in the latent space."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnf.data.audio_blocks import Source
from dnf.experiment.config import Config
from dnf.features.frame_store import FrameStore
from dnf.features.recording_frames import RecordingFrames
from dnf.features.rows import BATCH, evenly_spaced
from dnf.features.windows import Windows
from dnf.models.checkpoint import Trained

log = logging.getLogger(__name__)

LONGEST = 6000  # most frames of a recording; the rest is not moved


class Utterance(NamedTuple):
    """An utterance to move.

    Attributes:
        name: its name.
        speaker: its speaker.
        label: its class.
        frames: ``(N, F)`` float32, normalized.
        speech: ``(N,)`` bool, which frames are speech.
    """

    name: str
    speaker: str
    label: str
    frames: Tensor
    speech: Tensor


class Moved(NamedTuple):
    """A moved utterance with S speech frames.

    Attributes:
        before: ``(S, D)`` original windows.
        windows: ``(S, D)`` moved windows.
        respliced: ``(S, D)`` windows spliced from ``after``.
        after: ``(N, F)`` frames; speech frames are moved.
        error: largest difference between the windows and their reconstruction without a move; NaN if one is NaN.
    """

    before: Tensor
    windows: Tensor
    respliced: Tensor
    after: Tensor
    error: float


def say_cut(name: str, frames: int) -> None:
    """Warn if only the first ``LONGEST`` frames are moved."""
    if frames > LONGEST:
        log.warning("%s: only the first %d of its %d frames are moved", name, LONGEST, frames)


def utterances_of_store(store: FrameStore, config: Config, label: str, most: int) -> Iterator[Utterance]:
    """Up to ``most`` utterances of a class, evenly spaced over the set, normalized as in training."""
    windows = Windows([store], config.splice, config.cmvn, [label], keep_unseen=False, device=torch.device("cpu"))
    (part,) = windows.parts
    source = part.source
    for i in evenly_spaced(len(part.utterance), most).tolist():
        u, first, last = part.utterance[i].item(), source.begin[i].item(), source.end[i].item()
        frames = source.frames[first:last].float()
        if source.mean is not None:
            frames = (frames - source.mean[i]) * source.scale[i]
        speech = torch.from_numpy(store.marks(first, last))
        say_cut(store.utterances[u], last - first)
        yield Utterance(store.utterances[u], store.speakers[u], label, frames[:LONGEST], speech[:LONGEST])


def utterance_of_recording(path: str, config: Config, label: str) -> Utterance:
    """The frames of a file, normalized over this file."""
    with tempfile.TemporaryDirectory(prefix="move.") as folder:
        read = RecordingFrames(Source(path, config.features.channel), config, Path(folder))
        last = min(read.count, LONGEST)
        say_cut(path, read.count)
        frames, speech = read.normalized(0, last, read.stats), torch.from_numpy(read.marks(0, last))
    return Utterance(Path(path).stem, Path(path).stem, label, frames, speech)


def splice(frames: Tensor, centres: Tensor, config: Config) -> Tensor:
    """Windows ``(S, D)`` around frames ``centres`` of ``(N, F)``, edges repeated."""
    index = centres[:, None] + torch.arange(-config.splice.left, config.splice.right + 1)
    return frames[index.clamp(0, len(frames) - 1)].flatten(1)


@torch.no_grad()
def shift_between(trained: Trained, names: tuple[str, str], vectors: list[Tensor] | None = None) -> Tensor:
    """The shift of z ``(D,)``: the difference of the class means of the prior, or of the latents of ``vectors``.

    Args:
        names: source and target class.
        vectors: ``(N, D)`` of each of the two; None for the means of the prior. If r has no class means, it does not move.
    """
    prior = trained.model.prior
    if vectors is None:
        a, b = (prior.class_means()[trained.classes.index(name)] for name in names)
        return b - a
    a, b = (
        sum(trained.model(part.to(prior.means))[0].sum(0) for part in of_class.split(BATCH)) / len(of_class)
        for of_class in vectors
    )
    shift = b - a
    if prior.means_r is None:
        shift[prior.cond_dim :] = 0
    return shift


@torch.no_grad()
def move(utterance: Utterance, trained: Trained, shift: Tensor) -> Moved:
    """Move the speech of an utterance by ``shift`` ``(D,)`` in the latent space."""
    config, model, dim = trained.config, trained.model, utterance.frames.shape[1]
    kind, device = model.prior.means.dtype, model.prior.means.device
    centres = torch.nonzero(utterance.speech)[:, 0]
    before, windows, errors = splice(utterance.frames, centres, config), [], []
    if config.frame:
        return move_in_turn(utterance, trained, shift, before, centres)
    for part in before.split(BATCH):
        x = part.to(device, kind)
        z = model(x)[0]
        errors.append(float((model.inverse(z)[0] - x).abs().max()))
        windows.append(model.inverse(z + shift)[0].cpu().float())
    moved, after = torch.cat(windows), utterance.frames.clone()
    after[centres] = moved[:, config.splice.left * dim : (config.splice.left + 1) * dim]
    return Moved(before, moved, splice(after, centres, config), after, float(np.max(errors)))


def move_in_turn(utterance: Utterance, trained: Trained, shift: Tensor, before: Tensor, centres: Tensor) -> Moved:
    """``move`` with a conditional flow: frame by frame, given the moved frames before it.

    Args:
        before: windows ``(S, D)`` around the speech frames.
        centres: indices of these frames ``(S,)``.
    """
    config, model, after = trained.config, trained.model, utterance.frames.clone()
    latents, errors, moved = [], [], []
    for part in before.split(BATCH):
        x = part.to(model.prior.means)
        latents.append(model(x)[0])
        errors.append(float((model.inverse(latents[-1], x)[0] - x[:, config.frame]).abs().max()))
    for centre, z in zip(centres.split(1), torch.cat(latents).split(1)):
        after[centre] = model.inverse(z + shift, splice(after, centre, config).to(z))[0].cpu().float()
        moved.append(splice(after, centre, config))
    return Moved(before, torch.cat(moved), splice(after, centres, config), after, float(np.max(errors)))


def largest_error(moved: list[Moved]) -> float:
    """Largest error of the reconstructions of all utterances without a move; NaN if one is NaN."""
    return float(np.max([m.error for m in moved]))


def vectors_of(sets: list[str], frames: Path, config: Config, names: tuple[str, str], most: int) -> dict[str, Vectors]:
    """Up to ``most`` vectors of each class in some sets, evenly spaced; classes without any are left out."""
    stores, vectors = [FrameStore(frames / name) for name in sets], {}
    for name in names:
        windows = Windows(stores, config.splice, config.cmvn, [name], keep_unseen=False, device=torch.device("cpu"))
        if len(windows):
            rows, speakers = evenly_spaced(len(windows), most), [s.speaker for s in windows.segments()]
            vectors[name] = Vectors(windows.gather(rows), [speakers[i] for i in windows.segment(rows).tolist()])
    return vectors


class Vectors(NamedTuple):
    """Windows ``(N, D)`` and the speaker of each."""

    x: Tensor
    speakers: list[str]
