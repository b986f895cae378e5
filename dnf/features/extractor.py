"""Frames and log-energies of complete recordings, or of blocks of any size, by any kind of extractor.

An extractor is a class made of the settings ``features`` and a device, with

    dim              F, values of a frame; ``Features.dim`` says the same
    frequencies      (F,), Hz, ascending: a value is the log power about it, as augmentation and channel statistics take it
    extract(samples) frames (N, F) and log-energies (N,), which the VAD reads, float32, of samples (T,) in -1..1

``extract`` uses windows of ``frame_length`` every ``frame_shift`` that lie wholly inside; the ends of a recording are made
here. To add one: its file, its row in ``EXTRACTORS``, its name, settings and ``dim`` in ``dnf.experiment.settings.Features``
and ``conf/default.yaml``; ``tests/features/test_extractors.py`` then tests it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from dnf.experiment.settings import Features
from dnf.features.fbank import LogMel

BLOCK_SECONDS = 20.0  # of sound for one call: a minute in one call takes one and a half times as long


class Extractor(Protocol):
    dim: int
    frequencies: np.ndarray

    def extract(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


EXTRACTORS: dict[str, Callable[[Features, str], Extractor]] = {"fbank": LogMel}


@functools.cache
def make_extractor(settings: Features, device: str = "cpu") -> Extractor:
    """The extractor of ``settings.kind``, shared by all callers with the same settings."""
    return EXTRACTORS[settings.kind](settings, device)


def extract_whole(samples: np.ndarray, settings: Features) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``(N, F)`` and log-energies ``(N,)`` of samples ``(T,)`` of any length, ``BLOCK_SECONDS`` at a time."""
    size = round(BLOCK_SECONDS * settings.sampling_rate)
    parts = list(extract_blocks((samples[i : i + size] for i in range(0, len(samples), size)), settings))
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts)))


def extract_blocks(
    blocks: Iterable[np.ndarray], settings: Features, device: str = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames ``(N, F)`` and log-energies ``(N,)`` of blocks; together they equal those of the complete recording.

    Without ``snip_edges`` only the two ends of the recording are mirrored.

    Raises:
        ValueError: the recording is shorter than one frame.
    """
    extractor = make_extractor(settings, device)
    length = math.floor(settings.frame_length * settings.sampling_rate)
    shift = math.floor(settings.frame_shift * settings.sampling_rate)
    margin = 0 if settings.snip_edges else (length - shift) // 2
    held = tail = np.zeros(0, np.float32)
    total = made = 0
    for block, following in itertools.pairwise(itertools.chain(blocks, [None])):
        total, tail = total + len(block), np.concatenate([tail, block])[-length:]
        held = np.concatenate([held, block])
        if total < length:
            continue
        if total - len(block) < length:  # the first time that the samples are enough for a frame
            held = np.concatenate([held[:margin][::-1], held])
        if following is None and not settings.snip_edges:
            short = ((total + shift // 2) // shift - made - 1) * shift + length - len(held)
            held = np.concatenate([held, tail[len(tail) - max(0, short) :][::-1]])
        count = (len(held) - length) // shift + 1
        if count > 0:
            yield extractor.extract(held[: (count - 1) * shift + length])
            held, made = held[count * shift :], made + count
    if total < length:
        raise ValueError(f"{total / settings.sampling_rate:.3f} s is shorter than one frame")
