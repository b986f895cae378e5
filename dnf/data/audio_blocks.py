"""Samples of a recording of any length, in blocks: a segment, one channel, at the requested rate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from lhotse.augmentation import Resample
from lhotse.utils import compute_num_samples

from dnf.data import sphere
from dnf.data.sound_file import TOLERANCE, cause, cut_off, failure, unusable
from dnf.data.wav_header import to_open

ROW = 128  # fewest columns of a resampling matrix
LARGEST = 300_000  # largest product of old and new samples of a period with such a matrix


class Source(NamedTuple):
    """A recording, or its seconds ``start`` to ``end``; ``channel`` of several channels, or None for their mean."""

    path: str
    channel: int | None = None
    start: float = 0.0
    end: float | None = None


def read_blocks(source: Source, seconds: float) -> tuple[int, Iterator[np.ndarray]]:
    """The rate of a recording, Hz, and its samples, one channel in -1..1, in blocks of about ``seconds``.

    Raises:
        ValueError: the file does not exist, or cannot be used or read.
    """
    path = source.path
    try:
        if reason := unusable(path):
            raise ValueError(reason)
        if sphere.compression(path):  # another program decodes the complete file
            samples, rate = sphere.Sphere().read_audio(path)
            check_segment(source, samples.shape[1], rate)
            return rate, cut([samples.T[round(source.start * rate) :]], source, rate)
        with soundfile.SoundFile(to_open(path)) as file:
            rate = file.samplerate
            check_segment(source, file.frames, rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # the exception for a damaged file depends on its format
        raise ValueError(f"{path}: cannot be read ({cause(error, path)}); restore or convert the file") from None
    return rate, cut(file_blocks(path, max(1, round(seconds * rate)), round(source.start * rate)), source, rate)


def check_segment(source: Source, count: int, rate: int) -> None:
    """Raise ``ValueError`` if a recording of ``count`` samples is empty or does not contain the segment."""
    if not count:
        raise ValueError("has no samples; leave it out")
    end = count / rate if source.end is None else source.end
    if not 0 <= source.start < end <= count / rate + 0.01 or source.start >= count / rate:
        raise ValueError(
            f"its segment {source.start} to {end} s is outside the recording of {count / rate:.2f} s; correct segments"
        )


def file_blocks(path: str, size: int, first: int) -> Iterator[np.ndarray]:
    """Blocks ``(size, channels)`` of a file from sample ``first``.

    Raises:
        ValueError: the file cannot be read to its end.
    """
    with soundfile.SoundFile(to_open(path)) as file:
        count = min(first, file.frames)
        try:
            file.seek(count)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield block
                count += len(block)
        except soundfile.SoundFileError as error:
            raise ValueError(f"{path}: {failure(path, error)}") from None
        if file.frames - count > TOLERANCE * file.samplerate:
            raise ValueError(f"{path}: {cut_off(file.frames, count, 'samples')}")


def cut(blocks: Iterable[np.ndarray], source: Source, rate: int) -> Iterator[np.ndarray]:
    """One channel of ``blocks``, from the start to the end of the source.

    Raises:
        ValueError: the recording does not have the channel, or has NaN or infinite samples.
    """
    left = math.inf if source.end is None else round(source.end * rate) - round(source.start * rate)
    for block in blocks:
        channel = 0 if block.shape[1] == 1 else source.channel
        if channel is not None and not 0 <= channel < block.shape[1]:
            raise ValueError(f"{source.path}: has no channel {channel}; it has {block.shape[1]}, counted from 0")
        block = block[: min(len(block), left)]
        if not np.isfinite(block).all():
            raise ValueError(f"{source.path}: has NaN or infinite samples; convert it to 16-bit PCM")
        weights = np.full(block.shape[1], 1 / block.shape[1], block.dtype)  # NumPy's mean over few columns is slow
        yield block @ weights if channel is None else np.ascontiguousarray(block[:, channel])
        left -= len(block)
        if left <= 0:
            return


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Resampled blocks. They equal Lhotse's resampling of the complete recording, since its filter is short."""
    if rate == wanted:
        yield from blocks
        return
    filtered, old, new, context = resampler(rate, wanted)
    held, done, read, made = np.zeros(0, np.float32), 0, 0, 0  # the first ``done`` samples are context only
    for block in blocks:
        held, read = np.concatenate([held, block]), read + len(block)
        ready = (len(held) - done - context) // old * old
        if ready > 0:
            out = filtered(held)[done // old * new : (done + ready) // old * new]
            yield out
            made, drop = made + len(out), max(0, done + ready - context)
            held, done = held[drop:], done + ready - drop
    if len(held) > done:
        yield filtered(held)[done // old * new :][: compute_num_samples(read / rate, wanted) - made]


class Resampler(NamedTuple):
    """Attributes: ``filtered`` makes ``new`` samples from ``old`` samples and ``context`` samples on each side."""

    filtered: Callable[[np.ndarray], np.ndarray]
    old: int
    new: int
    context: int


@functools.cache
def resampler(rate: int, wanted: int) -> Resampler:
    """Lhotse's resampling as a matrix, or Lhotse's own function if the rates have a small common divisor.

    Resampling is linear with a period of ``old`` samples, so its responses to ``old`` unit impulses determine it:
    new samples are the product of windows of old samples with one matrix, for any resampler of Lhotse.
    """
    common, transform = math.gcd(rate, wanted), Resample(rate, wanted)
    old, new = rate // common, wanted // common
    if old * new <= LARGEST:
        repeats = -(-ROW // new)  # combine short periods: a matrix product needs some columns
        old, new = old * repeats, new * repeats
    reach = 2 + math.ceil(12 / min(old, new))  # periods: longer than Lhotse's filters, with torchaudio or SciPy
    if old * new > LARGEST:
        return Resampler(lambda samples: np.asarray(transform(samples[None]))[0], old, new, reach * old)
    impulses = np.zeros((old, (2 * reach + 1) * old), np.float32)
    impulses[:, reach * old : (reach + 1) * old] = np.eye(old)
    responses = np.asarray(transform(impulses)).reshape(old, 2 * reach + 1, new)
    matrix = responses[:, ::-1].swapaxes(0, 1).reshape(-1, new)  # ``reach`` periods before and after
    used = np.flatnonzero(matrix.any(1))
    first, matrix = used[0] - reach * old, torch.from_numpy(matrix[used[0] : used[-1] + 1].copy())

    def filtered(samples: np.ndarray) -> np.ndarray:
        periods = -(-len(samples) // old)
        padded = np.zeros((periods - 1) * old + len(matrix), np.float32)
        taken = samples[: len(padded) + first]
        padded[-first : len(taken) - first] = taken
        return (torch.from_numpy(padded).unfold(0, len(matrix), old) @ matrix).flatten().numpy()

    return Resampler(filtered, old, new, reach * old)
