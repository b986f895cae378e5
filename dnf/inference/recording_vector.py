"""One recording as a vector: its front-end, and the steps before the flow, as in stages 1 and 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnf.data.audio_blocks import Source
from dnf.experiment.config import Config
from dnf.experiment.layout import PREPROCESSING_NPZ, Layout
from dnf.features.front_ends import FrontEnd, make_front_end
from dnf.features.recording_frames import RecordingFrames
from dnf.features.vectors import Preprocessing, Vectors


class VectorMaker(NamedTuple):
    """A front-end with what was fitted to the training sets of an experiment."""

    front_end: FrontEnd
    preprocessing: Preprocessing

    @classmethod
    def load(cls, exp: Path, config: Config) -> VectorMaker:
        """Raises ``ValueError`` if a file of the experiment is missing or damaged, or the encoder is not installed."""
        layout = Layout.read(exp)
        front_end = make_front_end(config, layout.feats)
        front_end.prepare()
        return cls(front_end, Preprocessing.load(layout.frames / PREPROCESSING_NPZ))

    def make(self, path: str, samples: np.ndarray) -> np.ndarray:
        """The vector ``(D,)`` float32 of the samples ``(T,)`` of a recording, at the rate of the features."""
        vector = self.front_end.vector(self.front_end.measure(samples))
        return self.preprocessing.apply(Vectors("recordings", [path], [], [], [], vector[None]))[0]


class RecordingVector(RecordingFrames):
    """A recording whose only input to the flow is its vector; its frames are those of the filter banks."""

    def __init__(self, source: Source, config: Config, folder: Path, maker: VectorMaker):
        of_frames = dataclasses.replace(config.features, kind="fbank")
        self.blocks_read: list[np.ndarray] = []
        super().__init__(source, dataclasses.replace(config, features=of_frames), folder)
        self.vector = maker.make(source.path, np.concatenate(self.blocks_read))
        self.blocks_read.clear()

    def counted(self, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        for block in super().counted(blocks, rate):
            self.blocks_read.append(block)
            yield block

    def inputs(
        self, norm: tuple[Tensor, Tensor] | None, hop: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(1, dtype=torch.long), torch.from_numpy(self.vector)[None].to(device)

    def rows(self, hop: int) -> int:
        return 1
