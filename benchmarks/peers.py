"""Peers: RealNVPs of other packages with the same number of coupling layers, hidden layers and units as ours, and relu.

Their prior is N(0, I), and each coupling has one network for the log-scale and the shift. Missing packages are left out.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.transforms import make_net

Density = Callable[[Tensor], Tensor]
FOLDER = Path(__file__).resolve().parent / ".peers"


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) ``(N,)`` of latents ``(N, D)``, nats."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def zuko(dim: int, settings: Flow) -> tuple[nn.Module, Density]:
    """zuko's ``NICE``, which is affine by default, its ``MAF``, or ``NICE`` with the splines of its ``NSF``."""
    from zuko.flows import MAF, NICE
    from zuko.transforms import MonotonicRQSTransform

    size = {"transforms": settings.blocks, "hidden_features": [settings.hidden] * settings.layers}
    if settings.kind == "maf":
        flow = MAF(dim, **size)
    elif settings.kind == "spline":
        shapes = [(settings.bins,), (settings.bins,), (settings.bins - 1,)]
        flow = NICE(dim, univariate=MonotonicRQSTransform, shapes=shapes, **size)
    else:
        flow = NICE(dim, **size)
    return flow, lambda x: flow().log_prob(x)


def nflows(dim: int, settings: Flow) -> tuple[nn.Module, Density]:
    """nflows' ``AffineCouplingTransform`` with its ``MLP``; its usual ``ResidualNet`` has one more hidden layer."""
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow as Nflow
    from nflows.nn.nets import MLP
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    class Net(MLP):
        def forward(self, inputs: Tensor, context: None = None) -> Tensor:
            return super().forward(inputs)

    def net(inputs: int, outputs: int) -> Net:
        return Net([inputs], [outputs], [settings.hidden] * settings.layers)

    changed = torch.arange(dim) >= dim - dim // 2
    masks = (changed.int(), (~changed).int())
    blocks = [AffineCouplingTransform(masks[i % 2], net) for i in range(settings.blocks)]
    flow = Nflow(CompositeTransform(blocks), StandardNormal([dim]))
    return flow, flow.log_prob


def normflows(dim: int, settings: Flow) -> tuple[nn.Module, Density]:
    """normflows' ``AffineCouplingBlock``, with swaps of the halves in between, as in its RealNVP examples."""
    from normflows import NormalizingFlow
    from normflows.distributions import DiagGaussian
    from normflows.flows import AffineCouplingBlock, Permute
    from normflows.nets import MLP

    layers = []
    for _ in range(settings.blocks):
        net = MLP([dim - dim // 2, *[settings.hidden] * settings.layers, 2 * (dim // 2)], init_zeros=True)
        layers += [AffineCouplingBlock(net), Permute(dim, mode="swap")]
    flow = NormalizingFlow(DiagGaussian(dim, trainable=False), layers)
    return flow, flow.log_prob


def freia(block: str, of_block: int, dim: int, settings: Flow) -> tuple[nn.Module, Density]:
    """FrEIA's ``SequenceINN`` of blocks with ``of_block`` couplings each; the user supplies the networks, here ours."""
    from FrEIA import framework, modules

    flow = framework.SequenceINN(dim)
    for _ in range(settings.blocks // of_block):
        flow.append(getattr(modules, block), subnet_constructor=lambda i, o: make_net(i, o, settings))

    def density(x: Tensor) -> Tensor:
        z, logdet = flow(x)
        return standard_normal(z) + logdet

    return flow, density


PEERS: dict[str, tuple[str, Callable[[int, Flow], tuple[nn.Module, Density]]]] = {
    "FrEIA GLOW block": ("FrEIA", lambda dim, settings: freia("GLOWCouplingBlock", 2, dim, settings)),
    "FrEIA AllInOne block": ("FrEIA", lambda dim, settings: freia("AllInOneBlock", 1, dim, settings)),
    "normflows": ("normflows", normflows),
    "nflows": ("nflows", nflows),
    "zuko": ("zuko", zuko),
}


def available() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the installed packages, and the import error of each other one."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    found, missing = {}, {}
    for name in dict.fromkeys(package for package, _ in PEERS.values()):
        try:
            importlib.import_module(name)
            found[name] = version(name)
        except ImportError as error:
            missing[name] = str(error)
    return found, missing
