"""The perceptron that is compared with the flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Baselines
from dnf.models.standardize import Standardize


class MLP(nn.Module):
    """Class posteriors of vectors; what it returns is free of the classes' shares in training.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
        settings: layers and dropout.
    """

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__()
        self.standardize = Standardize(dim)
        self.register_buffer("log_prior", torch.full((num_classes,), -math.log(num_classes)))
        widths, parts = [dim] + [settings.mlp_hidden] * settings.mlp_layers, []
        for width, following in zip(widths, widths[1:]):
            parts += [nn.Linear(width, following), nn.ReLU(inplace=True), nn.Dropout(settings.mlp_dropout)]
        self.net = nn.Sequential(*parts, nn.Linear(widths[-1], num_classes))

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x) ``(N, K)`` of vectors ``(N, D)`` with the shares of the classes in training."""
        return torch.log_softmax(self.net(self.standardize(x)[0]).float(), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats, up to a constant common to the classes."""
        return self.log_posterior(x) - self.log_prior
