"""The channels of training: how unlike them is a recording, or a whole set?

A fit has the mean profile (``dnf.scoring.channel_statistics``) of each training set's utterances and one covariance within the
sets (Ledoit-Wolf). Distances are Mahalanobis distances from the nearest set, over the square root of the number of dims, so
that utterances of training have about 1.

A *recording* is unlike training if its distance is above the 99 % quantile of the training utterances' distances (each from a
fit without its speaker), or if a statistic is well outside the range of the training utterances.

A *set* of recordings is foreign if its mean is further from training than the mean of so many speakers can be by chance: its
distance is given in standard errors, from the number of its speakers and of those of training, and the limit is a quantile
of sets of held-out training speakers, or that of chance if it is larger. The mean of many recordings is far off where none of
them is. With many speakers, small differences are significant; they do not make a set foreign. Residuals are cut at three standard
deviations, so that a few odd recordings do not make a set foreign.

Warnings name the statistics that differ.

For a model of vectors, all of this is about its preprocessed vectors in place of profiles.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.experiment.files import replace_file
from dnf.experiment.layout import run_again
from dnf.scoring.channel_statistics import DB, PROFILE, SCALARS, Statistics, profile

QUANTILE = 0.99  # quantile of the training utterances' distances; a recording beyond it is unlike them
TAIL = 0.005  # share of the training utterances beyond a statistic's range, on each side
MOST = 2000  # most utterances of each set
LOST = 10 / DB  # the band is cut if the outermost bin is 10 dB below the range of training ...
EDGE = 6 / DB  # ... and its edge is the first bin within 6 dB of the mean of training
STEEP = 18 / DB  # per octave: a cut is steeper than that; else it is tilt
GAP = 3 / DB  # a statistic is unusual 3 dB outside the range of training; tilt: 1 dB per octave
FOLDS = 5  # folds of speakers
CUT = 3.0  # standard deviations at which residuals are cut for the mean of a set
DRAWS, DRAWN = 40, 20  # sets of held-out training utterances drawn for each fold, and their size
SMALL = 0.4  # a set that is no further from training than this is not foreign, however many its speakers are
OFF = 0.75  # standard deviations of recordings by which a statistic of a set is off
MOST_NAMED = 4  # statistics of a set that are named
NAMES = {
    "level": ("level", "quieter", "louder"),
    "range": ("range from noise floor to speech", "smaller (noise or reverberation)", "larger"),
    "tilt": ("spectral tilt per octave", "steeper (dull)", "flatter (bright)"),
}
OTHERS = {  # statistics of sets that are not in dB: words for less and for more
    "share": ("less of it is speech", "more of it is speech"),
    "duration": ("shorter recordings", "longer recordings"),
    "spread": ("less contrast between frames (noise or reverberation)", "more contrast between frames"),
    "floor": ("lower noise floor", "higher noise floor"),
    "decay": ("slower decay of sounds (reverberation)", "faster decay of sounds"),
    "dynamics": ("slower changes from frame to frame", "faster changes from frame to frame (noise or coding)"),
}


@dataclass(frozen=True)
class Mismatch:
    """A recording's channel against those of training.

    Attributes:
        distance: distance from the nearest set.
        limit: distance at QUANTILE of the training utterances.
        set: the nearest set.
        unlike: the differences from training, in words.
    """

    distance: float
    limit: float
    set: str
    unlike: list[str]


class SetMismatch(NamedTuple):
    """The channels of a set of recordings against those of training.

    Attributes:
        recordings, speakers: their numbers.
        distance: of the mean of the set.
        errors: the distance in standard errors.
        limit: standard errors beyond which a set is foreign.
        unlike: the differences from training, in words.
        remains: whether it is foreign, too, without the mean spectrum, which normalization over utterances or speakers removes.
    """

    recordings: int
    speakers: int
    distance: float
    errors: float
    limit: float
    unlike: list[str]
    remains: bool

    @property
    def is_foreign(self) -> bool:
        return self.errors > self.limit and self.distance > SMALL

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        size = f"{self.recordings} recordings of {self.speakers} speakers"
        if not self.is_foreign:
            return f"like training as a set ({size})"
        return f"foreign: as a set unlike training ({size}): {', '.join(self.unlike)}"


class Fit(NamedTuple):
    """Means ``(sets, P)`` of profiles, their standard deviation ``(P,)`` within sets, and the inverse covariance ``(P, P)`` in
    its unit."""

    means: np.ndarray
    scale: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, profiles: np.ndarray, of_set: np.ndarray, sets: Sequence[str]) -> Fit:
        from sklearn.covariance import LedoitWolf  # slow to import, and only a fit needs it

        means = np.stack([profiles[of_set == name].mean(0) for name in sets])
        rest = profiles - means[[sets.index(name) for name in of_set]]
        # Shrinkage assumes equal variances, so all dims are scaled to unit variance.
        scale = np.maximum(rest.std(0), 1e-6)
        return cls(means, scale, LedoitWolf(assume_centered=True).fit(rest / scale).precision_)

    def from_dim(self, first: int) -> Fit:
        """The fit of the dims from ``first`` on."""
        covariance = np.linalg.inv(self.precision)[first:, first:]
        return Fit(self.means[:, first:], self.scale[first:], np.linalg.inv(covariance))

    def distances(self, profiles: np.ndarray) -> np.ndarray:
        """Distances ``(U, sets)`` of profiles ``(U, P)`` from the means."""
        return np.stack([self.length((profiles - mean) / self.scale) for mean in self.means], 1)

    def length(self, rest: np.ndarray) -> np.ndarray:
        """Mahalanobis length ``(U,)`` of scaled residuals ``(U, P)``, over the root of P."""
        return np.sqrt(np.einsum("up,pq,uq->u", rest, self.precision, rest) / rest.shape[1])

    def residuals(self, profiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest set ``(U,)`` of profiles ``(U, P)``, and the scaled residuals from it, cut at CUT."""
        nearest = self.distances(profiles).argmin(1)
        return nearest, np.clip((profiles - self.means[nearest]) / self.scale, -CUT, CUT)

    def set_distance(
        self, profiles: np.ndarray, speakers: Sequence[str], trained: np.ndarray
    ) -> tuple[float, float, np.ndarray]:
        """Distance of the mean of a set, the same in standard errors, and the nearest set ``(U,)`` of each recording.

        Args:
            profiles: ``(U, P)``.
            speakers: of the U recordings; they have equal weights.
            trained: ``(sets,)`` number of speakers of each training set.
        """
        nearest, rest = self.residuals(profiles)
        names, place, counts = np.unique(speakers, return_inverse=True, return_counts=True)
        mean = (rest / counts[place][:, None]).sum(0) / len(names)
        distance = float(self.length(mean[None])[0])
        return distance, distance / np.sqrt(1 / len(names) + (1 / trained[nearest]).mean()), nearest


