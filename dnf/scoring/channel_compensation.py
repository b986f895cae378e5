r"""Channel correction of latents when scoring: centring of each utterance, speaker or set, and nuisance attribute
projection.

**What a shift can do.** With one isotropic variance v for all classes,

    log p(c | a) - log p(c | b) = (mu_a - mu_b) . (c - (mu_a + mu_b) / 2) / v,

so a channel that adds s to the latents of an utterance moves decisions by the part of s in the span W of the
differences of the class means, K - 1 dims, and by nothing else. Two plain ways of centring fail:

- To remove the part of the mean latent *outside* W changes every class's log p by the same: no decision changes.
- To remove the part *inside* W that the classes do not explain needs to know which class it is. The residual weighted
  by posteriors, m - sum_k gamma_k mu_k, presumes the answer: classes of frames overlap, so gamma is near the prior,
  the residual is nearly all of m, and the class goes with the channel. The same holds for the mean of a set that has
  one class in it.

**Centring.** What tells the two apart is how utterances of *one* class differ in training. Let m be the mean latent
of a unit (an utterance, a speaker or a set), V the complement of W, and S the covariance of unit means within
classes. The class is taken to be in W only; the shift is in both, and correlated. Its part in W is predicted from the
part that holds no class,

    s_W = S_WV S_VV^-1 (m_V - mean_V),      c' = c - s_W,

the conditional mean of a Gaussian, and taken away (with what mean_W, all classes alike, differs by from the middle of
the mu_k: a model trained on augmented windows has its middle elsewhere). What the classes differ by is left whole: a
move of m along W moves c' as much. With two classes W is a line, and for the mean over the unit's own frames the ratio
above then is Fisher's linear discriminant with S (WCCN: Hatch, Kajarekar & Stolcke, "Within-class covariance
normalization for SVM-based speaker recognition", Interspeech 2006), times a constant; with more classes the spread of
units within W itself is not whitened, and it is not. That the class shows in W alone holds where the mu_k are the mean
latents of the classes, as maximum likelihood makes them; after hybrid training (``train.beta``) they need not be,
classes differ in V a little, and centring takes some of the class with the shift. The part in V stays: it decides
nothing, and it is what tells that
a recording is unlike training. S comes from training: of utterances for ``centre: utterance``, of speakers for
``speaker`` and ``set`` (whose own covariance two or three training sets cannot give), with Ledoit and Wolf's
shrinkage, without which a hundred dims need thousands of speakers. Units are taken as they come; for ``speaker`` and
``set`` a decision therefore depends on the other recordings in the set.

**NAP** (nuisance attribute projection: Solomonoff, Campbell & Boardman, "Advances in channel compensation for SVM
speaker recognition", ICASSP 2005). In the ``nap`` directions N in which speakers of a class differ most in training,
classes are made not to differ:

    mu_k' = mean + (I - N N^T) (mu_k - mean),

that is, z stays, and the density of those directions becomes that of a class-independent part, like r. Speakers
differ by voice as well as by microphone, and both are nuisances here.

**What neither can do.** Where each class has one corpus, mu_a - mu_b *contains* the difference of the corpora's
channels, and nothing within classes tells that part from the accent. For the same reason there is no adversarial
training against the corpus here (gradient reversal, Ganin et al., JMLR 2016): a classifier of corpora is a classifier
of classes, and to fool it is to unlearn them. Against speakers *within* classes it would be sound; NAP is the linear
case of that, and needs no training.

With variances that are not the same for all classes, directions outside W hold evidence too, and both corrections are
then approximations. Both correct c alone: with ``prior.cond_r``, where r has class means too, the settings are refused.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.files import replace_file
from dnf.experiment.layout import CORRECTION_NPZ
from dnf.experiment.settings import Channel
from dnf.features.rows import batch_for
from dnf.features.segments import Segment
from dnf.features.windows import Windows
from dnf.models.dnf import DNF
from dnf.models.prior import ClassPrior

log = logging.getLogger(__name__)

SPANNED = 1e-6  # share of the largest difference of class means below which a direction is not one of them


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
    """What ``channel`` does to the latents of one model.

    Attributes:
        centre: unit of centring, or none.
        reference: ``(C,)`` mean latent of a unit, classes weighted alike.
        offset: ``(C,)``, by what the reference differs, between the classes, from the middle of the class means.
        predict: ``(C, C)``, takes the distance of a unit's mean from it to its shift.
        nuisance: ``(C, nap)`` orthonormal directions.
    """

    centre: str
    reference: np.ndarray
    offset: np.ndarray
    predict: np.ndarray
    nuisance: np.ndarray

    @classmethod
    def fit(
        cls,
        settings: Channel,
        prior_means: np.ndarray,
        sums: np.ndarray,
        counts: np.ndarray,
        segments: list[Segment],
        labels: np.ndarray,
    ) -> Correction:
        """From the training utterances.

        Args:
            prior_means: ``(K, C)`` class means of the model.
            sums, counts: ``(G, C)`` and ``(G,)`` of each training utterance, as from ``segment_sums``.
            segments: the G utterances.
            labels: ``(G,)`` class ids.

        Raises:
            ValueError: too few training units to see how those of a class differ.
        """
        dim = prior_means.shape[1]

        def units(unit: str) -> tuple[np.ndarray, np.ndarray]:
            names = [(*name, int(k)) for name, k in zip(unit_names(segments, unit), labels)]
            means, unit_of = unit_means(sums, counts, names)
            classes = np.empty(len(means), dtype=np.int64)
            classes[unit_of] = labels
            if len(means) < len(np.unique(classes)) + 2:
                raise ValueError(
                    f"channel: {len(means)} training {unit}s are too few to see how those of a class differ"
                )
            return means, classes

        nuisance = np.zeros((dim, 0))
        if settings.nap:
            nuisance = np.linalg.eigh(within_covariance(*units("speaker")))[1][:, ::-1][:, : settings.nap].copy()
        reference, offset, predict = np.zeros(dim), np.zeros(dim), np.zeros((dim, dim))
        if settings.centre != "none":
            means, classes = units("utterance" if settings.centre == "utterance" else "speaker")
            reference = np.mean([means[classes == k].mean(0) for k in np.unique(classes)], 0)
            covariance = within_covariance(means, classes)
            inside, outside = class_span(project(prior_means, nuisance))
            gain = np.linalg.solve(outside.T @ covariance @ outside, outside.T @ covariance @ inside)
            predict = inside @ gain.T @ outside.T
            offset = inside @ inside.T @ (reference - prior_means.mean(0))
        return cls(settings.centre, reference, offset, predict, nuisance)

    def save(self, path: Path) -> None:
        arrays = io.BytesIO()
        np.savez(arrays, **vars(self))
        replace_file(path, arrays.getvalue())

    @classmethod
    def load(cls, path: Path) -> Correction:
        with np.load(path) as file:
            return cls(str(file["centre"]), *(file[name] for name in ("reference", "offset", "predict", "nuisance")))

    def prior(self, prior: ClassPrior) -> ClassPrior:
        """A copy of ``prior`` whose classes do not differ in the nuisance directions."""
        changed = copy.deepcopy(prior)
        if self.nuisance.shape[1]:
            means = project(prior.means.detach().double().cpu().numpy(), self.nuisance)
            changed.means.data.copy_(torch.from_numpy(means))
        return changed

    def shifts(self, model: DNF, windows: Windows) -> Tensor | None:
        """What centring takes from c of each segment ``(G, C)``, on the device; None without centring."""
        if self.centre == "none":
            return None
        return self.shifts_of(*segment_sums(model, windows), windows.segments(), windows.device)

    def shifts_of(
        self, sums: np.ndarray, counts: np.ndarray, segments: Iterable[Segment], device: torch.device
    ) -> Tensor | None:
        """The same from sums of c ``(G, C)`` and numbers of vectors ``(G,)`` of G segments."""
        if self.centre == "none":
            return None
        means, unit = unit_means(sums, counts, unit_names(segments, self.centre))
        return self.shift(means)[torch.from_numpy(unit)].to(device)

    def shift(self, means: np.ndarray) -> Tensor:
        """Shift between the classes ``(U, C)`` float32 of units with mean latents ``(U, C)``."""
        return torch.from_numpy(self.offset + (means - self.reference) @ self.predict.T).float()


def project(means: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """Class means ``(K, C)`` with the same component along each nuisance direction ``(C, n)``."""
    apart = means - means.mean(0)
    return means - apart @ nuisance @ nuisance.T


def centred(z: Tensor, shifts: Tensor | None, segment: Tensor) -> Tensor:
    """Latents ``(N, D)`` of segments ``(N,)`` with the shift of each taken from c."""
    if shifts is None:
        return z
    taken = shifts[segment.to(z.device)]
    return torch.cat([z[:, : taken.shape[1]] - taken, z[:, taken.shape[1] :]], 1)


def load_correction(exp: Path) -> Correction | None:
    """The correction of an experiment, if it has one."""
    return Correction.load(exp / CORRECTION_NPZ) if (exp / CORRECTION_NPZ).is_file() else None


def fit_correction(settings: Channel, model: DNF, train: Windows, exp: Path) -> Correction | None:
    """The correction that the settings ask for, kept in ``exp/correction.npz``; without any, None and no file."""
    path = exp / CORRECTION_NPZ
    if settings.centre == "none" and not settings.nap:
        path.unlink(missing_ok=True)
        return None
    segments = list(train.segments())
    first = torch.tensor([segment.first for segment in segments])
    labels = train.labels(first).cpu().numpy()
    means = model.prior.means.detach().double().cpu().numpy()
    correction = Correction.fit(settings, means, *segment_sums(model, train), segments, labels)
    before, after = (np.linalg.norm(m - m.mean(0)) for m in (means, project(means, correction.nuisance)))
    log.info(
        "%s: centring by %s; %.0f %% of the class means' distance left by %d nuisance directions",
        path,
        settings.centre,
        100 * after / max(before, 1e-12),
        settings.nap,
    )
    correction.save(path)
    return correction
