"""Training objectives: the NLL, the NLL with the cross-entropy of the class posteriors, or non-Gaussianity.

**Hybrid training** (``train.beta`` > 0) trains one flow as a density and as a classifier. Its class posteriors are
those of Bayes' rule over the class densities, p(k | x) = pi_k p(x | k) / sum_j pi_j p(x | j), in which the Jacobian
cancels, and

    loss = (NLL / D + beta CE) D / (1 + beta),   CE = -mean log p(y | x)

The factor behind the bracket moves no minimum. It makes the loss a weighted mean of the NLL and D times CE, nats per
frame, so that beta 0 is the plain NLL, and ``train.lr`` and ``train.grad_clip`` keep their meaning. pi are the shares
of the classes in the batches: those of the training frames, or equal ones with ``train.sampling: balanced``.

After Ardizzone et al., "Training normalizing flows with the information bottleneck for competitive generative
classification", NeurIPS 2020, arXiv:2001.06448. There the first term is the NLL of x under the mixture of the classes.
Ours is the NLL given the class, which is that one plus CE and a constant: our beta is theirs less 1 / D. Their noise on
the input and their stopped gradient are not in here.

**Maximum Gaussianality training** (``train.objective: gaussianality``): Cai et al., "Deep speaker vector normalization
with maximum Gaussianality training", arXiv:2010.16148. What is here follows the training program that its authors
published (github.com/Caiyq2019/MG), and the paper's abstract. In many dims, draws u of N(0, I) have nearly the same
length, ||u|| ~ N(sqrt(D), 1/2), and are nearly at right angles, E cos^2(u, v) = 1 / D. The loss holds latents to that,
within the classes and between their means, and LogP is not in it:

    loss = -LogDet + w_length       [h - 0.01 - mean log N(||u||; sqrt(D), 1/2)]+
                   + w_angle        [mean cos^2(u, u') - 1/D - 0.001]+
                   + w_class_length [h - 0.01 - mean log N(||m||; sqrt(C), 1/2)]+
                   + w_class_angle  [mean cos^2(m, m') - 1/C - 0.001]+

u is a latent less the mean of its class, in standard deviations of the prior, u' another one of the batch, m the C =
``cond_dim`` dims of a class mean in standard deviations, m' that of another class; h is the mean of log N(.; ., 1/2)
under itself, and [.]+ is max(0, .). Our interpretation: the targets h and 1/D, which the program has as numbers for 512 dims,
follow the dims; the terms of the means are over the classes, not over the batch, where most pairs of few classes are
equal; the mean over pairs is exact over micro-batches and ranks. beta adds D beta CE and divides by 1 + beta, as above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.models.prior import ClassPrior
from dnf.training.ranks import ALONE, Ranks
from dnf.training.sampler import class_shares

SPREAD = 0.5  # variance of the length of a draw of N(0, I) in many dims
LENGTH_ENTROPY = 0.5 * (1 + math.log(2 * math.pi * SPREAD))  # of that length, nats
LENGTH_SLACK, ANGLE_SLACK = 0.01, 0.001


def cross_entropy(logp: Tensor, labels: Tensor, log_priors: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log p(y | x) ``(N,)``, nats, from class log densities ``(N, K)``, true ids ``(N,)`` and log priors ``(K,)``.

    Args:
        smoothing: share of each label that is spread evenly over all classes.
    """
    return nn.functional.cross_entropy(logp + log_priors, labels, reduction="none", label_smoothing=smoothing)


def log_length(lengths: Tensor, dim: int) -> Tensor:
    """Log density of lengths of vectors of ``dim`` dims as if they were draws of N(0, I) in many dims, nats."""
    return -0.5 * ((lengths - math.sqrt(dim)).square() / SPREAD + math.log(2 * math.pi * SPREAD))


def lack_of_length(loglik: Tensor) -> Tensor:
    """Distance of a mean log density of lengths below that of Gaussian vectors; 0 if it is not below."""
    return torch.relu(-LENGTH_ENTROPY - LENGTH_SLACK - loglik)


def excess_of_angle(square: Tensor, dim: int) -> Tensor:
    """Excess of a mean squared cosine of pairs over that of Gaussian vectors; 0 if there is none."""
    return torch.relu(square - 1 / dim - ANGLE_SLACK)


class OfBatch(NamedTuple):
    """Sums over a batch that the terms over all its pairs need.

    Attributes:
        count: N, its vectors.
        directions: sum of the outer products of the vectors' directions, ``(D, D)``.
        length: mean log density of the lengths, nats.
        angle: mean squared cosine between two vectors.
    """

    count: int
    directions: Tensor
    length: Tensor
    angle: Tensor


