"""What report.html begins with: sentences and small tables of the test sets, from the answer."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from dnf.report.answer import ACCURACIES, DETECTION, Answer, Line
from dnf.report.answer_text import shown_metrics
from dnf.report.cells import html_share
from dnf.report.html_page import fill, table

TITLES = {
    ACCURACIES: "Share decided as the true class, with 95 % intervals",
    DETECTION: "Detection: a pair of classes, then the same pair with the utterances of the control",
}
BOLD = "bold: better beyond chance by a paired test"


def short(answer: Answer) -> Markup:
    """Sentences, then accuracy and detection of the flow and of the best other system."""
    tables = (small_table(answer, *part) for part in ((answer.accuracy, ACCURACIES), (answer.detection, DETECTION)))
    return fill("answer.html", sentences=answer.sentences, tables=list(tables))


def small_table(answer: Answer, lines: Sequence[Line], metrics: Sequence[str]) -> Markup:
    """A column for each figure and system; a figure that no line has is left out."""
    titles = shown_metrics(lines, metrics)
    columns = [(m, s) for m in titles for s in answer.systems if any((m, s) in line.cells for line in lines)]
    heads = [f"{titles[metric]}, {system}" for metric, system in columns]
    body = []
    for line in lines:
        name = f"{line.set}, control of {line.control_of}" if line.control_of else line.set
        body.append([name, line.label, *(figure(line, *column) for column in columns)])
    best = [f"{answer.systems[1]} is the best other system on dev"] if answer.systems[1:] else []
    bold = [BOLD] if any(line.better for line in lines) else []
    return table(["set", "class", *heads], body, keys=2, caption="; ".join([TITLES[metrics], *best, *bold]))


def figure(line: Line, metric: str, system: str) -> Markup:
    """A figure with its interval, in bold where a paired test finds it better beyond chance."""
    text = html_share(line.cells.get((metric, system)))
    return Markup("<b>{}</b>").format(text) if (metric, system) in line.better else text
