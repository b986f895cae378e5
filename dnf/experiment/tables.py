"""Tab-separated tables with a header line, in which stages pass figures to each other."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dnf.experiment.files import replacing


def each_row(path: Path) -> Iterator[dict[str, str]]:
    """Rows by column name, one at a time; a value that a row lacks is None, and those beyond the header have the name None."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t")  # csv.DictReader takes a third longer
        columns = next(lines, [])
        for values in filter(None, lines):
            row = dict(zip(columns, values))
            if len(values) != len(columns):
                row |= dict.fromkeys(columns[len(values) :])
                row |= {None: values[len(columns) :]} if len(values) > len(columns) else {}
            yield row


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Rows by column name."""
    return list(each_row(path))


def write_tsv(path: Path, rows: Iterable[dict], columns: Sequence[str] = ()) -> None:
    """Write rows with a header, completely or not at all; the columns default to those of the first row.

    Raises:
        ValueError: there are neither columns nor rows.
    """
    if not columns:
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path}: no rows to write")
        columns, rows = list(first), itertools.chain([first], rows)
    with replacing(path, newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def aligned(rows: Sequence[Sequence[str]], least: int = 0, gap: str = "  ") -> list[str]:
    """Rows of cells as lines whose columns, each ``least`` wide or wider, stand below each other, ``gap`` between them."""
    widths = [max(least, *map(len, column)) for column in zip(*rows)]
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
