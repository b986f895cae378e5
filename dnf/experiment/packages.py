"""Optional packages that have or run networks trained elsewhere: encoders (``vectors.encoder``) and Silero VAD (``vad.kind``)."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from dnf.experiment.config import Config

INSTALL = {  # of the first two only a file is read, so that what they depend on is not needed
    "resemblyzer": "--no-deps resemblyzer==0.1.4",
    "silero_vad": "--no-deps silero-vad==6.2.3",
    "onnxruntime": "onnxruntime",
}


def install(package: str) -> str:
    """The command that installs a package."""
    return f"python3 -m pip install {INSTALL[package]}"


def absent(*packages: str) -> str | None:
    """Which packages are not installed, and the command that installs them; None if all are."""
    lacking = [package for package in packages if importlib.util.find_spec(package) is None]
    if not lacking:
        return None
    are = "the package {} is" if len(lacking) == 1 else "the packages {} are"
    names = " and ".join(package.replace("_", "-") for package in lacking)
    return f"{are.format(names)} not installed: {' && '.join(map(install, lacking))}"


def check(config: Config) -> None:
    """Raise ``ValueError`` if a package that the settings need is not installed."""
    if reason := missing(config):
        raise ValueError(reason)


def missing(config: Config) -> str | None:
    """Why an experiment cannot run: a package is not installed; None if all are, or if none is needed."""
    needed = {}
    if config.has_vectors and config.vectors.front_end == "encoder":
        needed["vectors.front_end encoder"] = [config.vectors.encoder]
    if config.vad.kind == "silero" and not config.reads_vectors:
        needed["vad.kind silero"] = ["silero_vad", "onnxruntime"]
    return next((f"{setting}: {why}" for setting, packages in needed.items() if (why := absent(*packages))), None)


def file_of(package: str, file: str, sha256: str) -> Path:
    """A file of an installed package, which is not imported.

    Raises:
        ValueError: the package is missing, or the file is not that of the version to install.
    """
    if why := absent(package):
        raise ValueError(why)
    path = Path(importlib.util.find_spec(package).submodule_search_locations[0]) / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(
            f"{path}: has a wrong checksum; install the package again: {install(package)} --force-reinstall"
        )
    return path
