"""Checkpoints: tensors and plain values only, written completely or not at all, checked when read."""

from __future__ import annotations

import dataclasses
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnf.experiment.config import Config, from_saved
from dnf.experiment.layout import check_folder, run_again, run_stage
from dnf.models.dnf import DNF

FORMAT = 5


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content``; at any moment ``path`` is the old or the new file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load(path: Path | str, device: torch.device | str = "cpu", stage: str = "train") -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled.

    Args:
        path: the file.
        device: where the tensors go.
        stage: that writes it, for the remedy.

    Raises:
        ValueError: it does not exist, or is not one of ours.
    """
    path = Path(path)
    check_folder(path.parent)
    if not path.is_file():
        raise ValueError(f"{path}: no checkpoint; {run_stage(stage)}")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # the exception for a damaged file depends on the damage
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path}: not a readable checkpoint; delete it and {run_again(stage)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this program (format {FORMAT}); {run_again(stage)} with --force")
    return content


def config_tree(config: Config) -> dict[str, Any]:
    """The settings as plain values, for a checkpoint."""
    return dataclasses.asdict(config)


@dataclass
class Trained:
    """A model read from a checkpoint, with the settings and class names it was trained with."""

    model: DNF
    config: Config
    classes: list[str]
    content: dict[str, Any]


def load_model(
    path: Path | str,
    device: torch.device | str = "cpu",
    known_classes: list[str] | None = None,
    stage: str = "train",
) -> Trained:
    """The model of a checkpoint, in evaluation mode.

    >>> import tempfile
    >>> from dnf.experiment.config import resolve
    >>> config = resolve(["flow.hidden=8"])
    >>> content = {"model": DNF.from_config(config, 2).state_dict(), "config": config_tree(config), "classes": ["en", "zh"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "best.pt"
    ...     save(path, content)
    ...     trained = load_model(path, known_classes=["ar", "en", "zh"])
    >>> trained.classes
    ['en', 'zh']
    >>> trained.model.log_prob(torch.zeros(3, config.dim)).shape  # of each class
    torch.Size([3, 2])

    Args:
        path: ``best.pt`` or ``last.pt``.
        device: where the model goes.
        known_classes: the corpus's classes; the checkpoint's must be among them, in the same order.
        stage: that writes the file, for the remedy.

    Raises:
        ValueError: no checkpoint, weights of another shape, or classes the corpus does not have.
    """
    content = load(path, device, stage)
    config, classes = from_saved(content["config"]), content["classes"]
    if known_classes is not None and [name for name in known_classes if name in classes] != classes:
        raise ValueError(
            f"{path}: was trained on classes {', '.join(classes)}; the data has {', '.join(known_classes)}; train again"
        )
    model = DNF.from_config(config, len(classes)).to(device)
    try:
        model.load_state_dict(content["model"], strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: the shape of its weights does not match its settings: {str(error).splitlines()[1].strip()}; train again"
        ) from None
    return Trained(model.eval(), config, classes, content)
