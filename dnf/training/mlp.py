"""A multilayer perceptron that tells classes apart frame by frame: what training for nothing but that gives."""

from __future__ import annotations

import copy
import logging
import math

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dnf.experiment.config import Config
from dnf.features.rows import batch_for
from dnf.features.windows import Windows
from dnf.models.mlp import MLP
from dnf.training.sampler import Sampler
from dnf.training.trainer import learning_rate

log = logging.getLogger(__name__)


@torch.no_grad()
def cross_entropy(model: MLP, windows: Windows, weights: Tensor) -> float:
    """Mean cross-entropy in nats, each frame with the weight of its class ``(K,)``."""
    model.eval()
    total = weight = 0.0
    for rows in torch.arange(len(windows)).split(batch_for(windows.device)):
        labels = windows.labels(rows)
        of_each = weights[labels]
        own = model.log_posterior(windows.gather(rows)).gather(1, labels[:, None])[:, 0]
        total -= (own * of_each).double().sum().item()
        weight += of_each.double().sum().item()
    return total / weight


def train_mlp(train: Windows, dev: Windows, classes: list[str], config: Config, log_prior: Tensor) -> MLP:
    """Train by cross-entropy on the flow's frames, in the same batches; the weights are those of the best epoch on dev.

    Args:
        train, dev: vectors of the classes the model knows.
        classes: their names, in id order.
        config: ``baselines.mlp_*``, and batch size and sampling of ``train``.
        log_prior: ``(K,)`` logs of the shares of the classes in the batches.

    Raises:
        ValueError: the cross-entropy on dev was never finite.
    """
    settings, counts = config.baselines, list(train.class_counts(classes).values())
    balanced = config.train.sampling == "balanced"
    sampler = Sampler(counts, train.rows_of_class, config.train.batch_size, balanced, config.seed, train.home)
    torch.manual_seed(config.seed)
    model = MLP(train.dim, len(classes), settings).to(train.device)
    model.standardize.set(*train.global_normalization())
    model.log_prior.copy_(log_prior)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.mlp_lr, weight_decay=settings.mlp_weight_decay)
    dev_counts = torch.tensor(list(dev.class_counts(classes).values()), device=dev.device)
    weights = model.log_prior.exp() / dev_counts  # dev has the shares of training
    steps = settings.mlp_epochs * sampler.steps_per_epoch
    best, best_epoch, state = math.inf, 0, copy.deepcopy(model.state_dict())
    for step in tqdm(range(steps), desc="mlp", unit="step"):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = settings.mlp_lr * learning_rate(step, steps, config.train)
        rows = sampler.batch(step)
        loss = nn.functional.nll_loss(model.log_posterior(train.gather(rows)), train.labels(rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % sampler.steps_per_epoch == 0:
            value, epoch = cross_entropy(model, dev, weights), (step + 1) // sampler.steps_per_epoch
            log.info("mlp: epoch %d: cross-entropy %.4f on the last batch, %.4f on dev", epoch, loss.item(), value)
            if value < best:
                best, best_epoch, state = value, epoch, copy.deepcopy(model.state_dict())
    if not best_epoch:
        raise ValueError("mlp: the cross-entropy on dev was never finite; lower baselines.mlp_lr")
    log.info("mlp: the best of %d epochs on dev is %d: %.4f nats", settings.mlp_epochs, best_epoch, best)
    model.load_state_dict(state)
    return model.eval()
