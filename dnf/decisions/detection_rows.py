"""Rows of ``accuracy.tsv`` on detection and calibration, with intervals, on a set and on its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from dnf.decisions.calibration import prior_of
from dnf.decisions.evidence import Evidence
from dnf.experiment.settings import Calibrate
from dnf.metrics import detection
from dnf.metrics.bootstrap import fewest, gap, interval, paired, paired_share, weighted_share
from dnf.metrics.figure_rows import row_of
from dnf.metrics.figures import DIFFERENCE, GAP, MOST_CLASSES, TRIVIAL, WITHOUT_DOUBT
from dnf.metrics.trials import MOST_PAIRS, MOST_ROWS, Trials

ACCURACY, CALIBRATED_ACCURACY = ACCURACIES = ("utt_accuracy", "utt_accuracy_calibrated")


def utterances_of(
    evidence: Evidence, order: Sequence[str], dev_auc: Mapping[str, float] | None = None, **scores: np.ndarray
) -> Trials:
    """All utterances of a set, with scores ``mean`` and ``frames``; arguments as of ``trials_of``."""
    scores |= {"mean": evidence.mean[:, evidence.columns(order)], "frames": evidence.frames}
    utts, speakers, labels = ([utt[name] for utt in evidence.utts] for name in ("utt", "speaker", "class"))
    return Trials(utts, speakers, labels, scores, list(order), dev_auc=dev_auc or {})


def trials_of(
    evidence: Evidence,
    calibrated: np.ndarray | None,
    order: Sequence[str],
    priors: dict[str, float],
    dev_auc: Mapping[str, float] | None = None,
    doubted: np.ndarray | None = None,
    **scores: np.ndarray,
) -> Trials:
    """The utterances of known classes, with scores ``mean`` and ``frames``.

    With a calibration also ``calibrated``, and whether the class of highest posterior is the right one, and, where they are
    doubted, both without doubt.

    Args:
        evidence: evidence of a set.
        calibrated: ``(U, K)`` calibrated log-likelihoods of its utterances without doubt, nats; None without a calibration.
        order: classes, the reference class first.
        priors: priors of the classes; empty: equal priors.
        dev_auc: AUC of pairs of classes, from ``pair_aucs``; None: unknown.
        doubted: ``(U, K)`` the same with doubt; None: no utterance is doubted.
        scores: more scores ``(U,)``, by name.
    """
    with_endings = {"": calibrated} if doubted is None else {"": doubted, WITHOUT_DOUBT: calibrated}
    given = {ending: loglik for ending, loglik in with_endings.items() if loglik is not None}
    for ending, loglik in given.items():
        scores[f"calibrated{ending}"] = loglik[:, evidence.columns(order)]
    trials = utterances_of(evidence, order, dev_auc, **scores)
    trials, log_prior = trials.only(trials.known), np.log(prior_of(order, priors))
    decided = {ending: (trials.scores[f"calibrated{ending}"] + log_prior).argmax(1) for ending in given}
    right = {CALIBRATED_ACCURACY + ending: columns == trials.columns for ending, columns in decided.items()}
    return replace(trials, scores=trials.scores | right)


def summarized(trials: Trials) -> Trials:
    """The same utterances, of known classes, with two numbers each in place of those of many classes.

    ``ranks`` is the share of the other classes whose mean log-likelihood is below that of the true class (a tie counts half),
    and ``bits``, with a calibration, the cost of the true class's posterior.
    """
    mean, columns = trials.scores["mean"], trials.columns
    true = mean[np.arange(len(mean)), columns][:, None]
    scores = {name: values for name, values in trials.scores.items() if values.ndim == 1}
    scores["ranks"] = ((mean < true).sum(1) + ((mean == true).sum(1) - 1) / 2) / (len(trials.classes) - 1)
    if trials.calibrated:
        scores["bits"] = detection.surprise(trials.scores["calibrated"], columns)
    return replace(trials, scores=scores)


def summary_rows(
    trials: Trials, resamples: int, seed: int, *, ending: str = "", cllr: str = "cllr", **names: str
) -> list[dict]:
    """Rows of ``rank_auc`` and, if calibrated and all classes are there, Cllr, of many classes; arguments as of ``detection_rows``."""
    rows, draw, ones = [], {"resamples": resamples, "seed": seed}, np.ones(len(trials))
    names |= {"class": "all"}
    if len(trials):
        arrays = trials.scores["ranks"], ones
        ends = interval(weighted_share, trials.speakers, *arrays, **draw)
        rows.append(row_of(float(arrays[0].mean()), ends, trials.speakers, metric=f"rank_auc{ending}", **names))
    if trials.calibrated and len(set(trials.labels)) == len(trials.classes):
        columns = trials.columns
        value = detection.class_mean(trials.scores["bits"], columns)
        rows.append(row_of(value, None, trials.speakers, columns.tolist(), metric=cllr + ending, **names))
    return rows


def measures(settings: Calibrate) -> dict:
    """The figures of a pair that have intervals, as functions of scores, targets and weights."""
    costs = (settings.dcf_prior, settings.dcf_cost_miss, settings.dcf_cost_false)

    def min_dcf(scores, target, weights=None):
        return detection.min_dcf(scores, target, *costs, weights=weights)

    return {"auc": detection.auc, "eer": detection.eer, "min_dcf": min_dcf, "cllr": detection.cllr}


def pair_aucs(dev: Trials) -> dict[str, float]:
    """AUC of every pair of classes of dev, by their names joined by +; none if all pairs are few enough to show."""
    if len(dev.pairs(MOST_PAIRS + 1)) <= MOST_PAIRS:
        return {}
    mean, rows, column = dev.scores["mean"], dev.rows_by_class, {name: k for k, name in enumerate(dev.classes)}

    def auc(first: str, second: str) -> float:
        ratios = (mean[rows[name], column[first]] - mean[rows[name], column[second]] for name in (first, second))
        return detection.chance_above(*ratios)

    return {"+".join(pair): auc(*pair) for pair in dev.pairs(len(dev.classes) ** 2)}


def cllr_rows(trials: Trials, resamples: int, seed: int, **names: str) -> list[dict]:
    """Cllr of every pair of classes that is shown; ``names`` are the metric and more columns."""
    rows = []
    for pair in (trials.pair(*both) for both in trials.pairs()):
        arrays, strata = (pair.ranked_by("cllr"), pair.target), pair.target.tolist()
        draw = {"strata": strata, "resamples": resamples, "seed": seed}
        ends = interval(partial(weighted, detection.cllr), pair.speakers, *arrays, **draw)
        rows.append(row_of(detection.cllr(*arrays), ends, pair.speakers, strata, **names, **{"class": pair.name}))
    return rows


def weighted(measure, weights: np.ndarray, scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A measure as a statistic of ``dnf.metrics.bootstrap``."""
    return measure(scores, target, weights)


