"""Start of training from a trained model: its first layer and flow, and a prior for the classes of this training."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from dnf.experiment.config import Config
from dnf.experiment.layout import BEST_PT
from dnf.features.windows import Windows
from dnf.models.checkpoint import load_model
from dnf.models.dnf import DNF
from dnf.training.evaluate import AGREEMENT_FRAMES
from dnf.training.sampler import class_shares
from dnf.training.start import of_each_class

log = logging.getLogger(__name__)

SAME = (
    "features",
    "vad",
    "vectors",
    "cmvn",
    "splice",
    "flow",
)  # sections that decide what a flow computes, and of what
FREE = tuple(  # settings of these that may differ
    f"features.{name}" for name in ("resample", "channel", "min_duration", "max_rejected", "compress")
) + ("splice.hop",)


def check_same(folder: Path, theirs: Config, mine: Config) -> None:
    """Raise ``ValueError`` for the first setting that gives a flow other shapes or other vectors."""
    for section in SAME:
        before, now = (dataclasses.asdict(getattr(config, section)) for config in (theirs, mine))
        for name, value in before.items():
            if now[name] != value and f"{section}.{name}" not in FREE:
                raise ValueError(
                    f"train.from_model: {folder} was trained with {section}.{name}={value}, not {now[name]}; "
                    "set the same, or train without it"
                )


@torch.no_grad()
def start_from_model(model: DNF, train: Windows, classes: Sequence[str], config: Config) -> None:
    """Give a new model the first layer and flow of ``train.from_model``, and the prior of its latents of ``train``.

    Args:
        model: on the device of ``train``.
        train: vectors of the classes, at least one of each.
        classes: their names, in id order.
        config: the settings.

    Raises:
        ValueError: there is no model, or its settings differ.
    """
    folder = Path(config.train.from_model)
    trained = load_model(folder / BEST_PT, train.device)
    check_same(folder, trained.config, config)
    kept = {name: value for name, value in trained.content["model"].items() if not name.startswith("prior.")}
    model.load_state_dict(model.state_dict() | kept, strict=True)
    counts = list(train.class_counts(classes).values())
    rows = of_each_class(train, counts, AGREEMENT_FRAMES)
    z, labels = model.eval()(train.gather(rows))[0].double(), train.labels(rows)
    groups = [z[labels == k] for k in range(len(classes))] if config.prior.cond_dim else [z]
    means = torch.stack([group.mean(0) for group in groups])
    variances = torch.stack([group.var(0, correction=0) for group in groups])
    shares = class_shares(counts if len(groups) > 1 else [1], balanced=config.train.sampling != "natural")
    model.prior.start(means, variances, shares)
    log.info(
        "%s: first layer and flow are kept, %d values of classes %s; the prior is new, for %s",
        folder,
        sum(value.numel() for value in kept.values()),
        " ".join(trained.classes),
        " ".join(classes),
    )
