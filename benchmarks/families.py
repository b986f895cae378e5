"""Compare flows of each family with zuko's of the same size: NLL of dev after the same training, and speed.

    benchmarks/run.sh --only none                                         # once: installs zuko
    OMP_NUM_THREADS=1 python3 -m benchmarks.families egs/mini/exp/frames --seeds 1 2 3

Both flows of a pair get the same standardized batches, optimizer and learning rates, and have the prior N(0, I). Their
training steps alternate, so a slower machine slows both. Seeds draw the weights and the order of the vectors.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from benchmarks import ours, peers
from benchmarks.rows import parameters
from benchmarks.table import aligned
from benchmarks.timing import CLOCKS, Watch
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.environment import choose_device, describe_environment
from dnf.features.frame_store import FrameStore
from dnf.models.flows import CONDITIONAL, FLOWS, make_flow
from dnf.models.standardize import Standardize
from dnf.training.trainer import learning_rate

KINDS = tuple(kind for kind in FLOWS if kind not in CONDITIONAL)


class Contestant(NamedTuple):
    """A flow, its log density ``(N,)`` of vectors ``(N, D)``, and its optimizer."""

    flow: nn.Module
    density: peers.Density
    optimizer: torch.optim.Optimizer

    def step(self, x: Tensor, rate: float, clip: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        (-self.density(x).mean()).backward()
        torch.nn.utils.clip_grad_norm_(self.flow.parameters(), clip)
        self.optimizer.step()

    @torch.no_grad()
    def nll(self, batches: Iterator[Tensor]) -> float:
        """Mean over all vectors, nats."""
        values = torch.cat([-self.density(x) for x in batches])
        return values.double().mean().item()


def of_ours(dim: int, config: Config) -> tuple[nn.Module, peers.Density]:
    flow = make_flow(dim, config.flow)

    def density(x: Tensor) -> Tensor:
        z, logdet = flow(x)
        return peers.standard_normal(z) + logdet

    return flow, density


def contest(
    config: Config, train: ours.Windows, dev: ours.Windows, watch: Watch
) -> dict[str, tuple[int, float, float]]:
    """Parameters, frames per second and NLL of dev (nats per frame) of our flow and zuko's for ``config.flow``."""
    settings, standardize = config.train, Standardize(config.dim).to(watch.device)
    standardize.set(*train.global_normalization())

    def batches(windows: ours.Windows, rows: Tensor) -> Iterator[Tensor]:
        for part in rows.split(settings.batch_size):
            yield standardize(windows.gather(part))[0]

    makers: dict[str, Callable[[], tuple[nn.Module, peers.Density]]] = {"ours": lambda: of_ours(config.dim, config)}
    if "zuko" in peers.available()[0]:
        makers["zuko"] = lambda: peers.PEERS["zuko"][1](config.dim, config.flow)
    sides, seconds = {}, dict.fromkeys(makers, 0.0)
    for name, make in makers.items():
        torch.manual_seed(config.seed)
        flow, density = make()
        flow.to(watch.device)
        sides[name] = Contestant(flow, density, torch.optim.AdamW(flow.parameters(), weight_decay=0.0, fused=True))
    generator = torch.Generator().manual_seed(config.seed)
    epochs = (batches(train, torch.randperm(len(train), generator=generator)) for _ in itertools.count())
    frames = 0
    for n, x in enumerate(itertools.islice(itertools.chain.from_iterable(epochs), settings.steps)):
        rate, counted = settings.lr * learning_rate(n, settings.steps, settings), n > 0
        frames += counted * len(x)
        for name, side in sides.items():
            seconds[name] += counted * watch.seconds(lambda: side.step(x, rate, settings.grad_clip))
    scale = standardize.std.log().sum().item()
    rows = torch.arange(len(dev))
    return {
        name: (parameters(side.flow), frames / seconds[name], side.nll(batches(dev, rows)) + scale)
        for name, side in sides.items()
    }


def run(options: argparse.Namespace, watch: Watch, words: list[str]) -> dict[str, tuple[int, float, float]]:
    """``contest`` on the sets train and dev, of the sizes in ``options`` and with the settings ``words``."""
    config = ours.settings(options.context, options.hidden, options.batch, *words)
    train, dev = (
        ours.open_windows(FrameStore(options.frames / name), config, watch.device, all_classes=True)
        for name in ("train", "dev")
    )
    return contest(config, train, dev, watch)


def percent_above(values: Sequence[float], reference: Sequence[float]) -> str:
    """Mean difference from the reference in percent of it and, of several seeds, its 95 % interval by Student's t."""
    differences = np.subtract(values, reference) * 100 / abs(np.mean(reference))
    mean, words = differences.mean(), ""
    if len(differences) > 1 and differences.any():
        half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
        words = f" ({mean - half:+.2f} to {mean + half:+.2f})"
    return f"{mean:+.2f}{words} %"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.families", description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="exp/frames of a recipe, with the sets train and dev")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="(all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: seconds on a processor (%(default)s)")
    parser.add_argument("--context", type=int, default=1, help="frames on each side (%(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="units of a hidden layer (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="means over these are shown (1)")
    parser.add_argument("--steps", type=int, default=500, help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=1000, help="vectors (%(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="section.key=value", help="more settings of both flows")
    options = parser.parse_args(argv)
    watch = Watch(choose_device(options.device), 1, CLOCKS[options.clock])
    facts = describe_environment(watch.device)
    print(f"{facts['device_name']}, torch {facts['torch']}, threads: {facts['threads']}, {options.clock} clock")
    lines = [["", "parameters", "frames/s", "speed", "NLL of dev", "to zuko's"]]
    for kind in options.kinds:
        words = [f"flow.kind={kind}", "splice.hop=3", f"train.steps={options.steps}", *options.set]
        words += [] if kind == "maf" else ["flow.mask=evenodd"]  # zuko's mask
        found = [run(options, watch, [*words, f"seed={seed}"]) for seed in options.seeds]
        reference = [of_seed.get("zuko", of_seed["ours"]) for of_seed in found]
        for name in found[0]:
            size, rates, values = zip(*(of_seed[name] for of_seed in found))
            speed = np.mean(rates) / np.mean([rate for _, rate, _ in reference])
            lines.append([f"{kind}: {name}", f"{size[0]}", f"{np.mean(rates):.0f}", f"{speed:.2f}"])
            lines[-1] += [f"{np.mean(values):.2f}", percent_above(values, [nll for *_, nll in reference])]
    print(aligned(lines))
    return 0


if __name__ == "__main__":
    entry.run(main)
