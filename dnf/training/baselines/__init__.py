"""Other systems on the frames of the flow, for comparison: one file a system, with its module and how it is fitted.

To add one: its file with a ``Baseline``, its row in ``SYSTEMS``, its name and settings (``<name>_...``) in
``dnf.experiment.settings.Baselines`` and ``conf/default.yaml``; ``tests/training/test_baselines.py`` then tests it.
"""

from __future__ import annotations

import torch

from dnf.experiment.config import Config
from dnf.features.windows import Windows
from dnf.training.baselines.baseline import Baseline
from dnf.training.baselines.gmm import GMM
from dnf.training.baselines.lda import LDA
from dnf.training.baselines.lr import LR
from dnf.training.baselines.mlp import MLP
from dnf.training.baselines.plda import PLDA
from dnf.training.baselines.qda import QDA

SYSTEMS: dict[str, type[Baseline]] = {"lda": LDA, "qda": QDA, "gmm": GMM, "lr": LR, "plda": PLDA, "mlp": MLP}


def make_baseline(name: str, config: Config, num_classes: int) -> Baseline:
    """A system that is not fitted yet."""
    return SYSTEMS[name](config.dim, num_classes, config.baselines)


def fit_baseline(name: str, train: Windows, dev: Windows, classes: list[str], config: Config) -> Baseline:
    """A system fitted to vectors of its classes, on their device, in evaluation mode."""
    torch.manual_seed(config.seed)
    model = make_baseline(name, config, len(classes)).to(train.device)
    model.standardize.set(*train.global_normalization())
    model.fit(train, dev, classes, config)
    return model.eval()
