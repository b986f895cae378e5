"""What an experiment left for reports, of whatever version it is: its results.tsv and which sets it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dnf.experiment.layout import run_again, run_stage
from dnf.experiment.sets import name_of
from dnf.experiment.tables import each_row

# Columns that results.tsv must have.
NEEDED = {"metric", "set", "class", "value"}


class SavedData(NamedTuple):
    """What reports need of the settings in section ``data``.

    Attributes:
        train, dev: sets of each.
        controls: the control of each set that has one.
    """

    train: list[str]
    dev: list[str]
    controls: dict[str, str]

    @classmethod
    def of(cls, config: dict) -> SavedData:
        """From what config.yaml holds; what is not there is what most experiments have."""
        data = config.get("data") or {}
        return cls(data.get("train") or ["train"], data.get("dev") or ["dev"], data.get("controls") or {})

    @property
    def fitted(self) -> list[str]:
        """Under which names the sets of training and dev have figures."""
        return [name_of(self, role) for role in ("train", "dev")]


def read_results(path: Path) -> Iterator[dict]:
    """Rows of results.tsv.

    Raises:
        ValueError: not there, or damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not there; {run_stage('report')}, which writes it first")
    for line, row in enumerate(each_row(path), start=2):
        if None in row or None in row.values() or (line == 2 and not row.keys() >= NEEDED):
            raise ValueError(f"{path}: line {line}: not one value for each column of the header; {run_again('report')}")
        yield row
