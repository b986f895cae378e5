"""NLL of dev against processor seconds of training, for several settings and optimizers, as tables and one picture.

    OMP_NUM_THREADS=1 python3 -m benchmarks.time_to_nll exp/dnf440_c440_joint OUT 'adamw' 'muon train.lr=0.01'

Each run is an optimizer and settings in place of the experiment's; it trains from scratch on the experiment's frames. Only
training is timed, not the evaluation of dev. OUT gets a table of each run, and ``time_to_nll.png`` has all tables there.
With ``muon`` the matrices of the flow's networks are trained by Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon),
with steps as large as those of AdamW (Liu et al., arXiv:2502.16982), and all other parameters by AdamW.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from dnf.experiment import entry
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import resolve
from dnf.experiment.layout import CLASSES_TXT, CONFIG_YAML, Layout
from dnf.experiment.tables import each_row, write_tsv
from dnf.plots.style import NamedFigures, new_figure, plain_log_ticks, write_figures
from dnf.training.evaluate import evaluate
from dnf.training.ranks import Ranks
from dnf.training.train import make_trainer
from dnf.training.trainer import Trainer

COLUMNS = ("step", "epoch", "seconds", "nll", "ce")
PENDING = 50  # most steps before their figures are fetched, as in stage train
DPI = 150


class MuonAndAdamW:
    """Muon for matrices and AdamW for the rest, with the interface of one optimizer that ``Trainer.advance`` needs."""

    def __init__(self, trainer: Trainer):
        settings, flow = trainer.config.train, list(trainer.model.flow.parameters())
        rest = [p for p in flow if p.dim() != 2] + list(trainer.model.prior.parameters())
        self.muon = torch.optim.Muon(
            [p for p in flow if p.dim() == 2],
            weight_decay=settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW(rest, weight_decay=0.0, fused=True)
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    def zero_grad(self, *, set_to_none: bool) -> None:
        for optimizer in (self.muon, self.adamw):
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        self.muon.step()
        self.adamw.step()


OPTIMIZERS: dict[str, Callable[[Trainer], object]] = {
    "adamw": lambda trainer: trainer.optimizer,
    "muon": MuonAndAdamW,
}


def measured(trainer: Trainer, looks: int) -> Iterator[dict[str, float]]:
    """Train to the last step, with so many evaluations an epoch: step, epoch, processor seconds of training, NLL and CE of dev."""
    seconds, every = 0.0, max(1, trainer.sampler.steps_per_epoch // looks)
    while trainer.step < trainer.total_steps:
        began = time.process_time()
        trainer.model.train()
        trainer.advance()
        looked = trainer.step % every == 0 or trainer.step >= trainer.total_steps
        if looked or trainer.step % PENDING == 0:
            trainer.settle()
        seconds += time.process_time() - began
        if looked:
            figures = evaluate(trainer.model, trainer.dev, **trainer.objective.evaluate_options)
            epoch = trainer.step / trainer.sampler.steps_per_epoch
            row = {"step": trainer.step, "epoch": round(epoch, 2), "seconds": round(seconds, 2)}
            yield row | {name: round(figures[name], 4) for name in ("nll", "ce") if name in figures}


def new_trainer(exp: Path, run: str, out: Path) -> Trainer:
    """The trainer of a run: the name of an optimizer, then settings."""
    optimizer, *words = run.split()
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"'{run}': begins with no optimizer; use one of: {' '.join(OPTIMIZERS)}")
    config, layout = resolve([exp / CONFIG_YAML, *words]), Layout.read(exp)
    classes = choose_classes(read_classes(layout.data / CLASSES_TXT), config.data.classes, layout.data / CLASSES_TXT)
    trainer = make_trainer(layout.frames, out, config, classes, Ranks())
    trainer.optimizer = OPTIMIZERS[optimizer](trainer)
    return trainer


def draw(out: Path, title: str) -> NamedFigures:
    """The tables of ``out`` as lines, the time on a logarithmic axis."""
    paths = sorted(out.glob("*.tsv"))
    figure = new_figure(title, 3.5 + 0.17 * len(paths))
    axes = figure.subplots()
    for path in paths:
        rows = list(each_row(path))
        axes.plot(
            [float(r["seconds"]) for r in rows],
            [float(r["nll"]) for r in rows],
            marker=".",
            label=path.stem.replace("train.", ""),
        )
    axes.set(xscale="log", xlabel="processor seconds of training, one thread", ylabel="NLL of dev, nats per frame")
    plain_log_ticks(axes.xaxis)
    figure.legend(loc="outside lower center")
    yield "time_to_nll", figure


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.time_to_nll", description=__doc__.split("\n\n")[0])
    parser.add_argument("exp", type=Path, help="folder of an experiment, stage train done")
    parser.add_argument("out", type=Path, help="folder of the tables and the picture")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="'adamw' or 'muon', with settings: 'muon train.lr=0.01'")
    parser.add_argument("--looks", type=int, default=2, help="evaluations of dev in an epoch (%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for run in args.runs:
        rows = list(measured(new_trainer(args.exp, run, args.out), args.looks))
        write_tsv(args.out / f"{run}.tsv", rows, [name for name in COLUMNS if name in rows[0]])
        print(f"{run}: NLL {rows[-1]['nll']} after {rows[-1]['seconds']} s", flush=True)
    write_figures(draw(args.out, f"{args.exp.resolve().name}: time to NLL"), args.out, DPI)
    return 0


if __name__ == "__main__":
    entry.run(main)
