"""Compare the channel of a recording with those of training: long-term spectrum, band, level and noise.

    python3 -m dnf.scoring.channel_mismatch exp/frames exp/dnf120     (stage latents does this)

Fits the mean of the statistics of each training set's utterances, and one covariance within the sets (Ledoit-Wolf), and
writes ``exp/dnf120/channel.json``. A recording is unlike training if its Mahalanobis distance to the nearest set is
above the 99 % quantile of the training utterances' distances (each from a fit without its speaker), or if a statistic is
well outside the range of the training utterances. Warnings name these statistics.

All statistics are of log-mel frames before normalization, natural logarithms of power; 1 neper of power is 4.34 dB.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.files import replace_file
from dnf.experiment.layout import BEST_PT, CHANNEL_JSON
from dnf.features.extractor import make_extractor
from dnf.features.frame_store import FrameStore
from dnf.features.rows import evenly_spaced

log = logging.getLogger(__name__)

DB = 10 / math.log(10)  # decibels of a natural logarithm of power
QUANTILE = 0.99  # quantile of the training utterances' distances; a recording beyond it is unlike them
TAIL = 0.005  # share of the training utterances beyond a statistic's range, on each side
MOST = 2000  # most utterances of each set
GRID = np.arange(-10.0, 40.0, 0.05)  # frame levels, for their quantiles
LOST = 10 / DB  # the band is cut if the outermost bin is 10 dB below the range of training ...
EDGE = 6 / DB  # ... and its edge is the first bin within 6 dB of the mean of training
STEEP = 18 / DB  # per octave: a cut is steeper than that; else it is tilt
GAP = 3 / DB  # a statistic is unusual 3 dB outside the range of training; tilt: 1 dB per octave
FOLDS = 5  # folds of speakers
SCALARS = ("level", "range", "tilt")
NAMES = {
    "level": ("level", "quieter", "louder"),
    "range": ("range from noise floor to speech", "smaller (noise or reverberation)", "larger"),
    "tilt": ("spectral tilt per octave", "steeper (dull)", "flatter (bright)"),
}


def statistics(blocks: Iterable[tuple[np.ndarray, np.ndarray]], frequencies: np.ndarray) -> np.ndarray:
    """The statistics of the channel of one recording, ``(F + 3,)``.

    Args:
        blocks: log-mel frames ``(n, F)`` and speech marks ``(n,)`` of all blocks of the recording.
        frequencies: ``(F,)`` centres of the bins, Hz.

    Returns:
        The mean spectrum of the speech frames minus the mean of its lower half, then the level, the range
        (95 % minus 5 % quantile of the levels of all frames) and the tilt, nepers per octave.
    """
    dim = len(frequencies)
    total, spoken, levels = np.zeros(dim), 0, np.zeros(len(GRID) + 1)
    for frames, speech in blocks:
        frames = frames.astype(np.float64)
        total, spoken = total + frames[speech].sum(0), spoken + int(speech.sum())
        levels += np.bincount(np.searchsorted(GRID, frames.mean(1)), minlength=len(levels))
    spectrum = total / max(1, spoken)
    shares = levels.cumsum() / max(1.0, levels.sum())
    low, high = (GRID[min(np.searchsorted(shares, q), len(GRID) - 1)] for q in (0.05, 0.95))
    octaves = np.log2(frequencies)
    tilt = np.polyfit(octaves, spectrum, 1)[0]
    reference = spectrum[: max(1, dim // 2)].mean()
    return np.concatenate([spectrum - reference, [reference, high - low, tilt]])


@dataclass(frozen=True)
class Mismatch:
    """A recording's channel against those of training.

    Attributes:
        distance: Mahalanobis distance to the nearest set.
        limit: distance at QUANTILE of the training utterances.
        set: the nearest set.
        unlike: the differences from training, in words.
    """

    distance: float
    limit: float
    set: str
    unlike: list[str]


@dataclass(frozen=True)
class ChannelModel:
    """The channels of training.

    Attributes:
        frequencies: ``(F,)`` centres of the bins, Hz.
        sets: names of the training sets.
        means: ``(sets, F + 3)``.
        precision: ``(F + 3, F + 3)`` inverse of the covariance within the sets.
        low, high: ``(F + 3,)`` range of the training utterances without the share TAIL on each side.
        limit: QUANTILE of the distances of training utterances, each from a fit without its speaker.
        utterances: number of training utterances.
    """

    frequencies: list[float]
    sets: list[str]
    means: list[list[float]]
    precision: list[list[float]]
    low: list[float]
    high: list[float]
    limit: float
    utterances: int

    @classmethod
    def fit(cls, vectors: np.ndarray, of_set: list[str], speakers: list[str], frequencies: np.ndarray) -> ChannelModel:
        """Fit ``(U, F + 3)`` statistics of utterances with the set and the speaker of each."""
        sets, held_out = sorted(set(of_set)), []
        names, set_of = sorted(set(speakers)), np.array(of_set)
        part = np.array([names.index(s) % FOLDS for s in speakers])
        for fold in range(FOLDS):
            rest = part != fold
            if set(set_of[rest]) == set(sets) and not rest.all():
                held_out.append(distances(vectors[~rest], *gaussian(vectors[rest], set_of[rest], sets)).min(1))
        means, precision = gaussian(vectors, set_of, sets)
        if not held_out:  # one speaker per set: no fit without the speaker
            held_out.append(distances(vectors, means, precision).min(1))
        low, high = np.quantile(vectors, [TAIL, 1 - TAIL], axis=0)
        limit = float(np.quantile(np.concatenate(held_out), QUANTILE))
        arrays = (array.tolist() for array in (means, precision, low, high))
        return cls(frequencies.tolist(), sets, *arrays, limit, len(vectors))

    def compare(self, vector: np.ndarray) -> Mismatch:
        """Compare the statistics ``(F + 3,)`` of a recording with training."""
        gaps = distances(vector[None], np.array(self.means), np.array(self.precision))[0]
        nearest, distance = self.sets[int(gaps.argmin())], float(gaps.min())
        unlike = self.named(vector, np.array(self.means)[gaps.argmin()])
        if distance > self.limit and not unlike:
            unlike = ["different shape of the long-term spectrum"]
        return Mismatch(distance, self.limit, nearest, unlike)

    def named(self, vector: np.ndarray, mean: np.ndarray) -> list[str]:
        """Statistics outside the range of training, in words; ``mean`` is that of the nearest set."""
        dim, low, high = len(self.frequencies), np.array(self.low), np.array(self.high)
        lost, below, unlike = vector[:dim] < low[:dim] - LOST, vector[:dim] < mean[:dim] - EDGE, []
        gap, octaves = vector[:dim] - mean[:dim], np.log2(self.frequencies)
        if lost[-1] and below[-1] and not below.all() and steep(gap[::-1], -octaves[::-1], run(below[::-1])):
            unlike.append(f"band limited to about {self.frequencies[dim - 1 - run(below[::-1])] / 1000:.1f} kHz")
        if lost[0] and below[0] and not below.all() and steep(gap, octaves, run(below)):
            unlike.append(f"no signal below about {self.frequencies[run(below)]:.0f} Hz")
        for i, name in enumerate(SCALARS, dim):
            if name == "tilt" and unlike:  # follows from the missing band
                continue
            gap = min(0.0, vector[i] - low[i]) + max(0.0, vector[i] - high[i])
            if abs(gap) > (GAP if name != "tilt" else GAP / 3):
                title, less, more = NAMES[name]
                unlike.append(f"{title} {abs(gap) * DB:.1f} dB {less if gap < 0 else more} than in training")
        return unlike

    def save(self, path: Path) -> None:
        replace_file(path, (json.dumps(asdict(self)) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> ChannelModel:
        """Read a file that ``save`` wrote.

        Raises:
            ValueError: the file does not have the channels of training.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, json.JSONDecodeError):
            raise ValueError(f"{path}: not a channel file; delete it to compute it again") from None


