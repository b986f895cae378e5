"""Spliced vectors of one or several frame stores: which there are, their labels, and any of them on any device.

Vector i is frames ``centre - left .. centre + right`` of its segment, edges repeated, each frame normalized by the
statistics of the segment or its speaker, laid out oldest frame first: D = (left + 1 + right) F. A segment is an
utterance, or a piece of one. Which segment and frame a vector is centred on is computed from counts per segment, so
nothing here grows with the number of frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dnf.settings import Cmvn, Splice

if TYPE_CHECKING:
    from dnf.augment import Augmenter
    from dnf.frames import FrameStore

log = logging.getLogger(__name__)

SHARE = 0.6
CHUNK = 100_000  # utterances whose statistics are read at a time


class Segment(NamedTuple):
    """An utterance or piece; its vectors are rows ``first : first + rows``."""

    utt: str
    speaker: str
    name: str
    set: str
    score: float | None
    first: int
    rows: int


class Part(NamedTuple):
    """The segments of one store, in order; G of them.

    Attributes:
        store: where the frames are.
        utterance: ``(G,)`` int64, utterance of each segment.
        piece: ``(G,)`` int64, number of the piece within its utterance.
        begin, end: ``(G,)`` int64, frames ``begin : end`` of the store.
        spoken: ``(G,)`` int64, first of the segment's centres in the store.
        rows: ``(G,)`` int64, vectors.
        mean, scale: ``(G, F)`` float32, what CMVN takes from and multiplies to the frames; None without CMVN.
    """

    store: FrameStore
    utterance: Tensor
    piece: Tensor
    begin: Tensor
    end: Tensor
    spoken: Tensor
    rows: Tensor
    mean: Tensor | None
    scale: Tensor | None


class Windows:
    """All spliced vectors of ``stores``, one store after the other.

    Args:
        stores: the sets.
        splice: context and hop; a hop of n takes every n-th speech frame of each segment.
        cmvn: per-utterance or per-speaker normalization; a piece of an utterance counts as one.
        classes: names of the model's classes; utterances of others have label -1.
        keep_unseen: whether vectors with label -1 stay.
        device: where the vectors go. Frames are moved there once if they leave room for the rest; else they stay on
            disk and are gathered there.
        scores: lowest and highest expert score of the utterances to take, of stores that have scores; empty: all.
        piece_frames: cut utterances to pieces of so many frames, leaving out what is shorter; None: whole utterances.
    """

    def __init__(
        self,
        stores: Sequence[FrameStore],
        splice: Splice,
        cmvn: Cmvn,
        classes: Sequence[str],
        keep_unseen: bool,
        device: torch.device,
        scores: Sequence[float] = (),
        piece_frames: int | None = None,
    ):
        ids = {name: i for i, name in enumerate(classes)}
        self.stores, self.device, self.cut = list(stores), device, piece_frames is not None
        self.parts, labels = [], []
        for store in self.stores:
            of_store = torch.tensor([ids.get(name, -1) for name in store.classes])
            wanted = of_store >= 0 if not keep_unseen else torch.ones_like(of_store, dtype=torch.bool)
            if scores and any(score is not None for score in store.scores):
                wanted &= torch.tensor([s is not None and scores[0] <= s <= scores[1] for s in store.scores])
            part = make_part(store, wanted, splice.hop, cmvn, piece_frames, device)
            self.parts.append(part)
            labels.append(of_store[part.utterance])
        self._labels = torch.cat(labels)
        counts = torch.cat([part.rows for part in self.parts])
        self._ends = counts.cumsum(0)
        self._segments = torch.tensor([0] + [len(part.rows) for part in self.parts]).cumsum(0)
        self._hop, self._variance = splice.hop, cmvn.variance
        self._window = torch.arange(-splice.left, splice.right + 1, device=device)
        self._frames = place([store.frames for store in self.stores], device)
        self._of_class: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def dim(self) -> int:
        return len(self._window) * self._frames[0].shape[1]

    def segment(self, rows: Tensor) -> Tensor:
        """Number of the segment of vectors ``rows`` ``(B,)``, counted over all stores."""
        return torch.searchsorted(self._ends, rows, right=True)

    def labels(self, rows: Tensor) -> Tensor:
        """Class ids ``(B,)`` of vectors ``rows`` ``(B,)``, on the device."""
        return self._labels[self.segment(rows)].to(self.device)

    def gather(self, rows: Tensor, augmenter: Augmenter | None = None) -> Tensor:
        """Vectors ``(B, D)`` of ``rows`` ``(B,)``, float32 on the device; ``augmenter`` changes frames before CMVN."""
        segment = self.segment(rows)
        nth = rows - (self._ends[segment] - self._rows_of(segment))
        if len(self.parts) == 1:
            return self._gather(0, segment, nth, rows, augmenter)
        vectors = torch.empty(len(rows), self.dim, device=self.device)
        for i in range(len(self.parts)):
            mine = torch.nonzero((segment >= self._segments[i]) & (segment < self._segments[i + 1]))[:, 0]
            if len(mine):
                vectors[mine.to(self.device)] = self._gather(
                    i, segment[mine] - self._segments[i], nth[mine], rows[mine], augmenter
                )
        return vectors

    def _rows_of(self, segment: Tensor) -> Tensor:
        return self._ends[segment] - torch.where(segment > 0, self._ends[segment - 1], 0)

    def _gather(self, i: int, segment: Tensor, nth: Tensor, rows: Tensor, augmenter: Augmenter | None) -> Tensor:
        part, frames = self.parts[i], self._frames[i]
        window = self._window
        if augmenter:
            window = torch.arange(int(window[0]) - augmenter.history, int(window[-1]) + 1)
        centre = part.store.centres[part.spoken[segment] + nth * self._hop]
        bounds = torch.stack([centre, part.begin[segment], part.end[segment] - 1]).to(frames.device)
        index = bounds[0][:, None] + window.to(frames.device)
        index = torch.clamp(index, bounds[1][:, None], bounds[2][:, None])
        vectors = frames.index_select(0, index.flatten()).to(self.device).float().view(*index.shape, frames.shape[1])
        shift, ratio = 0.0, 1.0
        if augmenter:
            vectors, shift, ratio = augmenter(rows, vectors, self._probes(i, segment, augmenter.probes, augmenter.lags))
        if part.mean is not None:
            segment = segment.to(self.device)
            scale = part.scale[segment] if not self._variance else part.scale[segment] / ratio
            vectors = (vectors - (part.mean[segment] + shift)[:, None]) * scale[:, None]
        return vectors.flatten(1)

    def _probes(self, i: int, segment: Tensor, count: int, lags: Tensor) -> Tensor:
        """``(B, count, L, F)``: evenly spaced speech frames of each segment ``(B,)`` and those ``lags`` ``(L,)`` before."""
        part, frames = self.parts[i], self._frames[i]
        nth = (torch.arange(count) * part.rows[segment][:, None] // count) * self._hop
        index = part.store.centres[part.spoken[segment][:, None] + nth][:, :, None] - lags
        index = torch.maximum(index, part.begin[segment][:, None, None]).to(frames.device)
        return frames.index_select(0, index.flatten()).to(self.device).float().view(*index.shape, frames.shape[1])

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Vectors of each class of the model."""
        counts = torch.cat([part.rows for part in self.parts])
        return {name: int(counts[self._labels == k].sum()) for k, name in enumerate(classes)}

    def rows_of_class(self, label: int, nth: Tensor) -> Tensor:
        """The ``nth`` ``(B,)`` vectors of a class, counted from 0, as rows ``(B,)``."""
        if label not in self._of_class:
            segments = torch.nonzero(self._labels == label)[:, 0]
            self._of_class[label] = segments, self._rows_of(segments).cumsum(0)
        segments, ends = self._of_class[label]
        found = torch.searchsorted(ends, nth, right=True)
        return self._ends[segments[found]] - (ends[found] - nth)

    def segments(self) -> Iterator[Segment]:
        """Every segment in the order of its vectors."""
        first = 0
        for part in self.parts:
            store = part.store
            for u, piece, rows in zip(part.utterance.tolist(), part.piece.tolist(), part.rows.tolist()):
                utt = f"{store.utterances[u]}-{piece:04d}" if self.cut else store.utterances[u]
                yield Segment(utt, store.speakers[u], store.classes[u], store.name, store.scores[u], first, rows)
                first += rows

    def global_normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(F,)`` of the frames that the utterances present contribute, after CMVN."""
        total = sums = squares = 0.0
        for part in self.parts:
            for chunk in torch.arange(len(part.rows)).split(CHUNK):
                stats = part.store.stats[part.utterance[chunk]]
                count, first, second = stats[:, 0, -1:], stats[:, 0, :-1], stats[:, 1, :-1]
                if part.mean is not None:
                    mean, scale = (t[chunk.to(self.device)].cpu().double() for t in (part.mean, part.scale))
                    second = (second - 2 * mean * first + count * mean**2) * scale**2
                    first = (first - count * mean) * scale
                total, sums, squares = total + count.sum(), sums + first.sum(0), squares + second.sum(0)
        mean = sums / total
        return mean.float(), (squares / total - mean**2).clamp(min=1e-8).sqrt().float()


def place(frames: list[Tensor], device: torch.device) -> list[Tensor]:
    """``frames`` on ``device``, or where they are when they would take more than ``SHARE`` of its free memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        size = sum(t.numel() * t.element_size() for t in frames)
        if size > SHARE * free:
            log.warning(
                "%.1f GB of frames do not fit beside the model in %.1f GB on %s: read from disk",
                size / 1e9,
                free / 1e9,
                device,
            )
            return frames
    return [t.to(device) for t in frames]


