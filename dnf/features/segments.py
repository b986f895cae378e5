"""The segments of frame stores, utterances or pieces of them: where each begins, its vectors, its normalization.

Memory per segment does not depend on its number of frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dnf.experiment.settings import Cmvn
from dnf.features.cmvn import of_segments, piece_stats, warped
from dnf.features.frame_store import FrameStore

log = logging.getLogger(__name__)

SHARE = 0.6  # of a GPU's free memory that the frames may take


class Segment(NamedTuple):
    """An utterance or piece; its vectors are rows ``first : first + rows``."""

    utt: str
    speaker: str
    name: str
    set: str
    score: float | None
    first: int
    rows: int
    corpus: str = ""


class Source(NamedTuple):
    """Where vectors are gathered from: one store, or on a GPU all of them one after the other; G segments.

    Attributes:
        frames: ``(T, F)``; warped, if the scope of CMVN is a window.
        centres: ``(C,)`` int64, frames of speech.
        begin, end: ``(G,)`` int64, a segment is ``frames[begin:end]``.
        spoken: ``(G,)`` int64, the first of its centres.
        rows: ``(G,)`` int64, its vectors.
        mean, scale: ``(G, F)`` float32, what CMVN takes from and multiplies to its frames, on the device that computes,
            where the others lie with the frames; None without CMVN.
    """

    frames: Tensor
    centres: Tensor
    begin: Tensor
    end: Tensor
    spoken: Tensor
    rows: Tensor
    mean: Tensor | None
    scale: Tensor | None


class Part(NamedTuple):
    """The segments of one store, in order.

    Attributes:
        store: where the frames are.
        utterance: ``(G,)`` int64, utterance of each segment.
        piece: ``(G,)`` int64, number of the piece within its utterance.
        source: the store as it lies on disk, and its segments.
        count: ``(G,)`` int64, speech frames of each segment; None where the statistics of the store are theirs.
    """

    store: FrameStore
    utterance: Tensor
    piece: Tensor
    source: Source
    count: Tensor | None

    def statistics(self, chosen: Tensor) -> Tensor:
        """CMVN statistics ``(C, 2, F + 1)`` float64 of the ``chosen`` ``(C,)`` segments."""
        if self.count is None:
            return self.store.stats[self.utterance[chosen]]
        source = self.source
        return piece_stats(source.frames, source.centres, source.spoken[chosen], self.count[chosen])


def home_of(stores: Sequence[FrameStore], device: torch.device) -> torch.device:
    """``device``, or the processor if the frames would take more than ``SHARE`` of the device's free memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by PyTorch, and unused
        size = sum(t.numel() * t.element_size() for store in stores for t in (store.frames, store.centres))
        if size > SHARE * free:
            log.warning(
                "%.1f GB of frames do not fit into %.1f GB on %s: reading them from disk",
                size / 1e9,
                free / 1e9,
                device,
            )
            return torch.device("cpu")
    return device


def concatenate(sources: Sequence[Source], home: torch.device) -> Source:
    """All of them one after the other in the memory of ``home``."""
    frames = torch.tensor([0] + [len(source.frames) for source in sources]).cumsum(0).tolist()
    centres = torch.tensor([0] + [len(source.centres) for source in sources]).cumsum(0).tolist()
    added = {"centres": frames, "begin": frames, "end": frames, "spoken": centres}

    def joined(name: str) -> Tensor | None:
        """A field of all sources together; counts are over all sources."""
        pieces = [getattr(source, name) for source in sources]
        if pieces[0] is None:
            return None
        whole = torch.empty(sum(map(len, pieces)), *pieces[0].shape[1:], dtype=pieces[0].dtype, device=home)
        for n, (place, piece) in enumerate(zip(whole.split([len(piece) for piece in pieces]), pieces)):
            place.copy_(piece)
            if name in added:
                place += added[name][n]
        return whole

    return Source(*map(joined, Source._fields))


def make_part(
    store: FrameStore,
    wanted: Tensor,
    hop: int,
    cmvn: Cmvn,
    piece_frames: int | None,
    most_frames: int | None,
    device: torch.device,
) -> Part:
    """The segments of the ``wanted`` ``(U,)`` utterances that have speech."""
    utterance = torch.nonzero(wanted)[:, 0]
    if piece_frames is None and most_frames is None:
        piece = torch.zeros_like(utterance)
        begin, end = store.offsets[utterance], store.offsets[utterance + 1]
        spoken, count = store.spoken[utterance], store.spoken[utterance + 1] - store.spoken[utterance]
    else:
        utterance, piece, begin, end = pieces_of(store, utterance, piece_frames, most_frames)
        spoken = torch.searchsorted(store.centres, begin)
        count = torch.searchsorted(store.centres, end) - spoken
    rows = -(-count // hop)
    keep = rows > 0
    utterance, piece, begin, end, spoken, rows = (t[keep] for t in (utterance, piece, begin, end, spoken, rows))
    count = count[keep] if piece_frames or most_frames or cmvn.scope == "window" else None
    frames = warped(store, begin, end, cmvn) if cmvn.scope == "window" else store.frames
    mean, scale = of_segments(store, cmvn, utterance, spoken, count)
    on_device = (None if t is None else t.to(device) for t in (mean, scale))
    return Part(store, utterance, piece, Source(frames, store.centres, begin, end, spoken, rows, *on_device), count)


def pieces_of(
    store: FrameStore, utterance: Tensor, piece_frames: int | None, most_frames: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Utterance, number within it, first frame and end ``(G,)`` of the pieces of utterances ``(U,)``, cut as ``Windows`` says."""
    start, frames = store.offsets[utterance], store.offsets[utterance + 1] - store.offsets[utterance]
    pieces = frames // piece_frames if piece_frames else -(-frames // most_frames)
    of = torch.arange(len(utterance)).repeat_interleave(pieces)
    piece = torch.arange(len(of)) - (pieces.cumsum(0) - pieces)[of]
    size, parts = (piece_frames, 1) if piece_frames else (frames[of], pieces[of])
    begin, end = start[of] + piece * size // parts, start[of] + (piece + 1) * size // parts
    return utterance[of], piece, begin, end
