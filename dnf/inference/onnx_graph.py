"""A trained model as one graph: from the samples of a recording to its log-likelihoods, posteriors and open-set score.

``RecordingGraph`` computes for one recording what ``dnf.inference.classify`` computes, in PyTorch operations alone, so that
``dnf.inference.export`` can write it as an ONNX file. Feature extraction, CMVN, flow and prior are the modules and functions
of the project; what elsewhere is NumPy or reads in blocks is written again here, and ``tests/inference/test_export.py``
compares both.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn

from dnf.decisions.calibration import Calibration, prior_of
from dnf.decisions.channel_bias import GAMMA, ChannelBias
from dnf.decisions.doubt import Doubt
from dnf.decisions.open_set import SCORES, OpenSet, Scale
from dnf.experiment.config import Config
from dnf.features.cmvn import mean_and_scale
from dnf.features.fbank import FULL_SCALE, lhotse_fbank
from dnf.inference.onnx_score import SCORE_OUTPUTS, Scores, constants
from dnf.inference.system import Model
from dnf.scoring.channel_compensation import Correction
from dnf.scoring.channel_model import ChannelModel
from dnf.scoring.channel_statistics import FLOOR, LAG, LOWEST, PROFILE, STEP, STEPS, TINY

OUTPUTS = {  # name: what it is, for the card
    "loglik": "(K,) mean over the vectors of log p(x | class), nats",
    "calibrated_loglik": "(K,) calibrated log-likelihood of the recording, nats, up to a constant of the recording",
    "posteriors": "(K,) posterior of each class",
    "open_set_score": "score of being of none of the classes, in standard deviations of dev",
    "none_of_these": "whether that score is above the threshold",
    "foreign": "whether the recording is unlike training; if not, it is sure where a posterior is 0.9 or more, else unsure",
    "bias": "(K,) of the channel of a foreign recording, already subtracted before calibration, nats",
    "factor": "of the calibrated log-likelihoods, at most 1, already applied",
    "speech_frames": "number of speech frames; 0: nothing to decide, and all figures are NaN",
    "centres": "(N,) central frame of each vector",
    "frame_loglik": "(N, K) log p(x | class) of each vector, nats",
}


class Frames(nn.Module):
    """Samples ``(T,)`` in -1..1 to frames ``(N, F)`` as stored, log-energies ``(N,)``, both float32."""

    def __init__(self, config: Config):
        super().__init__()
        settings = dataclasses.replace(
            config.features, snip_edges=False
        )  # of which Lhotse warns; the ends are made here
        self.fbank = lhotse_fbank(settings).extractor.double()  # as quick as float32 here, and more accurate
        self.half = config.frames.dtype == "float16"
        self.snip_edges = config.features.snip_edges
        self.length, self.shift = self.fbank.wav2win._length, self.fbank.wav2win._shift

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        total = samples.shape[0]
        if self.snip_edges:
            count, margin = (total - self.length) // self.shift + 1, 0
        else:
            count, margin = (total + self.shift // 2) // self.shift, (self.length - self.shift) // 2
        place = torch.arange(count)[:, None] * self.shift + torch.arange(self.length) - margin
        place = torch.where(place < 0, -1 - place, place)  # the ends of the recording are mirrored
        place = torch.where(place >= total, 2 * total - 1 - place, place).clamp(0, total - 1)
        windows, energy = self.fbank.wav2win._forward_strided(samples[place][None].double() * FULL_SCALE)
        frames = self.fbank._forward_strided(windows, None)[0].float()
        return (frames.half().float() if self.half else frames), energy[0].float()


class Speech(nn.Module):
    """Log-energies ``(N,)`` to speech marks ``(N,)``: ``dnf.features.vad`` of a complete recording."""

    def __init__(self, config: Config):
        super().__init__()
        self.vad = config.vad
        if self.vad.kind != "energy":
            raise ValueError(
                f"vad.kind: {self.vad.kind} has no ONNX graph; export a folder, or train a model with vad.kind=energy"
            )

    def forward(self, energy: Tensor) -> Tensor:
        threshold = self.vad.energy_threshold + self.vad.energy_mean_scale * energy.double().mean().float()
        count, context = energy.shape[0], self.vad.frames_context
        place = torch.arange(count)[:, None] + torch.arange(-context, context + 1)
        votes = (place >= 0) & (place < count)
        loud = (energy > threshold)[place.clamp(0, count - 1)] & votes
        return loud.sum(1).double() >= votes.sum(1).double() * self.vad.proportion_threshold


class Centring(nn.Module):
    """Latents ``(N, D)`` without the shift of their recording; see ``dnf.scoring.channel_compensation``."""

    def __init__(self, correction: Correction):
        super().__init__()
        self.offset, self.reference, self.predict = constants(
            correction.offset, correction.reference, correction.predict.T
        )

    def forward(self, z: Tensor) -> Tensor:
        dims = len(self.offset)
        mean = z[:, :dims].double().mean(0)
        shift = (self.offset + (mean - self.reference) @ self.predict).float()
        return torch.cat([z[:, :dims] - shift, z[:, dims:]], 1)


class Calibrated(nn.Module):
    """Mean log-likelihoods ``(K,)`` and number of vectors to calibrated ones ``(K,)``; see ``dnf.decisions.calibration``."""

    def __init__(self, calibration: Calibration):
        super().__init__()
        self.slope, self.half = calibration.slope, calibration.half or 0.0  # 0: equal weights
        covariance = np.array(calibration.covariance)
        correlation = covariance[1:] / covariance[0] if len(covariance) and covariance[0] > 0 else np.zeros(0)
        self.middle, self.offsets, self.correlation, self.lags = constants(
            calibration.middle, calibration.offsets, correlation, 1 + np.arange(len(correlation))
        )

    def forward(self, loglik: Tensor, rows: Tensor) -> Tensor:
        rows = rows.clamp(min=1)
        sums = ((1 - self.lags / rows).clamp(min=0) * self.correlation).sum()
        frames = torch.minimum((rows / (1 + 2 * sums)).clamp(min=1), rows)
        weight = frames / (frames + self.half)
        return weight * self.slope * (loglik - loglik.mean() - self.middle) + self.offsets


class OpenSetScore(nn.Module):
    """The open-set score of one recording; see ``dnf.decisions.open_set``, whose figures have the same names here."""

    def __init__(self, open_set: OpenSet):
        super().__init__()
        self.model = open_set
        self.means, self.factor = constants(open_set.means, np.linalg.cholesky(open_set.precision))

    def forward(self, logp: Tensor, mixture: Tensor, logdet: Tensor, z: Tensor, rows: Tensor) -> Tensor:
        figures = {
            "density": lambda: -(mixture + logdet),
            "typicality": lambda: torch.maximum(
                scaled(self.model.inner["density"], mixture + logdet, rows).abs(),
                scaled(self.model.inner["norm"], logp.amax(0), rows).abs(),
            ),
            "distance": lambda: (
                ((z - self.means) @ self.factor).square().sum(1).amin(0)
                / (self.model.expected[0] + self.model.expected[1] / rows)
            ),
            "gap": lambda: torch.diff(logp.topk(2).values)[0],
        }
        parts = [part for part in SCORES[self.model.score_name] if part in self.model.scales]
        return sum(scaled(self.model.scales[part], figures[part](), rows) for part in parts)


class NoDoubt(nn.Module):
    """Whether a recording is foreign, no, its bias, 0, and its factor, 1, of a model of K classes without doubt."""

    def __init__(self, count: int):
        super().__init__()
        (self.bias,) = constants(np.zeros(count))

    def forward(self, frames: Tensor, speech: Tensor, density: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return rows < 0, self.bias, torch.ones_like(rows)


class Doubted(nn.Module):
    """Whether a recording is foreign, its bias ``(K,)`` and its factor; see ``dnf.decisions.doubt``."""

    def __init__(self, doubt: Doubt, channel: ChannelModel, count: int):
        super().__init__()
        self.doubt, bins = doubt, len(channel.frequencies)
        self.means, self.scale, self.precision, self.cosines = constants(
            channel.profiles, channel.scale, channel.precision, dct(np.eye(bins), norm="ortho", axis=-1)
        )
        bias = doubt.bias or ChannelBias(np.zeros(1), np.ones(1), np.zeros((1, 1)), np.zeros((1, count)))
        self.home, self.unit, self.copies, self.weights = constants(bias.home, bias.scale, bias.copies, bias.weights)

    def forward(self, frames: Tensor, speech: Tensor, density: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of frames ``(N, F)``, indices ``(S,)`` of speech frames, mean log p(x), nats, and number of vectors."""
        profile = self.profile(frames.double(), speech)
        rest = (profile - self.means) / self.scale
        distance = ((rest @ self.precision * rest).sum(1) / rest.shape[1]).sqrt().amin(0)
        mean, deviation = self.doubt.channel
        unusual = scaled(self.doubt.density, density, rows)
        foreign = (distance - mean) / deviation + unusual.abs() > self.doubt.limit
        gaps = ((profile[-len(self.home) :] - self.home) / self.unit - self.copies).square().sum(1)
        bias = (-GAMMA * gaps).exp() @ self.weights
        return foreign, torch.where(foreign, bias, 0.0), torch.where(foreign, self.doubt.foreign, 1.0)

    def profile(self, frames: Tensor, speech: Tensor) -> Tensor:
        """The profile ``(P,)`` of ``dnf.scoring.channel_statistics``."""
        heard, count = frames[speech], torch.ones_like(frames[:, 0]).sum()
        spoken = torch.ones_like(heard[:, 0]).sum().clamp(min=1)
        spectrum = heard.sum(0) / spoken
        step = ((frames - LOWEST) / STEP).clamp(0, STEPS - 1).floor().sort(0).values
        of_floor = torch.ones_like(step[:, :1]).cumsum(0) == (FLOOR * count).ceil()
        changes = (frames[1:] - frames[:-1]).square().sum(0) / (count - 1).clamp(min=1)
        slopes = frames[LAG:] - frames[:-LAG]
        rises, falls = (TINY + part.square().sum(0) for part in (slopes.clamp(min=0), slopes.clamp(max=0)))
        parts = {
            "spectrum": spectrum,
            "spread": (heard.square().sum(0) / spoken - spectrum.square()).clamp(min=0).sqrt(),
            "floor": LOWEST + STEP * ((step * of_floor).sum(0) + 0.5) - spectrum,
            "dynamics": changes.sqrt(),
            "decay": (falls / rises).log() / 2,
        }
        return torch.cat([parts[name] @ self.cosines[:, :kept] for name, kept in PROFILE.items()])


