"""Spliced vectors of one or several frame stores: their number, their labels, and access to any of them on any device.

Vector i is frames ``centre - left .. centre + right`` of its segment, edges repeated, each frame normalized by the
statistics of the segment or its speaker, laid out oldest frame first: D = (left + 1 + right) F. A segment is an
utterance, or a piece of one. The segment and the frame of a vector are computed from counts per segment, so
nothing here grows with the number of frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Cmvn, Splice
from dnf.features.augment import Augmenter
from dnf.features.cmvn import CHUNK
from dnf.features.frame_store import FrameStore
from dnf.features.segments import Segment, Source, concatenate, home_of, make_part


class Augmented:
    """Training vectors of one step, augmented: the interface of ``Windows`` that ``backward`` needs."""

    def __init__(self, windows: Windows, augmenter: Augmenter):
        self.windows, self.augmenter, self.device = windows, augmenter, windows.device

    def gather(self, rows: Tensor) -> Tensor:
        return self.windows.gather(rows, self.augmenter)

    def labels(self, rows: Tensor) -> Tensor:
        return self.windows.labels(rows)


def at_step(windows: Windows, config: Config, step: int) -> Windows | Augmented:
    """The training vectors of a step; ``windows`` themselves without augmentation."""
    if not config.augment.probability:
        return windows
    return Augmented(windows, Augmenter(config.augment, config.seed, step, config.features.frame_shift))


def training_windows(
    stores: Sequence[FrameStore], config: Config, classes: Sequence[str], device: torch.device
) -> Windows:
    """The vectors that a model is fitted to: those of training sets, whose utterances ``train.pieces`` cuts."""
    most = round(config.train.pieces / config.features.frame_shift) or None
    return Windows(stores, config.splice, config.cmvn, classes, keep_unseen=False, device=device, most_frames=most)


class Windows:
    """All spliced vectors of ``stores``, one store after the other.

    Attributes:
        device: where the vectors go.
        home: where the frames and the positions of the vectors are. If that is the device, vectors are
            gathered there without any transfer to or from the processor.

    Args:
        stores: the sets.
        splice: context and hop; a hop of n takes every n-th speech frame of each segment.
        cmvn: per-utterance or per-speaker normalization; a piece of an utterance counts as one.
        classes: names of the model's classes; utterances of other classes have label -1.
        keep_unseen: whether to keep vectors with label -1.
        device: where the vectors go. Frames are moved there once if they leave room for the rest; else they stay on
            disk and are gathered there.
        scores: lowest and highest expert score of the utterances to take, of stores that have scores; empty: all.
        piece_frames: cut utterances into pieces of so many frames without the rest; None: complete utterances.
        most_frames: instead divide each utterance, with the rest, into as few pieces of about the same length as have
            at most so many frames.
    """

    def __init__(
        self,
        stores: Sequence[FrameStore],
        splice: Splice,
        cmvn: Cmvn,
        classes: Sequence[str],
        *,
        keep_unseen: bool,
        device: torch.device,
        scores: Sequence[float] = (),
        piece_frames: int | None = None,
        most_frames: int | None = None,
    ):
        ids = {name: i for i, name in enumerate(classes)}
        self.stores, self.device, self.cut = list(stores), device, bool(piece_frames or most_frames)
        self.home = home_of(self.stores, device)
        self.parts, labels, corpora = [], [], []
        corpus_ids = {name: i for i, name in enumerate(sorted({name for store in stores for name in store.corpora}))}
        for store in self.stores:
            of_store = torch.tensor([ids.get(name, -1) for name in store.classes])
            wanted = of_store >= 0 if not keep_unseen else torch.ones_like(of_store, dtype=torch.bool)
            if scores and any(score is not None for score in store.scores):
                wanted &= torch.tensor([s is not None and scores[0] <= s <= scores[1] for s in store.scores])
            part = make_part(store, wanted, splice.hop, cmvn, piece_frames, most_frames, device)
            self.parts.append(part)
            labels.append(of_store[part.utterance])
            corpora.append(torch.tensor([corpus_ids[name] for name in store.corpora])[part.utterance])
        counts = torch.cat([part.source.rows for part in self.parts])
        self._length = int(counts.sum())
        self._labels, self._ends = torch.cat(labels).to(self.home), counts.cumsum(0).to(self.home)
        self._corpora = torch.cat(corpora).to(self.home)
        self._hop, self._variance, self._left, self._right = splice.hop, cmvn.variance, splice.left, splice.right
        sources = [part.source for part in self.parts]
        self._sources = sources if self.home.type == "cpu" else [concatenate(sources, self.home)]
        self._segments = [0]  # first of each source
        for source in self._sources:
            self._segments.append(self._segments[-1] + len(source.begin))
        self._of_class: dict[tuple[int, int | None], tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def dim(self) -> int:
        return (self._left + 1 + self._right) * self._sources[0].frames.shape[1]

    def segment(self, rows: Tensor) -> Tensor:
        """Number of the segment of vectors ``rows`` ``(B,)``, counted over all stores, where the rows are."""
        return torch.searchsorted(self._ends, rows.to(self.home), right=True).to(rows.device)

    def labels(self, rows: Tensor) -> Tensor:
        """Class ids ``(B,)`` of vectors ``rows`` ``(B,)``, on the device."""
        return self._labels[self.segment(rows.to(self.home))].to(self.device)

    def gather(self, rows: Tensor, augmenter: Augmenter | None = None) -> Tensor:
        """Vectors ``(B, D)`` of ``rows`` ``(B,)``, float32 on the device; ``augmenter`` changes frames before CMVN."""
        rows = rows.to(self.home)
        segment = self.segment(rows)
        nth = rows - (self._ends[segment] - self._rows_of(segment))
        if len(self._sources) == 1:
            return self._gather(self._sources[0], segment, nth, rows, augmenter)
        vectors = torch.empty(len(rows), self.dim, device=self.device)
        for source, first, last in zip(self._sources, self._segments, self._segments[1:]):
            mine = torch.nonzero((segment >= first) & (segment < last))[:, 0]
            if len(mine):
                vectors[mine.to(self.device)] = self._gather(
                    source, segment[mine] - first, nth[mine], rows[mine], augmenter
                )
        return vectors

    def _rows_of(self, segment: Tensor) -> Tensor:
        return self._ends[segment] - torch.where(segment > 0, self._ends[segment - 1], 0)

    def _gather(
        self, source: Source, segment: Tensor, nth: Tensor, rows: Tensor, augmenter: Augmenter | None
    ) -> Tensor:
        history = augmenter.history if augmenter else 0
        window = torch.arange(-self._left - history, self._right + 1, device=self.home)
        centre = source.centres[source.spoken[segment] + nth * self._hop]
        index = torch.clamp(centre[:, None] + window, source.begin[segment][:, None], source.end[segment][:, None] - 1)
        vectors = self._frames(source, index)
        shift, ratio = 0.0, 1.0
        if augmenter:
            probes = self._probes(source, segment, augmenter.probes, augmenter.lags.to(self.home))
            vectors, shift, ratio = augmenter(rows, vectors, probes)
        if source.mean is not None:
            segment = segment.to(self.device)
            scale = source.scale[segment] if not self._variance else source.scale[segment] / ratio
            vectors = (vectors - (source.mean[segment] + shift)[:, None]) * scale[:, None]
        return vectors.flatten(1)

    def _frames(self, source: Source, index: Tensor) -> Tensor:
        """Frames ``(*S, F)`` float32 on the device, at ``index`` ``(*S)``."""
        frames = source.frames.index_select(0, index.flatten()).to(self.device)
        return frames.float().view(*index.shape, frames.shape[1])

    def _probes(self, source: Source, segment: Tensor, count: int, lags: Tensor) -> Tensor:
        """``(B, count, L, F)``: evenly spaced speech frames of each segment ``(B,)`` and those ``lags`` ``(L,)`` before."""
        nth = (torch.arange(count, device=self.home) * source.rows[segment][:, None] // count) * self._hop
        index = source.centres[source.spoken[segment][:, None] + nth][:, :, None] - lags
        return self._frames(source, torch.maximum(index, source.begin[segment][:, None, None]))

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Vectors of each class of the model."""
        counts, labels = torch.cat([part.source.rows for part in self.parts]), self._labels.cpu()
        return {name: int(counts[labels == k].sum()) for k, name in enumerate(classes)}

    def corpus_counts(self, label: int) -> dict[int, int]:
        """Vectors of a class in each corpus that has some, by id of the corpus; where corpora are not known, there is one."""
        corpora = self._corpora[self._labels == label].unique().tolist()
        return {corpus: int(self._class_rows(label, corpus)[1][-1]) for corpus in corpora}

    def _class_rows(self, label: int, corpus: int | None) -> tuple[Tensor, Tensor]:
        """Segments of a class, or of those in a corpus, and the number of their vectors up to the end of each."""
        if (label, corpus) not in self._of_class:
            wanted = self._labels == label
            segments = torch.nonzero(wanted if corpus is None else wanted & (self._corpora == corpus))[:, 0]
            self._of_class[label, corpus] = segments, self._rows_of(segments).cumsum(0)
        return self._of_class[label, corpus]

    def rows_of_class(self, label: int, nth: Tensor, corpus: int | None = None) -> Tensor:
        """The ``nth`` ``(B,)`` vectors of a class, counted from 0, as rows ``(B,)``, where ``nth`` is; of one corpus, if given."""
        segments, ends = self._class_rows(label, corpus)
        place = torch.searchsorted(ends, wanted := nth.to(self.home), right=True)
        return (self._ends[segments[place]] - (ends[place] - wanted)).to(nth.device)

    def segments(self) -> Iterator[Segment]:
        """Every segment in the order of its vectors."""
        first = 0
        for part in self.parts:
            store = part.store
            for u, piece, rows in zip(part.utterance.tolist(), part.piece.tolist(), part.source.rows.tolist()):
                utt = f"{store.utterances[u]}-{piece:04d}" if self.cut else store.utterances[u]
                names = utt, store.speakers[u], store.classes[u], store.name, store.scores[u]
                yield Segment(*names, first, rows, store.corpora[u])
                first += rows

    def global_normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(F,)`` of the frames that the utterances present contribute, after CMVN."""
        total = sums = squares = 0.0
        for part in self.parts:
            for chunk in torch.arange(len(part.source.rows)).split(CHUNK):
                stats = part.statistics(chunk)
                count, first, second = stats[:, 0, -1:], stats[:, 0, :-1], stats[:, 1, :-1]
                if part.source.mean is not None:
                    norm = part.source.mean, part.source.scale
                    mean, scale = (t[chunk.to(self.device)].cpu().double() for t in norm)
                    second = (second - 2 * mean * first + count * mean**2) * scale**2
                    first = (first - count * mean) * scale
                total, sums, squares = total + count.sum(), sums + first.sum(0), squares + second.sum(0)
        mean = sums / total
        return mean.float(), (squares / total - mean**2).clamp(min=1e-8).sqrt().float()
