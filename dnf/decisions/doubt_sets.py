"""The doubt about every set of an experiment: fit or read ``doubt.json``, compare each set with training, write ``doubt.tsv``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.calibration import Calibration, known_utterances
from dnf.decisions.doubt import LEAST, Doubt, Home
from dnf.decisions.evidence import Evidence, evidence
from dnf.decisions.utterance_summary import Summary, read
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CHANNEL_JSON,
    CHANNEL_NPY,
    DOUBT_JSON,
    DOUBT_TSV,
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
COLUMNS = ("set", "verdict", "distance", "errors", "limit", "recordings", "speakers", "foreign", "factor", "unlike")


class SetDoubt(NamedTuple):
    """Doubt about the U recordings of a set.

    Attributes:
        foreign: ``(U,)`` whether each recording, or the complete set, is foreign.
        factor: ``(U,)`` of their log-likelihood ratios.
    """

    foreign: np.ndarray
    factor: np.ndarray

    def only(self, rows: slice) -> SetDoubt:
        """Some of the recordings."""
        return SetDoubt(self.foreign[rows], self.factor[rows])


def no_doubt(count: int) -> SetDoubt:
    """That about ``count`` recordings of a set that is not compared with training."""
    return SetDoubt(np.zeros(count, bool), np.ones(count))


def fit(exp: Path, config: Config, calibration: Calibration | None, channels: ChannelModel) -> Doubt | None:
    """Fit on train and dev and write ``doubt.json``; None, and no file, if dev has too little."""
    (exp / DOUBT_JSON).unlink(missing_ok=True)
    folder = exp / LATENTS / name_of(config.data, "dev")
    content, dev = read(folder), evidence(Latents.open(folder))
    known = known_utterances(dev)
    if content is None or len(known) < LEAST:
        log.warning("%s: no doubt about recordings: dev has fewer than %d utterances of known classes", exp, LEAST)
        return None
    density, of_dev = density_of(content[1])[known], dev.only(known)
    distances = channels.distances(mapped(folder / CHANNEL_NPY)[known])
    home = home_of(of_dev, density, distances, channels, exp, config)
    model = Doubt.fit(home, of_dev, density, Shifted.load(exp / SHIFTED_NPZ), calibration)
    model.save(exp / DOUBT_JSON)
    return model


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

    Of a fused system it is that of the first experiment of its members that has one.

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
        rows.append(row)
    write_tsv(exp / DOUBT_TSV, rows, COLUMNS)
    return doubts


def set_doubt(
    folder: Path, model: Doubt, channels: ChannelModel, config: Config
) -> tuple[SetDoubt, Mapping[str, object]]:
    """Doubt about the set of ``latents/<set>``, and its row of ``doubt.tsv``.

    A foreign set whose difference the normalization of the model removes keeps its ratios.
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
    factor = model.factor(density, summary.frames, alone | harmed)
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
        "unlike": ", ".join(verdict.unlike),
    }
    return SetDoubt(alone | verdict.is_foreign, factor), row
