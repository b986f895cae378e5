"""Embeddings of a frozen encoder that was trained elsewhere, averaged over windows of an utterance.

An encoder is a class with

    name            of the package with its weights, one of ``dnf.experiment.packages``
    rate            Hz of the samples
    window          seconds of a window
    embed(windows)  samples (W, window * rate) to embeddings (W, E), float32

To add one: its class and its row in ``ENCODERS``, and its name in ``dnf.experiment.settings.VectorsSettings``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.experiment.layout import VECTOR
from dnf.experiment.packages import file_of
from dnf.features.vad import speech_marks

BATCH = 64  # windows of a step


class Resemblyzer(nn.Module):
    """The speaker encoder of the package resemblyzer: an LSTM on mel spectrograms, then a ReLU and unit length.

    Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018. Only the weights come from the package
    (Apache-2.0); its own program, which needs librosa and webrtcvad, is not used.

    Raises:
        ValueError: the package is missing, or its weights are not those of this version.
    """

    name, rate, window = "resemblyzer", 16000, 1.6
    sha256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
    mels, hidden, layers, fft, shift, level = 40, 256, 3, 400, 160, -30.0  # level: least dB of an utterance

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(self.mels, self.hidden, self.layers, batch_first=True)
        self.linear = nn.Linear(self.hidden, self.hidden)
        weights = load_weights(self.name, "pretrained.pt", self.sha256)["model_state"]
        self.load_state_dict({name: weights[name] for name in self.state_dict()})
        self.register_buffer("filters", slaney_filters(self.mels, self.fft, self.rate), persistent=False)
        self.register_buffer("taper", torch.hann_window(self.fft), persistent=False)
        self.eval()

    @torch.no_grad()
    def embed(self, windows: Tensor) -> Tensor:
        """Embeddings ``(W, 256)`` of length 1 of samples ``(W, T)`` in -1..1."""
        frames = torch.stft(
            windows, self.fft, self.shift, window=self.taper, center=True, pad_mode="constant", return_complex=True
        )
        mel = self.filters @ frames.abs().square()
        _, (hidden, _) = self.lstm(mel[:, :, : round(self.window * self.rate) // self.shift].mT)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


ENCODERS = {"resemblyzer": Resemblyzer}


def load_weights(package: str, file: str, sha256: str) -> dict:
    """The content of a file of weights in an installed package (``file_of``); only tensors are unpickled."""
    return torch.load(file_of(package, file, sha256), map_location="cpu", weights_only=True)


def slaney_filters(count: int, fft: int, rate: int) -> Tensor:
    """Triangular mel filters of equal area ``(count, fft // 2 + 1)``, on the scale of Slaney, "Auditory toolbox", 1998."""
    # Hz per mel below the knee, Hz, log-frequency per mel above
    step, knee, slope = 200 / 3, 1000.0, math.log(6.4) / 27
    top = knee / step + math.log(rate / 2 / knee) / slope
    mel = np.linspace(0, top, count + 2)
    edges = np.where(mel < knee / step, mel * step, knee * np.exp(slope * (mel - knee / step)))
    bins = np.arange(fft // 2 + 1) * rate / fft
    low, centre, high = (edges[i : i + count, None] for i in range(3))
    shape = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(0)
    return torch.from_numpy(2 * shape / (high - low)).float()


@functools.cache
def make_encoder(name: str) -> Resemblyzer:
    return ENCODERS[name]()


class EncoderFrontEnd:
    """The front-end of ``vectors.front_end: encoder``."""

    kind = VECTOR
    fitted = ()

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder
        self.encoder_class = ENCODERS[config.vectors.encoder]
        if config.features.sampling_rate != self.encoder_class.rate:
            raise ValueError(
                f"vectors.encoder: {config.vectors.encoder} needs features.sampling_rate {self.encoder_class.rate}, "
                f"not {config.features.sampling_rate}"
            )

    def prepare(self) -> None:
        make_encoder(self.config.vectors.encoder)

    def measure(self, samples: np.ndarray) -> np.ndarray:
        """The mean embedding ``(E,)`` of windows, each with the weight of its speech frames; the last window is padded."""
        from dnf.features.extractor import extract_whole  # imports lhotse, which stage frames does not need

        encoder = make_encoder(self.config.vectors.encoder)
        features = dataclasses.replace(self.config.features, kind="fbank")
        speech = speech_marks(samples, extract_whole(samples, features)[1], self.config)
        size, hop = (round(seconds * encoder.rate) for seconds in (encoder.window, self.config.vectors.encoder_hop))
        count = 1 + max(0, math.ceil((len(samples) - size) / hop))
        louder = max(1.0, 10 ** (encoder.level / 20) / np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        padded = np.pad(samples * np.float32(louder), (0, max(0, (count - 1) * hop + size - len(samples))))
        windows = torch.from_numpy(padded).unfold(0, size, hop)
        per_frame = round(self.config.features.frame_shift * encoder.rate)
        weights = np.array(
            [speech[i * hop // per_frame : -(-(i * hop + size) // per_frame)].sum() for i in range(count)]
        )
        embeddings = torch.cat([encoder.embed(part) for part in windows.split(BATCH)]).numpy()
        return (weights @ embeddings / weights.sum()).astype(np.float32)

    def vector(self, kept: np.ndarray) -> np.ndarray:
        return kept
