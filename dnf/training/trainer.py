"""The state of a training run and its operations: a step, an evaluation on dev, a checkpoint.

Steps run on the device, and the figures of many steps are fetched together: a step that was not finite has
changed no weight, and is undone with all later steps when its figures arrive.

Of several ranks each computes its share of every batch and of dev; their means and sums are the same on all, so all
find the same spikes, restores and best step. Only rank 0 writes.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.config import Config, from_saved
from dnf.experiment.layout import BEST_PT, LAST_PT
from dnf.experiment.settings import Train
from dnf.experiment.stage import settings_of
from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows, at_step
from dnf.models import checkpoint
from dnf.models.dnf import DNF
from dnf.training import acceleration
from dnf.training.acceleration import compiles
from dnf.training.evaluate import AGREEMENT_FRAMES, evaluate
from dnf.training.from_model import start_from_model
from dnf.training.loss import Loss, backward
from dnf.training.objective import Objective
from dnf.training.ranks import ALONE, Ranks
from dnf.training.sampler import OfCorpora, Sampler
from dnf.training.spikes import SpikeMonitor
from dnf.training.start import start_model

log = logging.getLogger(__name__)

CPU_MICRO_BATCH = 2000


def learning_rate(step: int, total: int, settings: Train) -> float:
    """Share of ``train.lr`` at a step: linear warm-up, then half a cosine down to ``lr_final``."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.lr_final + (1 - settings.lr_final) * 0.5 * (1 + math.cos(math.pi * progress))