class Objective:
    """The loss of a training run.

    Args:
        config: the settings.
        counts: training frames of each class.
        ranks: this process among those that train the model.

    Attributes:
        log_priors: log class priors of the posteriors ``(K,)``; None without a cross-entropy.
        evaluate_options: arguments of ``evaluate`` that follow from it.
        columns: additional columns of history.tsv.
        looks: whether it needs the latents of the complete batch first.
    """

    def __init__(self, config: Config, counts: Sequence[int], ranks: Ranks = ALONE):
        self.settings, self.weights, self.ranks, self.dim = config.train, config.gaussianality, ranks, config.latent_dim
        self.looks = config.train.objective == "gaussianality"
        self.log_priors, self.columns = None, ("length", "angle") if self.looks else ()
        if config.train.beta:
            shares = class_shares(counts, balanced=config.train.sampling != "natural")
            self.log_priors = shares.log().float().to(ranks.device)
            self.columns += ("ce", "dev_ce")
        self.evaluate_options = {} if self.log_priors is None else {"log_priors": self.log_priors}

    def rank(self, figures: dict[str, float]) -> float:
        """The figure of dev that chooses ``best.pt``; lower is better."""
        select = self.settings.select
        if select == "loss":
            return figures["nll"] / self.dim + (self.settings.beta * figures["ce"] if self.settings.beta else 0.0)
        return -figures["accuracy"] if select == "accuracy" else figures[select]

    def look(self, prior: ClassPrior, parts: Iterable[tuple[Tensor, Tensor]]) -> OfBatch:
        """Collect the sums of the batch from this rank's latents and labels, part by part; all ranks call this together."""
        dim, device = prior.dim, prior.means.device
        sums = torch.zeros(dim * dim + 2, dtype=torch.float64, device=device)
        with torch.no_grad():
            for z, labels in parts:
                u = prior.standardized(z, labels).double()
                lengths = u.norm(dim=1)
                directions = u / lengths[:, None]
                sums[:-2] += (directions.T @ directions).flatten()
                sums[-2:] += torch.stack([log_length(lengths, dim).sum(), sums.new_tensor(len(z))])
        sums = self.ranks.sum_tensor(sums)
        count, directions = round(sums[-1].item()), sums[:-2].view(dim, dim)
        angle = (directions.square().sum() - count) / max(1, count * (count - 1))
        return OfBatch(count, directions.to(prior.means.dtype), sums[-2] / count, angle)

    def of_part(
        self,
        prior: ClassPrior,
        z: Tensor,
        labels: Tensor,
        logp: Tensor,
        logdet: Tensor,
        of_batch: OfBatch | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of part of a batch, and figures of history.tsv: both sums over its frames.

        Of the terms over pairs it has the gradient, not the value: summed over the parts, and divided by the frames of
        the batch, it has the gradient of the loss of the batch.

        Args:
            prior: of the model.
            z, labels: latents ``(N, D)`` and class ids ``(N,)``.
            logp, logdet: log density of z under its class, and log-determinant, ``(N,)`` each.
            of_batch: what ``look`` returned.
        """
        figures: dict[str, Tensor] = {}
        if of_batch is None:
            loss = -(logp + logdet).sum()
        else:
            loss = self.non_gaussianality(prior, z, labels, of_batch) - logdet.sum()
            figures = {"length": of_batch.length * len(z), "angle": of_batch.angle * len(z)}
        if self.log_priors is None:
            return loss, figures
        beta, scores = self.settings.beta, prior.of_all(z)
        log_priors = self.log_priors.to(scores.dtype)
        ce = cross_entropy(scores, labels, log_priors, self.settings.label_smoothing).sum()
        if self.settings.label_smoothing:
            figures["ce"] = cross_entropy(scores.detach(), labels, log_priors).sum()
        else:
            figures["ce"] = ce
        return (loss + self.dim * beta * ce) / (1 + beta), figures

    def non_gaussianality(self, prior: ClassPrior, z: Tensor, labels: Tensor, of_batch: OfBatch) -> Tensor:
        """The terms beside -LogDet of part of a batch, as ``of_part`` has them."""
        u, weights = prior.standardized(z, labels), self.weights
        loss = len(z) * self.of_means(prior) + 0.0 * u.sum()  # a gradient for every parameter, as several ranks expect
        if lack_of_length(of_batch.length) > 0:
            loss = loss - weights.length * log_length(u.norm(dim=1), prior.dim).sum()
        if of_batch.count > 1 and excess_of_angle(of_batch.angle, prior.dim) > 0:
            # mean cos^2 is (||S||^2 - N) / (N (N - 1)), S the sum of the outer products: its derivative is 2 <S, dS>
            directions = u / u.norm(dim=1, keepdim=True)
            along = ((directions @ of_batch.directions) * directions).sum()
            loss = loss + weights.angle * 2 / (of_batch.count - 1) * along
        return loss

    def of_means(self, prior: ClassPrior) -> Tensor:
        """The terms of the class means, of a frame."""
        dim = prior.cond_dim
        means = prior.means * (-0.5 * prior.class_log_variances()[:, :dim]).exp()
        if not dim:
            return means.sum()
        lengths = means.norm(dim=1)
        loss = self.weights.class_length * lack_of_length(log_length(lengths, dim).mean())
        k = len(means)
        if k > 1:
            directions = means / lengths[:, None]
            square = ((directions @ directions.T).square().sum() - k) / (k * (k - 1))
            loss = loss + self.weights.class_angle * excess_of_angle(square, dim)
        return loss
