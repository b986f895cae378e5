"""Compute the figures of docs/kurtosis.md on the pooled kurtosis of latents of about -1.5.

    python3 docs/kurtosis.py egs/mini/exp/frames [--classes en ce] [--steps 600]

Trains small flows with and without batch normalization (which ``dnf`` does not have), with class means from the data and
with distant class means, and scores each in training and in evaluation.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy import integrate, stats
from torch import Tensor, nn

from dnf.experiment import entry
from dnf.experiment.config import Config, resolve
from dnf.features.frame_store import FrameStore
from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows
from dnf.metrics.gaussianity import Moments
from dnf.models.dnf import DNF
from dnf.models.flows import make_flow
from dnf.models.standardize import Standardize
from dnf.training.trainer import learning_rate

NOTES = -1.54  # pooled kurtosis of c in the notes' experiment 2
ACCURACY = 0.92  # accuracy of frames
SCORED = 20_000  # scored vectors of a set


class BatchNorm(nn.Module):
    """y = (x - mean) / std exp(s) + b; in training, mean and std are those of the batch (arXiv:1605.08803, appendix E).

    In evaluation, ``statistics`` selects them: ``average``, running averages with weight 0.1 of each new batch; ``last``, those
    of the last batch; or ``first``, the initial 0 and 1, as if they were never updated.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.statistics = "average"
        self.known = {name: (torch.zeros(dim), torch.ones(dim)) for name in ("average", "last", "first")}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = self.known[self.statistics]
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0) + 1e-5
            with torch.no_grad():
                self.known["last"] = mean.detach(), var.detach()
                self.known["average"] = tuple(
                    old.lerp(new.detach(), 0.1) for old, new in zip(self.known["average"], (mean, var))
                )
        log_scale = self.scale - 0.5 * var.log()
        return (x - mean) * log_scale.exp() + self.shift, log_scale.sum().expand(len(x))