class Trainer:
    """The state of a run and its operations: a step with one batch, an evaluation on dev, a checkpoint.

    Args:
        train, dev: vectors of the classes the model knows.
        config: the settings.
        classes: names of the classes, in id order.
        out: ``exp/<exp>``.
        ranks: this process among those that train the model.
        last: checkpoint to continue from, if there is one of the same settings, classes and frames.
    """

    def __init__(
        self,
        train: Windows,
        dev: Windows,
        config: Config,
        classes: list[str],
        out: Path,
        ranks: Ranks = ALONE,
        last: Path | None = None,
    ):
        self.train, self.dev, self.config, self.classes, self.out = train, dev, config, classes, out
        self.device, self.ranks, settings = train.device, ranks, config.train
        counts = list(train.class_counts(classes).values())
        self.sampler = self._make_sampler(counts)
        self.total_steps = settings.steps or settings.epochs * self.sampler.steps_per_epoch
        self.eval_steps = settings.eval_steps or self.sampler.steps_per_epoch
        at_once = CPU_MICRO_BATCH if self.device.type == "cpu" else settings.batch_size
        self.micro_batch = settings.micro_batch or at_once
        self.frames = [[store.fingerprint() for store in windows.stores] for windows in (train, dev)]
        state = self._read(last) if last else None
        self.model = self._make_model(new=state is None)
        self.sample = evenly_spaced(len(train), AGREEMENT_FRAMES)
        self.objective = Objective(config, counts, ranks)
        self.precision = acceleration.choose(settings.precision, self.device)
        self.loss = Loss(self.model, self.objective, self.precision)
        self.compiled = self._compile()
        self.parallel = ranks.wrap(self.loss)
        self.optimizer = self._make_optimizer()
        self.monitor = SpikeMonitor(settings.spike_factor)
        self.step, self.restores, self.lr_scale = 0, 0, 1.0
        self.pending: list[
            tuple[float, dict[str, Tensor]]
        ] = []  # learning rate and figures of steps that are not fetched yet
        self.best, self.best_step = math.inf, 0
        if state:
            self.load_state(state)
        else:
            self.last_good = self.state()

    def _make_sampler(self, counts: list[int]) -> Sampler:
        """Batches of training vectors, of which the classes have ``counts``."""
        settings, train = self.config.train, self.train
        draw = {"balanced": settings.sampling != "natural", "device": train.home, "total": len(train)}
        rows_of_class = train.rows_of_class
        if settings.sampling == "corpora":
            of_corpora = OfCorpora(train, len(counts))
            counts, rows_of_class = of_corpora.counts, of_corpora.rows_of_class
        sampler = Sampler(counts, rows_of_class, settings.batch_size, self.config.seed, **draw)
        if sampler.batch_size < settings.batch_size:
            log.warning(
                "train.batch_size %d is more than the %d training frames; using all of them",
                settings.batch_size,
                len(train),
            )
        if sampler.batch_size < self.ranks.size:
            raise ValueError(
                f"{self.out}: a batch of {sampler.batch_size} frames is too small for {self.ranks.size} processes; "
                "lower train.num_gpus or train.num_nodes"
            )
        return sampler

    def _read(self, last: Path) -> dict | None:
        """The state of this run in ``last``; None if there is none, or it is of another run."""
        state = checkpoint.load(last, self.device) if last.is_file() else None
        if state:
            settings, wanted = (settings_of("train", of) for of in (from_saved(state["config"]), self.config))
            if (state["classes"], state.get("frames"), settings) == (self.classes, self.frames, wanted):
                log.info("%s: continuing from step %d of %d", last, state["step"], self.total_steps)
                del state["format"]
            else:
                log.info("%s: was trained with other settings or frames; training from scratch", last)
                state = None
        self.ranks.check_same(state["step"] if state else 0, f"{last}: last checkpoint")
        return state

    def _make_model(self, *, new: bool) -> DNF:
        """A model; if it is new, it starts at training vectors, or at ``train.from_model``."""
        torch.manual_seed(self.config.seed)
        model = DNF.from_config(self.config, len(self.classes)).to(self.device)
        if new and self.config.train.from_model:
            start_from_model(model, self.train, self.classes, self.config)
        elif new:
            start_model(model, self.train, self.classes, self.config, self.ranks)
        return model

    def _compile(self) -> bool:
        """Compile the loss if the run is long enough, and return whether it is compiled."""
        frames = self.total_steps * self.sampler.batch_size // self.ranks.size
        wanted = compiles(self.config.train.compile, self.device, self.objective, self.model, frames)
        if wanted:
            whole = self.ranks.size == 1 and self.micro_batch >= self.sampler.batch_size
            self.loss.compile(mode="reduce-overhead" if whole and self.device.type == "cuda" else None)
        return wanted

    def _make_optimizer(self) -> torch.optim.AdamW:
        """AdamW without weight decay of the prior, since a mean of 0 is not more likely than any other."""
        settings = self.config.train
        of_prior = {"params": list(self.model.prior.parameters()), "weight_decay": 0.0}
        of_flow = {"params": list(self.model.flow.parameters()), "weight_decay": settings.weight_decay}
        return torch.optim.AdamW([of_flow, of_prior], lr=settings.lr, fused=True)

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

    def advance(self) -> None:
        """One step of training; ``settle`` returns its result. If its gradient is not finite, it changes no weight."""
        settings = self.config.train
        rate = settings.lr * self.lr_scale * learning_rate(self.step, self.total_steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self._seed_dropout()
        rows, count = self.sampler.batch(self.step, self.ranks), self.sampler.batch_size / self.ranks.size
        windows = at_step(self.train, self.config, self.step)
        mean = backward(self.parallel, windows, rows, self.micro_batch, count)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        # a protocol of torch's fused optimizers: without a word to the processor, no step where it is 1
        self.optimizer.found_inf = (~norm.isfinite()).float()
        self.optimizer.step()
        self.pending.append((rate, mean | {"grad_norm": norm.double()}))
        self.step += 1

    def _seed_dropout(self) -> None:
        """Make dropout depend only on seed, step and rank, not on earlier draws or the device."""
        if self.config.flow.dropout:
            draw = np.random.SeedSequence((self.config.seed, self.step, self.ranks.rank)).generate_state(1)
            torch.manual_seed(int(draw[0]))

    def settle(self) -> list[dict[str, float]]:
        """Figures of the steps since the last call, up to one that was not finite, which is then undone."""
        if not self.pending:
            return []
        pending, self.pending, settled = self.pending, [], []
        first, names = self.step - len(pending), list(pending[0][1])
        table = torch.stack([torch.stack(list(mean.values())) for _, mean in pending])
        values = torch.tensor(self.ranks.mean(table.flatten().tolist()), dtype=torch.float64).view(table.shape)
        for n, ((rate, _), row) in enumerate(zip(pending, values.tolist()), 1):
            figures = dict(zip(names, row)) | {"lr": rate}
            figures["nll"] = -(figures["logp"] + figures["logdet"])
            if not math.isfinite(figures["nll"] + figures["grad_norm"]):
                self.restore(first + n, figures)
                break
            if self.monitor.add(figures["nll"]):
                log.warning("step %d: spike, NLL %.2f nats/frame", first + n, figures["nll"])
            settled.append(figures)
        return settled

    def restore(self, step: int, figures: dict[str, float]) -> None:
        """Back to the last good state, to continue after the failed ``step`` with half the learning rate."""
        restores, lr_scale, spikes = self.restores + 1, self.lr_scale / 2, self.monitor.spikes
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
            record: records the figures before the checkpoints are written, so that a run killed in between makes
                them again.
        """
        figures = evaluate(self.model, self.dev, ranks=self.ranks, **self.objective.evaluate_options)
        value = self.objective.rank(figures)
        better = value < self.best
        if better:
            self.best, self.best_step = value, self.step
        record(figures)
        self.last_good = self.state()
        if better:
            alike = not self.config.flow.dropout  # else training leaves units out, and evaluation does not
            sample = evaluate(self.model, self.train, self.sample, training=alike, ranks=self.ranks)
            self.save(BEST_PT, self.last_good | {"dev": figures, "sample": sample})
        self.save(LAST_PT, self.last_good)
        return figures

    def save(self, name: str, content: dict) -> None:
        if self.ranks.writes:
            checkpoint.save(self.out / name, content)

    def summary(self) -> dict[str, int]:
        """Counts of the run that the same seed reproduces."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "frames": len(self.train),
            "steps": self.step,
            "best_step": self.best_step,
            "spikes": self.monitor.spikes,
            "restores": self.restores,
        }
