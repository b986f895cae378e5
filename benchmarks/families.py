"""Compare flows of each family with zuko's of the same size: NLL of dev after the same training, and speed.

    benchmarks/run.sh --only none                                         # once: installs zuko
    OMP_NUM_THREADS=1 python3 -m benchmarks.families egs/mini/exp/frames

Both flows of a pair get the same standardized batches, optimizer and learning rates, and have the prior N(0, I). Their
training steps alternate, so a slower machine slows both.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.families", description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="exp/frames of a recipe, with the sets train and dev")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="(all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: seconds on a processor (%(default)s)")
    parser.add_argument("--context", type=int, default=1, help="frames on each side (%(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="units of a hidden layer (%(default)s)")
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
        config = ours.settings(options.context, options.hidden, options.batch, *words)
        train, dev = (
            ours.open_windows(FrameStore(options.frames / name), config, watch.device, all_classes=True)
            for name in ("train", "dev")
        )
        found = contest(config, train, dev, watch)
        _, speed, nll = found.get("zuko", found["ours"])
        for name, (size, rate, value) in found.items():
            lines.append([f"{kind}: {name}", f"{size}", f"{rate:.0f}", f"{rate / speed:.2f}", f"{value:.2f}"])
            lines[-1].append(f"{100 * (value - nll) / abs(nll):+.2f} %")
    print(aligned(lines))
    return 0


if __name__ == "__main__":
    entry.run(main)
