"""Sections of the page: accuracy by duration, speaker, expert score and latent dimension; open set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dnf.experiment.layout import BY_SCORE_TSV, SPEAKERS_TSV
from dnf.experiment.tables import read_tsv
from dnf.metrics.figures import KNOWN, METRICS, PARTS, shown
from dnf.report.cells import Rows, html_share
from dnf.report.html_page import Section, paragraph, table


def groups(exp: Path, place: Callable[[str], int]) -> list[Section]:
    """Figures of each speaker and of each expert score, from tables beside results.tsv, the sets in order of ``place``."""
    tables = (SPEAKERS_TSV, "By speaker"), (BY_SCORE_TSV, "By expert score")
    return [table_section(exp / name, title, place) for name, title in tables]


def durations(rows: Rows) -> Section:
    """Accuracy of pieces of recordings, a column for each length."""
    of_pieces = (row for row in rows.left if row["metric"] == "duration_accuracy")
    lengths = rows.pivot(of_pieces, ("set", "class"), "decided")
    heads = {head for cells in lengths.values() for head in cells}
    heads = sorted(heads, key=lambda head: float(head.removesuffix("s")))
    body = [[*key, *(duration_cell(cells.get(head)) for head in heads)] for key, cells in lengths.items()]
    words = paragraph(
        "Recordings cut to pieces of that length, pauses and all, each normalized by itself and decided by "
        "likelihood. Long pieces may have other speakers than short ones; fewer than 5 of a class are not shown."
    )
    shown_table = table(["set", "class", *(head.replace("s", " s") for head in heads)], body, keys=2)
    return Section("", shown_table and words + shown_table)


def duration_cell(row: dict | None) -> str:
    """Accuracy with its interval and number of speakers."""
    if row is None:
        return ""
    ends = f" ({float(row['low']):.2f} to {float(row['high']):.2f})" if row["low"] else ""
    return f"{float(row['value']):.3f}{ends}, {row['speakers']} speakers"


def fisher(rows: Rows) -> Section:
    """Mean Fisher ratio of each part, and what its top dimensions have of the sum."""
    body = []
    of_dims = (row for row in rows.left if row["metric"].startswith("fisher_"))
    for key, cells in rows.pivot(of_dims, ("set", "class")).items():
        for part in (part for part in PARTS if f"fisher_{part}" in cells):
            row, top = cells[f"fisher_{part}"], cells[f"fisher_top_{part}"]
            body.append([*key, part, row["total"], f"{float(row['value']):.3g}", f"{float(top['value']):.3f}"])
    titles = (METRICS[metric].title for metric in ("fisher", "fisher_top"))
    words = paragraph("Fisher ratio of a dimension: class variance over variance within class. Part x is the input.")
    shown_table = table(["set", "classes", "part", "dims", *titles], body, keys=3)
    return Section("Which dimensions carry class", shown_table and words + shown_table)


def table_section(path: Path, title: str, place: Callable[[str], int]) -> Section:
    """A table of stage decide by set, decimals cut to four; nothing where the file is missing."""
    rows = sorted(read_tsv(path), key=lambda row: place(row["set"])) if path.is_file() else []
    body = [[short(text) for text in row.values()] for row in rows]
    return Section(title, table([head.replace("_", " ") for head in rows[0]] if rows else [], body, keys=3))


def short(text: str) -> str:
    """Decimals cut to four."""
    whole, point, decimals = text.partition(".")
    return f"{float(text):.4f}" if point and whole.lstrip("-").isdigit() and decimals.isdigit() else text


def open_set(rows: Rows) -> Section:
    """Whether utterances of unseen classes are flagged, and those of known classes are not."""
    metrics = shown("open set")
    of_open_set = (row for row in rows.left if row["metric"] in metrics)
    by_place = rows.pivot(of_open_set, ("metric", "set", "class", "decided"))
    body = []
    for (metric, name, true, pool), cells in sorted(by_place.items(), key=lambda item: metrics.index(item[0][0])):
        row = cells[metric]
        against = "all test sets" if pool == KNOWN else pool
        body.append([METRICS[metric].title, name, true, against, html_share(row), row["speakers"]])
    heads = ["figure", "set", "class", "against the known classes of", "value", "speakers"]
    words = paragraph(
        "Utterances flagged as an unseen class. The score and its threshold were fitted "
        "on training and dev utterances of known classes alone. An AUC of 0.5 is chance."
    )
    shown_table = table(heads, body, keys=4)
    return Section("Open set", shown_table and words + shown_table)
