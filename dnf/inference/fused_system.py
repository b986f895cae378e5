"""A fused system: its members, and the posteriors of a recording that they have scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dnf.decisions.calibration import posteriors
from dnf.decisions.evidence import Evidence
from dnf.decisions.fusion import Fusion
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, FUSION_JSON, experiment_of, present_members
from dnf.inference.system import Model, load_system


class FusedSystem(NamedTuple):
    """The members of a fused system and the fits of ``dnf fuse``.

    Attributes:
        members: M systems.
        fusion: of their log-likelihoods.
        config: settings of the fused system.
    """

    members: list[Model]
    fusion: Fusion
    config: Config

    @classmethod
    def load(cls, exp: Path, device: torch.device) -> FusedSystem:
        """Read a folder of ``dnf fuse``; raises ``ValueError`` if it or a member is not complete."""
        folders, makers = present_members(exp), {}
        members = [load_system(folder, None, device) for folder in folders]
        for number, (folder, member) in enumerate(zip(folders, members)):  # of an experiment, all have the same vectors
            members[number] = member._replace(vectors=makers.setdefault(experiment_of(folder), member.vectors))
        return cls(members, Fusion.load(exp / FUSION_JSON), Config.load(exp / CONFIG_YAML))

    @property
    def classes(self) -> list[str]:
        return self.fusion.calibrations[0].classes

    @property
    def doubting(self) -> int:
        """The number of the first member with a doubt, or 0: as in ``dnf.decisions.doubt_sets.set_doubts``."""
        return next((n for n, member in enumerate(self.members) if member.doubt and member.channel), 0)

    def posteriors(self, loglik: Sequence[np.ndarray], rows: Sequence[int], factor: float = 1.0) -> np.ndarray:
        """Posteriors ``(K,)`` of the classes.

        Args:
            loglik: of each member, its mean log-likelihoods ``(K,)`` over the vectors of a recording, nats.
            rows: numbers of these vectors.
            factor: of doubt, of the fused log-likelihood ratios.
        """
        utts = [{"utt": "", "class": ""}]
        evidence = [
            Evidence(self.classes, utts, mean[None], np.array([n])) for mean, n in zip(loglik, rows, strict=True)
        ]
        return posteriors(factor * self.fusion.loglik(evidence), self.classes, self.config.calibrate.priors)[0]
