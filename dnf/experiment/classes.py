"""Class names and ids: one sorted file, ``data/classes.txt``; an id is a position in the list of the model's classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from dnf.experiment.layout import run_stage

UNLABELLED = "unlabelled"  # class of utterances whose class nobody says


def read_classes(path: Path) -> list[str]:
    """Names of all classes of the corpus, in the order of their ids."""
    if not path.is_file():
        raise ValueError(f"{path}: no class list; {run_stage('data')}")
    names = path.read_text(encoding="utf-8").split()
    if not names or names != sorted(set(names)):
        raise ValueError(f"{path}: must have one class name per line, sorted, without duplicates")
    return names


def choose_classes(known: list[str], wanted: list[str], source: Path) -> list[str]:
    """The classes of ``known`` that an experiment models, in id order; all but ``UNLABELLED`` if ``wanted`` is empty."""
    strange = [name for name in wanted if name not in known]
    if strange:
        raise ValueError(
            f"data.classes: {strange[0]!r} is not a class of {source}, which has {', '.join(known)}; "
            "give existing classes with --set 'data.classes=[...]', or [] for all"
        )
    return [name for name in known if (name in wanted if wanted else name != UNLABELLED)]


def reference_first(known: list[str], wanted: list[str]) -> list[str]:
    """The classes of a model in the order of ``data.classes``, whose first is the reference of log-likelihood ratios."""
    return [name for name in wanted if name in known] + [name for name in known if name not in wanted]


def check_priors(classes: Sequence[str], priors: Collection[str]) -> None:
    """Raise ``ValueError`` if ``calibrate.priors`` names some but not all classes of a model."""
    missing = [name for name in classes if name not in priors]
    if priors and missing:
        raise ValueError(f"calibrate.priors: no prior for class {missing[0]}; name every class of the model, or none")
