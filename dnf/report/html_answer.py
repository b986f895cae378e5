"""What report.html begins with: sentences and small tables of the test sets, from the answer."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from dnf.metrics.figures import HIGHER, METRICS
from dnf.report.answer import ACCURACIES, DETECTION, Answer, Line
from dnf.report.answer_text import HEADS
from dnf.report.cells import html_share
from dnf.report.html_page import fill, table

TITLES = {
    ACCURACIES: "Share decided as the true class, with 95 % intervals; the better system is bold",
    DETECTION: "Detection: a pair of classes, then the same pair with the utterances of the control",
}


def short(answer: Answer) -> Markup:
    """Sentences, then accuracy and detection of the flow and of the best other system."""
    tables = (small_table(answer, *part) for part in ((answer.accuracy, ACCURACIES), (answer.detection, DETECTION)))
    return fill("answer.html", sentences=answer.sentences, tables=list(tables))


def small_table(answer: Answer, lines: Sequence[Line], metrics: Sequence[str]) -> Markup:
    """A column for each figure and system; a figure that no line has is left out."""
    columns = [(m, s) for m in metrics for s in answer.systems if any((m, s) in line.cells for line in lines)]
    heads = [f"{HEADS.get(metric, METRICS[metric].title)}, {system}" for metric, system in columns]
    body = []
    for line in lines:
        name = f"{line.set}, control of {line.control_of}" if line.control_of else line.set
        body.append([name, line.label, *(figure(line, *column) for column in columns)])
    return table(["set", "class", *heads], body, keys=2, caption=TITLES[metrics])


def figure(line: Line, metric: str, system: str) -> Markup:
    """A figure with its interval, in bold where another system has a worse one and none a better one."""
    row, better = line.cells.get((metric, system)), max if METRICS[metric].better == HIGHER else min
    values = {float(cell["value"]) for (of_metric, _), cell in line.cells.items() if of_metric == metric}
    text = html_share(row and row | {"count": ""})
    return (
        Markup("<b>{}</b>").format(text)
        if row and values != {best := better(values)} and float(row["value"]) == best
        else text
    )
