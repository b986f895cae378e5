"""Trivial systems: what duration, rate of speech, level and spectrum of an utterance tell of its class, without a model of speech.

A system that hears an accent must be better than these. ``bands`` compares the profile of the channel
(``dnf.scoring.channel_statistics``) with that of each class in training, by a Gaussian with a common shrunk covariance. Where
the classes are from different corpora it tells these apart, so its AUC on the control says what is left without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.open_set import gaussian
from dnf.experiment.config import Config
from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import (
    BANDS_NPZ,
    CHANNEL_NPY,
    LATENTS,
    META_JSON,
    Layout,
    experiment_of,
    is_fused,
    is_taken,
    members_of,
    run_again,
)
from dnf.experiment.sets import name_of
from dnf.scoring.channel_statistics import Statistics, profile
from dnf.scoring.latent_store import Latents, mapped


class Bands(NamedTuple):
    """Means ``(K, P)`` of the classes' scaled profiles, their inverse covariance ``(P, P)``, and the scale ``(P,)``."""

    means: np.ndarray
    precision: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, latents: Latents, vectors: np.ndarray) -> Bands | None:
        """From the statistics ``(U, S)`` of training utterances; None if a class has none."""
        labels = np.array([utt["class"] for utt in latents.utts])
        known = np.isin(labels, latents.classes)
        if len(set(labels[known])) < len(latents.classes):
            return None
        profiles = profile(vectors[known])
        scale = np.maximum(profiles.std(0), 1e-6)
        return cls(*gaussian(profiles / scale, labels[known], latents.classes), scale)

    def loglik(self, vectors: np.ndarray) -> np.ndarray:
        """Log-likelihoods ``(U, K)``, nats, up to a constant of the utterance, of statistics ``(U, S)``."""
        weights = self.means @ self.precision
        return profile(vectors) / self.scale @ weights.T - 0.5 * (weights * self.means).sum(1)


class Trivial(NamedTuple):
    """The trivial systems of an experiment.

    Attributes:
        source: experiment whose latents, channel statistics and frames are read: of a fused system, its first member's.
        config: settings.
        bands: those of training; None if they were not measured.
    """

    source: Path
    config: Config
    bands: Bands | None

    @classmethod
    def open(cls, exp: Path, config: Config) -> Trivial | None:
        """Fit the bands on train and write ``bands.npz``, or read it where the model was trained elsewhere; None for vectors."""
        source = experiment_of(members_of(exp)[0]) if is_fused(exp) else exp
        path, train = source / BANDS_NPZ, source / LATENTS / name_of(config.data, "train")
        if config.has_vectors:
            return None
        if is_fused(exp) or is_taken(exp):
            bands = None
            if path.is_file():
                with intact(path, run_again("decide")), np.load(path) as arrays:
                    bands = Bands(**arrays)
            return cls(source, config, bands)
        path.unlink(missing_ok=True)
        bands = Bands.fit(Latents.open(train), mapped(train / CHANNEL_NPY)) if (train / CHANNEL_NPY).is_file() else None
        if bands:
            write_arrays(path, bands._asdict())
        return cls(source, config, bands)

    def scores(self, name: str, order: Sequence[str]) -> dict[str, np.ndarray]:
        """``TRIVIAL`` scores ``(U,)`` or ``(U, K)`` of the utterances of a set, as far as they were measured.

        Args:
            name: of the set.
            order: K classes, for the columns.
        """
        folder = self.source / LATENTS / name
        latents = Latents.open(folder)
        found = {"duration": np.array([utt["rows"] for utt in latents.utts], dtype=float)}
        rates = self.rates({utt["set"] for utt in latents.utts})
        if all((utt["set"], utt["utt"]) in rates for utt in latents.utts):
            found["rate"] = np.array([rates[utt["set"], utt["utt"]] for utt in latents.utts])
        if (folder / CHANNEL_NPY).is_file():
            vectors = mapped(folder / CHANNEL_NPY)
            found["level"] = Statistics.of(vectors).level.astype(float)
            if self.bands:
                found["bands"] = self.bands.loglik(vectors)[:, [latents.classes.index(label) for label in order]]
        return found

    def rates(self, sets: set[str]) -> dict[tuple[str, str], float]:
        """Syllable nuclei a second of speech, by set and utterance, of the sets whose frames are there."""
        from dnf.features.frame_store import FrameStore  # imports torch, which is slow
        from dnf.features.timing import store_rates

        stores, found = Layout.read(self.source).frames, {}
        for name in sorted(name for name in sets if (stores / name / META_JSON).is_file()):
            store = FrameStore(stores / name)
            found |= {(name, utt): rate for utt, rate in store_rates(store, self.config.features.frame_shift)}
        return found
