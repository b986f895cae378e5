"""Rows of ``accuracy.tsv`` on detection and calibration: each with its interval, on a set and on its control."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from dnf.decisions.calibration import prior_of
from dnf.decisions.evidence import Evidence
from dnf.experiment.settings import Calibrate
from dnf.metrics import detection
from dnf.metrics.bootstrap import fewest, gap, interval, paired, paired_share, share
from dnf.metrics.figure_rows import row_of
from dnf.metrics.trials import Trials


def trials_of(evidence: Evidence, calibrated: np.ndarray | None, order: Sequence[str]) -> Trials:
    """The utterances of known classes.

    Args:
        evidence: of a set.
        calibrated: ``(U, K)`` calibrated log-likelihoods of its utterances, nats; None: there is no calibration.
        order: classes, the reference class first.
    """
    loglik = evidence.mean if calibrated is None else calibrated
    columns = [evidence.classes.index(name) for name in order]
    rows = [u for u, utt in enumerate(evidence.utts) if utt["class"] in order]
    utts = [evidence.utts[u] for u in rows]
    labels = np.array([order.index(utt["class"]) for utt in utts], dtype=int)
    names = [utt["utt"] for utt in utts], [utt["speaker"] for utt in utts]
    arrays = evidence.mean[rows][:, columns], evidence.frames[rows], loglik[rows][:, columns]
    return Trials(list(order), *names, labels, *arrays, calibrated is not None)


def measures(settings: Calibrate) -> dict:
    """The figures of a pair that have intervals, as functions of scores, targets and weights."""
    costs = (settings.dcf_prior, settings.dcf_cost_miss, settings.dcf_cost_false)

    def min_dcf(scores, target, weights=None):
        return detection.min_dcf(scores, target, *costs, weights=weights)

    return {"auc": detection.auc, "eer": detection.eer, "min_dcf": min_dcf, "cllr": detection.cllr}


def weighted(measure, weights: np.ndarray, scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A measure as a statistic of ``dnf.metrics.bootstrap``."""
    return measure(scores, target, weights)


def detection_rows(
    judged: Trials,
    settings: Calibrate,
    resamples: int,
    seed: int,
    ending: str = "",
    duration: bool = False,
    cllr: str = "cllr",
    **names: str,
) -> list[dict]:
    """AUC, EER, minDCF, minCllr and, if calibrated, Cllr of every pair of classes; Cllr of all classes if more.

    AUC, EER and minDCF are of the mean log-likelihood ratio per frame, minCllr and Cllr of the calibrated one.

    Args:
        judged: utterances.
        settings: priors and costs.
        resamples, seed: of the intervals over speakers, drawn within each class.
        ending: of the names of the metrics.
        duration: also ``auc_duration``, the AUC of the number of frames alone: what the length of utterances tells.
        cllr: what Cllr is called.
        names: more columns.
    """
    rows = []
    for pair in (judged.pair(*both) for both in judged.pairs()):
        draw = {"strata": pair.target.tolist(), "resamples": resamples, "seed": seed}
        own = names | {"class": pair.name}
        for name, measure in measures(settings).items():
            if name != "cllr" or pair.calibrated:
                arrays, metric = (pair.scores(name), pair.target), cllr if name == "cllr" else name
                ends = interval(partial(weighted, measure), pair.speakers, *arrays, **draw)
                figure = measure(*arrays), ends, pair.speakers, draw["strata"]
                rows.append(row_of(*figure, metric=metric + ending, **own))
        if duration:
            arrays = pair.frames.astype(float), pair.target
            ends = interval(partial(weighted, detection.auc), pair.speakers, *arrays, **draw)
            figure = detection.auc(*arrays), ends, pair.speakers, draw["strata"]
            rows.append(row_of(*figure, metric=f"auc_duration{ending}", **own))
        least = detection.min_cllr(pair.llr, pair.target)
        rows.append(row_of(least, None, pair.speakers, draw["strata"], metric=f"min_cllr{ending}", **own))
    if judged.calibrated and len(set(judged.labels.tolist())) == len(judged.classes) > 2:
        arrays, draw = (
            (judged.loglik, judged.labels),
            {"strata": judged.labels.tolist(), "resamples": resamples, "seed": seed},
        )
        ends = interval(partial(weighted, detection.cllr), judged.speakers, *arrays, **draw)
        own = names | {"metric": f"{cllr}{ending}", "class": "+".join(judged.classes)}
        rows.append(row_of(detection.cllr(*arrays), ends, judged.speakers, draw["strata"], **own))
    return rows


