"""One recording as a vector: its front-end, and the steps before the flow, as in stages 1 and 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnf.data.audio_blocks import Source, read_blocks, resampled
from dnf.experiment import packages
from dnf.experiment.config import Config
from dnf.experiment.layout import PREPROCESSING_NPZ, Layout
from dnf.features.extractor import BLOCK_SECONDS
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
        packages.check(config)
        layout = Layout.read(exp)
        front_end = make_front_end(config, layout.feats)
        front_end.prepare()
        return cls(front_end, Preprocessing.load(layout.frames / PREPROCESSING_NPZ))

    def make(self, source: Source, rate: int) -> np.ndarray:
        """The vector ``(D,)`` float32 of a recording, read at ``rate`` Hz."""
        own_rate, blocks = read_blocks(source, BLOCK_SECONDS)
        samples = np.concatenate(list(resampled(blocks, own_rate, rate)))
        vector = self.front_end.vector(self.front_end.measure(samples))
        return self.preprocessing.apply(Vectors("recordings", [source.path], [], [], [], vector[None]))[0]


class RecordingVector(RecordingFrames):
    """A recording whose only input to the flow is its vector; its frames are those of the filter banks."""

    def __init__(self, source: Source, config: Config, folder: Path, maker: VectorMaker):
        of_frames = dataclasses.replace(config.features, kind="fbank")
        super().__init__(source, dataclasses.replace(config, features=of_frames), folder)
        self.vector = maker.make(source, of_frames.sampling_rate)

    def inputs(
        self, norm: tuple[Tensor, Tensor] | None, hop: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(1, dtype=torch.long), torch.from_numpy(self.vector)[None].to(device)

    def rows(self, hop: int) -> int:
        return 1
