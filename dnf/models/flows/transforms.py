"""Invertible transforms that flows are made of, and their networks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow

ACTIVATIONS = {"relu": partial(nn.ReLU, inplace=True), "tanh": nn.Tanh, "silu": nn.SiLU}


def make_net(inputs: int, outputs: int, settings: Flow) -> nn.Sequential:
    """Multilayer perceptron ``(N, inputs)`` to ``(N, outputs)``; its last layer starts at zero."""
    widths = [inputs] + [settings.hidden] * settings.layers
    parts: list[nn.Module] = []
    for width, following in zip(widths, widths[1:]):
        parts += [nn.Linear(width, following), ACTIVATIONS[settings.activation]()]
    last = nn.Linear(widths[-1], outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


class Coupling(nn.Module):
    """Affine coupling: y = x exp(s) + t with s and t functions of the dims that stay (arXiv:1605.08803, eq. 7).

    The log-scale is bounded, |s| < ``log_scale_bound``, by s = bound tanh(raw), so no step of training can make the
    flow explode. It starts as the identity.

    Args:
        kept: dims that stay and steer.
        changed: dims that are scaled and shifted.
    """

    def __init__(self, kept: int, changed: int, settings: Flow):
        super().__init__()
        self.bound = settings.log_scale_bound
        if settings.nets == "one":
            self.net = make_net(kept, 2 * changed, settings)
        else:
            self.scale_net, self.shift_net = (make_net(kept, changed, settings) for _ in range(2))

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift, ``(N, changed)`` each, float32 or wider whatever the matrix products ran in."""
        raw, shift = (
            self.net(kept).chunk(2, dim=1) if hasattr(self, "net") else (self.scale_net(kept), self.shift_net(kept))
        )
        if raw.dtype in (torch.bfloat16, torch.float16):
            raw, shift = raw.float(), shift.float()
        return self.bound * torch.tanh(raw), shift

    def forward(self, kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(kept)
        return torch.addcmul(shift, changed, log_scale.exp()), log_scale.sum(1)

    def inverse(self, kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(kept)
        return (changed - shift) * torch.exp(-log_scale), -log_scale.sum(1)
