"""The number of samples of a WAV, AIFF or AU file: in its header, and in the file.

The header counts if it fits: the samples end with the file, or more chunks follow them. A length that
stands for an unknown length means "to the end of the file". All other files are damaged.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lhotse.audio.backend import LibsndfileBackend

STREAMED = 0x7FFF0000  # writers to a pipe give this or more as the unknown length
ROUND = (1 << 20, 10**7)  # other writers give a multiple of these
HEADER = (44, 36)  # or the size of the whole file, or of its RIFF chunk
WAVE = (b"RIFF", b"RF64", b"BW64")
FORMS = {(name, b"WAVE"): "little" for name in WAVE} | {(b"RIFX", b"WAVE"): "big"}
FORMS |= {(b"FORM", b"AIFF"): "big", (b"FORM", b"AIFC"): "big"}
EXTRA = {b"data": 0, b"SSND": 8}  # bytes of the chunk that are not samples
# Tags that players append, and chunks that follow the samples; these may be truncated
TAGS = (
    b"TAG",
    b"ID3",
    b"id3 ",
    b"APETAG",
    b"LIST",
    b"bext",
    b"cue ",
    b"JUNK",
    b"fact",
    b"PEAK",
    b"smpl",
    b"iXML",
    b"_PMX",
)
LEAST = 8  # bytes of a chunk's name and length


class Samples(NamedTuple):
    """Where the samples of a file are.

    Attributes:
        start: their first byte.
        said: bytes, by the header.
        there: bytes from ``start`` to the end of the file.
        fits: whether the header is right.
        field: first byte of the header's length of them.
        order: of the bytes of a number, ``little`` or ``big``.
        extra: bytes that the header's length has beside them.
    """

    start: int
    said: int
    there: int
    fits: bool
    field: int
    order: str
    extra: int = 0

    @property
    def unknown(self) -> bool:
        """Whether the length stands for an unknown length."""
        if self.fits:
            return False
        if self.said <= self.there:
            return self.said == 0
        over = (*HEADER, self.start, self.start - LEAST)
        is_round = any(self.said % size == 0 for size in ROUND)
        return self.said >= STREAMED or is_round or self.said - self.there in over


def find_samples(file: BinaryIO, size: int) -> Samples | None:
    """Walk the chunks of a file of ``size`` bytes; None for another kind of file, or one that ends before its samples."""
    file.seek(0)
    form = file.read(12)
    if form[:4] == b".snd":
        start, said = (int.from_bytes(form[at : at + 4], "big") for at in (4, 8))
        return Samples(start, said, size - start, ends_well(file, start + said, size), 8, "big")
    order = FORMS.get((form[:4], form[8:]))
    if order is None:
        return None
    long_size = None
    while len(head := file.read(LEAST)) == LEAST:
        name, length, start = head[:4], int.from_bytes(head[4:], order), file.tell()
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], order)
        if name in EXTRA:
            said = long_size if long_size is not None and length == 0xFFFFFFFF else length
            extra = EXTRA[name]
            fits = ends_well(file, start + said, size)
            return Samples(start + extra, max(0, said - extra), size - start - extra, fits, start - 4, order, extra)
        file.seek(start + length + length % 2)
    return None


def ends_well(file: BinaryIO, end: int, size: int) -> bool:
    """Whether samples that end at byte ``end`` are followed by nothing, by padding, or by more chunks."""
    if end > size:
        return False
    for first in (end + end % 2, end):
        file.seek(first)
        head = file.read(LEAST)
        length = max(0, size - first)
        if length < LEAST or head.startswith(TAGS):
            return True
        sizes = (int.from_bytes(head[4:], order) for order in ("little", "big"))
        if (
            head[:4] not in {name for name, _ in FORMS}
            and head[:4].isascii()
            and head[:4].decode("ascii").isprintable()
        ):
            if min(sizes) <= length - LEAST:
                return True
    file.seek(end)
    return not any(any(block) for block in iter(lambda: file.read(1 << 20), b""))


def samples_of(path: str | Path) -> Samples | None:
    with open(path, "rb") as file:
        return find_samples(file, file.seek(0, 2))


def mend(buffer: mmap.mmap | bytearray, samples: Samples) -> None:
    """Write the true length into a header with an unknown length."""
    buffer[samples.field : samples.field + 4] = min(samples.there + samples.extra, 0xFFFFFFFE).to_bytes(
        4, samples.order
    )


def needs_mending(path_or_fd: object) -> Samples | None:
    """The place of the samples of a file whose header does not know their length."""
    if not isinstance(path_or_fd, (str, Path)) or not Path(path_or_fd).is_file():
        return None
    samples = samples_of(path_or_fd)
    return samples if samples and samples.unknown else None


def to_open(path: str | Path) -> str | Path | mmap.mmap:
    """The input of libsndfile for reading a file to its end: the file, or the file with a corrected header."""
    samples = needs_mending(path)
    if samples is None:
        return path
    with open(path, "rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    mend(buffer, samples)
    return buffer


class OpenLength(LibsndfileBackend):
    """Lhotse's backend for libsndfile, for files whose header does not know their length."""

    def handles_special_case(self, path_or_fd) -> bool:
        return needs_mending(path_or_fd) is not None

    def is_applicable(self, path_or_fd) -> bool:
        return self.handles_special_case(path_or_fd)

    def read_audio(self, path_or_fd, offset=0.0, duration=None, force_opus_sampling_rate=None):
        """Samples ``(channels, T)`` in -1..1 and their rate, Hz."""
        return super().read_audio(to_open(path_or_fd), offset, duration)

    def info(self, path_or_fd, force_opus_sampling_rate=None):
        return super().info(to_open(path_or_fd))
