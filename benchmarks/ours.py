"""The benchmark's interface to the project: a store, a trainer, its step, scoring, a model folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.masked import MaskedRealNVP
from dnf.experiment.config import Config, resolve
from dnf.experiment.layout import (
    BEST_PT,
    CENTRES_BIN,
    CONFIG_YAML,
    FRAMES_BIN,
    META_JSON,
    OFFSETS_NPY,
    SPOKEN_NPY,
    STATS_BIN,
    UTTS_TSV,
)
from dnf.features.frame_store import FrameStore
from dnf.features.windows import Windows
from dnf.models import checkpoint
from dnf.models.dnf import DNF
from dnf.models.flows import FLOWS
from dnf.training.acceleration import tf32
from dnf.training.ranks import Ranks
from dnf.training.trainer import Trainer

__all__ = ["Trainer", "Windows"]
CLASSES = ["a", "b"]
SCORED = 4000  # vectors of a batch in scoring, as in dnf.training.evaluate
STEPS = 80_000  # steps of a training run, as in the notes


def make_store(folder: Path, frames: int, dim: int, length: int = 300) -> FrameStore:
    """A simulated store of utterances of 3 s, three quarters of it speech, of twenty speakers in two classes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((frames, dim), dtype=np.float32)
    values.astype(np.float16).tofile(folder / FRAMES_BIN)
    offsets = np.arange(0, frames + 1, length)
    centres = np.arange(frames)[np.arange(frames) % 4 > 0]
    centres.tofile(folder / CENTRES_BIN)
    np.save(folder / OFFSETS_NPY, offsets)
    spoken = np.searchsorted(centres, offsets)
    np.save(folder / SPOKEN_NPY, spoken)
    stats = np.zeros((len(offsets) - 1, 2, dim + 1))
    stats[:, 0, -1], stats[:, 1, :-1] = np.diff(spoken), np.diff(spoken)[:, None]
    stats.tofile(folder / STATS_BIN)
    rows = "".join(f"s{i % 20}-{i}\ts{i % 20}\t{CLASSES[i % 2]}\t\n" for i in range(len(offsets) - 1))
    (folder / UTTS_TSV).write_text("utt\tspeaker\tclass\tscore\n" + rows)
    meta = {"dtype": "float16", "dim": dim, "frames": frames, "speech": len(centres), "utterances": len(offsets) - 1}
    (folder / META_JSON).write_text(json.dumps(meta) + "\n")
    return FrameStore(folder)


def settings(context: int, hidden: int, batch: int, *words: str) -> Config:
    """Defaults with ``context`` frames on each side, all dims class-dependent, and ``section.key=value`` words."""
    dim = resolve(words).features.dim
    shape = [f"splice.left={context}", f"splice.right={context}", f"prior.cond_dim={(2 * context + 1) * dim}"]
    train = [f"flow.hidden={hidden}", f"train.batch_size={batch}", f"train.steps={STEPS}"]
    return resolve([*shape, *train, *words])


def open_windows(store: FrameStore, config: Config, device: torch.device, *, all_classes: bool = False) -> Windows:
    return Windows([store], config.splice, config.cmvn, CLASSES, keep_unseen=all_classes, device=device)


def make_trainer(windows: Windows, config: Config, *, masked: bool = False, ranks: Ranks | None = None) -> Trainer:
    """A trainer, whose ``advance()`` is a step of ``run.sh``: batch drawn, windows gathered, gradients, clipping, AdamW.

    Args:
        masked: use the flow of ``benchmarks.masked`` instead of ours.
        ranks: the processes that train; None: only this one.
    """
    out = windows.stores[0].directory.parent
    with mock.patch.dict(FLOWS, realnvp=MaskedRealNVP) if masked else contextlib.nullcontext():
        return Trainer(windows, windows, config, CLASSES, out, ranks or Ranks(device=windows.device))


def take_steps(trainer: Trainer, count: int) -> None:
    """Training steps whose figures are fetched once, as in ``run.sh``."""
    for _ in range(count):
        trainer.advance()
    trainer.settle()


@contextlib.contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Run matrix products in TF32 or bfloat16 inside the block."""
    with tf32(precision), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def density(model: DNF) -> Callable[[Tensor], Tensor]:
    """Log density of the first class, as in training."""

    def of(x: Tensor) -> Tensor:
        z, logdet = model(x)
        return model.prior.of_class(z, torch.zeros(len(x), dtype=torch.long, device=x.device)) + logdet

    return of


@torch.no_grad()
def score(model: DNF, windows: Windows, rows: Tensor) -> None:
    """Log-likelihoods of all classes for vectors of a set, as in stage latents."""
    for part in rows.split(SCORED):
        model.log_prob(windows.gather(part))


def save_model(folder: Path, config: Config) -> None:
    """The folder of an experiment with an untrained model, for ``utils/classify.sh``."""
    config.save(folder / CONFIG_YAML)
    content = {"config": checkpoint.config_tree(config), "classes": CLASSES}
    model = DNF.from_config(config, len(CLASSES))
    checkpoint.save(folder / BEST_PT, content | {"model": model.state_dict()})
