"""The doubt about every set of an experiment: fit or read ``doubt.json``, compare each set with training, write ``doubt.tsv``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.calibration import Calibration, known_utterances
from dnf.decisions.channel_bias import ChannelBias
from dnf.decisions.doubt import LEAST, Doubt, Home
from dnf.decisions.evidence import Evidence, evidence
from dnf.decisions.fusion import Fusion
from dnf.decisions.utterance_summary import Summary, read
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    BIAS_NPZ,
    CHANNEL_JSON,
    CHANNEL_NPY,
    CONFIG_YAML,
    DOUBT_JSON,
    DOUBT_TSV,
    FUSION_JSON,
    LATENTS,
    SHIFTED_NPZ,
    experiment_of,
    is_fused,
    is_taken,
    members_of,
)
from dnf.experiment.sets import fitted_sets, name_of
from dnf.experiment.tables import write_tsv
from dnf.scoring.channel_model import ChannelModel, left_out_distances
from dnf.scoring.latent_store import Latents, mapped
from dnf.scoring.shifted_evidence import Shifted

log = logging.getLogger(__name__)

MOST = 5000  # most recordings for the verdict on a set, and of train for the limit
COLUMNS = (
    "set",
    "verdict",
    "distance",
    "errors",
    "limit",
    "recordings",
    "speakers",
    "foreign",
    "factor",
    "towards",
    "unlike",
)


class SetDoubt(NamedTuple):
    """Doubt about the U recordings of a set.

    Attributes:
        foreign: ``(U,)`` whether each recording, or the complete set, is foreign.
        bias: ``(U, K)`` of their mean log-likelihoods, nats; ``(U, 1)`` zeros if it is unknown.
        factor: ``(U,)`` of their log-likelihood ratios without it.
    """

    foreign: np.ndarray
    bias: np.ndarray
    factor: np.ndarray

    @property
    def changes(self) -> bool:
        """Whether any ratio changes."""
        return bool((self.factor < 1).any() or self.bias.any())

    @property
    def without_bias(self) -> SetDoubt:
        """The same for a system whose bias is unknown."""
        return self._replace(bias=np.zeros((len(self.foreign), 1)))

    def only(self, rows: slice) -> SetDoubt:
        """Some of the recordings."""
        return SetDoubt(*(array[rows] for array in self))


def no_doubt(count: int) -> SetDoubt:
    """That about ``count`` recordings of a set that is not compared with training."""
    return SetDoubt(np.zeros(count, bool), np.zeros((count, 1)), np.ones(count))


def fit(exp: Path, config: Config, calibration: Calibration | None, channels: ChannelModel) -> Doubt | None:
    """Fit on train and dev and write ``doubt.json``; None, and no file, if dev has too little."""
    for name in (DOUBT_JSON, BIAS_NPZ):
        (exp / name).unlink(missing_ok=True)
    folder = exp / LATENTS / name_of(config.data, "dev")
    content, dev = read(folder), evidence(Latents.open(folder))
    known = known_utterances(dev)
    if content is None or len(known) < LEAST:
        log.warning("%s: no doubt about recordings: dev has fewer than %d utterances of known classes", exp, LEAST)
        return None
    density, of_dev, vectors = density_of(content[1])[known], dev.only(known), mapped(folder / CHANNEL_NPY)[known]
    model = Doubt.fit(home_of(of_dev, density, channels.distances(vectors), channels, exp, config))
    shifted = Shifted.load(exp / SHIFTED_NPZ)
    if calibration and len(shifted.utts):
        model = learn(model, of_dev, vectors, shifted, calibration, channels, config)
    model.save(exp / DOUBT_JSON)
    return model


def learn(
    model: Doubt,
    dev: Evidence,
    vectors: np.ndarray,
    shifted: Shifted,
    calibration: Calibration,
    channels: ChannelModel,
    config: Config,
) -> Doubt:
    """The bias and the factor from copies of U utterances of dev, which have statistics ``(U, S)``."""
    row = {utt["utt"]: u for u, utt in enumerate(dev.utts)}
    original = np.array([row[utt] for utt in shifted.utts])
    counted = slice(0 if config.cmvn.scope == "none" else channels.unnormalized, None)
    home, scale = np.array(channels.profiles).mean(0)[counted], np.array(channels.scale)[counted]
    moves = (channels.profiles_of(shifted.statistics) - channels.profiles_of(vectors)[original])[:, counted]
    changes = shifted.mean - dev.mean[original]
    bias, left_out = ChannelBias.fit(home, scale, moves, changes, shifted.speakers, len(set(shifted.utts)))
    copies = Evidence(dev.classes, [dev.utts[u] for u in original], shifted.mean - left_out, shifted.frames)
    return model.learn(bias, copies, shifted.kinds, calibration)


def home_of(
    dev: Evidence, density: np.ndarray, distances: np.ndarray, channels: ChannelModel, exp: Path, config: Config
) -> Home:
    """The recordings of known classes of dev, with ``(U,)`` mean log p(x) and channel distances, and those of train."""
    folder = exp / LATENTS / name_of(config.data, "train")
    latents, summary = read(folder)
    rows = np.array([u for u, utt in enumerate(latents.utts) if utt["class"] in latents.classes])
    rows = rows[drawn(len(rows))]
    utts, of_train = [latents.utts[u] for u in rows], density_of(summary)[rows]
    speakers = [utt["speaker"] for utt in utts]
    labels, dev_labels = (np.array([utt["class"] for utt in of]) for of in (utts, dev.utts))
    for label in set(dev_labels) & set(labels):
        of_train[labels == label] += density[dev_labels == label].mean() - of_train[labels == label].mean()
    profiles, sets = channels.profiles_of(mapped(folder / CHANNEL_NPY)[rows]), [utt["set"] for utt in utts]
    return Home(
        [*zip(labels.tolist(), speakers), *((utt["class"], utt["speaker"]) for utt in dev.utts)],
        np.concatenate([left_out_distances(profiles, sets, speakers), distances]),
        np.concatenate([of_train, density]),
        np.concatenate([summary.frames[rows], dev.frames]),
    )


def drawn(count: int) -> np.ndarray:
    """At most ``MOST`` of so many recordings, evenly spaced."""
    return np.linspace(0, count - 1, min(MOST, count)).astype(int)


def density_of(summary: Summary) -> np.ndarray:
    """Mean log p(x) ``(U,)`` of utterances, nats."""
    return summary.mixture + summary.logdet


def set_doubts(
    exp: Path, config: Config, calibration: Calibration | None, names: list[str]
) -> dict[str, SetDoubt] | None:
    """Doubt about each test set of ``names``; writes ``doubt.tsv``. None without channels of training.

    Of a fused system it is that of the first experiment of its members that has one, with the biases of all of them.

    Args:
        exp: folder of the flow or of the fused system.
        config: settings.
        calibration: of the flow.
        names: the sets that have latents.
    """
    (exp / DOUBT_TSV).unlink(missing_ok=True)
    of_members = [experiment_of(member) for member in members_of(exp)] if is_fused(exp) else [exp]
    is_fitted = is_taken(exp) or is_fused(exp)
    needed = CHANNEL_JSON, DOUBT_JSON if is_fitted else SHIFTED_NPZ
    source = next((of for of in of_members if all((of / name).is_file() for name in needed)), None)
    if source is None:
        return None
    channels = ChannelModel.load(source / CHANNEL_JSON)
    model = Doubt.load(source / DOUBT_JSON) if is_fitted else fit(exp, config, calibration, channels)
    if model is None:
        return None
    tests = [name for name in names if name not in fitted_sets(config.data)]
    doubts, rows = {}, []
    for name in tests:
        doubts[name], row = set_doubt(source / LATENTS / name, model, channels, config)
        if is_fused(exp):
            doubts[name] = doubts[name]._replace(bias=fused_bias(exp, name))
        rows.append(row)
    write_tsv(exp / DOUBT_TSV, rows, COLUMNS)
    return doubts


def set_doubt(
    folder: Path, model: Doubt, channels: ChannelModel, config: Config
) -> tuple[SetDoubt, Mapping[str, object]]:
    """Doubt about the set of ``latents/<set>``, and its row of ``doubt.tsv``.

    A foreign set whose difference the normalization of the model removes keeps its ratios. The recordings of another one have the bias
    of their mean profile, since single ones show less of a channel.
    """
    latents, summary = read(folder)
    vectors = mapped(folder / CHANNEL_NPY)
    rows = drawn(len(vectors))
    verdict = channels.compare_set(vectors[rows], [latents.utts[u]["speaker"] for u in rows])
    if verdict.is_foreign:
        log.warning("%s: %s", folder.name, verdict.sentence)
    density = density_of(summary)
    alone = model.score(channels.distances(vectors), density, summary.frames) > model.limit
    harmed = verdict.is_foreign and (verdict.remains or config.cmvn.scope == "none")
    bias, factor = np.zeros((len(vectors), 1)), model.factor(alone | harmed)
    if model.bias and harmed:
        bias = model.bias(channels.profiles_of(vectors[rows]).mean(0)[None]).repeat(len(vectors), 0)
    elif model.bias and alone.any():
        bias = np.zeros((len(vectors), len(latents.classes)))
        bias[alone] = model.bias(channels.profiles_of(vectors[alone]))
    row = {
        "set": folder.name,
        "verdict": "foreign" if verdict.is_foreign else "home",
        "distance": f"{verdict.distance:.3f}",
        "errors": f"{verdict.errors:.3f}",
        "limit": f"{verdict.limit:.3f}",
        "recordings": len(vectors),
        "speakers": verdict.speakers,
        "foreign": f"{alone.mean():.4f}",
        "factor": f"{factor.mean():.4f}",
        "towards": latents.classes[bias[0].argmax()] if model.bias and harmed else "",
        "unlike": ", ".join(verdict.unlike),
    }
    return SetDoubt(alone | verdict.is_foreign, bias, factor), row


def fused_bias(exp: Path, name: str) -> np.ndarray:
    """The bias ``(U, K)`` of the fused log-likelihoods of a set, nats, from those of the members that have one."""
    fusion, total = Fusion.load(exp / FUSION_JSON), 0.0
    for member, weight, calibration in zip(members_of(exp), fusion.weights, fusion.calibrations):
        if not (member / DOUBT_JSON).is_file() or not (member / CHANNEL_JSON).is_file():
            continue
        model, channels = Doubt.load(member / DOUBT_JSON), ChannelModel.load(member / CHANNEL_JSON)
        folder, config = member / LATENTS / name, Config.load(member / CONFIG_YAML)
        of_set, bias = evidence(Latents.open(folder), np.zeros(0)), set_doubt(folder, model, channels, config)[0].bias
        total = total + weight * (calibration.loglik(of_set) - calibration.loglik(of_set.without(bias)))
    return np.atleast_2d(total)
