#!/usr/bin/env python3
"""Vectors from known Gaussians after a nonlinear map, so that the best possible results of a DNF on vectors are known.

Speakers are Gaussian about the mean of their class, and vectors y about their speaker, both with full covariances; each class
has its own covariance within speakers. Then x = R' sinh(R y), with a rotation R, is an invertible nonlinear map. Two
dims are always zero, as for an encoder that ends in a ReLU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import multivariate_normal

from dnf.data import own_vectors
from dnf.data.own_vectors import VectorUtterance
from dnf.experiment import entry
from dnf.experiment.files import replace_file
from dnf.experiment.layout import CLASSES_TXT

CLASSES = ("a", "b", "c")
DIM, DEAD = 30, 2
SHARES = {"train": 1.0, "dev": 0.5, "test": 0.5}  # number of speakers, relative to train
SPREAD = 0.2  # scale of the class means in each dim, relative to the vectors of a speaker
BETWEEN = 0.3  # scale of the speakers of a class


class World:
    """The generative model of the vectors."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.means = {name: SPREAD * self.rng.standard_normal(DIM) for name in CLASSES}
        self.between, self.within = BETWEEN * self.root(), {name: self.root() for name in CLASSES}
        self.rotation = np.linalg.qr(self.rng.standard_normal((DIM, DIM)))[0]

    def root(self) -> np.ndarray:
        """A square root of a covariance ``(DIM, DIM)`` with different variances."""
        directions = np.linalg.qr(self.rng.standard_normal((DIM, DIM)))[0]
        return directions * np.sqrt(self.rng.uniform(0.1, 1.9, DIM))

    def draw(self, name: str, part: str, speakers: int, utterances: int) -> Iterator[VectorUtterance]:
        """Vectors of new speakers of a class."""
        for number in range(speakers):
            speaker = f"{name}{part}{number:03}"
            centre = self.means[name] + self.between @ self.rng.standard_normal(DIM)
            y = centre + self.rng.standard_normal((utterances, DIM)) @ self.within[name].T
            x = np.hstack([np.sinh(y @ self.rotation) @ self.rotation.T, np.zeros((utterances, DEAD))])
            for utt, vector in enumerate(x):
                yield VectorUtterance(f"{speaker}-{utt:03}", speaker, name, vector)

    def sets(self, speakers: int, utterances: int) -> dict[str, list[VectorUtterance]]:
        """Vectors of all classes by set, with ``speakers`` of each class in train."""
        counts = {part: max(2, round(share * speakers)) for part, share in SHARES.items()}
        return {
            part: [u for name in CLASSES for u in self.draw(name, part, count, utterances)]
            for part, count in counts.items()
        }

    def posteriors(self, x: np.ndarray) -> np.ndarray:
        """True posteriors ``(U, K)`` of the classes of single vectors ``(U, DIM + DEAD)``, the best possible ones."""
        y = np.arcsinh(x[:, :DIM] @ self.rotation) @ self.rotation.T
        of_class = [
            multivariate_normal(self.means[name], self.between @ self.between.T + root @ root.T).logpdf(y)
            for name, root in self.within.items()
        ]
        return softmax(np.stack(of_class, 1), axis=1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("output_dir", type=Path, help="output folder of the sets, such as data")
    parser.add_argument("--seed", type=int, default=1, help="seed of the vectors (%(default)s)")
    parser.add_argument("--nj", type=int, default=1, help="not used")
    parser.add_argument("--speakers", type=int, default=60, help="speakers of each class in train (%(default)s)")
    parser.add_argument("--utterances", type=int, default=20, help="vectors of each speaker (%(default)s)")
    args = parser.parse_args(argv)
    for part, drawn in World(args.seed).sets(args.speakers, args.utterances).items():
        own_vectors.write_set(drawn, args.output_dir / part)
    replace_file(args.output_dir / CLASSES_TXT, "".join(f"{name}\n" for name in CLASSES))
    return 0


if __name__ == "__main__":
    entry.run(main)
