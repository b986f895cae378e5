"""Mean densities and frame accuracy of a model over vectors, in float32."""

from __future__ import annotations

import torch

from dnf.features.rows import batch_for
from dnf.features.windows import Windows
from dnf.models.dnf import DNF
from dnf.training.objective import cross_entropy
from dnf.training.ranks import ALONE, Ranks

AGREEMENT_FRAMES = 10000  # training frames that are scored in training and afterwards


@torch.no_grad()
def evaluate(
    model: DNF,
    windows: Windows,
    rows: torch.Tensor | None = None,
    *,
    training: bool = False,
    ranks: Ranks = ALONE,
    log_priors: torch.Tensor | None = None,
) -> dict[str, float]:
    """Mean NLL, LogP and LogDet under the true class (nats per frame) and share of frames decided as it.

    Args:
        model: stays in the mode of the evaluation.
        windows: vectors of the model's classes only.
        rows: which of them ``(N,)``; all by default.
        training: put the model in training mode, for comparison with evaluation mode.
        ranks: processes that call this together, each for its part of the rows; all get the common figures.
        log_priors: of the classes ``(K,)``; with them, also the cross-entropy of the class posteriors ``ce``, nats.
    """
    model.train(training)
    n = len(windows) if rows is None else len(rows)
    batch, wanted = batch_for(windows.device), 3 if log_priors is None else 4
    sums = torch.zeros(wanted, dtype=torch.float64, device=windows.device)
    first, end = ranks.bounds(n)
    for start in range(first, end, batch):
        part = torch.arange(start, min(start + batch, end))
        part = part if rows is None else rows[part]
        z, part_logdet = model(windows.gather(part))
        labels, scores = windows.labels(part), model.prior.of_all(z)
        sums[0] += scores.gather(1, labels[:, None]).double().sum()
        sums[1] += part_logdet.double().sum()
        sums[2] += (scores.argmax(1) == labels).sum()
        if log_priors is not None:
            sums[3] += cross_entropy(scores, labels, log_priors).double().sum()
    logp, logdet, right, *ce = ranks.sum(sums.tolist())
    figures = {"nll": -(logp + logdet) / n, "logp": logp / n, "logdet": logdet / n, "accuracy": right / n}
    return figures | ({"ce": ce[0] / n} if ce else {})
