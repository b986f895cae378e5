"""Results by duration of recordings, by speaker, by corpus and by expert score, and the class information of latent dimensions.

All come from the output of stages latents and decide; the flow does not run again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dnf.experiment.config import Config
from dnf.experiment.layout import BY_CORPUS_TSV, BY_SCORE_TSV, DECISIONS, DURATIONS_TSV, FISHER_TSV, SPEAKERS_TSV
from dnf.experiment.tables import each_row, read_tsv, write_tsv
from dnf.metrics.figure_rows import share_row
from dnf.scoring.durations import durations, top_share
from dnf.scoring.latent_store import Latents, latent_sets

GROUP_COLUMNS = ("llr_mean", "llr_std", "utterances", "frames")
DURATION_COLUMNS = ("set", "class", "seconds", "value", "low", "high", "count", "total", "speakers", "fewest")


def whole_sets(exp: Path, config: Config) -> list[Path]:
    """``latents/<set>`` of the sets that are not already cut to pieces."""
    cut = {name for name, view in config.data.views.items() if view.seconds}
    return [directory for directory in latent_sets(exp) if directory.name not in cut]


class Group:
    """Decisions of a group of utterances: frames, log-likelihood ratios, and right decisions of each speaker."""

    def __init__(self):
        self.frames, self.ratios = 0, array("d")
        self.shares: dict[str, list[int]] = {}  # speaker: right, all

    def add(self, row: dict) -> None:
        """Count a row of ``decisions/<set>.txt``."""
        counts = self.shares.setdefault(row["speaker"], [0, 0])
        counts[0] += row["decision"] == row["class"]
        counts[1] += 1
        self.frames += int(row["frames"])
        self.ratios.append(float(row["llr"]))

    def summary(self, *, known: bool) -> dict:
        """Accuracy, mean and standard deviation of the log-likelihood ratio (nats per frame), and counts."""
        right, llr = sum(right for right, _ in self.shares.values()), np.array(self.ratios)
        return {
            "accuracy": f"{right / len(llr):.6f}" if known else "",
            "llr_mean": f"{llr.mean():.6f}",
            "llr_std": f"{llr.std():.6f}",
            "utterances": len(llr),
            "frames": self.frames,
        }


def speaker_rows(name: str, decisions: Iterable[dict], known: Sequence[str]) -> list[dict]:
    """Rows of ``speakers.tsv``: accuracy (empty for an unseen class) and log-likelihood ratio of each speaker."""
    groups: dict[tuple[str, str], Group] = {}
    for row in decisions:
        groups.setdefault((row["class"], row["speaker"]), Group()).add(row)
    return [
        {"set": name, "class": label, "speaker": speaker} | group.summary(known=label in known)
        for (label, speaker), group in sorted(groups.items())
    ]


def corpus_rows(
    name: str, decisions: Iterable[dict], corpora: Iterable[str], known: Sequence[str], config: Config
) -> list[dict]:
    """Rows of ``by_corpus.tsv``: the same for each class and corpus, with an interval; none where corpora are not known.

    Args:
        name: name of the set.
        decisions: rows of ``decisions/<set>.txt``.
        corpora: corpus of each, empty where it is not known.
        known: classes of the model.
        config: for the intervals.
    """
    groups: dict[tuple[str, str], Group] = {}
    for row, corpus in zip(decisions, corpora):
        if corpus:
            groups.setdefault((row["class"], corpus), Group()).add(row)
    return [
        {"set": name, "class": label, "corpus": corpus} | accuracy_of(group, config, known=label in known)
        for (label, corpus), group in sorted(groups.items())
    ]


def accuracy_of(group: Group, config: Config, *, known: bool) -> dict:
    """The summary of a group, with an interval over speakers and their number."""
    hits = [(speaker, right, total) for speaker, (right, total) in group.shares.items()]
    share = share_row("", hits, config.report.bootstrap, config.seed)
    ends = {key: share[key] if known else "" for key in ("low", "high")}
    return group.summary(known=known) | ends | {"speakers": share["speakers"]}


def score_rows(name: str, decisions: Iterable[dict], known: Sequence[str], config: Config) -> list[dict]:
    """Rows of ``by_score.tsv``: the same for each expert score, rounded to an integer; none without scores."""
    groups: dict[tuple[str, int], Group] = {}
    for row in decisions:
        if row["score"]:
            groups.setdefault((row["class"], math.floor(float(row["score"]) + 0.5)), Group()).add(row)
    return [
        {"set": name, "class": label, "score": score} | accuracy_of(group, config, known=label in known)
        for (label, score), group in sorted(groups.items())
    ]


def fisher_summary(exp: Path) -> list[dict]:
    """Rows of ``results.tsv``: mean Fisher ratio of each part, and the share of its top tenth in the sum."""
    path = exp / FISHER_TSV
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in read_tsv(path) if path.is_file() else ():
        groups.setdefault((row["set"], row["classes"], row["part"]), []).append(float(row["fisher"]))
    rows = []
    for (name, classes, part), values in groups.items():
        ratios = np.nan_to_num(values)
        for metric, value in ((f"fisher_{part}", ratios.mean()), (f"fisher_top_{part}", top_share(ratios))):
            names = {"metric": metric, "set": name, "class": classes}
            rows.append(names | {"value": f"{value:.6g}", "total": len(ratios)})
    return rows


def breakdown_rows(exp: Path, config: Config) -> list[dict]:
    """Write durations.tsv, speakers.tsv, by_corpus.tsv and by_score.tsv; rows of ``accuracy.tsv``, with the seconds as ``decided``."""
    of_durations, speakers, scores, by_corpus = durations(exp, config), [], [], []
    for directory in whole_sets(exp, config):
        path = exp / DECISIONS / f"{directory.name}.txt"
        if path.is_file():
            latents = Latents.open(directory)
            known, corpora = latents.classes, (utt.get("corpus", "") for utt in latents.utts)
            by_corpus += corpus_rows(directory.name, each_row(path), corpora, known, config)
            speakers += speaker_rows(directory.name, each_row(path), known)
            scores += score_rows(directory.name, each_row(path), known, config)
    write_tsv(exp / DURATIONS_TSV, ({c: row[c] for c in DURATION_COLUMNS} for row in of_durations), DURATION_COLUMNS)
    write_tsv(exp / SPEAKERS_TSV, speakers, ("set", "class", "speaker", "accuracy", *GROUP_COLUMNS))
    by_group = ("accuracy", "low", "high", *GROUP_COLUMNS, "speakers")
    write_tsv(exp / BY_SCORE_TSV, scores, ("set", "class", "score", *by_group))
    write_tsv(exp / BY_CORPUS_TSV, by_corpus, ("set", "class", "corpus", *by_group))
    return [{k: v for k, v in r.items() if k != "seconds"} | {"decided": f"{r['seconds']}s"} for r in of_durations]
