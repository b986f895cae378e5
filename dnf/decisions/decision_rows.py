"""Rows of ``decisions/<set>.txt``: the decision for each utterance and its frames, and the calibrated columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dnf.decisions.accuracy_rows import FRAMES
from dnf.decisions.calibration import posteriors
from dnf.decisions.doubt import words
from dnf.decisions.evidence import Evidence, ratio_to_others
from dnf.metrics.effective_frames import observed
from dnf.metrics.figures import MOST_CLASSES
from dnf.scoring.latent_store import Latents


def decide(
    latents: Latents, reference: str, window: float, near_tie: float, covariance: np.ndarray = np.zeros(0)
) -> Iterator[dict]:
    """One row per utterance: the class of highest log-likelihood, its margin, and the decisions for its frames.

    ``margin`` is the mean over frames of log p(x | best class) - log p(x | second), nats per frame; ``near_tie`` is yes
    if the margin is below ``near_tie`` standard errors, or if there is only one frame. ``llr`` is the log-likelihood ratio of
    the reference class against the mean density of the others, nats per frame. ``logp_<class>`` and ``logdet`` are means
    over frames; for many classes see ``class_columns``.

    Args:
        latents: latents of a set.
        reference: class of the log-likelihood ratio.
        window: span of one vector, in hops; without ``covariance``, so many neighbours count as one observation.
        near_tie: number of standard errors.
        covariance: autocovariance of the frames' log-likelihood ratio on dev, for the effective number of frames; empty:
            unknown.
    """
    place = latents.classes.index(reference)
    frames = np.array([utt["rows"] for utt in latents.utts])
    observations = observed(frames, covariance, window)
    for utt, worth in zip(latents.utts, observations):
        loglik, part = latents.loglik(utt), slice(utt["first"], utt["first"] + utt["rows"])
        sums = loglik.sum(0)
        shares = np.bincount(loglik.argmax(1), minlength=len(latents.classes))
        second, best = np.argpartition(sums, (-2, -1))[-2:]
        margins = loglik[:, best] - loglik[:, second]
        error = margins.std() / np.sqrt(worth)
        ratio = ratio_to_others(sums, place)
        row = {name: utt[name] for name in ("utt", "speaker", "class")} | {"decision": latents.classes[best]}
        tie = len(margins) == 1 or margins.mean() < near_tie * error
        row |= {"margin": f"{margins.mean():.6f}", "near_tie": "yes" if tie else "no"}
        row |= {"llr": f"{ratio / utt['rows']:.6f}", "score": utt["score"], "frames": utt["rows"]}
        row |= class_columns(latents, part, shares)
        yield row | {"logdet": f"{latents.logdet[part].astype(np.float64).mean():.6f}"}


def class_columns(latents: Latents, rows: slice, shares: np.ndarray) -> dict:
    """Columns of an utterance with frames ``rows``: ``frames_<class>``, from ``shares`` ``(K,)``, and ``logp_<class>``.

    For more than ``MOST_CLASSES`` classes only ``frames_<class>``, for the classes that frames were decided as.
    """
    if len(latents.classes) > MOST_CLASSES:
        return {f"{FRAMES}{latents.classes[k]}": int(shares[k]) for k in np.flatnonzero(shares)}
    logp = latents.logp[rows].astype(np.float64).mean(0)
    of_frames = {f"{FRAMES}{name}": int(count) for name, count in zip(latents.classes, shares)}
    return of_frames | {f"logp_{name}": f"{value:.6f}" for name, value in zip(latents.classes, logp)}


def without_class_columns(row: dict, classes: list[str]) -> dict:
    """The columns of a row that are written: without ``frames_<class>`` if rows differ in these columns."""
    if len(classes) <= MOST_CLASSES:
        return row
    return {name: value for name, value in row.items() if not name.startswith(FRAMES)}


def calibrated_columns(
    evidence: Evidence, loglik: np.ndarray | None, reference: str, priors: dict, foreign: np.ndarray | None
) -> Iterable[dict]:
    """Posteriors of each utterance, the class of the highest, and the log-likelihood ratio of the reference class, nats.

    The ratio is against the mean of the others. Then the doubt in a word. All are empty without calibrated log-likelihoods.

    Args:
        evidence: U utterances.
        loglik: ``(U, K)`` calibrated log-likelihoods, or None.
        reference: class of the log-likelihood ratio.
        priors: of the classes.
        foreign: ``(U,)`` whether each is unlike training; None: unknown, which leaves the word empty.
    """
    shown = evidence.classes if len(evidence.classes) <= MOST_CLASSES else []
    names = [f"posterior_{name}" for name in shown] + ["decision_calibrated", "llr_calibrated", "doubt"]
    if loglik is None:
        return (dict.fromkeys(names, "") for _ in evidence.utts)
    place = evidence.classes.index(reference)
    ratios = ratio_to_others(loglik, place)
    of_classes = posteriors(loglik, evidence.classes, priors)
    decided = (evidence.classes[k] for k in of_classes.argmax(1))
    of_doubt = [""] * len(of_classes) if foreign is None else words(of_classes, foreign)
    cells = (
        [*(f"{p:.6f}" for p in row[: len(shown)]), best, f"{ratio:.6f}", word]
        for row, best, ratio, word in zip(of_classes, decided, ratios, of_doubt)
    )
    return (dict(zip(names, row)) for row in cells)
