"""A trained model with its calibration, open-set score and channels, and its decision for one recording."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from dnf.decisions.assess import Assessment
from dnf.decisions.calibration import Calibration, posteriors
from dnf.decisions.doubt import Doubt, words
from dnf.decisions.evidence import Evidence, dev_covariance
from dnf.decisions.open_set import OpenSet
from dnf.decisions.utterance_summary import Summary, best_two
from dnf.experiment import entry, packages
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    BEST_PT,
    CALIBRATION_JSON,
    CHANNEL_JSON,
    CONFIG_YAML,
    DOUBT_JSON,
    META_JSON,
    MODEL_PT,
    OPEN_SET_JSON,
    Layout,
    experiment_of,
)
from dnf.inference.predicted_score import load_assessments
from dnf.inference.recording_vector import VectorMaker
from dnf.inference.recordings import check_takes_recordings
from dnf.metrics.effective_frames import observed
from dnf.models.checkpoint import Trained, load_model
from dnf.scoring.channel_compensation import Correction, load_correction
from dnf.scoring.channel_mismatch import fit_experiment
from dnf.scoring.channel_model import ChannelModel

log = logging.getLogger(__name__)


class Model(NamedTuple):
    """A trained model, and the fits that interpret its outputs.

    Attributes:
        trained: the model, on ``device``.
        config: settings of the experiment.
        calibration: calibration of the utterances' log-likelihoods, or None.
        open_set: open-set score, or None.
        channel: channels of training, or None.
        correction: correction of the channel, or None.
        device: device of the model.
        covariance: autocovariance of the frames' log-likelihood ratio on dev, if there is no calibration; may be empty.
        vectors: makes the vector of a recording, where the model takes one; or None.
        doubt: doubt about recordings unlike training, or None.
        flow: of a baseline with a doubt, the flow of its experiment: the doubt is about its density; else None.
        assessments: fits of expert scores by their names; may be empty.
    """

    trained: Trained
    config: Config
    calibration: Calibration | None
    open_set: OpenSet | None
    channel: ChannelModel | None
    correction: Correction | None
    device: torch.device
    covariance: np.ndarray = np.zeros(0)
    vectors: VectorMaker | None = None
    doubt: Doubt | None = None
    assessments: Mapping[str, Assessment] = {}
    flow: Model | None = None

    @property
    def reference(self) -> str:
        """The class of the log-likelihood ratio."""
        return reference_first(self.trained.classes, self.trained.config.data.classes)[0]


class BaselineModel(nn.Module):
    """A baseline in place of a flow: its latents are the vectors, and its prior gives their log-likelihoods."""

    def __init__(self, baseline: nn.Module):
        super().__init__()
        self.baseline = baseline

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    @property
    def prior(self) -> BaselineModel:
        return self

    def of_all(self, z: Tensor) -> Tensor:
        """log p(z | k) ``(N, K)``, nats, perhaps without a constant that is common to the classes."""
        return self.baseline(z)


def load_baseline(path: Path, device: torch.device) -> Trained:
    """The baseline of a ``model.pt``, as a model."""
    from dnf.scoring import baselines  # its fits are slow to import

    baseline, config, classes = baselines.load_baseline(path, device)
    return Trained(BaselineModel(baseline), config, classes, {})


class Means(NamedTuple):
    """Means over the vectors of a recording, or over some of them, float64.

    Attributes:
        logp: ``(K,)`` log prior density of z under each class, nats.
        mixture: log of the classes' mean prior density, nats.
        logdet: nats.
        z: ``(D,)`` latents.
        rows: number of vectors.
    """

    logp: np.ndarray
    mixture: float
    logdet: float
    z: np.ndarray
    rows: int

    @property
    def loglik(self) -> np.ndarray:
        """log p(x | k) ``(K,)``, nats."""
        return self.logp + self.logdet


class Judgement(NamedTuple):
    """The decision about one recording.

    Attributes:
        posteriors: ``(K,)`` of the classes.
        calibrated: whether they are calibrated.
        none_of_these: whether it is of none of the classes; None: unknown.
        doubt: sure, unsure or foreign; None: unknown.
        bias: ``(K,)`` of the channel, subtracted from the mean log-likelihoods, nats.
        factor: of the log-likelihood ratios without it, at most 1.
    """

    posteriors: np.ndarray
    calibrated: bool
    none_of_these: bool | None
    doubt: str | None
    bias: np.ndarray
    factor: float


def judge(model: Model, means: Means, channel: np.ndarray | None = None, density: float | None = None) -> Judgement:
    """Posteriors, open-set flag and doubt of one recording.

    Args:
        model: the system.
        means: of the recording.
        channel: ``(S,)`` its statistics; None: unknown.
        density: its mean log p(x) by the flow, nats; None: that of ``means``.
    """
    none_of_these, bias, factor, foreign = None, np.zeros(len(means.logp)), 1.0, None
    if model.open_set is not None:
        summary = Summary(
            best_two(means.logp[None]),
            np.array([means.mixture]),
            np.array([means.logdet]),
            means.z[None],
            np.array([means.rows]),
        )
        none_of_these = bool(model.open_set.is_none_of_these(summary)[0])
    if model.calibration is None:
        splice = model.trained.config.splice
        window = (splice.left + 1 + splice.right) / splice.hop
        weight = observed(np.array([means.rows]), model.covariance, window)[0]
        return Judgement(softmax(weight * means.loglik), False, none_of_these, None, bias, factor)
    rows = np.array([means.rows])
    if model.doubt is not None and model.channel is not None and channel is not None:
        likely = np.array([means.mixture + means.logdet if density is None else density])
        foreign = model.doubt.score(model.channel.distances(channel[None]), likely, rows) > model.doubt.limit
        factor = float(model.doubt.factor(foreign)[0])
        if foreign[0] and model.doubt.bias and not model.flow:
            bias = model.doubt.bias(model.channel.profiles_of(channel[None]))[0]
    evidence = Evidence(model.trained.classes, [{"utt": "", "class": ""}], (means.loglik - bias)[None], rows)
    loglik = factor * model.calibration.loglik(evidence)
    of_classes = posteriors(loglik, model.trained.classes, model.config.calibrate.priors)
    word = None if foreign is None else words(of_classes, foreign)[0]
    return Judgement(of_classes[0], True, none_of_these, word, bias, factor)


def load_system(folder: Path, frames: Path | None, device: torch.device) -> Model:
    """Load the model of an experiment or a baseline, with its calibration, open-set score and channels if they exist.

    Args:
        folder: with ``best.pt`` and ``config.yaml``, or one of its ``baselines/<name>``, which have no open-set score.
        frames: frame stores of training; None: those of the experiment.
        device: device of the model.

    Raises:
        ValueError: the model has fewer than two classes, or a package that it needs is not installed.
    """
    exp = experiment_of(folder)
    is_flow = folder == exp
    trained = load_model(exp / BEST_PT, device) if is_flow else load_baseline(folder / MODEL_PT, device)
    check_takes_recordings(exp, trained.config)
    packages.check(trained.config)
    if trained.config.prior.cond_dim == 0 or len(trained.classes) < 2:
        raise ValueError(f"{exp}: the model has no classes; use one with prior.cond_dim above 0")
    config = Config.load(exp / CONFIG_YAML)
    calibration, open_set, covariance = None, None, np.zeros(0)
    if (folder / CALIBRATION_JSON).is_file():
        calibration = Calibration.load(folder / CALIBRATION_JSON)
    else:
        log.warning("%s: no %s: the posteriors are not calibrated", folder, CALIBRATION_JSON)
        covariance = dev_covariance(folder, config.data)
    if is_flow and (exp / OPEN_SET_JSON).is_file():
        open_set = OpenSet.load(exp / OPEN_SET_JSON)
    vectors = VectorMaker.load(exp, trained.config) if trained.config.has_vectors else None
    channel, correction = load_channel(exp, frames, trained), load_correction(folder)
    doubt = Doubt.load(exp / DOUBT_JSON) if (exp / DOUBT_JSON).is_file() else None
    flow = load_system(exp, frames, device) if doubt and not is_flow else None
    assessments = load_assessments(exp) if is_flow and not vectors else {}
    return Model(
        trained,
        config,
        calibration,
        open_set,
        channel,
        correction,
        device,
        covariance,
        vectors,
        doubt,
        assessments,
        flow,
    )


def load_channel(exp: Path, frames: Path | None, trained: Trained) -> ChannelModel | None:
    """Read ``channel.json``, or compute it from the frame stores of training; None if both are missing."""
    path, stores = exp / CHANNEL_JSON, frames or Layout.read(exp).frames
    if path.is_file():
        return ChannelModel.load(path)
    if not all((stores / name / META_JSON).is_file() for name in trained.config.data.train):
        log.warning(
            "%s: the file and the frame stores in %s (--frames) are missing: channels are not compared", path, stores
        )
        return None
    channel = fit_experiment(stores, trained.config, trained.classes)
    try:
        channel.save(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, entry.describe(error))
    return channel
