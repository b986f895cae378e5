"""Sections of the page: accuracy by duration, speaker, expert score and latent dimension; open set."""

from __future__ import annotations

from pathlib import Path

from dnf.decisions.open_set_rows import KNOWN, METRICS
from dnf.experiment.tables import read_tsv
from dnf.report.html_page import Html, Section, table


def breakdown_sections(rows, exp: Path) -> list[Section]:
    """Tables of ``report.html``; ``rows`` are ``dnf.report.cells.Rows``."""
    found = rows.pivot((r for r in rows.left if r["metric"] == "duration_accuracy"), ("set", "class"), "decided")
    heads = sorted({head for cells in found.values() for head in cells}, key=lambda head: float(head.removesuffix("s")))

    def cell(row: dict | None) -> str:
        if row is None:
            return ""
        ends = f" ({float(row['low']):.2f} to {float(row['high']):.2f})" if row["low"] else ""
        return f"{float(row['value']):.3f}{ends}, {row['speakers']} speakers"

    body = [[*key, *(cell(cells.get(head)) for head in heads)] for key, cells in found.items()]
    words = (
        "<p>Recordings cut to pieces of that length, pauses and all, each normalized by itself and decided by "
        "likelihood. Long pieces may have other speakers than short ones; fewer than 5 of a class are not shown.</p>"
    )
    named = ["set", "class", *(head.replace("s", " s") for head in heads)]
    shown = Html(words) + table(named, body, keys=2) if body else Html("")
    made = [Section("Accuracy against the length of a recording", shown)]
    ratios = rows.pivot((r for r in rows.left if r["metric"].startswith("fisher_")), ("set", "class"))
    body = []
    for key, cells in ratios.items():
        for part in (p for p in "crx" if f"fisher_{p}" in cells):
            row, top = cells[f"fisher_{part}"], cells[f"fisher_top_{part}"]
            body.append([*key, part, row["total"], f"{float(row['value']):.3g}", f"{float(top['value']):.3f}"])
    heads = ["set", "classes", "part", "dims", "mean Fisher ratio", "share of the top tenth"]
    words = "<p>Fisher ratio of a dimension: class variance over variance within class. Part x is the input.</p>"
    made.append(Section("Which dimensions carry class", Html(words) + table(heads, body, keys=3) if body else Html("")))
    for name, title, keys in (("speakers", "By speaker", 3), ("by_score", "By expert score", 3)):
        path = exp / f"{name}.tsv"
        of = read_tsv(path) if path.is_file() else []
        heads = list(of[0]) if of else []
        body = [[short(row[head]) for head in heads] for row in of]
        made.append(Section(title, table([h.replace("_", " ") for h in heads], body, keys=keys) if body else Html("")))
    return made


def short(text: str) -> str:
    """Decimals cut to four."""
    whole, point, decimals = text.partition(".")
    return f"{float(text):.4f}" if point and whole.lstrip("-").isdigit() and decimals.isdigit() else text


def open_set_section(rows) -> Section:
    """The table of ``report.html``; ``rows`` are ``dnf.report.cells.Rows``."""
    found = rows.pivot((r for r in rows.left if r["metric"] in METRICS), ("metric", "set", "class", "decided"))
    names = {
        "open_set_auc": "AUC",
        "open_set_detected": "flagged, unseen class",
        "open_set_false": "flagged, known class",
    }
    body = []
    for (metric, name, true, against), cells in sorted(found.items(), key=lambda item: METRICS.index(item[0][0])):
        row = cells[metric]
        interval = f" ({float(row['low']):.4f} to {float(row['high']):.4f})" if row.get("low") else ""
        against = "all test sets" if against == KNOWN else against
        body.append(
            [
                names[metric],
                name,
                true,
                against,
                f"{float(row['value']):.4f}{interval}",
                f"{row['count']} / {row['total']}",
                row["speakers"],
            ]
        )
    heads = ["figure", "set", "class", "against the known classes of", "value (95 %)", "utterances", "speakers"]
    words = (
        "<p>None of these: utterances flagged as of no class the model knows. The score and its threshold were fitted "
        "on training and dev utterances of known classes alone. An AUC of 0.5 is chance.</p>"
    )
    return Section("Open set", Html(words) + table(heads, body, keys=4) if body else Html(""))
