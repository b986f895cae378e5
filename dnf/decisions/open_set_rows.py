"""Open-set figures of an experiment: the score is fitted on dev, every set is scored, and each decision gets a flag."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.detection_rows import weighted
from dnf.decisions.open_set import LEAST, SCORES, OpenSet
from dnf.decisions.utterance_summary import read
from dnf.experiment.config import Config
from dnf.experiment.layout import DECISIONS, LATENTS, OPEN_SET_JSON, OPEN_SET_NPZ, OPEN_SET_TSV, run_again
from dnf.experiment.sets import name_of
from dnf.experiment.tables import each_row, write_tsv
from dnf.metrics import detection
from dnf.metrics.bootstrap import interval
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.figures import KNOWN
from dnf.scoring.latent_store import Latents, latent_sets

log = logging.getLogger(__name__)


class OpenSetScores(NamedTuple):
    """One set: true class and speaker of each utterance, whether the class is known, score and flag, all ``(U,)``."""

    classes: np.ndarray
    speakers: np.ndarray
    known: np.ndarray
    score: np.ndarray
    flagged: np.ndarray


class Pool(NamedTuple):
    """Utterances that unseen classes are held against, or the unseen ones: speakers and open-set scores, ``(U,)``."""

    speakers: np.ndarray
    score: np.ndarray


def pool_of(scored: OpenSetScores, wanted: np.ndarray) -> Pool:
    """The wanted utterances, ``(U,)`` bool."""
    return Pool(scored.speakers[wanted], scored.score[wanted])


def auc_row(unseen: Pool, known: Pool, resamples: int, seed: int, **names: str) -> dict:
    """Row of ``accuracy.tsv`` with the chance that an unseen utterance scores above a known one; a tie counts half.

    Args:
        unseen, known: at least one utterance each; no interval with too few speakers of either.
        resamples, seed: of the interval over speakers, those of unseen and of known utterances drawn apart.
        names: more columns.
    """
    speakers, score = (np.concatenate(both) for both in zip(unseen, known))
    target = np.arange(len(score)) < len(unseen.score)
    strata, statistic = target.tolist(), partial(weighted, detection.auc)
    ends = interval(statistic, speakers, score, target, strata=strata, resamples=resamples, seed=seed)
    value = detection.auc(score, target)
    return row_of(value, ends, speakers, strata, metric="open_set_auc", **names) | {"count": len(unseen.score)}


def set_rows(name: str, scored: OpenSetScores, pools: dict[str, Pool], config: Config) -> list[dict]:
    """Rows of ``accuracy.tsv`` for one set; ``pools`` are utterances of known classes, by the name of the pool."""
    draw, rows = (config.report.bootstrap, config.seed), []
    for true in np.unique(scored.classes):
        of = scored.classes == true
        known = bool(scored.known[of].all())
        shares = [(speaker, int(flag), 1) for speaker, flag in zip(scored.speakers[of], scored.flagged[of])]
        metric = "open_set_false" if known else "open_set_detected"
        names = {"set": name, "class": str(true)}
        rows.append(share_row(metric, shares, *draw, **names))
        for pool, others in pools.items() if not known else ():
            rows.append(auc_row(pool_of(scored, of), others, *draw, decided=pool, **names))
    return rows


def fit(exp: Path, config: Config) -> OpenSet | None:
    """Fit the score and write ``open_set.json``; None, and no file, where there is nothing to fit it on."""
    for old in (OPEN_SET_JSON, OPEN_SET_NPZ):
        (exp / old).unlink(missing_ok=True)
    found = {role: read(exp / LATENTS / name_of(config.data, role)) for role in ("train", "dev")}
    if None in found.values():
        log.warning(f"%s: no mean latents of train and dev, so no open-set score; {run_again('latents')}", exp)
        return None
    chosen = {}
    for role, (latents, summary) in found.items():
        names = np.array([utt["class"] for utt in latents.utts])
        known = np.isin(names, latents.classes)
        chosen[role] = summary.rows(known), names[known]
    classes = found["train"][0].classes
    if len(chosen["dev"][1]) < LEAST or not set(classes) <= set(chosen["train"][1]):
        log.warning("%s: fewer than %d dev utterances of known classes, so no open-set score", exp, LEAST)
        return None
    of_dev = [(utt["class"], utt["speaker"]) for utt in found["dev"][0].utts if utt["class"] in classes]
    model = OpenSet.fit(*chosen["train"], chosen["dev"][0], classes, config.open_set, of_dev)
    model.save(exp / OPEN_SET_JSON)
    return model


def flagged(decisions: Iterator[dict], scored: OpenSetScores) -> Iterator[dict]:
    """Rows of ``decisions/<set>.txt`` with the open-set score and flag."""
    for row, value, flag in zip(decisions, scored.score, scored.flagged):
        yield row | {"open_set": "yes" if flag else "no", "open_set_score": f"{value:.6f}"}


def score_rows(sets: dict[str, tuple[Latents, dict[str, np.ndarray]]]) -> Iterator[dict]:
    """Rows of ``open_set.tsv``: every score of every utterance, by set."""
    for name, (latents, scores) in sets.items():
        for i, utt in enumerate(latents.utts):
            row = {"set": name, "utt": utt["utt"], "speaker": utt["speaker"], "class": utt["class"]}
            yield row | {score: f"{values[i]:.6f}" for score, values in scores.items()}


def open_set_rows(exp: Path, config: Config) -> list[dict]:
    """Fit, score all sets, add column ``open_set`` to ``decisions/<set>.txt``; rows of ``accuracy.tsv``."""
    model = fit(exp, config)
    if model is None:
        return []
    sets: dict[str, OpenSetScores] = {}
    every: dict[str, tuple[Latents, dict[str, np.ndarray]]] = {}
    for directory in latent_sets(exp):
        found = read(directory)
        if found is None:
            log.warning("%s: no mean latents, so no open-set score", directory)
            continue
        latents, summary = found
        classes, speakers = (np.array([utt[name] for utt in latents.utts]) for name in ("class", "speaker"))
        figures, names = model.figures(summary), [n for n in SCORES if n != "gap" or len(model.classes) > 1]
        scores = {name: model.score_of(figures, summary.frames, name) for name in names}
        every[directory.name] = latents, scores
        score = scores[model.score_name]
        scored = OpenSetScores(classes, speakers, np.isin(classes, latents.classes), score, score > model.threshold)
        sets[directory.name] = scored
        path = exp / DECISIONS / f"{directory.name}.txt"
        if path.is_file():
            write_tsv(path, flagged(each_row(path), scored))
    write_tsv(exp / OPEN_SET_TSV, score_rows(every))
    fitted = {name_of(config.data, role) for role in ("train", "dev")}
    own = {name: pool_of(scored, scored.known) for name, scored in sets.items() if scored.known.any()}
    tested = [pool for name, pool in own.items() if name not in fitted | set(config.data.views)]
    everyone = {KNOWN: Pool(*map(np.concatenate, zip(*tested)))} if tested else {}
    rows = []
    for name, scored in sets.items():
        pools = everyone | ({name: own[name]} if name in own and name not in fitted else {})
        rows += set_rows(name, scored, pools, config)
    return rows
