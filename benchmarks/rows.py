"""Training steps of ours and of peers, scoring and splicing at one size, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import ours, peers
from benchmarks.timing import Action, Watch, passes, product
from dnf.experiment.config import Config
from dnf.experiment.settings import Flow
from dnf.features.frame_store import FrameStore
from dnf.models.dnf import DNF
from dnf.training.acceleration import choose

COUNTED = 64  # vectors of the batch for counting multiply-adds
TOGETHER = {"cpu": 1, "cuda": 20}  # training steps timed together, since GPU steps are asynchronous
MM_SIZE = {"cpu": 2048, "cuda": 8192}
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
REFERENCE = "train: ours"
OURS: dict[str, tuple[str, ...]] = {
    REFERENCE: (),
    "train: ours, not compiled": ("train.compile=never",),
    "train: ours, float32": ("train.precision=float32",),
    "train: ours, tf32": ("train.precision=tf32",),
    "train: ours, bf16": ("train.precision=bf16",),
    "train: ours, two networks": ("flow.nets=two",),
}
NOTES = "train: ours, two networks, full-width masks"  # as in the notes' code base


class Size(NamedTuple):
    """Frames of context on each side, units of a hidden layer, vectors of a batch, and more settings."""

    context: int
    hidden: int
    batch: int
    words: tuple[str, ...] = ()

    def config(self, *words: str) -> Config:
        return ours.settings(self.context, self.hidden, self.batch, *self.words, *words)


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        action: the timed call.
        parameters: number of parameters of the model.
        forward, step: multiply-adds per frame of the forward pass, and of the complete action.
        precision: precision of its products, for comparison with the peak rate; empty: no products.
        times: number of repetitions in a call of the action.
    """

    action: Action
    parameters: int = 0
    forward: float = 0.0
    step: float = 0.0
    precision: str = ""
    times: int = 1


class Measured(NamedTuple):
    """Rows of one size, their seconds in each round, peak MiB (CUDA), and products per second by precision."""

    rows: dict[str, Row]
    seconds: dict[str, list[float]]
    memory: dict[str, float]
    ceilings: dict[str, list[float]]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def of_trainer(make: Callable[[], ours.Trainer], x: Tensor) -> Row:
    """A step of a trainer."""
    trainer = make()
    trainer.model.train()
    counts, times = passes(trainer.model, ours.density(trainer.model), x), TOGETHER[x.device.type]
    return Row(partial(ours.take_steps, trainer, times), parameters(trainer.model), *counts, trainer.precision, times)


def of_peer(name: str, settings: Flow, x: Tensor, precision: str) -> Row:
    """Forward, backward and Adam of a peer on one prepared batch."""
    flow, density = peers.PEERS[name][1](x.shape[1], settings)
    flow.to(x.device).train()
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with ours.products_in(precision, x.device):
            nll = -density(x).mean()
        nll.backward()
        optimizer.step()

    return Row(step, parameters(flow), *passes(flow, density, x[:COUNTED]), precision)


def makers(
    size: Size, store: FrameStore, device: torch.device, precisions: tuple[str, ...], packages: Container[str]
) -> dict[str, Callable[[], Row]]:
    """Functions that make each row of a size, by name."""
    config = size.config()
    windows = ours.open_windows(store, config, device)
    rows = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[: size.batch]
    x = windows.gather(rows)
    made: dict[str, Callable[[], Row]] = {}
    configs = []
    for name, words in OURS.items():
        own = size.config(*words)
        own = size.config(*words, f"train.precision={choose(own.train.precision, device)}")
        if own in configs or own.train.precision not in precisions:
            continue
        configs.append(own)
        made[name] = partial(of_trainer, partial(ours.make_trainer, windows, own), x[:COUNTED])
    notes = partial(ours.make_trainer, windows, size.config("flow.nets=two", "train.compile=never"), masked=True)
    made[NOTES] = partial(of_trainer, notes, x[:COUNTED])
    for name, (package, _) in peers.PEERS.items():
        if package in packages:
            made[f"train: {name}"] = partial(of_peer, name, config.flow, x, "float32")
    if "bf16" in precisions and "FrEIA" in packages:
        made["train: FrEIA GLOW block, bf16"] = partial(of_peer, "FrEIA GLOW block", config.flow, x, "bf16")
    model = DNF.from_config(config, len(ours.CLASSES)).to(device).eval()
    made["score: all classes"] = partial(of_scoring, model, windows, rows, x[:COUNTED])
    made["gather: spliced vectors"] = lambda: Row(partial(windows.gather, rows))
    return made


def of_scoring(model: DNF, windows: ours.Windows, rows: Tensor, x: Tensor) -> Row:
    forward, _ = passes(model, lambda x: model.log_prob(x).sum(1), x)
    return Row(partial(ours.score, model, windows, rows), parameters(model), forward, forward, "float32")


def measure(makers: dict[str, Callable[[], Row]], precisions: tuple[str, ...], mm: int, watch: Watch) -> Measured:
    """Make the rows, and time them and ``torch.mm`` of two square matrices of size ``mm`` in turn."""
    rows, memory, device = {}, {}, watch.device
    torch.compiler.reset()  # it gives up after eight models, and those of other sizes would count
    for name, make in makers.items():
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        rows[name] = make()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            watch.seconds(rows[name].action)
            memory[name] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    actions = {name: row.action for name, row in rows.items()}
    for precision in precisions:
        actions[f"torch.mm {precision}"] = at_precision(precision, product(mm, DTYPES[precision], device), device)
    seconds = watch.in_turn(actions)
    seconds |= {name: [taken / row.times for taken in seconds[name]] for name, row in rows.items()}
    ceilings = {p: [mm**3 / taken for taken in seconds.pop(f"torch.mm {p}")] for p in precisions}
    return Measured(rows, seconds, memory, ceilings)


def at_precision(precision: str, action: Action, device: torch.device) -> Action:
    """``action`` with TF32 products if ``precision`` is tf32; for bfloat16 the operands already have this type."""

    def run() -> None:
        with ours.products_in("tf32" if precision == "tf32" else "float32", device):
            action()

    return run
