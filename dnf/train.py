"""Stage 3: train a flow by maximum likelihood; ``best.pt`` is chosen on dev.

A run can be stopped at any point: started again with the same settings it goes on from ``last.pt`` and ends with the same
weights. A step with a non-finite loss or gradient goes back to the state of ``last.pt`` with half the learning rate.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dnf import checkpoint, entry
from dnf.classes import choose_classes, read_classes
from dnf.config import Config, Train, from_saved
from dnf.environment import choose_device, describe_environment, write_json
from dnf.evaluate import AGREEMENT_FRAMES, evaluate, evenly_spaced
from dnf.frames import FrameStore
from dnf.history import History
from dnf.model import DNF
from dnf.monitor import SpikeMonitor
from dnf.sampler import Sampler
from dnf.splits import check_speakers
from dnf.stage import settings_of
from dnf.windows import Windows

log = logging.getLogger(__name__)

ROWS_PER_EPOCH = 10
CPU_MICRO_BATCH = 2000


@contextlib.contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Run matrix products in TF32 or bfloat16 inside the block; everything else stays float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def learning_rate(step: int, total: int, settings: Train) -> float:
    """Share of ``train.lr`` at a step: linear warm-up, then half a cosine down to ``lr_final``."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.lr_final + (1 - settings.lr_final) * 0.5 * (1 + math.cos(math.pi * progress))


def backward(model: DNF, windows: Windows, rows: Tensor, micro_batch: int, precision: str) -> dict[str, Tensor]:
    """Gradients of the mean NLL of a batch, added up over micro-batches; its mean LogP and LogDet in nats per frame.

    The gradients are exact: no layer looks across frames.
    """
    logp = logdet = torch.zeros((), device=windows.device, dtype=torch.float64)
    for part in rows.split(micro_batch):
        x, labels = windows.gather(part), windows.labels(part)
        with matmul_precision(precision, windows.device):
            z, part_logdet = model(x)
        part_logp = model.prior.of_class(z, labels)
        (-(part_logp + part_logdet).sum() / len(rows)).backward()
        logp = logp + part_logp.detach().sum()
        logdet = logdet + part_logdet.detach().sum()
    return {"logp": logp / len(rows), "logdet": logdet / len(rows)}


