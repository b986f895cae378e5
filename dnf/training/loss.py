"""The loss of a batch and its gradients: micro-batches, precision of the products, compilation.

Only terms over pairs of vectors wait for the device: figures stay there until they are read.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from dnf.features.windows import Windows
from dnf.models.dnf import DNF
from dnf.training.acceleration import tf32
from dnf.training.objective import Objective, OfBatch


class Loss(nn.Module):
    """The training loss, summed over vectors: one module, so that it can be compiled and distributed.

    Args:
        model: the flow with its prior.
        objective: the objective; None: the NLL.
        precision: of the flow's matrix products: float32, tf32 or bf16.
    """

    def __init__(self, model: DNF, objective: Objective | None = None, precision: str = "float32"):
        super().__init__()
        self.model, self.objective, self.precision = model, objective, precision

    def latents(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` and log-determinant ``(N,)`` of vectors ``(N, D)``, float32."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(x)

    def forward(self, x: Tensor, labels: Tensor, of_batch: OfBatch | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the loss over vectors ``(N, D)`` of classes ``(N,)``, and sums of LogP, LogDet and the objective's figures."""
        z, logdet = self.latents(x)
        logp = self.model.prior.of_class(z, labels)
        loss, more = -(logp + logdet).sum(), {}
        if self.objective:
            loss, more = self.objective.of_part(self.model.prior, z, labels, logp, logdet, of_batch)
        figures = {"logp": logp.sum(), "logdet": logdet.sum()} | more
        return loss, {name: value.detach().double() for name, value in figures.items()}


def backward(
    loss: nn.Module, windows: Windows, rows: Tensor, micro_batch: int, count: float | None = None
) -> dict[str, Tensor]:
    """Gradients of the mean loss of a batch, added up over micro-batches; the means of its figures, on the device.

    The gradients are exact: no layer looks across frames, and terms over pairs of them see the whole batch first.

    Args:
        loss: a ``Loss``, or one that ``Ranks.wrap`` returned; its gradients are then means over the ranks.
        count: divisor of the sums over ``rows``, by default their number. With batch / ranks, also a
            fraction, the mean over the ranks is the mean over the batch, for any shares.
    """
    count = count or len(rows)
    inner = loss if isinstance(loss, Loss) else loss.module
    parts, sums, of_batch = rows.split(micro_batch), {}, None
    with tf32(inner.precision):
        if inner.objective and inner.objective.looks:
            with torch.no_grad():
                each = ((inner.latents(windows.gather(part))[0], windows.labels(part)) for part in parts)
                of_batch = inner.objective.look(inner.model.prior, each)
        # the outermost block of autocast keeps the weights that inner ones have cast: once for all parts
        with torch.autocast(windows.device.type, enabled=False):
            for n, part in enumerate(parts, 1):
                with contextlib.nullcontext() if loss is inner or n == len(parts) else loss.no_sync():
                    value, figures = loss(windows.gather(part), windows.labels(part), of_batch)
                    (value / count).backward()
                sums = {name: sums.get(name, 0.0) + figure for name, figure in figures.items()}
    return {name: value / count for name, value in sums.items()}
