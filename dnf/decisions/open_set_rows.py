"""Open-set figures of an experiment: fit the score on train and dev, score every set, and flag each decision."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dnf.decisions.detection_rows import weighted
from dnf.decisions.open_set import LEAST, SCORES, OpenSet
from dnf.decisions.utterance_summary import Summary, read
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.config import Config
from dnf.experiment.layout import DECISIONS, OPEN_SET_JSON, OPEN_SET_NPZ, OPEN_SET_TSV, is_taken, run_again
from dnf.experiment.sets import fitted_sets, name_of
from dnf.experiment.settings import DataSettings
from dnf.experiment.tables import each_row, write_tsv
from dnf.metrics import detection
from dnf.metrics.bootstrap import interval
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.figures import KNOWN, MOST_CLASSES, UNSEEN
from dnf.metrics.trials import Trials, joined
from dnf.scoring.latent_store import Latents, latent_sets

log = logging.getLogger(__name__)

SAME_CORPUS = "corpus "  # begins the name of a pool of the utterances of one corpus


def auc_row(unseen: Trials, known: Trials, resamples: int, seed: int, **names: str) -> dict:
    """Row of ``accuracy.tsv`` with the AUC: the chance that an unseen utterance scores above a known one; a tie counts half.

    Args:
        unseen, known: at least one utterance each, with score ``open_set``; no interval with too few speakers of either.
        resamples, seed: for the interval over speakers, drawn separately from unseen and from known utterances.
        names: more columns.
    """
    both = joined([unseen, known])
    score, target = both.scores["open_set"], np.arange(len(both)) < len(unseen)
    strata, statistic = target.tolist(), partial(weighted, detection.auc)
    ends = interval(statistic, both.speakers, score, target, strata=strata, resamples=resamples, seed=seed)
    value = detection.auc(score, target)
    return row_of(value, ends, both.speakers, strata, metric="open_set_auc", **names) | {"count": len(unseen)}


def set_rows(name: str, trials: Trials, pools: dict[str, Trials], config: Config) -> list[dict]:
    """Rows of ``accuracy.tsv`` for one set; ``pools`` are utterances of known classes by name.

    A model of more than ``MOST_CLASSES`` classes has rows of all known and of all unseen classes together.
    """
    draw, rows = (config.report.bootstrap, config.seed), []
    labels = trials.labels
    if len(trials.classes) > MOST_CLASSES:
        labels = np.where(trials.known, KNOWN, np.where(labels == UNLABELLED, UNLABELLED, UNSEEN))
        trials = replace(trials, labels=labels, classes=[KNOWN])
    for label in sorted(set(labels)):
        of_class, names = trials.only(trials.labels == label), {"set": name, "class": label}
        shares = [(speaker, int(flag), 1) for speaker, flag in zip(of_class.speakers, of_class.scores["flagged"])]
        is_known = label in trials.classes
        rows.append(share_row("open_set_false" if is_known else "open_set_detected", shares, *draw, **names))
        for pool, known in pools.items() if not is_known and label != UNLABELLED else ():
            rows.append(auc_row(of_class, known, *draw, decided=pool, **names))
    return rows


def remove_open_set(exp: Path) -> None:
    """Remove the score of an earlier run, and its table."""
    for name in (OPEN_SET_JSON, OPEN_SET_NPZ, OPEN_SET_TSV):
        (exp / name).unlink(missing_ok=True)


def fit(exp: Path, config: Config, sets: Mapping[str, tuple[Latents, Summary]]) -> OpenSet | None:
    """Fit the score and write ``open_set.json``; None, and no file, if train or dev has too little.

    Args:
        exp: folder of the experiment.
        config: settings.
        sets: latents and summary of each set with mean latents.
    """
    remove_open_set(exp)
    train, dev = (sets.get(name_of(config.data, role)) for role in ("train", "dev"))
    if train is None or dev is None:
        log.warning(f"%s: no open-set score: train and dev have no mean latents; {run_again('latents')}", exp)
        return None
    classes = train[0].classes
    (of_train, train_labels), (of_dev, dev_labels) = (known_summary(*role) for role in (train, dev))
    if len(dev_labels) < LEAST or not {*classes} <= {label for label, _ in train_labels}:
        reason = "dev has fewer than %d utterances of known classes, or train lacks a class"
        log.warning(f"%s: no open-set score: {reason}", exp, LEAST)
        return None
    labels = [label for label, _ in train_labels]
    model = OpenSet.fit(of_train, labels, of_dev, classes, config.open_set, dev_labels)
    model.save(exp / OPEN_SET_JSON)
    return model


def known_summary(latents: Latents, summary: Summary) -> tuple[Summary, list[tuple[str, str]]]:
    """Utterances of known classes, with the class and speaker of each."""
    names = [(utt["class"], utt["speaker"]) for utt in latents.utts]
    classes = set(latents.classes)
    known = np.array([label in classes for label, _ in names], dtype=bool)
    return summary.rows(known), [pair for pair, wanted in zip(names, known) if wanted]


def score_set(model: OpenSet, latents: Latents, summary: Summary) -> Trials:
    """Utterances of a set with every score by its name, the score of the decision as ``open_set``, and ``flagged``."""
    figures = model.figures(summary)
    scores = {name: model.score_of(figures, summary.frames, name) for name in model.score_names}
    deciding = scores[model.score_name]
    scores |= {"open_set": deciding, "flagged": deciding > model.threshold}
    utts, speakers, labels = ([utt[name] for utt in latents.utts] for name in ("utt", "speaker", "class"))
    return Trials(utts, speakers, labels, scores, latents.classes)


def read_sets(exp: Path) -> dict[str, tuple[Latents, Summary]]:
    """Latents and summary of every set that has mean latents."""
    contents = {directory: read(directory) for directory in latent_sets(exp)}
    for directory in (directory for directory, content in contents.items() if content is None):
        log.warning("%s: no open-set score: it has no mean latents", directory)
    return {directory.name: content for directory, content in contents.items() if content is not None}


def add_flags(path: Path, trials: Trials) -> None:
    """Fill the open-set score and flag into ``decisions/<set>.txt``."""
    values = zip(each_row(path), trials.scores["open_set"], trials.scores["flagged"])
    rows = (row | {"open_set": "yes" if flag else "no", "open_set_score": f"{v:.6f}"} for row, v, flag in values)
    write_tsv(path, rows)


def score_rows(sets: dict[str, Trials]) -> Iterator[dict]:
    """Rows of ``open_set.tsv``: every score of every utterance, by set."""
    for set_name, trials in sets.items():
        names = [name for name in SCORES if name in trials.scores]
        for i, (utt, speaker, label) in enumerate(zip(trials.utts, trials.speakers, trials.labels)):
            row = {"set": set_name, "utt": utt, "speaker": speaker, "class": label}
            yield row | {name: f"{trials.scores[name][i]:.6f}" for name in names}


def known_pools(
    sets: dict[str, Trials], data: DataSettings, corpora: Mapping[str, np.ndarray] = MappingProxyType({})
) -> dict[str, dict[str, Trials]]:
    """Utterances of known classes for comparison with the unseen classes of each set, by name of the pool.

    The pools are all test sets, the set itself, and the utterances of all test sets that are of a corpus of its unseen
    utterances; never train and dev, which the score was fitted on.

    Args:
        sets: utterances by set.
        data: the settings.
        corpora: corpus of each utterance by set, empty where it is not known; empty: none is known.
    """
    fitted = fitted_sets(data)
    known = {name: trials.only(trials.known) for name, trials in sets.items() if trials.known.any()}
    tested = [trials for name, trials in known.items() if name not in fitted | set(data.views)]
    everyone = {KNOWN: joined(tested)} if tested else {}
    pools = {name: everyone | ({name: known[name]} if name in known.keys() - fitted else {}) for name in sets}
    whole = [name for name in sets if name not in fitted | set(data.views)]
    for name, trials in sets.items() if corpora else ():
        for corpus in sorted(set(corpora[name][~trials.known]) - {""}):
            same = [sets[w].only(sets[w].known & (corpora[w] == corpus)) for w in whole]
            if any(map(len, same)):
                pools[name][f"{SAME_CORPUS}{corpus}"] = joined([part for part in same if len(part)])
    return pools


def corpora_of(latents: Latents) -> np.ndarray:
    """Corpus of each utterance ``(U,)``, empty where it is not known."""
    return np.array([utt.get("corpus", "") for utt in latents.utts], dtype=object)


def open_set_rows(exp: Path, config: Config) -> list[dict]:
    """Fit the score or read a copied one, score all sets, add column ``open_set`` to ``decisions/``; rows of ``accuracy.tsv``."""
    path = exp / OPEN_SET_JSON
    if is_taken(exp) and not path.is_file():
        return []
    contents = read_sets(exp)
    model = OpenSet.load(path) if is_taken(exp) else fit(exp, config, contents)
    if model is None:
        return []
    sets = {name: score_set(model, *content) for name, content in contents.items()}
    for name, trials in sets.items():
        path = exp / DECISIONS / f"{name}.txt"
        if path.is_file():
            add_flags(path, trials)
    write_tsv(exp / OPEN_SET_TSV, score_rows(sets))
    pools = known_pools(sets, config.data, {name: corpora_of(latents) for name, (latents, _) in contents.items()})
    return [row for name, trials in sets.items() for row in set_rows(name, trials, pools[name], config)]