@dataclass(frozen=True)
class ChannelModel:
    """The channels of training.

    Attributes:
        frequencies: ``(F,)`` centres of the bins, Hz; empty for vectors.
        sets: names of the training sets.
        speakers: number of speakers of each.
        means: ``(sets, S)`` mean statistics.
        deviations: ``(S,)`` their standard deviations within the sets.
        profiles, scale, precision: what ``Fit`` has, of the profiles.
        low, high: ``(S,)`` range of the training utterances without the share TAIL on each side.
        limit: QUANTILE of the distances of training utterances, each from a fit without its speaker.
        set_limit: standard errors beyond which a set is foreign.
        utterances: number of training utterances.
    """

    frequencies: list[float]
    sets: list[str]
    speakers: list[int]
    means: list[list[float]]
    deviations: list[float]
    profiles: list[list[float]]
    scale: list[float]
    precision: list[list[float]]
    low: list[float]
    high: list[float]
    limit: float
    set_limit: float
    utterances: int

    @classmethod
    def fit(cls, vectors: np.ndarray, of_set: list[str], speakers: list[str], frequencies: np.ndarray) -> ChannelModel:
        """Fit statistics ``(U, S)`` of utterances, or vectors, with the set and the speaker of each."""
        sets, set_of = sorted(set(of_set)), np.array(of_set)
        profiles = profile(vectors) if len(frequencies) else vectors
        fit = Fit.of(profiles, set_of, sets)
        held_out, errors = left_out(profiles, set_of, speakers, sets)
        if not held_out:  # one speaker per set: no fit without the speaker
            held_out, errors = [fit.distances(profiles).min(1)], [1.0]
        means = np.stack([vectors[set_of == name].mean(0) for name in sets])
        deviations = (vectors - means[[sets.index(name) for name in of_set]]).std(0)
        low, high = np.quantile(vectors, [TAIL, 1 - TAIL], axis=0)
        return cls(
            frequencies.tolist(),
            sets,
            speakers_of(set_of, speakers, sets).tolist(),
            means.tolist(),
            deviations.tolist(),
            *(array.tolist() for array in (*fit, low, high)),
            float(np.quantile(np.concatenate(held_out), QUANTILE)),
            max(float(np.quantile(errors, QUANTILE)), by_chance(profiles.shape[1], len(set(speakers)))),
            len(vectors),
        )

    @property
    def fitted(self) -> Fit:
        return Fit(np.array(self.profiles), np.array(self.scale), np.array(self.precision))

    def profiles_of(self, vectors: np.ndarray) -> np.ndarray:
        """The profiles ``(..., P)`` of statistics ``(..., S)``, float64; vectors are their own."""
        vectors = vectors.astype(np.float64)
        return profile(vectors) if self.frequencies else vectors

    @property
    def unnormalized(self) -> int:
        """The first dim of profiles that normalization over utterances or speakers does not remove."""
        return min(PROFILE["spectrum"], len(self.frequencies))

    @property
    def shape(self) -> str:
        """What differs where no statistic that has a name does, in words."""
        return "different shape of the long-term spectrum" if self.frequencies else "different vectors"

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Distance ``(U,)`` of statistics ``(U, S)`` of recordings from the nearest set."""
        fit, parts = self.fitted, np.array_split(vectors, -(-len(vectors) // MOST))
        return np.concatenate([fit.distances(self.profiles_of(part)).min(1) for part in parts])

    def compare(self, vector: np.ndarray) -> Mismatch:
        """Compare the statistics ``(S,)`` of a recording with training."""
        gaps = self.fitted.distances(self.profiles_of(vector)[None])[0]
        nearest, distance = int(gaps.argmin()), float(gaps.min())
        unlike = self.named(vector, np.array(self.means)[nearest])
        if distance > self.limit and not unlike:
            unlike = [self.shape]
        return Mismatch(distance, self.limit, self.sets[nearest], unlike)

    def compare_set(self, vectors: np.ndarray, speakers: Sequence[str]) -> SetMismatch:
        """Compare a set of recordings with training.

        Args:
            vectors: ``(U, S)`` statistics of its recordings.
            speakers: speaker of each; if they are unknown, a name for each recording.
        """
        vectors = vectors.astype(np.float64)
        profiles, trained = self.profiles_of(vectors), np.array(self.speakers)
        distance, errors, nearest = self.fitted.set_distance(profiles, speakers, trained)
        first, dim = self.unnormalized, profiles.shape[1]
        rest = self.fitted.from_dim(first)
        limit = self.set_limit * by_chance(dim - first, trained.sum()) / by_chance(dim, trained.sum())
        of_rest, errors_of_rest, _ = rest.set_distance(profiles[:, first:], speakers, trained)
        remains = bool(errors_of_rest > limit and of_rest > SMALL)
        found = SetMismatch(len(vectors), len(set(speakers)), distance, errors, self.set_limit, [], remains)
        if not found.is_foreign:
            return found
        mean = np.array(self.means)[nearest].mean(0)
        unlike = self.set_named(vectors.mean(0), mean) or [self.shape]
        return found._replace(unlike=unlike)

    def set_named(self, vector: np.ndarray, mean: np.ndarray) -> list[str]:
        """What differs between the mean statistics ``(S,)`` of a set and ``mean`` of training, in words, the largest first."""
        if not self.frequencies:
            return []
        band, tilt = self.band(vector, mean), "tilt"
        gaps, units = (Statistics.of(array) for array in (vector - mean, np.maximum(np.array(self.deviations), 1e-6)))
        found = []
        for name in (*SCALARS, "spread", "floor", "dynamics", "decay"):
            gap, unit = (float(np.mean(getattr(part, name))) for part in (gaps, units))
            if abs(gap) < OFF * unit or (name == tilt and band):
                continue
            if name in NAMES:
                title, less, more = NAMES[name]
                words = f"{title} {abs(gap) * DB:.1f} dB {less if gap < 0 else more}"
            else:
                words = OTHERS[name][gap > 0]
            found.append((abs(gap) / unit, words))
        return (band + [words for _, words in sorted(found, reverse=True)])[:MOST_NAMED]

    def band(self, vector: np.ndarray, mean: np.ndarray) -> list[str]:
        """The missing parts of the band, in words."""
        dim, low = len(self.frequencies), np.array(self.low)
        lost, below, unlike = vector[:dim] < low[:dim] - LOST, vector[:dim] < mean[:dim] - EDGE, []
        gap, octaves = vector[:dim] - mean[:dim], np.log2(self.frequencies)
        if lost[-1] and below[-1] and not below.all() and steep(gap[::-1], -octaves[::-1], run(below[::-1])):
            unlike.append(f"band limited to about {self.frequencies[dim - 1 - run(below[::-1])] / 1000:.1f} kHz")
        if lost[0] and below[0] and not below.all() and steep(gap, octaves, run(below)):
            unlike.append(f"no signal below about {self.frequencies[run(below)]:.0f} Hz")
        return unlike

    def named(self, vector: np.ndarray, mean: np.ndarray) -> list[str]:
        """Statistics outside the range of training, in words; ``mean`` is that of the nearest set."""
        if not self.frequencies:
            return []
        unlike = self.band(vector, mean)
        parts, low, high = (Statistics.of(np.asarray(array)) for array in (vector, self.low, self.high))
        for name, (title, less, more) in NAMES.items():
            if name == "tilt" and unlike:  # follows from the missing band
                continue
            value, lowest, highest = (float(getattr(part, name)) for part in (parts, low, high))
            gap = min(0.0, value - lowest) + max(0.0, value - highest)
            if abs(gap) > (GAP if name != "tilt" else GAP / 3):
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
            raise ValueError(
                f"{path}: not the channels of training as this version writes them; {run_again('latents')}, or delete it"
            ) from None


def by_chance(dim: int, speakers: int) -> float:
    """QUANTILE of the distance in standard errors for ``dim`` normal dims whose covariance is estimated from so many speakers.

    Squared distances of new speakers from such an estimate are larger by about 1 + dim / speakers.
    """
    from scipy.stats import chi2  # slow to import, and only a fit needs it

    return float(np.sqrt(chi2.ppf(QUANTILE, dim) / dim * (1 + dim / speakers)))


def speakers_of(of_set: np.ndarray, speakers: Sequence[str], sets: Sequence[str]) -> np.ndarray:
    """Number of speakers ``(sets,)`` of each set."""
    counts = Counter(name for name, _ in set(zip(of_set.tolist(), speakers)))
    return np.array([counts[name] for name in sets])


def left_out_fits(
    profiles: np.ndarray, of_set: np.ndarray, speakers: Sequence[str], sets: Sequence[str]
) -> Iterator[tuple[np.ndarray, Fit]]:
    """The utterances ``(U,)`` of each fold of speakers, and the fit without them; a fold that leaves a set nothing is skipped."""
    fold_of = {name: n % FOLDS for n, name in enumerate(sorted(set(speakers)))}
    part = np.array([fold_of[name] for name in speakers])
    for fold in range(FOLDS):
        rest = part != fold
        if set(of_set[rest]) == set(sets) and not rest.all():
            yield ~rest, Fit.of(profiles[rest], of_set[rest], sets)


def left_out_distances(profiles: np.ndarray, of_set: Sequence[str], speakers: Sequence[str]) -> np.ndarray:
    """Distances ``(U,)`` of training utterances with profiles ``(U, P)``, each from a fit without its speaker if possible."""
    set_of, sets = np.array(of_set), sorted(set(of_set))
    distances = Fit.of(profiles, set_of, sets).distances(profiles).min(1)
    for out, fit in left_out_fits(profiles, set_of, speakers, sets):
        distances[out] = fit.distances(profiles[out]).min(1)
    return distances


def left_out(
    profiles: np.ndarray, of_set: np.ndarray, speakers: Sequence[str], sets: Sequence[str]
) -> tuple[list[np.ndarray], list[float]]:
    """Distances of utterances from fits without their speakers, and standard errors of sets of such utterances.

    Of each fold of speakers, the sets are all its utterances, those of each training set, and draws of these.
    """
    of_speaker, rng = np.array(speakers), np.random.default_rng(0)
    distances, errors = [], []
    for out, fit in left_out_fits(profiles, of_set, speakers, sets):
        trained = speakers_of(of_set[~out], of_speaker[~out].tolist(), sets)
        distances.append(fit.distances(profiles[out]).min(1))
        for wanted in (out, *(out & (of_set == name) for name in sets)):
            places = np.flatnonzero(wanted)
            draws = [places] if len(places) else []
            if len(places) > DRAWN:
                draws += [rng.choice(places, DRAWN, replace=False) for _ in range(DRAWS)]
            errors += [fit.set_distance(profiles[rows], of_speaker[rows], trained)[1] for rows in draws]
    return distances, errors


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
