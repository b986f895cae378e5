"""Channel augmentation: training windows as if from another room, microphone and line.

It works on log-mel frames (natural log of power) while a batch is gathered from the frame store, so nothing is
recorded, computed or stored twice. The parts of the channel are applied in the order of the sound's path:

    room         reverberation, then background noise
    microphone   equalization (EQ) and tilt over the mel bins
    line         a band limit; the lost bins get a floor of line noise

**Order with CMVN.** Augmentation acts on raw frames before CMVN, since noise and floors have levels. CMVN then
subtracts the mean of the *augmented* utterance: a few speech frames of the utterance, the probes, go through
the same channel, and the stored mean moves by their mean change (the standard deviation by the ratio of theirs). A
change that is the same for all frames, such as EQ and tilt, is then removed exactly, as CMVN does with a real
microphone; noise, floors and reverberation are not. With ``augment.renormalize: false`` the stored statistics stay
those of the clean utterance, and EQ and tilt stay in the vectors as offsets that a model has to learn to ignore.
With ``cmvn.scope: none`` they stay in any case.

**Draws** are made for each window, not for each utterance: the loss is a sum over windows and compares none with
another, so one channel for all windows of an utterance would only reduce the number of channels in a batch.
They depend only on (seed, step, row of the training vectors): a batch is the same for any division into
micro-batches or processes, and an interrupted run continues with the same draws. No generator has a
state to save.

**Why not the wave.** Lhotse perturbs waves (``Cut.perturb_volume``, ``.reverb_rir``, ``CutSet.mix`` with noise,
``.compress``, ``.narrowband``). New draws every epoch would need the wave read, changed and turned into features for
each of some millions of windows; a frame store mapped from disk holds one version. Copies made beforehand are
possible with Lhotse in stage data of a recipe, and are sets like any other; here each window gets a new channel each
time it is drawn, for a tenth (EQ) to two thirds (noise, band limits) of the processor time of a small training step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnf.experiment.settings import Augment
from dnf.features.draws import GOLDEN, between, mix, normal, uniform

NEPERS = math.log(10) / 10  # nats of power in a dB
PROBES = 20  # speech frames that represent an utterance
STRIDE = 3  # frames of a probe's tail that one frame represents
EQ_ORDERS = 6  # cosines of an EQ curve: half a period to three over the mel bins
DIRECT_TO_REVERBERANT = (0.0, 15.0)  # dB
HISTORY_DECAY = 20.0  # dB by which the tail has decayed where the frames before a window are left out
NOISE_TILT, NOISE_EQ = 12.0, 4.0  # dB, standard deviations of the colour of noise
STOP_BAND, EDGE = 60.0, 3.0  # dB of a band limit, and mel bins over which it is reached
LINE_FLOOR = (35.0, 60.0)  # dB of line noise below the mean level of the utterance
# nats, lowest and highest bin: deviation of the log power of white noise from frame to frame
FLUCTUATION = (0.93, 0.32)


def window_keys(rows: Tensor, seed: int, step: int) -> Tensor:
    """Key ``(N,)`` int64 of each training vector ``rows`` ``(N,)`` in a step."""
    of_step = mix(mix(torch.tensor([seed])) + torch.tensor([step]) * GOLDEN).to(rows.device)
    return mix(of_step + rows * GOLDEN)


def eq_curve(draws: Tensor, decibels: float, bins: int) -> Tensor:
    """Smooth curves over mel bins ``(N, F)``, nats, from normal draws ``(N, EQ_ORDERS)``.

    Each is a sum of cosines (DCT-II, orders 1 up: no overall gain) whose deviation over bins and draws is ``decibels``.
    """
    places = (torch.arange(bins, device=draws.device) + 0.5) / bins
    orders = torch.arange(1, draws.shape[1] + 1, device=draws.device)
    waves = torch.cos(math.pi * orders[:, None] * places)
    return draws @ waves * (decibels * NEPERS * math.sqrt(2 / draws.shape[1]))


def tilt_curve(draws: Tensor, decibels: float, bins: int) -> Tensor:
    """Straight lines over mel bins ``(N, F)``, nats, 0 in the middle, from normal draws ``(N, 1)``.

    ``decibels`` is the deviation of the step from the lowest bin to the highest, which are some five octaves apart.
    """
    return draws * torch.linspace(-0.5, 0.5, bins, device=draws.device) * (decibels * NEPERS)


def band_curve(draws: Tensor, share: float, bins: int) -> Tensor:
    """Attenuation of band limits ``(N, F)``, nats, at most 0, from uniform draws ``(N, 2)``.

    Up to ``share`` of the bins is lost at the lower end and up to ``share`` at the upper, along half a cosine.
    """
    low, high = (draws[:, :1] * share * bins, draws[:, 1:] * share * bins)
    place = torch.arange(bins, device=draws.device) + 0.5
    outside = torch.maximum(low - place, high - (bins - place)) / EDGE
    return -STOP_BAND * NEPERS * 0.5 * (1 - torch.cos(math.pi * outside.clamp(0, 1)))


def reverberate(frames: Tensor, decay: Tensor, tail: Tensor) -> Tensor:
    """Frames ``(N, T, F)`` with an exponential tail of the frames before each.

    The energy in each mel bin is that of the frame plus what is left of the earlier ones. It approximates diffuse
    reverberation whose time is longer than a frame: energies add, so phases and the comb of early reflections (which
    EQ stands for) are left out, and so is the dependence of the decay on frequency.

    Args:
        decay: ``(N, 1)``, share of the energy left after each frame, below 1.
        tail: ``(N, 1)``, energy of the whole tail of a steady sound as a share of the direct sound.
    """
    lags = torch.arange(frames.shape[1], device=frames.device)
    lags = lags[:, None] - lags
    weights = (tail * (1 - decay) / decay)[:, :, None] * decay[:, :, None] ** lags.clamp(min=0)
    weights = torch.where(lags > 0, weights, (lags == 0).float())
    highest = frames.amax((1, 2), keepdim=True)
    return highest + torch.log((weights @ torch.exp(frames - highest)).clamp(min=1e-37))


def tails(probes: Tensor, decay: Tensor, tail: Tensor) -> Tensor:
    """``reverberate`` for single frames ``(N, P, F)``.

    Args:
        probes: ``(N, P, L, F)``, the frames and those ``Augmenter.lags`` before each.
        decay, tail: as for ``reverberate``.
    """
    after = torch.arange(probes.shape[2] - 1, device=probes.device) * STRIDE
    weights = tail * (1 - decay**STRIDE) * decay**after
    weights = torch.cat([torch.ones_like(tail), weights], 1).log().clamp(min=-80)
    return torch.logsumexp(probes + weights[:, None, :, None], 2)


def add_floor(frames: Tensor, floor: Tensor, wobble: Tensor) -> Tensor:
    """Frames ``(N, T, F)`` with steady noise of mean log power ``floor`` ``(N, F)``, nats.

    ``wobble`` ``(N, T, F)`` are standard normal draws. Without them bins below the floor would be constants, on which
    the density of a flow has no bound.
    """
    deviation = torch.linspace(*FLUCTUATION, frames.shape[2], device=frames.device)
    return torch.logaddexp(frames, floor[:, None] + deviation * wobble)


def mean_power(frames: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Log of the mean over ``dims`` of the power of log-mel frames, nats."""
    return torch.logsumexp(frames, dims) - math.log(math.prod(frames.shape[dim] for dim in dims))