def gap_row(statistic, of_set: tuple, of_control: tuple, draw: tuple[int, int], **names: str) -> dict:
    """A row of a figure of a set minus that of its control; arguments as those of ``dnf.metrics.bootstrap.gap``."""
    value, low, high = gap(statistic, of_set, of_control, *draw)
    speakers = [*of_set[0], *of_control[0]]
    row = row_of(value, None if low is None else (low, high), speakers, **names)
    return row | {"total": "", "fewest": min(fewest(*of_set[:2]), fewest(*of_control[:2]))}


def gap_rows(of_set: Trials, of_control: Trials, settings: Calibrate, *draw: int, **names: str) -> list[dict]:
    """AUC and, if calibrated, Cllr of every pair of classes: those of a set minus those with its control.

    Args:
        of_set: utterances of the set.
        of_control: as ``with_control`` gives them.
        settings: priors and costs.
        draw: resamples and seed.
        names: more columns.
    """
    rows, both_sets = [], set(of_set.pairs())
    for pair in (both for both in of_control.pairs() if both in both_sets):
        of_pair = [judged.pair(*pair) for judged in (of_set, of_control)]
        for name, measure in measures(settings).items():
            if name == "auc" or name == "cllr" and all(pair.calibrated for pair in of_pair):
                arrays = [(pair.speakers, pair.target.tolist(), (pair.scores(name), pair.target)) for pair in of_pair]
                own = {"metric": f"{name}_control_gap", "class": of_pair[0].name}
                rows.append(gap_row(partial(weighted, measure), *arrays, draw, **names, **own))
    return rows


def share_gap_rows(
    metric: str, of_set: Sequence[tuple], of_control: Sequence[tuple], *draw: int, **names: str
) -> list[dict]:
    """Accuracy of each class that a set shares with its control, minus that of the control.

    Args:
        metric: name of the accuracy.
        of_set, of_control: speaker, class and whether the decision is right, of each utterance of a known class.
        draw: resamples and seed.
        names: more columns.
    """
    rows = []
    for true in sorted({row[1] for row in of_set} & {row[1] for row in of_control}):
        both = [[(speaker, float(hit)) for speaker, c, hit in rows_of if c == true] for rows_of in (of_set, of_control)]
        arrays = [
            ([speaker for speaker, _ in of], None, (np.array([hit for _, hit in of]), np.ones(len(of)))) for of in both
        ]
        rows.append(gap_row(share, *arrays, draw, **names, metric=f"{metric}_control_gap", **{"class": true}))
    return rows


def right(judged: Trials, settings: Calibrate) -> np.ndarray:
    """Which utterances ``(U,)`` are of the class of highest posterior."""
    return (judged.loglik + np.log(prior_of(judged.classes, settings.priors))).argmax(1) == judged.labels


def difference_rows(
    flow: Trials,
    other: Trials,
    settings: Calibrate,
    resamples: int,
    seed: int,
    ending: str = "",
    fitted: bool = False,
    **names: str,
) -> list[dict]:
    """Figures of the flow minus those of another system on the same utterances, with intervals and p-values.

    ``ending`` is that of the metrics' names; a set that a model was ``fitted`` on has no p-values.

    Raises:
        ValueError: the utterances are not the same.
    """
    if flow.utts != other.utts or flow.classes != other.classes:
        raise ValueError(
            f"{names['system']}: its utterances of set {names['set']} or its classes are not those of the flow; "
            "score it again"
        )
    rows, draw = [], {"resamples": resamples, "seed": seed}

    def add(found: tuple, speakers, strata=None, **more: str) -> None:
        value, low, high, p = found
        row = row_of(value, None if low is None else (low, high), speakers, strata, **names, **more)
        rows.append(row | {"p": "" if p is None or fitted else f"{p:.6f}"})

    for both in flow.pairs():
        a, b = flow.pair(*both), other.pair(*both)
        for name, measure in measures(settings).items():
            if name == "auc" or name == "cllr" and a.calibrated and b.calibrated:
                statistic = partial(weighted, measure)
                ours, theirs = ((pair.scores(name), pair.target) for pair in (a, b))
                more = {"metric": f"{name}{ending}_difference", "class": a.name}
                strata = a.target.tolist()
                add(paired(statistic, a.speakers, ours, theirs, strata, **draw), a.speakers, strata, **more)
    if flow.calibrated and other.calibrated and len(flow.labels):
        hits = [right(judged, settings).astype(float) for judged in (flow, other)]
        more = {"metric": f"utt_accuracy_calibrated{ending}_difference", "class": "all"}
        add(paired_share(flow.speakers, *hits, **draw), flow.speakers, **more)
    return rows
