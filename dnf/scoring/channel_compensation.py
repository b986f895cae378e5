r"""Channel compensation of latents in scoring: centring of each utterance, speaker or set.

**Effect of a shift.** With one isotropic variance v for all classes,

    log p(c | a) - log p(c | b) = (mu_a - mu_b) . (c - (mu_a + mu_b) / 2) / v,

so if a channel adds s to the latents of an utterance, only the part of s in the span W of the differences of the class
means (K - 1 dims) changes decisions. Two simple methods of centring fail:

- Removing the part of the mean latent *outside* W changes log p of every class by the same amount, and no decision.
- Removing the part *inside* W that the classes do not explain requires the class. The residual weighted by
  posteriors, m - sum_k gamma_k mu_k, does not help: classes of frames overlap, so gamma is near the prior,
  the residual is nearly all of m, and the class is removed with the channel. The same holds for the mean of a set with
  only one class.

**Centring.** The differences between utterances of *one* class in training separate shift and class. Let m be the mean latent
of a unit (an utterance, a speaker or a set), V the complement of W, and S the covariance of unit means within
classes. The class is assumed to be in W only; the shift is in both, and correlated. Its part in W is predicted from the
part without class information,

    s_W = S_WV S_VV^-1 (m_V - mean_V),      c' = c - s_W,

the conditional mean of a Gaussian, and subtracted. The difference between mean_W, with equal weights of the classes, and the
centre of the mu_k is subtracted, too, since a model that was trained on augmented windows has another centre. The
differences between classes do not change: a shift of m along W shifts c' by the same amount. With two classes W is a line,
and for the mean over the unit's own frames the ratio above is Fisher's linear discriminant with S, times a constant (WCCN:
Hatch, Kajarekar & Stolcke, "Within-class covariance normalization for SVM-based speaker recognition", Interspeech 2006).
With more classes it is not, since the spread of units within W is not whitened. The assumption that the class is in W only
holds if the mu_k are the mean latents of the classes, as after maximum likelihood. After hybrid training (``train.beta``)
classes can differ in V a little, and centring removes some of the class with the shift. The part in V stays: it changes no
decision, and it shows that a recording is unlike training. S comes from training: from utterances for ``centre:
utterance``, and from speakers for ``speaker`` and ``set`` (two or three training sets are too few for a covariance of sets),
with Ledoit and Wolf's shrinkage, without which a hundred dims need thousands of speakers. For ``speaker`` and ``set`` a
decision depends on the other recordings in the set.

**Limits.** If each class has its own corpus, mu_a - mu_b *contains* the difference of the corpora's channels, and no
statistic within classes separates this part from the accent. For the same reason there is no adversarial training against
the corpus here (gradient reversal, Ganin et al., JMLR 2016): a classifier of corpora is a classifier of classes, so training
against it removes the classes. Adversarial training against speakers *within* classes would be possible.

If variances differ between classes, directions outside W have evidence, too, and centring is an approximation. It corrects
only c: with ``prior.cond_r``, which gives r class means, too, it is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import CORRECTION_NPZ, run_again
from dnf.experiment.settings import ChannelSettings
from dnf.features.rows import batch_for
from dnf.features.segments import Segment
from dnf.features.windows import Windows
from dnf.models.dnf import DNF

log = logging.getLogger(__name__)

SPANNED = 1e-6  # directions with a smaller share of the largest difference of class means do not count


def unit_names(segments: Iterable[Segment], unit: str) -> list[tuple[str, str]]:
    """Unit of each segment, a set and a name in it, for ``unit`` utterance, speaker or set."""
    names = {"utterance": lambda s: s.utt, "speaker": lambda s: s.speaker, "set": lambda s: ""}[unit]
    return [(segment.set, names(segment)) for segment in segments]


@torch.no_grad()
def segment_sums(model: DNF, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Sums of c ``(G, C)`` and numbers of vectors ``(G,)`` of each segment, float64."""
    model.eval()
    counts = np.array([segment.rows for segment in windows.segments()], dtype=np.float64)
    sums = torch.zeros(len(counts), model.prior.cond_dim, dtype=torch.float64)
    for rows in torch.arange(len(windows)).split(batch_for(windows.device)):
        c = model(windows.gather(rows))[0][:, : model.prior.cond_dim]
        sums.index_add_(0, windows.segment(rows), c.double().cpu())
    return sums.numpy(), counts


def unit_means(sums: np.ndarray, counts: np.ndarray, names: list) -> tuple[np.ndarray, np.ndarray]:
    """Means ``(U, C)`` of the units, in the order of their names, and the unit ``(G,)`` of each segment."""
    place = {name: i for i, name in enumerate(sorted(set(names)))}
    unit = np.array([place[name] for name in names])
    totals, frames = np.zeros((len(place), sums.shape[1])), np.zeros(len(place))
    np.add.at(totals, unit, sums)
    np.add.at(frames, unit, counts)
    return totals / frames[:, None], unit


