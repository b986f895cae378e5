"""What tests of flows share: weights that are nowhere zero, vectors, log-determinants by automatic differentiation."""

import torch
from torch.func import jacrev, vmap


def randomized(module: torch.nn.Module, seed: int = 1, scale: float = 0.6) -> torch.nn.Module:
    """The module in float64, every weight and bias drawn anew, those of the last layers too."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


class Given(torch.nn.Module):
    """A conditional flow, of which every vector is given the same context ``(C,)``."""

    def __init__(self, flow: torch.nn.Module, context: torch.Tensor):
        super().__init__()
        self.flow = flow
        self.register_buffer("context", context)

    def forward(self, x):
        return self.flow(x, self.context.to(x.dtype).expand(len(x), -1))

    def inverse(self, z):
        return self.flow.inverse(z, self.context.to(z.dtype).expand(len(z), -1))


def vectors(n: int, dim: int, seed: int = 2, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian_logdet(function, points: torch.Tensor) -> torch.Tensor:
    """log|det| of the Jacobian at each point, by automatic differentiation."""
    return torch.linalg.slogdet(vmap(jacrev(lambda x: function(x[None])[0][0]))(points)).logabsdet
