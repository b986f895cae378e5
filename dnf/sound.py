"""Samples of one recording of any length, in blocks: a part of it, one channel, at the rate that is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from lhotse.augmentation import Resample
from lhotse.utils import compute_num_samples

from dnf import entry, sphere


class Source(NamedTuple):
    """A recording, or seconds ``start`` to ``end`` of it; of several channels ``channel``, or with None their mean."""

    path: str
    channel: int | None = None
    start: float = 0.0
    end: float | None = None


def read_blocks(source: Source, seconds: float) -> tuple[int, Iterator[np.ndarray]]:
    """The rate of a recording, Hz, and its samples, one channel in -1..1, in blocks of about ``seconds``.

    Raises:
        ValueError: the file is not there, or cannot be used or read.
    """
    path = source.path
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    if reason := sphere.refusal(path):
        raise ValueError(f"{path}: {reason}")
    try:
        if sphere.compression(path):  # decoded by another program, as a whole
            samples, rate = sphere.Sphere().read_audio(path)
            return rate, cut([samples.T[round(source.start * rate) :]], source, rate)
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
    except Exception as error:  # what a damaged file raises depends on its format
        raise ValueError(
            f"{path}: cannot be read ({entry.describe(error)[:200]}); restore or convert the file"
        ) from None
    return rate, cut(file_blocks(path, max(1, round(seconds * rate)), round(source.start * rate)), source, rate)


def file_blocks(path: str, size: int, first: int) -> Iterator[np.ndarray]:
    """Blocks ``(size, channels)`` of a file from sample ``first``.

    Raises:
        ValueError: the file cannot be read to its end.
    """
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(first, file.frames))
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield block
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"{path}: cannot be read ({entry.describe(error)[:200]}); restore or convert the file"
        ) from None


def cut(blocks: Iterable[np.ndarray], source: Source, rate: int) -> Iterator[np.ndarray]:
    """One channel of ``blocks`` that start at the source's start, up to its end.

    Raises:
        ValueError: the recording has no such channel, or samples that are not numbers.
    """
    left = math.inf if source.end is None else round(source.end * rate) - round(source.start * rate)
    for block in blocks:
        channel = 0 if block.shape[1] == 1 else source.channel
        if channel is not None and not 0 <= channel < block.shape[1]:
            raise ValueError(f"{source.path}: has no channel {channel}; it has {block.shape[1]}, counted from 0")
        block = block[: min(len(block), left)]
        if not np.isfinite(block).all():
            raise ValueError(f"{source.path}: has samples that are not numbers; write it again as 16-bit PCM")
        yield np.ascontiguousarray(block.mean(1) if channel is None else block[:, channel])
        left -= len(block)
        if left <= 0:
            return


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Samples at another rate: those that Lhotse makes of the whole, for its filter reaches over few samples."""
    if rate == wanted:
        yield from blocks
        return
    common = math.gcd(rate, wanted)
    old, new = rate // common, wanted // common
    context = (2 + math.ceil(12 / min(old, new))) * old  # more than Lhotse's filters reach, with torchaudio or SciPy
    transform = Resample(rate, wanted)
    held, done, read, made = np.zeros(0, np.float32), 0, 0, 0  # the first ``done`` samples held are only context
    for block in blocks:
        held, read = np.concatenate([held, block]), read + len(block)
        ready = (len(held) - done - context) // old * old
        if ready > 0:
            out = np.asarray(transform(held[None]))[0, done // old * new : (done + ready) // old * new]
            yield out
            made, drop = made + len(out), max(0, done + ready - context)
            held, done = held[drop:], done + ready - drop
    if len(held) > done:
        out = np.asarray(transform(held[None]))[0, done // old * new :]
        yield out[: compute_num_samples(read / rate, wanted) - made]
