"""Compute the table of docs/vectors.md on vectors whose best possible verification is known.

    python3 docs/verification.py [--speakers 1000] [--steps 4000] [--seed 1]

Speakers and vectors are drawn from a two-covariance model, y = speaker + rest. An invertible map bends them, x = f(y): it
scales half of the dims by a function of the others, so the covariance of a speaker in x depends on where the speaker is, and
maps each dim along rotated axes by sinh. The best score of x is that of y by the true model, since the Jacobian of f cancels in
the likelihood ratio. A DNF is trained on x with the speakers as classes; the test speakers are others.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dnf.experiment import entry
from dnf.experiment.config import Config, resolve
from dnf.metrics.verification import Scored, figures
from dnf.models.backends import Cosine, LengthNormalized, Plda
from dnf.models.dnf import DNF
from dnf.training.trainer import learning_rate
from dnf.verification.scores import Backend, Features, trial_scores
from dnf.verification.trial_list import Enrolments, Utterances, all_trials

DIM = 20
UTTERANCES = 30  # vectors of a training speaker
TESTED = 200, 10  # test speakers, and vectors of each
SPEAKER = 1.5  # mean variance of the speakers; that of the rest is 1
BEND = 0.75  # strength of the map
SETTINGS = (
    "features.kind=vectors",
    f"vectors.dim={DIM}",
    "prior.cond_dim=null",
    "flow.kind=realnvp",
    "flow.blocks=8",
    "flow.hidden=64",
    "flow.mix=lu",
    "train.batch_size=500",
    "train.lr=0.01",
    "train.lr_final=0.001",
    "train.warmup_steps=50",
)
BACKENDS = {"cosine": Cosine, "PLDA": Plda, "PLDA, length-normalized": LengthNormalized}


class Drawn(NamedTuple):
    """Vectors before and after the map, ``y`` and ``x`` ``(U, DIM)``, and the number of the speaker of each ``(U,)``."""

    y: np.ndarray
    x: np.ndarray
    speaker: np.ndarray


class World:
    """The generative model, and the random numbers of what is drawn from it."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.model = Plda(np.zeros(DIM), SPEAKER * self.covariance(), self.covariance())
        self.rotations = [np.linalg.qr(self.rng.standard_normal((DIM, DIM)))[0] for _ in range(2)]
        self.mixing = self.rng.standard_normal((DIM // 2, DIM // 2)) / np.sqrt(DIM / 2)

    def covariance(self) -> np.ndarray:
        """A covariance ``(DIM, DIM)`` with variances from 0.5 to 1.5 along random directions."""
        directions = np.linalg.qr(self.rng.standard_normal((DIM, DIM)))[0]
        return directions * self.rng.uniform(0.5, 1.5, DIM) @ directions.T

    def draw(self, speakers: int, utterances: int) -> Drawn:
        """Vectors of new speakers."""
        speaker, model = np.repeat(np.arange(speakers), utterances), self.model
        centres = self.rng.multivariate_normal(model.mean, model.between, speakers)
        y = centres[speaker] + self.rng.multivariate_normal(model.mean, model.within, len(speaker))
        return Drawn(y, self.bent(y), speaker)

    def bent(self, y: np.ndarray) -> np.ndarray:
        """x = f(y) ``(U, DIM)``."""
        half, y = DIM // 2, y @ self.rotations[0]
        y = np.hstack([y[:, :half], y[:, half:] * np.exp(BEND * np.tanh(y[:, :half] @ self.mixing))])
        return np.sinh(BEND * y) @ self.rotations[1]


def fit(drawn: Drawn, config: Config, steps: int, seed: int) -> DNF:
    """A DNF of likelihood with the speakers as classes."""
    torch.manual_seed(seed)
    x, labels = torch.tensor(drawn.x, dtype=torch.float32), torch.tensor(drawn.speaker)
    model = DNF.from_config(config, int(labels.max()) + 1)
    model.first.set(x.mean(0), x.std(0))
    model.init_means(x, labels)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    for step in range(steps):
        rows = torch.randint(len(x), (config.train.batch_size,))
        for group in optimizer.param_groups:
            group["lr"] = config.train.lr * learning_rate(step, steps, config.train)
        z, logdet = model(x[rows])
        optimizer.zero_grad()
        (-(model.prior.of_class(z, labels[rows]) + logdet).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        optimizer.step()
    return model.eval()


def eer(backend: Backend, vectors: np.ndarray, speaker: np.ndarray) -> float:
    """EER of all pairs of vectors ``(U, D)``."""
    utterances = Utterances("test", [str(n) for n in range(len(vectors))], speaker)
    enrolments = Enrolments.each(utterances)
    trials = all_trials(enrolments, utterances, pairs=True)
    scores = trial_scores(Features(backend, vectors, enrolments), trials)
    return figures(Scored(scores, trials.target, speaker[trials.enrolled], speaker[trials.tested]))["eer"]


@torch.no_grad()
def latents(model: DNF, drawn: Drawn) -> np.ndarray:
    return model(torch.tensor(drawn.x, dtype=torch.float32))[0].numpy()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 docs/verification.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--speakers", type=int, default=1000, help="training speakers (%(default)s)")
    parser.add_argument("--steps", type=int, default=4000, help="of training (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    args = parser.parse_args(argv)
    world = World(args.seed)
    train, test = world.draw(args.speakers, UTTERANCES), world.draw(*TESTED)
    best = eer(world.model, test.y, test.speaker)
    model = fit(train, resolve(list(SETTINGS)), args.steps, args.seed)
    before, after = (train.x, test.x), (latents(model, train), latents(model, test))
    print(f"EER of the true model: {best:.4f}\nback-end | vectors | latents | closed")
    for name, backend in BACKENDS.items():
        raw, found = (eer(backend.fit(x, train.speaker), tested, test.speaker) for x, tested in (before, after))
        print(f"{name} | {raw:.4f} | {found:.4f} | {(raw - found) / (raw - best):.0%}", flush=True)


if __name__ == "__main__":
    entry.run(main)
