"""Normalizing flows: invertible networks whose log-determinant is known.

Direction: ``forward`` takes data to latents, ``inverse`` latents to data; both return the result and the log|det| of their
own Jacobian, ``(N,)`` in nats. Source: Dinh et al., "Density estimation using Real NVP", arXiv:1605.08803.
"""

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


class RealNVP(nn.Module):
    """Coupling layers that change the second and the first half of the dims in turn.

    ``mask: evenodd`` makes the halves of the even and the odd dims; latents keep the order of the data either way.
    One dim cannot be halved, so ``dim`` is at least 2.
    """

    def __init__(self, dim: int, settings: Flow):
        super().__init__()
        if dim < 2:
            raise ValueError(f"a RealNVP needs at least 2 dims, not {dim}")
        order = torch.arange(dim)
        if settings.mask == "evenodd":
            order = torch.cat([order[0::2], order[1::2]])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.reorders = settings.mask == "evenodd"
        self.sizes = (dim - dim // 2, dim // 2)
        self.blocks = nn.ModuleList(
            Coupling(self.sizes[i % 2], self.sizes[(i + 1) % 2], settings) for i in range(settings.blocks)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        halves = list((x[:, self.order] if self.reorders else x).split(self.sizes, dim=1))
        logdet = x.new_zeros(len(x))
        for i, block in enumerate(self.blocks):
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block(halves[kept], halves[changed])
            logdet = logdet + change
        return self._join(halves), logdet

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` to data ``(N, D)`` and log|det dx/dz| ``(N,)``."""
        halves = list((z[:, self.order] if self.reorders else z).split(self.sizes, dim=1))
        logdet = z.new_zeros(len(z))
        for i, block in reversed(list(enumerate(self.blocks))):
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block.inverse(halves[kept], halves[changed])
            logdet = logdet + change
        return self._join(halves), logdet

    def _join(self, halves: list[Tensor]) -> Tensor:
        joined = torch.cat(halves, dim=1)
        return joined[:, self.back] if self.reorders else joined


class Standardize(nn.Module):
    """Fixed first layer z = (x - mean) / std, so that densities are densities of the features themselves."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Take the mean and standard deviation, ``(F,)`` repeated over the frames of a vector or ``(D,)``."""
        repeats = len(self.mean) // len(mean)
        self.mean.copy_(mean.repeat(repeats))
        self.std.copy_(std.repeat(repeats))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.std, -self.std.log().sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z * self.std + self.mean, self.std.log().sum().expand(len(z))
