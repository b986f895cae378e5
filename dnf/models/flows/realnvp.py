"""RealNVP. Source: Dinh et al., "Density estimation using Real NVP", arXiv:1605.08803."""

from __future__ import annotations

from dnf.experiment.settings import Flow
from dnf.models.flows.coupling import CouplingFlow
from dnf.models.flows.transforms import Affine, make_net


class AffineCoupling(Affine):
    """An affine transform of the dims that change, steered by those that stay.

    Args:
        kept: dims that stay and steer.
        changed: dims that are scaled and shifted.
    """

    def __init__(self, kept: int, changed: int, settings: Flow):
        super().__init__(lambda each: make_net(kept, each * changed, settings), settings)


class RealNVP(CouplingFlow):
    """Affine coupling layers.

    >>> import torch
    >>> from dnf.experiment.config import resolve
    >>> flow = RealNVP(6, resolve(["flow.blocks=3", "flow.hidden=8"]).flow)
    >>> z, logdet = flow(torch.ones(2, 6))
    >>> z.shape, logdet.tolist()  # a new flow is the identity
    (torch.Size([2, 6]), [0.0, 0.0])
    """

    coupling = AffineCoupling