def gaussian(vectors: np.ndarray, of_set: np.ndarray, sets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each set and the inverse covariance within them."""
    from sklearn.covariance import LedoitWolf  # slow to import, and only a fit needs it

    means = np.stack([vectors[of_set == name].mean(0) for name in sets])
    rest = vectors - means[[sets.index(name) for name in of_set]]
    # Shrinkage assumes equal variances, so all statistics are scaled to unit variance.
    scale = rest.std(0) + 1e-3
    precision = LedoitWolf(assume_centered=True).fit(rest / scale).precision_
    return means, precision / np.outer(scale, scale)


def distances(vectors: np.ndarray, means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mahalanobis distances ``(U, sets)``."""
    gaps = vectors[:, None] - means
    return np.sqrt(np.maximum(0, np.einsum("usi,ij,usj->us", gaps, precision, gaps)))


def steep(gap: np.ndarray, octaves: np.ndarray, edge: int) -> bool:
    """Whether a spectrum falls beyond bin ``edge`` as steeply as a filter of several poles, not like a tilt.

    Args:
        gap: ``(F,)`` nepers above the mean of training, the outermost bin first.
        octaves: ``(F,)`` ascending.
        edge: the first bin inside the band.
    """
    reach = octaves[edge] - octaves[:edge]
    outer = np.flatnonzero(reach >= 1 / 3).max(initial=0)
    return bool((gap[edge] - gap[outer]) / reach[outer] > STEEP)


def run(marks: np.ndarray) -> int:
    """Number of marks before the first false one."""
    return len(marks) if marks.all() else int(marks.argmin())


def store_vectors(store: FrameStore, classes: list[str], frequencies: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Statistics and speaker of evenly spaced utterances of known classes of a training set."""
    known = [u for u, name in enumerate(store.classes) if name in classes]
    for i in evenly_spaced(len(known), MOST).tolist():
        u = known[i]
        first, last = store.offsets[u].item(), store.offsets[u + 1].item()
        speech = np.zeros(last - first, bool)
        speech[store.centres[store.spoken[u] : store.spoken[u + 1]].numpy() - first] = True
        if speech.any():
            yield statistics([(store.frames[first:last].numpy(), speech)], frequencies), store.speakers[u]


def fit_experiment(frames: Path, config: Config, classes: list[str]) -> ChannelModel:
    """The channels of an experiment's training sets, from their frame stores below ``frames``."""
    frequencies, vectors, of_set, speakers = make_extractor(config.features).frequencies, [], [], []
    for name in config.data.train:
        for vector, speaker in store_vectors(FrameStore(frames / name), classes, frequencies):
            vectors.append(vector)
            of_set.append(name)
            speakers.append(speaker)
    return ChannelModel.fit(np.stack(vectors), of_set, speakers, frequencies)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("frames", type=Path, help="folder of the frame stores")
    parser.add_argument("exp", type=Path, help="folder of the experiment, with best.pt; gets channel.json")
    args = parser.parse_args(argv)
    from dnf.models.checkpoint import load_model

    trained = load_model(args.exp / BEST_PT)
    model = fit_experiment(args.frames, trained.config, trained.classes)
    model.save(args.exp / CHANNEL_JSON)
    log.info("%s: %d utterances of %s", args.exp / CHANNEL_JSON, model.utterances, ", ".join(model.sets))
    return 0


if __name__ == "__main__":
    entry.run(main)
