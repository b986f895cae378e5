"""Normalizing flows: invertible networks whose log-determinant is known, one file a family.

A family is a module made of the dims D of a vector and the settings ``flow``; it refuses settings that do not fit with a
``ValueError``. Its ``forward`` takes data to latents, its ``inverse`` latents to data; both take ``(N, D)`` and return
``(N, D)`` and the log|det| of their own Jacobian, ``(N,)`` in nats. Each vector is mapped by itself, and alike in training
and evaluation, except for dropout. A conditional family is made of the dims F of a frame and those of its context, too;
its ``forward`` and ``inverse`` take the context ``(N, C)`` as well.

To add a family: its file, its row in ``FLOWS``, its name and settings in ``dnf.experiment.settings.Flow`` and
``conf/default.yaml``; ``tests/models/test_flows.py`` then tests it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dnf.experiment.settings import Flow
from dnf.models.flows.conditional import Conditional
from dnf.models.flows.linear import LU, Chain
from dnf.models.flows.maf import MAF
from dnf.models.flows.realnvp import RealNVP
from dnf.models.flows.spline import SplineFlow

FLOWS: dict[str, Callable[..., nn.Module]] = {
    "realnvp": RealNVP,
    "maf": MAF,
    "spline": SplineFlow,
    "conditional": Conditional,
}
CONDITIONAL = ("conditional",)  # those of a frame given others


def make_flow(dim: int, settings: Flow, context: int = 0) -> nn.Module:
    """The flow of ``settings.kind``, behind a linear one if the first layer is trainable.

    >>> import torch
    >>> from dnf.experiment.config import resolve
    >>> flow = make_flow(6, resolve([]).flow)
    >>> x = torch.randn(5, 6)
    >>> z, logdet = flow(x)
    >>> z.shape, logdet.shape
    (torch.Size([5, 6]), torch.Size([5]))
    >>> torch.allclose(flow.inverse(z)[0], x)
    True

    Args:
        dim: dims of a vector, or of a frame for a conditional flow.
        settings: of the flow.
        context: dims that a conditional flow is given.

    Raises:
        ValueError: settings that the family cannot serve.
    """
    if settings.kind in CONDITIONAL:
        return FLOWS[settings.kind](dim, settings, context)
    flow = FLOWS[settings.kind](dim, settings)
    return Chain(LU(dim), flow) if settings.first_trainable else flow
