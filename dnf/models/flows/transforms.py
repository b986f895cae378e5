"""Parts of flows: networks, and the affine transform that they control."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow

ACTIVATIONS = {"relu": partial(nn.ReLU, inplace=True), "tanh": nn.Tanh, "silu": nn.SiLU}


def hidden_layer(inputs: int, outputs: int, settings: Flow) -> list[nn.Module]:
    """A linear map, its activation, and dropout where there is some."""
    dropout = [nn.Dropout(settings.dropout)] if settings.dropout else []
    return [nn.Linear(inputs, outputs), ACTIVATIONS[settings.activation](), *dropout]


def make_net(inputs: int, outputs: int, settings: Flow) -> nn.Sequential:
    """Multilayer perceptron ``(N, inputs)`` to ``(N, outputs)``; its last layer starts at zero.

    ``settings.dropout`` of the hidden units are left out in training (Srivastava et al., JMLR 2014).
    """
    widths = [inputs] + [settings.hidden] * settings.layers
    parts: list[nn.Module] = []
    for width, following in zip(widths, widths[1:]):
        parts += hidden_layer(width, following, settings)
    last = nn.Linear(widths[-1], outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


def widened(x: Tensor) -> Tensor:
    """``x`` in float32 if matrix products left it in fewer bits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Affine(nn.Module):
    """y = x exp(s) + t with s and t functions of the dims that steer (arXiv:1605.08803, eq. 7).

    The log-scale is bounded, |s| < ``log_scale_bound``, by s = bound tanh(raw), so no step of training can make the
    flow explode. It starts as the identity.

    Args:
        make: gives a network with the dims that steer as inputs, and so many outputs for each dim that changes.
    """

    def __init__(self, make: Callable[[int], nn.Module], settings: Flow):
        super().__init__()
        self.bound = settings.log_scale_bound
        if settings.nets == "one":
            self.net = make(2)
        else:
            self.scale_net, self.shift_net = make(1), make(1)

    def scale_and_shift(self, steering: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift, ``(N, changed)`` each, float32 or wider for any precision of the matrix products."""
        raw, shift = (
            self.net(steering).chunk(2, dim=1)
            if hasattr(self, "net")
            else (self.scale_net(steering), self.shift_net(steering))
        )
        return self.bound * torch.tanh(widened(raw)), widened(shift)

    def forward(self, steering: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(steering)
        return torch.addcmul(shift, changed, log_scale.exp()), log_scale.sum(1)

    def inverse(self, steering: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(steering)
        return (changed - shift) * torch.exp(-log_scale), -log_scale.sum(1)