def of_each_class(windows: Windows, counts: Sequence[int], count: int) -> Tensor:
    """About ``count`` rows of ``windows``, evenly spaced within each class and as many of each."""
    present = [k for k, n in enumerate(counts) if n]
    share = -(-count // len(present))
    return torch.cat([windows.rows_of_class(k, evenly_spaced(counts[k], share)) for k in present])


class Trainer:
    """The state of a run and what moves it: one batch at a time, a look at dev, a checkpoint.

    Args:
        train, dev: vectors of the classes the model knows.
        config: the settings.
        classes: names of the classes, in id order.
        out: ``exp/<exp>``.
    """

    def __init__(self, train: Windows, dev: Windows, config: Config, classes: list[str], out: Path):
        self.train, self.dev, self.config, self.classes, self.out = train, dev, config, classes, out
        self.device = train.device
        settings = config.train
        counts = list(train.class_counts(classes).values())
        self.sampler = Sampler(
            counts, train.rows_of_class, settings.batch_size, settings.sampling == "balanced", config.seed
        )
        if self.sampler.batch_size < settings.batch_size:
            log.warning(
                "train.batch_size %d is more than the %d training frames; using all of them",
                settings.batch_size,
                len(train),
            )
        self.total_steps = settings.steps or settings.epochs * self.sampler.steps_per_epoch
        self.eval_steps = settings.eval_steps or self.sampler.steps_per_epoch
        self.micro_batch = settings.micro_batch or (
            CPU_MICRO_BATCH if self.device.type == "cpu" else settings.batch_size
        )
        torch.manual_seed(config.seed)
        self.model = DNF.from_config(config, len(classes)).to(self.device)
        self.model.standardize.set(*(t.to(self.device) for t in train.global_normalization()))
        self.sample = evenly_spaced(len(train), AGREEMENT_FRAMES)
        first = of_each_class(train, counts, AGREEMENT_FRAMES)
        self.model.init_means(train.gather(first), train.labels(first))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.frames = [[store.fingerprint() for store in windows.stores] for windows in (train, dev)]
        self.monitor = SpikeMonitor(settings.spike_factor)
        self.step, self.restores, self.lr_scale = 0, 0, 1.0
        self.best, self.best_step = math.inf, 0
        self.last_good = self.state()

    def state(self) -> dict:
        """All that the rest of the run depends on, as tensors and plain values."""
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "monitor": self.monitor.state(),
                "restores": self.restores,
                "lr_scale": self.lr_scale,
                "best": self.best,
                "best_step": self.best_step,
                "random_state": torch.get_rng_state(),
                "config": checkpoint.config_tree(self.config),
                "classes": self.classes,
                "frames": self.frames,
            }
        )

    def load_state(self, state: dict) -> None:
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.step, self.best, self.best_step = state["step"], state["best"], state["best_step"]
        self.restores, self.lr_scale = state["restores"], state["lr_scale"]
        self.monitor = SpikeMonitor(self.config.train.spike_factor, state["monitor"])
        torch.set_rng_state(state["random_state"].cpu())
        self.last_good = state

    def advance(self) -> dict[str, float] | None:
        """One step of training; its figures, or None when it was not finite and has been undone."""
        settings = self.config.train
        rate = settings.lr * self.lr_scale * learning_rate(self.step, self.total_steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        mean = backward(self.model, self.train, self.sampler.batch(self.step), self.micro_batch, settings.precision)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        figures = {name: value.item() for name, value in mean.items()} | {"grad_norm": norm.item(), "lr": rate}
        figures["nll"] = -(figures["logp"] + figures["logdet"])
        if not math.isfinite(figures["nll"] + figures["grad_norm"]):
            self.restore(figures)
            return None
        self.optimizer.step()
        self.step += 1
        if self.monitor.add(figures["nll"]):
            log.warning("step %d: spike, NLL %.2f nats/frame", self.step, figures["nll"])
        return figures

    def restore(self, figures: dict[str, float]) -> None:
        """Back to the last good state, past the batch that broke, with half the learning rate."""
        step, restores, lr_scale, spikes = self.step + 1, self.restores + 1, self.lr_scale / 2, self.monitor.spikes
        if restores > self.config.train.max_restores:
            raise ValueError(
                f"{self.out}: training became non-finite {restores} times (NLL {figures['nll']}, gradient norm "
                f"{figures['grad_norm']} at step {step}); lower train.lr or flow.log_scale_bound"
            )
        log.warning(
            "step %d: NLL %s, gradient norm %s: back to step %d",
            step,
            figures["nll"],
            figures["grad_norm"],
            self.last_good["step"],
        )
        self.load_state(self.last_good)
        self.step, self.restores, self.lr_scale, self.monitor.spikes = step, restores, lr_scale, spikes

    def look(self, record: Callable[[dict[str, float]], None] = lambda figures: None) -> dict[str, float]:
        """Figures on dev; keeps ``best.pt`` when they are the best so far, and always ``last.pt``.

        Args:
            record: takes the figures down before the checkpoints are written, so that a run killed in between makes
                them again.
        """
        figures = evaluate(self.model, self.dev)
        value = figures["nll"] if self.config.train.select == "nll" else -figures["accuracy"]
        better = value < self.best
        if better:
            self.best, self.best_step = value, self.step
        record(figures)
        self.last_good = self.state()
        if better:
            best = {"dev": figures, "sample": evaluate(self.model, self.train, self.sample, training=True)}
            checkpoint.save(self.out / "best.pt", self.last_good | best)
        checkpoint.save(self.out / "last.pt", self.last_good)
        return figures

    def summary(self) -> dict[str, int]:
        """What happened, in numbers that the same seed repeats."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "frames": len(self.train),
            "steps": self.step,
            "best_step": self.best_step,
            "spikes": self.monitor.spikes,
            "restores": self.restores,
        }


def run(trainer: Trainer) -> float:
    """Train to the last step, keeping history, TensorBoard scalars and a progress bar; the seconds of all its parts."""
    out, per_row = trainer.out, max(1, trainer.eval_steps // ROWS_PER_EPOCH)
    recent: list[dict[str, float]] = []
    bar = tqdm(total=trainer.total_steps, initial=trainer.step, desc=f"train {out.name}", unit="step")
    with History(out, trainer.step) as history, bar:

        def record(dev: dict[str, float]) -> None:
            row = {name: sum(f[name] for f in recent) / len(recent) for name in recent[0]} if recent else {}
            row |= {f"dev_{name}": value for name, value in dev.items()}
            row |= {"spikes": trainer.monitor.spikes, "restores": trainer.restores}
            epoch = trainer.step / trainer.sampler.steps_per_epoch
            rate = history.write(trainer.step, epoch, len(recent) * trainer.sampler.batch_size, row)
            if recent:
                bar.set_postfix_str(f"NLL {row['nll']:.2f} nats/frame, {rate:.0f} frames/s")
            recent.clear()

        while trainer.step < trainer.total_steps:
            trainer.model.train()
            before = trainer.step
            figures = trainer.advance()
            bar.update(trainer.step - before)
            if figures:
                recent.append(figures)
            if trainer.step % trainer.eval_steps == 0 or trainer.step >= trainer.total_steps:
                trainer.look(record)
                history.rest()
            elif trainer.step % per_row == 0:
                record({})
        seconds = history.seconds()
    if not trainer.best_step:
        raise ValueError(f"{out}: the NLL on dev was never finite; lower train.lr or flow.log_scale_bound, or look at the dev set")
    return seconds


def make_trainer(frames: Path, out: Path, config: Config, classes: list[str], device: torch.device) -> Trainer:
    """Open train and dev and check that every class of the model has frames in both."""
    stores = {name: FrameStore(frames / name) for name in dict.fromkeys((*config.data.train, *config.data.dev))}
    check_speakers(stores, config.data)
    opened = {}
    for role in ("train", "dev"):
        names = getattr(config.data, role)
        windows = Windows(
            [stores[n] for n in names], config.splice, config.cmvn, classes, keep_unseen=False, device=device
        )
        for label, count in windows.class_counts(classes).items():
            if not count:
                raise ValueError(
                    f"{frames}: class {label} has no frames in {' '.join(names)}; add recordings of it or leave it out of data.classes"
                )
            log.info("%s: class %s has %d frames", "+".join(names), label, count)
        opened[role] = windows
    return Trainer(opened["train"], opened["dev"], config, classes, out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of the frame stores")
    parser.add_argument("exp", type=Path, help="folder of the experiment; its config.yaml holds the settings")
    parser.add_argument("--classes", type=Path, required=True, help="the corpus's classes.txt")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: cuda if there is one (%(default)s)"
    )
    parser.add_argument("--restart", action="store_true", help="train from scratch although there is a last.pt")
    args = parser.parse_args(argv)
    config, device = Config.load(args.exp / "config.yaml"), choose_device(args.device)
    classes = choose_classes(read_classes(args.classes), config.data.classes, args.classes)
    trainer = make_trainer(args.frames, args.exp, config, classes, device)
    last = args.exp / "last.pt"
    if last.is_file() and not args.restart:
        state = checkpoint.load(last, device)
        settings = settings_of("train", from_saved(state["config"]))
        if (state["classes"], state.get("frames"), settings) == (classes, trainer.frames, settings_of("train", config)):
            trainer.load_state({k: v for k, v in state.items() if k != "format"})
            log.info("%s: going on from step %d of %d", last, trainer.step, trainer.total_steps)
        else:
            log.info("%s: was trained with other settings or frames; training from scratch", last)
    environment = describe_environment(device)
    seconds = run(trainer)
    write_json(args.exp / "env.json", environment | {"train_seconds": round(seconds, 1)})
    write_json(args.exp / "training.json", trainer.summary())
    return 0


if __name__ == "__main__":
    entry.run(main)
