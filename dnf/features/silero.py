"""Speech probabilities by Silero VAD, a network that was trained elsewhere (``vad.kind: silero``).

The package silero-vad (MIT) has the network as an ONNX file. Only this file is read, by onnxruntime; the package itself is
not imported. It reads 8 or 16 kHz in steps of 32 ms, each with the last 4 ms of the step before, and has a state.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from dnf.experiment.packages import absent, file_of
from dnf.experiment.settings import Features

STEP, BEFORE = 0.032, 0.004  # seconds of a step, and of the step before that come with it
SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"


@functools.cache
def session():
    """The network, on one thread of a processor; raises ``ValueError`` if a package is missing or damaged."""
    path = file_of("silero_vad", "data/silero_vad.onnx", SHA256)
    if why := absent("onnxruntime"):
        raise ValueError(why)
    import onnxruntime  # optional

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Silero:
    """The speech probabilities of one recording, read in blocks.

    Args:
        settings: of the frames that are asked about.

    Raises:
        ValueError: a package is missing or damaged.
    """

    def __init__(self, settings: Features):
        self.settings, self.session = settings, session()
        self.size, before = (round(seconds * settings.sampling_rate) for seconds in (STEP, BEFORE))
        self.state, self.before = np.zeros((2, 1, 128), np.float32), np.zeros(before, np.float32)
        self.held, self.of_steps = np.zeros(0, np.float32), []

    def read(self, samples: np.ndarray) -> None:
        """Read the next samples ``(T,)`` in -1..1, of any number."""
        self.held = np.concatenate([self.held, samples.astype(np.float32, copy=False)])
        for first in range(0, len(self.held) - self.size + 1, self.size):
            step = self.held[first : first + self.size]
            asked = {"input": np.concatenate([self.before, step])[None], "state": self.state}
            given = self.session.run(None, asked | {"sr": np.array(self.settings.sampling_rate)})
            self.state, self.before = given[1], step[-len(self.before) :]
            self.of_steps.append(float(given[0][0, 0]))
        self.held = self.held[len(self.held) // self.size * self.size :]

    def passed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks of a recording, each read when it is taken."""
        for block in blocks:
            self.read(block)
            yield block
        if len(self.held):
            self.read(np.zeros(self.size - len(self.held), np.float32))

    def probabilities(self, first: int, last: int) -> np.ndarray:
        """Probabilities of speech ``(last - first,)`` float32 of these frames: of the steps that have their middle samples."""
        rate, settings = self.settings.sampling_rate, self.settings
        length, shift = (int(seconds * rate) for seconds in (settings.frame_length, settings.frame_shift))
        middle = np.arange(first, last) * shift + (length if settings.snip_edges else shift) // 2
        return np.array(self.of_steps, np.float32)[np.minimum(middle // self.size, len(self.of_steps) - 1)]


def probabilities(samples: np.ndarray, frames: int, settings: Features) -> np.ndarray:
    """Probabilities of speech ``(N,)`` of the frames of a complete recording ``(T,)``."""
    vad = Silero(settings)
    for _ in vad.passed([samples]):
        pass
    return vad.probabilities(0, frames)
