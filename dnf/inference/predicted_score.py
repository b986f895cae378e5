"""The predicted expert score of one recording, as stage decide predicts that of an utterance.

The fit is that of the experiment (``assess.npz``). A recording is a new speaker for it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dnf.decisions.assess import Assessment, load_fits
from dnf.decisions.evidence import ratio_to_others
from dnf.experiment.layout import ASSESS_NPZ
from dnf.features.recording_frames import RecordingFrames
from dnf.features.timing import COLUMNS, LEAST_PAUSE, cepstra_of, measures
from dnf.metrics.figures import FUSED, MAIN

log = logging.getLogger(__name__)

LONGEST = 60.0  # seconds; the score of a sentence says nothing about longer recordings
DIGITS = 3
COLUMNS_OF_SCORE = ("predicted_score", "score_low", "score_high", "lowered_by")


class Utterance(NamedTuple):
    """What the score of a recording is predicted from.

    Attributes:
        times: measures of timing, ``features.timing.measures``.
        latents: mean latents and mean squashed latents, ``(2 D,)``.
        loglik: mean log-likelihoods ``(K,)``, nats per frame.
        rows: number of vectors.
    """

    times: list[float]
    latents: np.ndarray
    loglik: np.ndarray
    rows: int


def load_assessments(exp: Path) -> dict[str, Assessment]:
    """The fits of an experiment by score; none without them, or, with a warning, if they need an external score."""
    if not (exp / ASSESS_NPZ).is_file():
        return {}
    fits = load_fits(exp / ASSESS_NPZ)
    if any("external" in fit.models for fit in fits.values()):
        log.warning("%s: no predicted scores: they need an external score; run score on the data instead", exp)
        return {}
    return fits


def timing_of(frames: RecordingFrames, shift: float) -> tuple[list[float], list[tuple[float, float]]]:
    """Measures of timing of a recording, and its pauses between the first and the last speech, in seconds."""
    values, spoken = frames.frames(0, frames.count).astype(np.float32), frames.marks(0, frames.count)
    speech = np.flatnonzero(spoken)
    gaps = [(a + 1, b) for a, b in zip(speech, speech[1:]) if (b - a - 1) * shift >= LEAST_PAUSE]
    return measures(values.mean(1), cepstra_of(values), spoken, shift), [(a * shift, b * shift) for a, b in gaps]


def columns_of(assessment: Assessment, utterance: Utterance, reference: int) -> dict[str, np.ndarray]:
    """Columns ``(1, F)`` of each predictor of the fit.

    Args:
        assessment: the fit.
        utterance: the recording.
        reference: class of the log-likelihood ratio.
    """
    columns = {name: np.array(utterance.times)[places] for name, places in COLUMNS.items()}
    columns["latents"] = utterance.latents
    columns["llr"] = np.array([ratio_to_others(utterance.loglik * utterance.rows, reference) / utterance.rows])
    return {name: columns[name][None] for name in assessment.models}


def predicted(fits: Mapping[str, Assessment], utterance: Utterance, reference: int) -> dict[str, Any]:
    """Predicted scores with their 80 % intervals; of the main one the parts of timing and sound, and which of them lowers it.

    The keys are those of ``columns_of_scores``, and ``score_parts``; the values are plain.
    """
    values: list[Any] = []
    for score, fit in fits.items():
        found = fit.predict(columns_of(fit, utterance, reference))
        values += [
            round(float(value[0]), DIGITS) for value in (found[FUSED], *fit.ends(found[FUSED], np.array([None])))
        ]
        if score == MAIN:
            parts = {name: round(float(np.ravel(part)[0]), DIGITS) for name, part in fit.parts(found).items()}
            values.append(fit.lowered_by(parts))
    return dict(zip(columns_of_scores(fits), values, strict=True)) | {"score_parts": parts}


def columns_of_scores(scores: Iterable[str]) -> list[str]:
    """Columns of the table of recordings: ``COLUMNS_OF_SCORE`` of the main score, and three of each other one."""
    further = ((f"predicted_{name}", f"{name}_low", f"{name}_high") for name in scores if name != MAIN)
    return [*COLUMNS_OF_SCORE, *itertools.chain.from_iterable(further)]


def of_frames(assessment: Assessment, z: torch.Tensor, squashed: torch.Tensor) -> np.ndarray:
    """What each vector adds to the part of the latents in the score, points ``(B,)``, up to a constant.

    It is the slope of their regression at the mean of the fitted utterances; exact for a linear one.

    Args:
        assessment: the fit, with latents.
        z: latents ``(B, D)``.
        squashed: squashed latents ``(B, D)``.
    """
    model = assessment.models["latents"]
    return assessment.weights["latents"] * (torch.cat([z, squashed], 1).double().numpy() @ model.slope(model.mean))


def part_of(assessment: Assessment, name: str, columns: np.ndarray) -> float:
    """How much a predictor raises the score of columns ``(F,)`` above the mean of the fitted utterances, points."""
    value = np.clip(assessment.models[name].predict(columns[None]), *assessment.scale)[0]
    return float(assessment.weights[name] * (value - assessment.left_out[name].mean()))
