"""A trained model as a Python object: samples in, the record of ``python3 -m dnf classify --json`` out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from dnf.data.audio_blocks import Source
from dnf.experiment.environment import choose_device
from dnf.inference.classify import classify
from dnf.inference.recordings import Item
from dnf.inference.system import Model, load_system


class Classifier:
    """Classifies recordings that are in memory.

    >>> import tempfile
    >>> import numpy as np
    >>> from dnf import Classifier
    >>> from dnf.experiment.config import resolve
    >>> from dnf.models.checkpoint import DNF, config_tree, save
    >>> config = resolve(["flow.hidden=8"])  # a model that is not trained; others are exp/hybrid, or what export wrote
    >>> content = {"model": DNF.from_config(config, 2).state_dict(), "config": config_tree(config), "classes": ["en", "zh"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config.save(Path(folder) / "config.yaml")
    ...     save(Path(folder) / "best.pt", content)
    ...     classifier = Classifier.load(folder)
    >>> classifier.classes
    ['en', 'zh']
    >>> record = classifier(np.random.default_rng(0).normal(0, 0.1, 8000), rate=8000)
    >>> record["posteriors"], record["seconds"], record["warning"]
    ({'en': 0.5, 'zh': 0.5}, 1.0, 'sampled at 8000 Hz, below the 16000 Hz of the model')

    Args:
        model: from ``load_system``.
    """

    def __init__(self, model: Model):
        self.model = model

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Classifier:
        """The classifier of an experiment, or of a folder that ``python3 -m dnf export`` wrote.

        Raises:
            ValueError: the folder has no model, or one without classes.
        """
        return cls(load_system(Path(folder), None, choose_device(device)))

    @property
    def classes(self) -> list[str]:
        """Names of the K classes."""
        return self.model.trained.classes

    def __call__(self, samples: np.ndarray, rate: int) -> dict[str, Any]:
        """Class, posteriors, open-set flag, log-likelihoods, channel and warnings of one recording.

        Args:
            samples: ``(T,)`` or ``(T, channels)`` floats in -1..1; the channel of the model, or the mean of the channels.
            rate: Hz; other rates than the model's are resampled.

        Raises:
            ValueError: samples of another form, none, NaN, silence, or no speech.
        """
        samples = np.asarray(samples)
        if samples.dtype.kind != "f" or samples.ndim not in (1, 2):
            raise ValueError(f"samples are {samples.dtype} of shape {samples.shape}; give floats (T,) in -1..1")
        if not (isinstance(rate, (int, np.integer)) and rate > 0):
            raise ValueError(f"rate {rate!r} is not a number of samples a second; give a whole number above 0")
        with tempfile.TemporaryDirectory(prefix="classifier.") as folder:
            path = f"{folder}/samples.wav"
            soundfile.write(path, samples, rate, subtype="FLOAT")
            source = Source(path, self.model.trained.config.features.channel)
            (record,) = classify([Item("samples", source, "recording samples")], self.model)
        if "error" in record:
            raise ValueError(record["error"].replace(path, "samples"))
        return {name: value for name, value in record.items() if name != "recording"}
