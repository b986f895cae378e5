"""A multilayer perceptron that is trained only to classify frames."""

from __future__ import annotations

import copy
import logging
import math

import torch
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.experiment.progress import progress
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.training.acceleration import choose, tf32
from dnf.training.baselines.baseline import PosteriorBaseline, shares_in_batches
from dnf.training.sampler import Sampler
from dnf.training.trainer import learning_rate

log = logging.getLogger(__name__)


class MLP(PosteriorBaseline):
    """Class posteriors of vectors; what it returns is free of the classes' shares in training."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        widths, parts = [dim] + [settings.mlp_hidden] * settings.mlp_layers, []
        for width, following in zip(widths, widths[1:]):
            parts += [nn.Linear(width, following), nn.ReLU(inplace=True), nn.Dropout(settings.mlp_dropout)]
        self.net = nn.Sequential(*parts, nn.Linear(widths[-1], num_classes))

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x) ``(N, K)`` of vectors ``(N, D)`` with the shares of the classes in training."""
        return torch.log_softmax(self.net(self.standardize(x)[0]).float(), dim=1)

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """Train by cross-entropy in the flow's batches; the weights are those of the best epoch on dev.

        Raises:
            ValueError: the cross-entropy on dev was never finite.
        """
        settings, counts = self.settings, list(train.class_counts(classes).values())
        balanced = config.train.sampling != "natural"
        sampler = Sampler(
            counts, train.rows_of_class, config.train.batch_size, config.seed, balanced=balanced, device=train.home
        )
        self.log_prior.copy_(shares_in_batches(train, classes, config).log())
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=settings.mlp_lr, weight_decay=settings.mlp_weight_decay, fused=True
        )
        weights = self.dev_weights(dev, classes)
        steps, precision = settings.mlp_epochs * sampler.steps_per_epoch, choose(config.train.precision, train.device)
        best, best_epoch, state = math.inf, 0, copy.deepcopy(self.state_dict())
        for step in progress(range(steps), what="mlp", unit="steps"):
            self.train()
            for group in optimizer.param_groups:
                group["lr"] = settings.mlp_lr * learning_rate(step, steps, config.train)
            rows = sampler.batch(step)
            optimizer.zero_grad(set_to_none=True)
            with tf32(precision):
                with torch.autocast(train.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
                    log_posterior = self.log_posterior(train.gather(rows))
                loss = nn.functional.nll_loss(log_posterior, train.labels(rows))
                loss.backward()
            optimizer.step()
            if (step + 1) % sampler.steps_per_epoch == 0:
                value, epoch = self.cross_entropy(dev, weights), (step + 1) // sampler.steps_per_epoch
                log.info("mlp: epoch %d: cross-entropy %.4f on the last batch, %.4f on dev", epoch, loss.item(), value)
                if value < best:
                    best, best_epoch, state = value, epoch, copy.deepcopy(self.state_dict())
        if not best_epoch:
            raise ValueError("mlp: the cross-entropy on dev was never finite; lower baselines.mlp_lr")
        log.info("mlp: the best of %d epochs on dev is %d: %.4f nats", settings.mlp_epochs, best_epoch, best)
        self.load_state_dict(state)
