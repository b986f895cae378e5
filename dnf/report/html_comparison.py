"""comparison.html: all experiments of a folder and their systems as rows, figures as columns, intervals as bars."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from dnf.experiment.files import replace_file
from dnf.experiment.layout import COMPARISON_HTML, FLOW, REPORT_HTML
from dnf.report.folder import Column, System, read_folder
from dnf.report.html_page import document, fill, table

logger = logging.getLogger(__name__)

MOST_COLUMNS = 7  # that are shown at first


class Scale:
    """Where the figures of a column lie: the ends of its bars."""

    def __init__(self, column: Column, systems: Sequence[System]):
        rows = [system.cells[column] for system in systems if column in system.cells]
        ends = [float(row.get(end) or row["value"]) for row in rows for end in ("low", "high")]
        self.low, self.width = min(ends), max(ends) - min(ends)

    def percent(self, text: str) -> float:
        return 100 * (float(text) - self.low) / self.width if self.width else 50.0


def cell(column: Column, scale: Scale, row: dict | None) -> Markup:
    """A figure above the bar of its interval."""
    if row is None:
        return Markup()
    text = escape(column.text(row))
    if not (row.get("low") and row.get("high")):
        return text
    low, high, value = (round(scale.percent(row[end])) for end in ("low", "high", "value"))
    words = f"{float(row['low']):.4f} to {float(row['high']):.4f}"
    return text + Markup(f'<i class="bar" title="{words}" style="--from:{low};--to:{high};--at:{value}"></i>')


def experiment_link(folder: Path, name: str) -> str | Markup:
    """The name of an experiment, as a link to its page if it has one."""
    if not (folder / name / REPORT_HTML).is_file():
        return name
    return Markup('<a href="./{}/{}">{}</a>').format(quote(name), REPORT_HTML, name)


def page(folder: Path, metrics: Sequence[str] = ()) -> str:
    """The page as text; arguments and errors are those of ``read_folder``."""
    columns, systems = read_folder(folder, metrics)
    scales = {column: Scale(column, systems) for column in columns}
    links = {name: experiment_link(folder, name) for name in {system.experiment for system in systems}}
    body = [
        [
            links[system.experiment],
            system.name,
            *(cell(column, scale, system.cells.get(column)) for column, scale in scales.items()),
            system.missing if system.name == FLOW else "",
        ]
        for system in systems
    ]
    heads = ["experiment", "system", *(column.head for column in columns), "missing"]
    if not any(row[-1] for row in body):
        heads, body = heads[:-1], [row[:-1] for row in body]
    first = first_columns(columns, systems)
    boxes = [(n, column.head, column in first) for n, column in enumerate(columns, start=2)]
    rows = table(heads, body, keys=2, most=len(body))
    title = f"{folder.resolve().name}: {len(links)} experiments, {len(systems)} systems"
    return document(title, [], fill("comparison.html", boxes=boxes, table=rows))


def first_columns(columns: Sequence[Column], systems: Sequence[System]) -> set[Column]:
    """The columns that most systems have, those of test sets first."""
    counts = Counter(column for system in systems for column in system.cells)
    return set(sorted(columns, key=lambda column: (column.fitted, -counts[column], column))[:MOST_COLUMNS])


def write(folder: Path, metrics: Sequence[str] = ()) -> None:
    """Write comparison.html of a folder, whole; arguments and errors are those of ``read_folder``."""
    path = folder / COMPARISON_HTML
    replace_file(path, page(folder, metrics).encode())
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