class Normed(nn.Module):
    """Couplings with batch normalization after each; the dims are reversed in between."""

    def __init__(self, dim: int, config: Config):
        super().__init__()
        coupling = dataclasses.replace(config.flow, blocks=1)
        self.couplings = nn.ModuleList(make_flow(dim, coupling) for _ in range(config.flow.blocks))
        self.norms = nn.ModuleList(BatchNorm(dim) for _ in range(config.flow.blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(len(x))
        for layers in zip(self.couplings, self.norms):
            for layer in layers:
                x, change = layer(x)
                logdet = logdet + change
            x = x.flip(1)
        return x, logdet


class Vectors:
    """Standardized vectors ``(N, D)`` of a set, in batches, with their class ids ``(N,)``."""

    def __init__(self, windows: Windows, standardize: Standardize):
        self.windows, self.standardize = windows, standardize

    def batches(self, rows: Tensor, size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        for part in rows.split(size):
            yield self.standardize(self.windows.gather(part))[0], self.windows.labels(part)


def make(config: Config, train: Vectors, *, normed: bool, apart: float) -> DNF:
    """A model with class means from the data, or from N(0, ``apart``^2) if ``apart`` is above 0."""
    torch.manual_seed(config.seed)
    model = DNF(config.dim, 2, config.flow, config.prior)
    if normed:
        model.flow = Normed(config.dim, config)
    x, labels = next(train.batches(evenly_spaced(len(train.windows), 4000), 4000))
    model.init_means(x, labels)
    if apart:
        nn.init.normal_(model.prior.means, std=apart)
    return model


def fit(model: DNF, config: Config, train: Vectors) -> None:
    """Run the steps of ``config.train``, by likelihood."""
    settings, generator = config.train, torch.Generator().manual_seed(config.seed)
    optimizer, n = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True), 0
    model.train()
    while n < settings.steps:
        rows = torch.randperm(len(train.windows), generator=generator)
        for x, labels in train.batches(
            rows[: len(rows) // settings.batch_size * settings.batch_size], settings.batch_size
        ):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * learning_rate(n, settings.steps, settings)
            z, logdet = model(x)
            optimizer.zero_grad()
            (-(model.prior.of_class(z, labels) + logdet).mean()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
            optimizer.step()
            n += 1
            if n == settings.steps:
                return


@torch.no_grad()
def figures(model: DNF, vectors: Vectors, *, shuffled: bool = True) -> list[str]:
    """The figures of a set for the table, by ``model`` in its current mode; LogDet is that of standardized vectors."""
    rows = evenly_spaced(len(vectors.windows), SCORED)
    if shuffled:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    cond = model.prior.cond_dim
    moments, rest, sums = Moments(2, cond), Moments(2, model.prior.dim - cond), torch.zeros(4)
    for x, labels in vectors.batches(rows):
        z, logdet = model(x)
        decided = model.prior.of_all(z).argmax(1)
        first, second = ((z[:, :cond] - mean).square() for mean in model.prior.means)
        agreeing = ((second < first) == decided[:, None].bool()).float().mean(1)
        each = model.prior.of_class(z, labels), logdet, (decided == labels).float(), agreeing
        sums += torch.stack([value.sum() for value in each])
        moments.update(z[:, :cond], labels)
        rest.update(z[:, cond:], labels)
    pooled, within = moments.pooled(), moments.within()
    logp, logdet, accuracy, agreeing = (sums / len(rows)).tolist()
    found = [f"{logp:.1f}", f"{logdet:.1f}", f"{accuracy:.3f}", f"{agreeing:.2f}"]
    found += [f"{pooled.skew.mean():+.2f}", f"{pooled.kurt.mean():+.2f}", f"{within.kurt.mean():+.2f}"]
    separation = moments.fisher().sqrt()
    return [*found, f"{separation.mean():.2f}", f"{rest.pooled().kurt.mean():+.2f}" if cond < model.prior.dim else ""]


def ways(model: DNF) -> Iterator[tuple[str, bool]]:
    """Set the model to each way of scoring in turn; yields its name, and whether batches are shuffled."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if norms:
        before = [dict(norm.known) for norm in norms]
        for name, shuffled in (("training", True), ("training, utterances in order", False)):
            model.train()
            yield name, shuffled
        for norm, known in zip(norms, before):
            norm.known = known
    model.eval()
    for statistics in ("average", "last", "first") if norms else ("",):
        for norm in norms:
            norm.statistics = statistics
        yield f"evaluation{', ' * bool(statistics)}{statistics}", True


def theory() -> None:
    """Pooled kurtosis and accuracy of two Gaussians of variance 1 at +-a, and of means drawn at random."""

    def pooled(a: float) -> float:
        return -2 * a**4 / (1 + a * a) ** 2

    print("a       pooled kurtosis  accuracy of one dim, of 400")
    for a in (0.05, 0.07, 0.1, 0.25, 0.5, 1.0, 1.41, 2.0, 2.5, 2.7, 4.0):
        print(f"{a:<7} {pooled(a):15.5f}  {stats.norm.cdf(a):.3f}  {stats.norm.cdf(a * 20):.6f}")
    total = stats.norm.ppf(ACCURACY)
    print(f"accuracy {ACCURACY}: a = {total:.2f} in one dim, {total / 20:.3f} in each of 400: {pooled(total / 20):.1e}")
    print("means drawn from N(0, s^2): s, mean pooled kurtosis")
    for s in (1, 2, 3, 4, 5, 6, 8, 10, 31.6):
        value = integrate.quad(lambda a: pooled(a) * stats.halfnorm.pdf(a, scale=s / 2**0.5), 0, 12 * s, limit=500)[0]
        print(f"{s:<5} {value:.2f}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 docs/kurtosis.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="exp/frames of a recipe")
    parser.add_argument("--train", nargs="+", default=["train"], metavar="SET", help="training sets (%(default)s)")
    parser.add_argument("--dev", nargs="+", default=["dev"], metavar="SET", help="sets for comparison (%(default)s)")
    parser.add_argument("--classes", nargs=2, default=["en", "ce"], help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="(%(default)s)")
    parser.add_argument(
        "--apart",
        nargs="+",
        type=float,
        default=[0.0, 5.0],
        metavar="S",
        help="draw the initial class means from N(0, S^2); 0: class means of the data (%(default)s)",
    )
    parser.add_argument(
        "--norms", nargs="+", type=int, choices=(0, 1), default=[0, 1], help="without, with batch normalization (both)"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="section.key=value", help="further settings")
    options = parser.parse_args(argv)
    theory()
    shape = ["splice.left=1", "splice.right=1", "splice.hop=3", "prior.cond_dim=120", "flow.hidden=128"]
    size = ["train.batch_size=1000", f"train.steps={options.steps}"]
    config = resolve([*shape, *size, *options.set])
    opened = [
        Windows(
            [FrameStore(options.frames / name) for name in names],
            config.splice,
            config.cmvn,
            options.classes,
            keep_unseen=False,
            device=torch.device("cpu"),
        )
        for names in (options.train, options.dev)
    ]
    standardize = Standardize(config.dim)
    standardize.set(*opened[0].global_normalization())
    train, dev = (Vectors(windows, standardize) for windows in opened)
    x = torch.cat([x for x, _ in train.batches(evenly_spaced(len(train.windows), SCORED))])
    raw = standardize.inverse(x)[0]
    print(f"vectors: kurtosis {stats.kurtosis(x.double()).mean():+.2f}", end="; ")
    print(f"all dims thrown together {stats.kurtosis(raw.double(), axis=None):+.2f}", end="; ")
    print(f"over the dims of a vector {stats.kurtosis(raw.double(), axis=1).mean():+.2f}")
    print(
        "model | scored | set | LogP | LogDet | accuracy | dims that agree | skew | kurtosis | within class | a | of r"
    )
    for normed, apart in itertools.product(options.norms, options.apart):
        model = make(config, train, normed=normed, apart=apart)
        fit(model, config, train)
        name = f"{'batch norm' if normed else 'plain'}, means {f'of N(0, {apart:g}^2)' if apart else 'of the data'}"
        for scored, shuffled in ways(model):
            for of, vectors in (("train", train), ("dev", dev)):
                print(" | ".join([name, scored, of, *figures(model, vectors, shuffled=shuffled)]), flush=True)


if __name__ == "__main__":
    entry.run(main)