def make_part(
    store: FrameStore, wanted: Tensor, hop: int, cmvn: Cmvn, piece_frames: int | None, device: torch.device
) -> Part:
    """The segments of the ``wanted`` ``(U,)`` utterances that have speech."""
    utterance = torch.nonzero(wanted)[:, 0]
    if piece_frames is None:
        piece = torch.zeros_like(utterance)
        begin, end = store.offsets[utterance], store.offsets[utterance + 1]
        spoken, count = store.spoken[utterance], store.spoken[utterance + 1] - store.spoken[utterance]
    else:
        pieces = (store.offsets[utterance + 1] - store.offsets[utterance]) // piece_frames
        utterance = utterance.repeat_interleave(pieces)
        piece = torch.arange(len(utterance)) - (pieces.cumsum(0) - pieces).repeat_interleave(pieces)
        begin = store.offsets[utterance] + piece * piece_frames
        end = begin + piece_frames
        spoken = torch.searchsorted(store.centres, begin)
        count = torch.searchsorted(store.centres, end) - spoken
    rows = -(-count // hop)
    keep = rows > 0
    utterance, piece, begin, end, spoken, rows = (t[keep] for t in (utterance, piece, begin, end, spoken, rows))
    mean, scale = normalization(store, cmvn, utterance, spoken, count[keep] if piece_frames else None)
    on_device = (None if t is None else t.to(device) for t in (mean, scale))
    return Part(store, utterance, piece, begin, end, spoken, rows, *on_device)


def normalization(
    store: FrameStore, cmvn: Cmvn, utterance: Tensor, spoken: Tensor, count: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Mean and inverse standard deviation ``(G, F)`` float32 that CMVN takes from each segment's frames.

    Args:
        utterance: ``(G,)`` utterance of each segment.
        spoken, count: ``(G,)`` first and number of the centres of pieces; ``count`` is None for whole utterances.
    """
    if cmvn.scope == "none":
        return None, None
    if cmvn.scope == "speaker":
        speakers = {name: i for i, name in enumerate(sorted(set(store.speakers)))}
        group = torch.tensor([speakers[name] for name in store.speakers])
        stats = torch.zeros(len(speakers), *store.stats.shape[1:], dtype=torch.float64)
        for chunk in torch.arange(len(group)).split(CHUNK):
            stats.index_add_(0, group[chunk], store.stats[chunk])
        group = group[utterance]
    elif count is None:
        stats, group = store.stats, utterance
    else:
        stats, group = piece_stats(store, spoken, count), torch.arange(len(utterance))
    mean = torch.empty(len(group), stats.shape[2] - 1)
    scale = torch.ones_like(mean)
    for chunk in torch.arange(len(group)).split(CHUNK):
        own = stats[group[chunk]]
        total, first, second = own[:, 0, -1:], own[:, 0, :-1], own[:, 1, :-1]
        mean[chunk] = (first / total).float()
        if cmvn.variance:
            scale[chunk] = (second / total - (first / total) ** 2).clamp(min=1e-8).rsqrt().float()
    return mean, scale


def piece_stats(store: FrameStore, spoken: Tensor, count: Tensor) -> Tensor:
    """CMVN statistics ``(G, 2, F + 1)`` float64 of the speech frames of pieces."""
    stats = torch.zeros(len(spoken), 2, store.frames.shape[1] + 1, dtype=torch.float64)
    for i, (first, rows) in enumerate(zip(spoken.tolist(), count.tolist())):
        frames = store.frames[store.centres[first : first + rows]].double()
        stats[i, 0, :-1], stats[i, 0, -1], stats[i, 1, :-1] = frames.sum(0), rows, frames.square().sum(0)
    return stats