def within_covariance(means: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Covariance ``(C, C)`` of unit means ``(U, C)`` around those of their classes ``(U,)``, shrunk to a sphere."""
    from sklearn.covariance import ledoit_wolf  # slow to import, and only this needs it

    residuals = np.concatenate([means[classes == k] - means[classes == k].mean(0) for k in np.unique(classes)])
    covariance, shrinkage = ledoit_wolf(residuals, assume_centered=True)
    log.info("within-class covariance of %d units, shrinkage %.2f", len(residuals), shrinkage)
    return covariance


def class_span(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of the differences of class means ``(K, C)``, ``(C, k)``, and of the rest, ``(C, C - k)``."""
    left, values, _ = np.linalg.svd((means - means.mean(0)).T, full_matrices=True)
    rank = int((values > SPANNED * max(values.max(), 1e-12)).sum())
    return left[:, :rank], left[:, rank:]


@dataclass(frozen=True)
class Correction:
    """The correction of a model's latents by the settings ``channel``.

    Attributes:
        centre: unit of centring.
        reference: ``(C,)`` mean latent of units, with equal weights of the classes.
        offset: ``(C,)``, difference between the reference and the centre of the class means, within their span.
        predict: ``(C, C)``, maps the difference between a unit's mean and the reference to the shift.
    """

    centre: str
    reference: np.ndarray
    offset: np.ndarray
    predict: np.ndarray

    @classmethod
    def fit(
        cls,
        settings: ChannelSettings,
        prior_means: np.ndarray,
        sums: np.ndarray,
        counts: np.ndarray,
        segments: list[Segment],
        labels: np.ndarray,
    ) -> Correction:
        """Fit on the training utterances.

        Args:
            prior_means: ``(K, C)`` class means of the model.
            sums, counts: ``(G, C)`` and ``(G,)`` of each training utterance, as from ``segment_sums``.
            segments: the G utterances.
            labels: ``(G,)`` class ids.

        Raises:
            ValueError: too few training units for the covariance within classes.
        """
        unit = "utterance" if settings.centre == "utterance" else "speaker"
        names = [(*name, int(k)) for name, k in zip(unit_names(segments, unit), labels)]
        means, unit_of_segment = unit_means(sums, counts, names)
        classes = np.empty(len(means), dtype=np.int64)
        classes[unit_of_segment] = labels
        if len(means) < len(np.unique(classes)) + 2:
            raise ValueError(
                f"channel: {len(means)} training {unit}s are too few to estimate the covariance within classes"
            )
        reference = np.mean([means[classes == k].mean(0) for k in np.unique(classes)], 0)
        covariance = within_covariance(means, classes)
        inside, outside = class_span(prior_means)
        gain = np.linalg.solve(outside.T @ covariance @ outside, outside.T @ covariance @ inside)
        predict = inside @ gain.T @ outside.T
        offset = inside @ inside.T @ (reference - prior_means.mean(0))
        return cls(settings.centre, reference, offset, predict)

    def save(self, path: Path) -> None:
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Correction:
        """Raises ``ValueError`` if the file is missing or damaged."""
        with intact(path, run_again("latents")), np.load(path) as file:
            return cls(str(file["centre"]), *(file[name] for name in ("reference", "offset", "predict")))

    def shifts(self, model: DNF, windows: Windows) -> Tensor:
        """The shift of each segment ``(G, C)`` that centring subtracts from c, on the device."""
        return self.shifts_of(*segment_sums(model, windows), windows.segments(), windows.device)

    def shifts_of(
        self, sums: np.ndarray, counts: np.ndarray, segments: Iterable[Segment], device: torch.device
    ) -> Tensor:
        """The same from sums of c ``(G, C)`` and numbers of vectors ``(G,)`` of G segments."""
        means, unit = unit_means(sums, counts, unit_names(segments, self.centre))
        return self.shift(means)[torch.from_numpy(unit)].to(device)

    def shift(self, means: np.ndarray) -> Tensor:
        """Shift between the classes ``(U, C)`` float32 of units with mean latents ``(U, C)``."""
        return torch.from_numpy(self.offset + (means - self.reference) @ self.predict.T).float()


def centred(z: Tensor, shifts: Tensor | None, segment: Tensor) -> Tensor:
    """Latents ``(N, D)`` of segments ``(N,)`` with the shift of each subtracted from c."""
    if shifts is None:
        return z
    taken = shifts[segment.to(z.device)]
    return torch.cat([z[:, : taken.shape[1]] - taken, z[:, taken.shape[1] :]], 1)


def load_correction(exp: Path) -> Correction | None:
    """Read the correction of an experiment; None if it has none."""
    return Correction.load(exp / CORRECTION_NPZ) if (exp / CORRECTION_NPZ).is_file() else None


def fit_correction(settings: ChannelSettings, model: DNF, train: Windows, exp: Path) -> Correction | None:
    """Fit the correction of the settings and save it to ``exp/correction.npz``; None, and no file, without one."""
    path = exp / CORRECTION_NPZ
    if settings.centre == "none":
        path.unlink(missing_ok=True)
        return None
    segments = list(train.segments())
    first = torch.tensor([segment.first for segment in segments])
    labels = train.labels(first).cpu().numpy()
    means = model.prior.means.detach().double().cpu().numpy()
    correction = Correction.fit(settings, means, *segment_sums(model, train), segments, labels)
    log.info("%s: centring by %s", path, settings.centre)
    correction.save(path)
    return correction
