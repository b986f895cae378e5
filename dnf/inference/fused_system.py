"""A fused system: its members, and the posteriors of a recording that they have scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dnf.decisions.calibration import Calibration, posteriors
from dnf.decisions.evidence import Evidence
from dnf.decisions.fusion import Fusion
from dnf.experiment.config import Config
from dnf.experiment.layout import CALIBRATION_JSON, CONFIG_YAML, FUSION_JSON, MEMBERS_JSON
from dnf.inference.system import Model, load_system


class FusedSystem(NamedTuple):
    """The members of a fused system and the fits of ``dnf fuse``.

    Attributes:
        members: M systems.
        fusion: of their log-likelihoods.
        calibration: of the fused log-likelihoods, one vector for each utterance.
        config: settings of the fused system.
    """

    members: list[Model]
    fusion: Fusion
    calibration: Calibration
    config: Config

    @classmethod
    def load(cls, exp: Path, device: torch.device) -> FusedSystem:
        """Read a folder of ``dnf fuse``; raises ``ValueError`` if it or a member is not complete."""
        folders = [exp / name for name in json.loads((exp / MEMBERS_JSON).read_text(encoding="utf-8"))]
        members = [load_system(folder, None, device) for folder in folders]
        fits = Fusion.load(exp / FUSION_JSON), Calibration.load(exp / CALIBRATION_JSON)
        return cls(members, *fits, Config.load(exp / CONFIG_YAML))

    def posteriors(self, loglik: Sequence[np.ndarray], rows: Sequence[int], factor: float = 1.0) -> np.ndarray:
        """Posteriors ``(K,)`` of the classes.

        Args:
            loglik: of each member, its mean log-likelihoods ``(K,)`` over the vectors of a recording, nats.
            rows: numbers of these vectors.
            factor: of doubt, of the fused log-likelihood ratios.
        """
        classes, utts = self.calibration.classes, [{"utt": "", "class": ""}]
        evidence = [Evidence(classes, utts, mean[None], np.array([n])) for mean, n in zip(loglik, rows, strict=True)]
        fused = Evidence(classes, utts, self.fusion.loglik(evidence), np.ones(1, dtype=np.int64))
        return posteriors(factor * self.calibration.loglik(fused), classes, self.config.calibrate.priors)[0]
