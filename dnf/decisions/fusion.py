"""Fusion of systems: multi-class logistic regression of their calibrated log-likelihoods on dev.

For the calibrated log-likelihoods l_mk of systems m (``dnf.decisions.calibration``), centred over the classes k,

    l_k = sum_m weight_m * l_mk + offset_k

(Brummer & van Leeuwen, "On calibration of language recognition scores", Odyssey 2006; Pigeon, Druyts & Verlinde, "Applying logistic
regression to the fusion of the NIST'99 1-speaker submissions", Digital Signal Processing 10, 2000). Weights are not
negative: on a dev set of few speakers, systems that agree get large weights of opposite sign otherwise. They have a
normal prior of standard deviation 1 around their mean. Weights of classes and speakers and the targets are those of the
calibration.

The deviation of the prior was chosen by the Cllr of dev with each speaker left out, of 11 fusions of two to four systems on
recordings of 27 speakers (three divisions): 0.221 bits with 0.1, 0.217 with 0.3, 0.213 with 0.5, 0.211 with 1 and 0.210
without a prior. Systems of about the same quality gain by it, and poor ones keep more weight than they should. The fused
log-likelihoods are not calibrated again: this raised the Cllr of dev from 0.249 to 0.319, and that of test from 0.289 to 0.298.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnf.decisions.calibration import (
    Calibration,
    columns_of,
    known_utterances,
    regress,
    scored_left_out,
    speaker_weights,
    targets_of,
)
from dnf.decisions.evidence import Evidence
from dnf.experiment.files import write_json
from dnf.experiment.settings import Calibrate


@dataclass(frozen=True)
class Fusion:
    """The map from the evidence of M systems to fused log-likelihoods.

    Attributes:
        calibrations: M, of the systems.
        weights: M, nats of fused log-likelihood per nat of calibrated log-likelihood.
        offsets: K, nats.
    """

    calibrations: list[Calibration]
    weights: list[float]
    offsets: list[float]

    @classmethod
    def fit(cls, systems: Sequence[Evidence], settings: Calibrate) -> Fusion:
        """Fit on the evidence of dev, without utterances of unknown classes.

        Args:
            systems: M, with the same utterances in the same order, and the same classes.
            settings: of the calibrations.

        Raises:
            ValueError: dev has no utterance of one of the classes.
        """
        calibrations = [Calibration.fit(system, settings) for system in systems]
        first, fewest = systems[0], min(calibrations[0].speakers.values())
        known = known_utterances(first)
        columns, speakers = columns_of(first, known), [first.utts[u]["speaker"] for u in known]
        targets = targets_of(columns, fewest, len(first.classes), settings.pseudo_speakers)
        weights = speaker_weights(columns, speakers, len(first.classes))
        x = centred(calibrations, [system.only(known) for system in systems])
        slopes, offsets, _ = regress(x, targets, weights, first.frames[known], None)
        return cls(calibrations, slopes.tolist(), offsets.tolist())

    @classmethod
    def left_out(cls, systems: Sequence[Evidence], settings: Calibrate) -> np.ndarray | None:
        """Log-likelihoods of dev itself by ``scored_left_out``: neither a calibration nor a weight has seen the speaker."""

        def score(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
            fusion = cls.fit([system.only(kept) for system in systems], settings)
            return fusion.loglik([system.only(out) for system in systems])

        return scored_left_out(systems[0], score)

    def loglik(self, systems: Sequence[Evidence]) -> np.ndarray:
        """Fused log-likelihoods ``(U, K)``, nats, up to a constant of the utterance; ``systems`` as for ``fit``."""
        return np.tensordot(np.array(self.weights), centred(self.calibrations, systems), 1) + np.array(self.offsets)

    def calibration(self) -> Calibration:
        """The calibration of the fused log-likelihoods, which leaves them as they are."""
        first, zeros = self.calibrations[0], [0.0] * len(self.offsets)
        return Calibration(first.classes, 1.0, zeros, zeros, None, [], first.speakers, first.utterances)

    def save(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Fusion:
        """Read a file that ``save`` wrote.

        Raises:
            ValueError: it is no fusion.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            return cls(**tree | {"calibrations": [Calibration(**fit) for fit in tree["calibrations"]]})
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: not a fusion; fuse the systems again (dnf fuse --force)") from None


def centred(calibrations: Sequence[Calibration], systems: Sequence[Evidence]) -> np.ndarray:
    """Calibrated log-likelihoods ``(M, U, K)``, centred over the classes, nats."""
    loglik = np.stack([calibration.loglik(system) for calibration, system in zip(calibrations, systems, strict=True)])
    return loglik - loglik.mean(2, keepdims=True)
