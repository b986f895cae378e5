"""Tables with a header line, tab separated: how stages hand figures to each other."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Rows by column name."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def write_tsv(path: Path, rows: Sequence[dict], columns: Sequence[str] = ()) -> None:
    """Write rows under a header, whole or not at all; the columns are those of the first row unless given."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
