"""The answer of an experiment as the first lines of results.txt: so many lines at most, and so wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dnf.experiment.layout import FLOW
from dnf.experiment.tables import aligned
from dnf.metrics.figures import METRICS
from dnf.report.answer import ACCURACIES, DENSITIES, DETECTION, SHAPES, Answer, Line
from dnf.report.cells import cut, with_ends
from dnf.report.figure_index import CALIBRATED

LINES, WIDTH = 25, 100
TURNS = 0, 0, 1, 2  # tables that get the next line while there is room: accuracy twice as often as the others
HEADS = {"frame_accuracy": "frame", "utt_accuracy": "utterance", CALIBRATED: "calibrated"}
WITH_ENDS = ("utt_accuracy", CALIBRATED, "auc", "cllr")  # figures of the flow that are shown with their intervals


def text(answer: Answer) -> list[str]:
    """The answer in ``LINES`` lines of ``WIDTH`` columns at most.

    Of the tables each line is shown that there is room for beside the sentences.
    """
    head = wrapped([f"{answer.name}: {answer.trained[0]}", *answer.trained[1:]], "# ")
    sentences = wrapped(answer.sentences, "- ")
    compared_by = (answer.accuracy, ACCURACIES), (answer.detection, DETECTION)
    tables = [*(compared(answer, *lines) for lines in compared_by), densities(answer)]
    shown = [rows[:1] if rows[1:] else [] for rows in tables]
    room = LINES - len(head) - len(sentences) - 1 - sum(map(len, shown))
    while room > 0 and any(len(part) < len(rows) for part, rows in zip(shown, tables)):
        for turn in TURNS:
            if room > 0 and len(shown[turn]) < len(tables[turn]):
                shown[turn].append(tables[turn][len(shown[turn])])
                room -= 1
    return [*head, *(line for rows in shown if rows[1:] for line in rows), "", *sentences][:LINES]


def wrapped(lines: Sequence[str], start: str) -> list[str]:
    """Lines that begin with ``start`` and go on in further ones where they are too long."""
    more = {"initial_indent": start, "subsequent_indent": start[0].replace("-", " ") + " "}
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, **more)]


def table(places: Sequence[tuple[str, str]], *blocks: Sequence[Sequence[str]]) -> list[str]:
    """Lines below their heads: set and class, cut to the room that the figures leave, and blocks of figures.

    Args:
        places: set and class of each line, under their heads.
        blocks: cells of each line, under their heads.
    """
    figures = [aligned(block, gap=" ") for block in blocks]
    room = WIDTH - sum(2 + max(map(len, block)) for block in figures) - 2
    of_set, of_class = (max(map(len, column)) for column in zip(*places))
    of_class = min(of_class, max(room - of_set, room // 3))
    names = [(cut(name, room - of_class), cut(label, of_class)) for name, label in places]
    return aligned([[*name, *cells] for name, *cells in zip(names, *figures)])


def compared(answer: Answer, lines: Sequence[Line], metrics: Sequence[str]) -> list[str]:
    """A table of the systems side by side; a metric without figures is left out."""
    present = [metric for metric in metrics if any((metric, FLOW) in line.cells for line in lines)]
    places = [("set", "class")]
    places += [(f"control {line.set}" if line.control_of else line.set, line.label) for line in lines]
    blocks = []
    for metric in present:
        head = [f"{HEADS.get(metric, METRICS[metric].title)} {FLOW}", *answer.systems[1:]]
        blocks.append([head, *([figure(line.cells, metric, s) for s in answer.systems] for line in lines)])
    return table(places, *blocks)


def figure(cells: dict[tuple[str, str], dict], metric: str, system: str) -> str:
    """A figure of a system, with its interval if it is the flow's."""
    row = cells.get((metric, system))
    if row is None:
        return "-"
    return with_ends(row) if system == FLOW and metric in WITH_ENDS else f"{float(row['value']):.4f}"


def densities(answer: Answer) -> list[str]:
    """Mean log densities, and Gaussianity of latents beside them where a set has that of the same classes."""
    lines = paired(answer)
    places = [("set", "class"), *((line.set, line.label) for line in (shapes or density for density, shapes in lines))]
    blocks = [[[METRICS[name].title for name in DENSITIES], *(values(density, DENSITIES, 2) for density, _ in lines)]]
    if answer.gaussianity:
        blocks += [
            [["part"], *([shapes.part if shapes else "-"] for _, shapes in lines)],
            [["pooled skew", "kurt"], *(values(shapes, SHAPES[:2], 5) for _, shapes in lines)],
            [["within skew", "kurt"], *(values(shapes, SHAPES[2:], 5) for _, shapes in lines)],
        ]
    return table(places, *blocks)


def paired(answer: Answer) -> list[tuple[Line | None, Line | None]]:
    """Densities and Gaussianity of a set and the same classes; first those with both, then those with one of them."""
    of_place = {(line.set, line.label): line for line in answer.density}
    classes: dict[str, list[str]] = {}
    for name, label in (place for place in of_place if place[1] != "all"):
        classes.setdefault(name, []).append(label)
    both, shapes_alone, used = [], [], set()
    for shapes in answer.gaussianity:
        labels = sorted(classes.get(shapes.set, ()))
        place = shapes.set, "all" if labels[1:] and shapes.label == "+".join(labels) else shapes.label
        density = None if place in used else of_place.get(place)
        used.add(place)
        (both if place in of_place else shapes_alone).append((density, shapes))
    return [*both, *shapes_alone, *((line, None) for place, line in of_place.items() if place not in used)]


def values(line: Line | None, metrics: Sequence[str], digits: int) -> list[str]:
    """Figures of the flow."""
    rows = [line.cells.get((metric, FLOW)) if line else None for metric in metrics]
    return [f"{float(row['value']):.{digits}f}" if row else "-" for row in rows]
