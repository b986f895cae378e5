"""One recording of any length, read in blocks: frames, speech marks, normalization and densities of stage features, 2 and 4.

Mixing down, resampling and extraction of frames are done while the recording is read. Frames and
log-energies are then kept in a temporary folder, since the threshold of the VAD and the statistics of CMVN need all of
them before the first frame can be scored. Memory therefore depends on the size of a block, not on the recording; the
folder takes about 100 bytes per frame (36 MB per hour).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dnf.data.audio_blocks import Source, read_blocks, resampled
from dnf.experiment.config import Config
from dnf.features.cmvn import BLOCK_FRAMES, normalize
from dnf.features.extractor import BLOCK_SECONDS, extract_blocks
from dnf.features.silero import Silero
from dnf.features.statistics import cmvn_stats
from dnf.features.vad import by_mean, no_speech, threshold_of, vote


class RecordingFrames:
    """The frames of one recording in a folder, written once and read in blocks.

    Attributes:
        count: N.
        seconds: of sound read.
        speech: number of speech frames by the VAD.
        stats: ``(2, F + 1)`` CMVN statistics of these.
    """

    def __init__(
        self,
        source: Source,
        config: Config,
        folder: Path,
        block_seconds: float = BLOCK_SECONDS,
        device: torch.device | str = "cpu",
    ):
        """Read ``source``, extract frames on ``device``, and write them to ``folder``.

        Raises:
            ValueError: the file cannot be used; the message names it.
        """
        self.folder, self.dim, self.dtype = folder, config.features.dim, np.dtype(config.frames.dtype)
        self.splice, self.cmvn = config.splice, config.cmvn
        rate, blocks = read_blocks(source, block_seconds)
        self.count, self.rate, energy_sum = 0, rate, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        wanted = config.features.sampling_rate
        samples = self.counted(resampled(blocks, rate, wanted), wanted)
        self.silero = Silero(config.features) if config.vad.kind == "silero" else None
        samples = self.silero.passed(samples) if self.silero else samples
        with (folder / "frames.bin").open("wb") as frames_file, (folder / "energy.bin").open("wb") as energy_file:
            try:
                for frames, energy in extract_blocks(samples, config.features, str(device)):
                    stored = frames.astype(self.dtype)
                    if not np.isfinite(stored).all():
                        raise ValueError("has NaN or infinite features")
                    frames_file.write(stored.tobytes())
                    energy_file.write(energy.tobytes())
                    self.count, energy_sum = self.count + len(frames), energy_sum + energy.sum(dtype=np.float64)
            except ValueError as error:
                raise ValueError(f"{error}" if source.path in str(error) else f"{source.path}: {error}") from None
        if not self.peak > 0:
            raise ValueError(f"{source.path}: digital silence")
        self.mark_speech(config, energy_sum / self.count)
        if not self.speech:
            raise ValueError(f"{source.path}: {no_speech(config.vad)}")

    def counted(self, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        self.seconds = self.peak = 0.0
        for block in blocks:
            self.seconds += len(block) / rate
            self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
            yield block

    def mark_speech(self, config: Config, mean_energy: float) -> None:
        """Second pass: the VAD, whose threshold depends on the complete recording, and the statistics of speech frames."""
        context, self.speech, self.stats = config.vad.frames_context, 0, np.zeros((2, self.dim + 1))
        threshold = by_mean(np.float32(mean_energy), config.vad)
        if config.vad.kind != "energy":
            threshold = threshold_of(self.vad_scores(0, self.count), config.vad)
        with (self.folder / "speech.bin").open("wb") as file:
            for first in range(0, self.count, BLOCK_FRAMES):
                last = min(first + BLOCK_FRAMES, self.count)
                before, after = max(0, first - context), min(self.count, last + context)
                scores = self.vad_scores(before, after)
                speech = vote(scores, config.vad, threshold)[first - before : last - before] > 0
                file.write(speech.astype(np.uint8).tobytes())
                self.stats += cmvn_stats(self.frames(first, last)[speech])
                self.speech += int(speech.sum())

    def vad_scores(self, first: int, last: int) -> np.ndarray:
        """What the VAD compares with its threshold in frames ``first : last``."""
        if self.silero:
            return self.silero.probabilities(first, last)
        return self.read("energy", np.float32, first, last)

    def read(self, name: str, dtype: np.dtype | type, first: int, last: int, width: int = 1) -> np.ndarray:
        size = np.dtype(dtype).itemsize * width
        return np.fromfile(self.folder / f"{name}.bin", dtype, (last - first) * width, offset=first * size)

    def frames(self, first: int, last: int) -> np.ndarray:
        """Frames ``first : last`` as stored, ``(n, F)``."""
        return self.read("frames", self.dtype, first, last, self.dim).reshape(-1, self.dim)

    def marks(self, first: int, last: int) -> np.ndarray:
        """Whether frames ``first : last`` are speech, ``(n,)``."""
        return self.read("speech", np.uint8, first, last) > 0

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """First frame, frames and speech marks of each block."""
        for first in range(0, self.count, BLOCK_FRAMES):
            last = min(first + BLOCK_FRAMES, self.count)
            yield first, self.frames(first, last), self.marks(first, last)

    def normalized(self, first: int, last: int, stats: np.ndarray) -> Tensor:
        """Frames ``first : last`` after CMVN with statistics ``(2, F + 1)``, ``(n, F)`` float32."""
        before, after = max(0, first - self.cmvn.reach), min(self.count, last + self.cmvn.reach)
        frames = normalize(self.frames(before, after), self.marks(before, after), stats, self.cmvn)
        return frames[first - before : last - before]

    def inputs(self, stats: np.ndarray, hop: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Centres ``(B,)`` and spliced vectors ``(B, D)`` on ``device`` of every ``hop``-th speech frame, ends repeated.

        Args:
            stats: ``(2, F + 1)`` for CMVN.
        """
        left, right = self.splice.left, self.splice.right
        window, spoken = torch.arange(-left, right + 1), 0
        for first in range(0, self.count, BLOCK_FRAMES):
            last = min(first + BLOCK_FRAMES, self.count)
            centres = first + np.flatnonzero(self.marks(first, last))
            chosen, spoken = centres[(-spoken) % hop :: hop], spoken + len(centres)
            if not len(chosen):
                continue
            before, after = max(0, first - left), min(self.count, last + right)
            held = self.normalized(before, after, stats).to(device)
            index = (torch.from_numpy(chosen)[:, None] + window).clamp(0, self.count - 1) - before
            yield torch.from_numpy(chosen), held[index.to(device)].flatten(1)

    def rows(self, hop: int) -> int:
        """How many vectors ``inputs`` gives."""
        return -(-self.speech // hop)
