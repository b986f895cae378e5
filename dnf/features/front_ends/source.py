"""The flow of another experiment, whose latents a front-end takes as frames."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np

from dnf.experiment.layout import BEST_PT, FLOW_PT, run_stage
from dnf.models.checkpoint import Trained, load_model


class FlowSource:
    """A flow, copied beside what a front-end has fitted, so that the experiment is complete without the other.

    Attributes:
        exp: folder of the other experiment, relative to where run.sh is started; None: there is none.
        files: names of the files of the copy.
    """

    def __init__(self, exp: str | None, folder: Path):
        self.exp, self.path = exp, folder / FLOW_PT
        self.files = (FLOW_PT,) if exp else ()

    def copy(self) -> None:
        """Raises ``ValueError`` if the other experiment has no flow of frames."""
        best = Path(self.exp) / BEST_PT
        if not best.is_file():
            raise ValueError(
                f"{best}: no model whose latents could be pooled; run this experiment first ({run_stage('train')})"
            )
        if load_model(best).config.has_vectors:
            raise ValueError(f"{best}: is a flow of vectors; name an experiment on frames")
        shutil.copyfile(best, self.path)

    @functools.cached_property
    def trained(self) -> Trained:
        return load_model(self.path, stage="features")

    def prepare(self) -> None:
        """Raises ``ValueError`` if the copy is missing or damaged."""
        if self.exp:
            _ = self.trained

    def latents(self, samples: np.ndarray) -> np.ndarray:
        """Latents ``(N, D)`` of the speech frames of samples ``(T,)``; raises ``ValueError`` without speech."""
        from dnf.features.flow_latents import latents  # imports lhotse, which stage frames does not need

        return latents(samples, self.trained)