def detection_rows(
    trials: Trials,
    settings: Calibrate,
    resamples: int,
    seed: int,
    *,
    ending: str = "",
    cllr: str = "cllr",
    **names: str,
) -> list[dict]:
    """AUC, EER, minDCF, minCllr and, if calibrated, Cllr of every pair of classes; Cllr of all classes if more.

    More than ``MOST_CLASSES`` classes have the rows of ``summary_rows``. If there are more than ``MOST_PAIRS`` pairs, those
    most confused on dev have intervals, and ``MOST_ROWS`` have figures.
    AUC, EER and minDCF use the mean log-likelihood ratio per frame, minCllr and Cllr the calibrated one.

    Args:
        trials: utterances of known classes; ``TRIVIAL`` scores get an AUC, too.
        settings: priors and costs.
        resamples, seed: for the intervals over speakers, drawn within each class.
        ending: end of the names of the metrics.
        cllr: name of Cllr.
        names: more columns.
    """
    if len(trials.classes) > MOST_CLASSES:
        return summary_rows(trials, resamples, seed, ending=ending, cllr=cllr, **names)
    rows = []

    def add(metric: str, measure, arrays: tuple, part: Trials, strata: list, *, with_interval: bool = True) -> None:
        draw = {"strata": strata, "resamples": resamples, "seed": seed}
        ends = interval(partial(weighted, measure), part.speakers, *arrays, **draw) if with_interval else None
        figure = measure(*arrays), ends, part.speakers, strata
        rows.append(row_of(*figure, metric=metric + ending, **names, **{"class": part.name}))

    for n, pair in enumerate(trials.pair(*both) for both in trials.pairs(MOST_ROWS)):
        strata, more = pair.target.tolist(), {"with_interval": n < MOST_PAIRS}
        for name, measure in measures(settings).items():
            if name != "cllr" or pair.calibrated:
                arrays = pair.ranked_by(name), pair.target
                add(cllr if name == "cllr" else name, measure, arrays, pair, strata, **more)
        for name in (name for name in TRIVIAL if name in pair.scores):
            add(f"auc_{name}", detection.auc, (pair.scores[name], pair.target), pair, strata, **more)
        least = detection.min_cllr(pair.ranked_by("min_cllr"), pair.target)
        more = names | {"metric": f"min_cllr{ending}", "class": pair.name}
        rows.append(row_of(least, None, pair.speakers, strata, **more))
    if trials.calibrated and len(set(trials.labels)) == len(trials.classes) > 2:
        columns = trials.columns
        add(cllr, detection.cllr, (trials.scores["calibrated"], columns), trials, columns.tolist())
    return rows