class Augmenter:
    """The channels of one step of training; ``Windows.gather`` passes its frames through them.

    Args:
        settings: ``augment``.
        seed, step: of training.
        frame_shift: seconds.

    Attributes:
        history: frames before a window that reverberation needs.
        probes: number of speech frames of the utterance that a window needs.
        lags: ``(L,)``, distance in frames of a probe and of the earlier frames that come with it.
    """

    probes = PROBES

    def __init__(self, settings: Augment, seed: int, step: int, frame_shift: float):
        self.settings, self.seed, self.step, self.frame_shift = settings, seed, step, frame_shift
        self.history = math.ceil(settings.reverb * HISTORY_DECAY / 60 / frame_shift)
        self.lags = torch.cat(
            [torch.zeros(1, dtype=torch.long), torch.arange((STRIDE + 1) // 2, max(self.history, 1) + 1, STRIDE)]
        )

    def __call__(self, rows: Tensor, frames: Tensor, probes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows and how the statistics of their utterances move.

        Args:
            rows: ``(N,)``, which training vectors they are.
            frames: ``(N, history + T, F)`` log-mel frames.
            probes: ``(N, P, L, F)`` speech frames of the utterance of each window, and those at ``lags`` before each.

        Returns:
            ``(N, T, F)`` frames; ``(N, F)`` change of the mean of each one's utterance; ``(N, F)`` ratio of its
            deviation to that before.
        """
        keys = window_keys(rows, self.seed, self.step).to(frames.device)
        chosen = uniform(keys, 0, 1) < self.settings.probability
        clean = frames[:, self.history :]
        changed, probed = self.pass_through(keys, frames, probes)
        probes = probes[:, :, 0]
        changed = torch.where(chosen[:, :, None], changed, clean)
        if not self.settings.renormalize:
            return changed, torch.zeros_like(probes[:, 0]), torch.ones_like(probes[:, 0])
        shift = torch.where(chosen, (probed - probes).mean(1), 0.0)
        before, after = (x.var(1, unbiased=False).clamp(min=1e-4) for x in (probes, probed))
        return changed, shift, torch.where(chosen, (after / before).sqrt(), 1.0)

    def pass_through(self, keys: Tensor, frames: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """Frames, without those before the window, and probes, with a separate channel for each window."""
        settings, bins = self.settings, frames.shape[2]
        level = mean_power(probes[:, :, 0], (1, 2))[:, None]
        if settings.reverb:
            decay = torch.exp(-60 * NEPERS * self.frame_shift / (settings.reverb * uniform(keys, 1, 1)))
            decay = decay.clamp(min=1e-6)
            tail = torch.exp(-NEPERS * between(keys, 2, *DIRECT_TO_REVERBERANT))
            frames = reverberate(frames, decay, tail)
            probes = tails(probes, decay, tail)
        else:
            probes = probes[:, :, 0]
        frames = frames[:, self.history :]
        both = torch.cat([frames, probes], 1)
        if settings.noise:
            colour = tilt_curve(normal(keys, 4, 1), NOISE_TILT, bins) + eq_curve(
                normal(keys, 5, EQ_ORDERS), NOISE_EQ, bins
            )
            loudness = level - NEPERS * between(keys, 3, *settings.noise)
            floor = colour + loudness - mean_power(colour[:, None], (1, 2))[:, None]
            both = add_floor(both, floor, self.wobble(keys, 6, frames.shape[1], bins))
        curve = eq_curve(normal(keys, 7, EQ_ORDERS), settings.eq, bins) + tilt_curve(
            normal(keys, 8, 1), settings.tilt, bins
        )
        if settings.band_limit:
            curve = curve + band_curve(uniform(keys, 9, 2), settings.band_limit, bins)
        both = both + curve[:, None]
        if settings.band_limit:
            floor = (level - NEPERS * between(keys, 10, *LINE_FLOOR)).expand(-1, bins)
            both = add_floor(both, floor, self.wobble(keys, 11, frames.shape[1], bins))
        return both[:, : frames.shape[1]], both[:, frames.shape[1] :]

    @staticmethod
    def wobble(keys: Tensor, stream: int, frames: int, bins: int) -> Tensor:
        """Draws ``(N, T + P, F)`` for the frames of each window and for its probes, of which only the mean counts: all
        windows have the same."""
        of_probes = normal(torch.zeros_like(keys[:1]), stream, PROBES, bins).expand(len(keys), -1, -1)
        return torch.cat([normal(keys, stream, frames, bins), of_probes], 1)
