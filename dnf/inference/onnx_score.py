"""The predicted expert scores of a recording in the graph of ``dnf.inference.onnx_graph``.

The measures of ``dnf.features.timing`` and the regressions of ``dnf.decisions.assess`` in PyTorch operations that ONNX has;
``tests/inference/test_onnx_score.py`` compares both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn

from dnf.decisions.assess import COVERAGE, NEAR, PARTS, Assessment, Regression
from dnf.experiment.config import Config
from dnf.features.timing import CEPSTRA, COLUMNS, LAGS, LEAST_PAUSE, PROMINENCE, SMOOTH
from dnf.inference.predicted_score import LONGEST
from dnf.metrics.figures import FUSED

SCORE_OUTPUTS = {  # name: what it is, for the card
    "scores": "(S,) predicted expert scores, in the order of 'scores' of this card; NaN for more than 60 s",
    "score_intervals": "(S, 2) ends of their 80 % intervals",
    "score_parts": "(2,) points by which timing and sound raise the first of them above the mean of the fitted utterances",
}


def constants(*arrays: np.ndarray | list[float]) -> list[Tensor]:
    """The arrays as float64 tensors."""
    return [torch.as_tensor(np.asarray(array), dtype=torch.float64) for array in arrays]


class Timing(nn.Module):
    """Frames ``(N, F)`` and speech marks ``(N,)`` to ``dnf.features.timing.measures``, as one tensor."""

    def __init__(self, config: Config):
        super().__init__()
        self.shift = config.features.frame_shift
        self.width = max(1, round(SMOOTH / self.shift))
        # in frames, since the exporter rounds seconds to float32
        self.least_pause = int(np.argmax(np.arange(LONGEST / self.shift) * self.shift >= LEAST_PAUSE))
        self.steps = [max(1, round(lag / self.shift)) for lag in LAGS]
        self.levels = math.ceil(math.log2(LONGEST / self.shift))  # of the search for a higher value
        cosines = dct(np.eye(config.features.num_filters), axis=1, norm="ortho")[:, 1 : 1 + CEPSTRA]
        self.cosines = torch.as_tensor(cosines)

    def forward(self, frames: Tensor, spoken: Tensor) -> Tensor:
        frames, count = frames.double(), torch.ones_like(spoken).sum().double()
        duration, speech = count * self.shift, spoken.sum().clamp(min=1).double() * self.shift
        places = torch.nonzero(spoken)[:, 0]
        gaps = places[1:] - places[:-1] - 1
        silent = gaps >= self.least_pause
        pauses = silent.sum()
        nuclei = self.peaks(frames.mean(1), spoken)
        mean = (gaps * silent).sum().double() * self.shift / pauses.clamp(min=1)
        figures = (duration.log(), speech.log(), speech / duration, pauses, mean, nuclei / duration, nuclei / speech)
        return torch.cat(
            [torch.stack([figure.double() for figure in figures]), self.tempo(frames @ self.cosines, spoken)]
        )

    def peaks(self, loudness: Tensor, spoken: Tensor) -> Tensor:
        """Number of peaks within speech, of loudness ``(N,)``."""
        count = loudness.shape[0]
        place = torch.arange(count)[:, None] + torch.arange(self.width) - self.width // 2
        smooth = loudness[place.clamp(0, count - 1)].mean(1)
        changes = torch.cat([torch.ones_like(spoken[:1]), smooth[1:] != smooth[:-1]])
        first = torch.nonzero(changes)[:, 0]  # of each run of equal values, whose middle is the place of a peak
        last = torch.cat([first[1:], torch.ones_like(first[:1]) * count]) - 1
        values = smooth[first]
        base = torch.maximum(self.lowest(values), self.lowest(values.flip(0)).flip(0))
        return ((values - base >= PROMINENCE) & spoken[(first + last) // 2]).sum()

    def lowest(self, values: Tensor) -> Tensor:
        """Lowest of each value ``(M,)`` and those before it, back to the last higher one.

        Runs of 2^k values are passed, the longest first, if none of them is higher.
        """
        place, runs = torch.arange(values.shape[0]), [(values, values)]
        for level in range(self.levels - 1):  # highest and lowest of the run of 2^k values that ends at each place
            highest, lowest = runs[-1]
            before = (place - 2**level).clamp(min=0)
            runs.append((torch.maximum(highest, highest[before]), torch.minimum(lowest, lowest[before])))
        at, found = place - 1, values
        for level in reversed(range(self.levels)):
            highest, lowest = runs[level]
            passes = (at >= 2**level - 1) & (highest[at.clamp(min=0)] <= values)
            found = torch.where(passes, torch.minimum(found, lowest[at.clamp(min=0)]), found)
            at = torch.where(passes, at - 2**level, at)
        return found

    def tempo(self, cepstra: Tensor, spoken: Tensor) -> Tensor:
        """Autocorrelation ``(L,)`` of cepstra ``(N, C)`` from the first to the last speech frame."""
        count = cepstra.shape[0]
        place = torch.arange(count)
        first, last = torch.where(spoken, place, count).amin(0), torch.where(spoken, place, -1).amax(0)
        inside = ((place >= first) & (place <= last))[:, None]
        total = inside.sum().clamp(min=1)
        part = (cepstra - (cepstra * inside).sum(0) / total) * inside
        part = part / ((part.square().sum(0) / total).sqrt() + 1e-3)
        found = []
        for step in self.steps:
            ahead = part[(place + step).clamp(max=count - 1)] * (place + step < count)[:, None]
            found.append((ahead * part).sum() / ((total - step).clamp(min=1) * part.shape[1]))
        return torch.stack(found)


class Predictor(nn.Module):
    """Columns ``(F,)`` of a predictor to its score, by a ``Regression``."""

    def __init__(self, model: Regression):
        super().__init__()
        self.has_kernel = bool(len(model.support))
        self.mean, self.scale, self.support, self.weights = constants(
            model.mean, model.scale, model.support, model.weights
        )
        self.intercept, self.gamma, self.centre, self.deviation = model.numbers.tolist()

    def forward(self, columns: Tensor) -> Tensor:
        x = (columns - self.mean) / self.scale
        values = (-self.gamma * (self.support - x).square().sum(1)).exp() if self.has_kernel else x
        return self.centre + self.deviation * (values @ self.weights + self.intercept)


class Score(nn.Module):
    """Columns of all predictors to a score, the ends of its interval, and the parts of timing and sound; an ``Assessment``."""

    def __init__(self, fit: Assessment):
        super().__init__()
        self.predictors = nn.ModuleDict({name: Predictor(model) for name, model in fit.models.items()})
        self.fit = fit
        self.means = {name: float(fit.left_out[name].mean()) for name in fit.models}
        self.fitted, self.errors = constants(fit.left_out[FUSED], fit.errors)
        self.near = math.ceil(NEAR * len(fit.errors))
        self.rank = min(self.near, math.ceil(COVERAGE * (self.near + 1))) - 1

    def forward(self, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        weights, scale = self.fit.weights, self.fit.scale
        found = {name: model(columns[name]).clamp(*scale) for name, model in self.predictors.items()}
        fused = sum(weights[name] * value for name, value in found.items()) + self.fit.intercept
        score = fused.clamp(*scale)
        nearest = (self.fitted - score).abs().sort(0).indices[: self.near]
        width = self.errors[nearest].sort(0).values[self.rank]
        parts = [
            sum((weights[n] * (found[n] - self.means[n]) for n in names if n in found), torch.zeros_like(score))
            for names in PARTS.values()
        ]
        return score, torch.stack([score - width, score + width]).clamp(*scale), torch.stack(parts)


class Scores(nn.Module):
    """The values of ``SCORE_OUTPUTS`` of a recording.

    Args:
        fits: of the scores, by name, the main one first.
        config: settings of the model.
        reference: class of the log-likelihood ratio.
    """

    def __init__(self, fits: Mapping[str, Assessment], config: Config, reference: int):
        super().__init__()
        self.timing = Timing(config)
        self.scores = nn.ModuleList(map(Score, fits.values()))
        self.reference, self.longest = reference, LONGEST * config.features.sampling_rate

    def forward(
        self, samples: Tensor, frames: Tensor, spoken: Tensor, latents: Tensor, loglik: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of samples ``(T,)``, frames ``(N, F)``, speech marks ``(N,)``, mean latents ``(2 D,)``, mean log-likelihoods ``(K,)``."""
        measures = self.timing(frames, spoken)
        columns = {name: measures[places] for name, places in COLUMNS.items()} | {"latents": latents}
        columns["llr"] = ratio(loglik * rows, self.reference) / rows
        found = zip(*(score(columns) for score in self.scores))
        scores, intervals, parts = map(torch.stack, found)
        unknown = torch.where(torch.ones_like(samples).sum() > self.longest, math.nan, 0.0) + 0 * latents.sum()
        return (scores + unknown).float(), (intervals + unknown).float(), (parts[0] + unknown).float()


def ratio(sums: Tensor, reference: int) -> Tensor:
    """``dnf.decisions.evidence.ratio_to_others`` as a tensor ``(1,)``."""
    others = torch.cat([sums[:reference], sums[reference + 1 :]])
    highest = others.amax(0)
    return (sums[reference] - highest - ((others - highest).exp().mean()).log())[None]