class RecordingGraph(nn.Module):
    """Samples ``(T,)`` float32 in -1..1, at the model's rate, to the values of ``outputs``, in their order.

    Args:
        system: a model with a calibration and an open-set score.

    Attributes:
        outputs: ``OUTPUTS``, and ``SCORE_OUTPUTS`` if the model predicts expert scores.
    """

    def __init__(self, system: Model):
        super().__init__()
        config = self.config = system.trained.config
        self.frames, self.speech, self.model = Frames(config), Speech(config), system.trained.model
        self.centring = Centring(system.correction) if system.correction else nn.Identity()
        has_doubt = system.doubt is not None and system.channel is not None
        count = len(system.trained.classes)
        self.doubted = Doubted(system.doubt, system.channel, count) if has_doubt else NoDoubt(count)
        self.calibrated, self.open_set = Calibrated(system.calibration), OpenSetScore(system.open_set)
        priors = prior_of(system.trained.classes, system.config.calibrate.priors)
        (self.log_prior,) = constants(np.log(priors))
        self.scores, self.outputs = None, OUTPUTS
        if system.assessments:
            reference = system.trained.classes.index(system.reference)
            self.scores, self.outputs = Scores(system.assessments, config, reference), OUTPUTS | SCORE_OUTPUTS
        self.window = torch.arange(-config.splice.left, config.splice.right + 1)

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        frames, energy = self.frames(samples)
        sounds = (samples.abs().sum() > 0) & (torch.ones_like(samples).sum() >= self.frames.length)
        spoken = self.speech(energy) & sounds
        speech = torch.nonzero(spoken)[:, 0]
        centres = speech[:: self.config.splice.hop]
        z, logdet = self.model(self.vectors(frames, speech, centres))
        z = self.centring(z)
        logp, logdet = self.model.prior.of_all(z).double(), logdet.double()
        loglik = logp + logdet[:, None]
        mixture = (logp - logp.log_softmax(1))[:, 0] - math.log(logp.shape[1])  # PyTorch cannot export logsumexp here
        rows = torch.ones_like(centres).sum().double()
        means = [of.sum(0) / rows for of in (loglik, logp, mixture, logdet, z.double())]  # NaN without vectors
        foreign, bias, factor = self.doubted(frames, speech, means[2] + means[3], rows)
        calibrated, score = factor * self.calibrated(means[0] - bias, rows), self.open_set(*means[1:], rows)
        outputs = (
            means[0].float(),
            calibrated.float(),
            (calibrated + self.log_prior).softmax(0).float(),
            score.float(),
            score > self.open_set.model.threshold,
            foreign,
            bias.float(),
            factor.float(),
            torch.ones_like(speech).sum(),
            centres,
            loglik.float(),
        )
        if self.scores is None:
            return outputs
        latents = torch.cat([means[4], self.model.prior.squashed(z).double().sum(0) / rows])
        return outputs + self.scores(samples, frames, spoken, latents, means[0], rows)

    def vectors(self, frames: Tensor, speech: Tensor, centres: Tensor) -> Tensor:
        """Vectors ``(N, D)`` about the centres, normalized over the speech frames."""
        if self.config.cmvn.scope != "none":
            spoken = frames[speech].double()
            count = torch.ones_like(spoken[:, :1]).sum(0)
            stats = torch.stack([torch.cat([spoken.sum(0), count]), torch.cat([spoken.square().sum(0), 0 * count])])
            mean, scale = mean_and_scale(stats[None], variance=self.config.cmvn.variance)
            frames = (frames - mean) * scale
        return frames[(centres[:, None] + self.window).clamp(0, frames.shape[0] - 1)].flatten(1)


def scaled(scale: Scale, value: Tensor, rows: Tensor) -> Tensor:
    """A figure of ``rows`` vectors in standard deviations."""
    return (value - scale.mean) / (scale.base + scale.per_frame / rows).sqrt()