def gap_row(statistic, of_set: tuple, of_control: tuple, draw: tuple[int, int], **names: str) -> dict:
    """A row of a figure of a set minus that of its control; arguments as of ``dnf.metrics.bootstrap.gap``."""
    value, low, high = gap(statistic, of_set, of_control, *draw)
    speakers = [*of_set[0], *of_control[0]]
    row = row_of(value, None if low is None else (low, high), speakers, **names)
    return row | {"total": "", "fewest": min(fewest(*of_set[:2]), fewest(*of_control[:2]))}


def gap_rows(
    of_set: Trials, of_control: Trials, settings: Calibrate, *draw: int, cllr: str = "cllr", **names: str
) -> list[dict]:
    """AUC and, if calibrated, Cllr of every pair of classes: those of a set minus those with its control.

    Args:
        of_set: utterances of the set.
        of_control: utterances from ``with_control``.
        settings: priors and costs.
        draw: resamples and seed.
        cllr: name of Cllr.
        names: more columns.
    """
    rows = []
    for pair in (both for both in of_control.pairs() if of_set.has(both)):
        sides = [trials.pair(*pair) for trials in (of_set, of_control)]
        for name, measure in measures(settings).items():
            if name == "auc" or name == "cllr" and all(side.calibrated for side in sides):
                arrays = [(side.speakers, side.target.tolist(), (side.ranked_by(name), side.target)) for side in sides]
                more = {"metric": (cllr if name == "cllr" else name) + GAP, "class": sides[0].name}
                rows.append(gap_row(partial(weighted, measure), *arrays, draw, **names, **more))
    return rows


def accuracy_gap_rows(of_set: Trials, of_control: Trials, *draw: int, **names: str) -> list[dict]:
    """Accuracies of each class of a set minus those of its control, for the classes that both have.

    Args:
        of_set, of_control: utterances of known classes, with ``ACCURACIES`` among their scores.
        draw: resamples and seed.
        names: more columns.
    """
    rows, shared = [], sorted(set(of_set.labels) & set(of_control.labels))
    if len(of_set.classes) > MOST_CLASSES:
        return []
    for metric in (name for name in ACCURACIES if name in of_set.scores):
        for label in shared:
            sides = [trials.only(trials.labels == label) for trials in (of_set, of_control)]
            arrays = [(s.speakers, None, (s.scores[metric].astype(float), np.ones(len(s)))) for s in sides]
            rows.append(gap_row(weighted_share, *arrays, draw, **names, metric=metric + GAP, **{"class": label}))
    return rows


def difference_rows(
    flow: Trials,
    other: Trials,
    settings: Calibrate,
    resamples: int,
    seed: int,
    *,
    ending: str = "",
    fitted: bool = False,
    **names: str,
) -> list[dict]:
    """Figures of the flow minus those of another system on the same utterances, with intervals and p-values.

    ``ending`` is the end of the metrics' names; a set that a model was ``fitted`` on has no p-values.

    Raises:
        ValueError: the utterances are not the same.
    """
    if not np.array_equal(flow.utts, other.utts) or flow.classes != other.classes:
        raise ValueError(
            f"{names['system']}: its classes or its utterances of set {names['set']} differ from the flow's; "
            "score it again"
        )
    rows, draw = [], {"resamples": resamples, "seed": seed}

    def add(difference: tuple, speakers, strata=None, **more: str) -> None:
        value, low, high, p = difference
        row = row_of(value, None if low is None else (low, high), speakers, strata, **names, **more)
        rows.append(row | {"p": "" if p is None or fitted else f"{p:.6f}"})

    for both in flow.pairs():
        a, b = flow.pair(*both), other.pair(*both)
        for name, measure in measures(settings).items():
            if name == "auc" or name == "cllr" and a.calibrated and b.calibrated:
                arrays = ((pair.ranked_by(name), pair.target) for pair in (a, b))
                more = {"metric": name + ending + DIFFERENCE, "class": a.name}
                strata = a.target.tolist()
                add(paired(partial(weighted, measure), a.speakers, *arrays, strata, **draw), a.speakers, strata, **more)
    if flow.calibrated and other.calibrated and len(flow):
        hits = [trials.scores[CALIBRATED_ACCURACY].astype(float) for trials in (flow, other)]
        more = {"metric": CALIBRATED_ACCURACY + ending + DIFFERENCE, "class": "all"}
        add(paired_share(flow.speakers, *hits, **draw), flow.speakers, **more)
    return rows
