"""The answer of an experiment as the first lines of results.txt: so many lines at most, and so wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dnf.experiment.layout import FLOW
from dnf.experiment.tables import aligned
from dnf.metrics.figures import METRICS
from dnf.report.answer import ACCURACIES, DENSITIES, DETECTION, SHAPES, Answer, Line
from dnf.report.cells import cut, with_ends
from dnf.report.figure_index import ACCURACY, CALIBRATED

LINES, WIDTH = 25, 100
TURNS = 0, 1, 0, 2  # tables that get the next line while there is room: accuracy twice as often as the others
HEADS = {ACCURACY: "utterance", CALIBRATED: "calibrated", "frame_accuracy": "frame"}
ALSO_CALIBRATED = "utterance (also calibrated)"
WITH_ENDS = (ACCURACY, CALIBRATED, "auc", "cllr")  # figures of the flow that are shown with their intervals


def text(answer: Answer) -> list[str]:
    """The answer in ``LINES`` lines of ``WIDTH`` columns at most.

    Of the tables each line is shown that there is room for beside the sentences; the last table is left out first.
    """
    head = wrapped([f"{answer.name}: {'; '.join([*answer.trained, f'{FLOW} is the {answer.subject}'])}"], "# ")
    sentences = wrapped([f"{lead}: {words}" for lead, words in answer.sentences], "- ")
    compared_by = (answer.accuracy, ACCURACIES), (answer.detection, DETECTION)
    tables = [*((2, compared(answer, *lines)) for lines in compared_by), (1, densities(answer))]
    tables = [(heads, rows) for heads, rows in tables if rows[heads:]]
    room = LINES - len(head) - len(sentences) - 1
    while sum(heads + 1 for heads, _ in tables) > room and len(tables) > 1:
        tables.pop()
    shown = [heads + 1 for heads, _ in tables]
    room -= sum(shown)
    while room > 0 and any(many < len(rows) for many, (_, rows) in zip(shown, tables)):
        for turn in (turn for turn in TURNS if turn < len(tables)):
            if room > 0 and shown[turn] < len(tables[turn][1]):
                shown[turn] += 1
                room -= 1
    return [*head, *(line for many, (_, rows) in zip(shown, tables) for line in rows[:many]), "", *sentences][:LINES]


def wrapped(lines: Sequence[str], start: str) -> list[str]:
    """Lines that begin with ``start`` and go on in further ones where they are too long."""
    more = {"initial_indent": start, "subsequent_indent": start[0].replace("-", " ") + " "}
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, **more)]


def table(places: Sequence[tuple[str, str]], blocks: Sequence[Sequence[Sequence[str]]], heads: int = 1) -> list[str]:
    """Lines below their heads: set and class, cut to the room that the figures leave, and blocks of figures.

    Args:
        places: set and class of each line, under their heads; the first of two heads is not cut.
        blocks: cells of each line, under their heads.
        heads: lines of heads.
    """
    figures = [aligned(block, gap=" ") for block in blocks]
    room = WIDTH - width(figures) - 2
    of_set, of_class = (max(map(len, column)) for column in zip(*places[heads - 1 :]))
    of_class = min(of_class, max(room - of_set, room // 3))
    names = [(cut(name, room - of_class), cut(label, of_class)) for name, label in places]
    return aligned([[*name, *cells] for name, *cells in zip(names, *figures)])


def width(figures: Sequence[Sequence[str]]) -> int:
    """Columns of blocks of figures, with the gaps before them."""
    return sum(2 + max(map(len, block)) for block in figures)


def compared(answer: Answer, lines: Sequence[Line], metrics: Sequence[str]) -> list[str]:
    """A table of the systems side by side, with counts if there is room; a metric without figures is left out."""
    places = [(f"{answer.systems[1]}: best on dev" if answer.systems[1:] else "", ""), ("set", "class")]
    places += [(f"control {line.set}" if line.control_of else line.set, line.label) for line in lines]
    present = shown_metrics(lines, metrics)
    least = sum(max(map(len, column)) for column in zip(*places[1:])) + 2
    for with_counts in (True, False):
        blocks = [block(answer, lines, metric, title, with_counts) for metric, title in present.items()]
        if width([aligned(cells, gap=" ") for cells in blocks]) + max(least, len(places[0][0])) <= WIDTH:
            break
    return table(places, blocks, heads=2)


def shown_metrics(lines: Sequence[Line], metrics: Sequence[str]) -> dict[str, str]:
    """Metrics that have figures, with their heads; calibrated accuracy only where it differs from the other."""
    systems = {system for line in lines for _, system in line.cells}
    pairs = [
        [line.cells.get((metric, system)) for metric in (ACCURACY, CALIBRATED)] for line in lines for system in systems
    ]
    has = {metric for line in lines for metric, _ in line.cells}
    is_same = {ACCURACY, CALIBRATED} <= has and all(
        a and b and float(a["value"]) == float(b["value"]) for a, b in pairs if a or b
    )
    titles = {m: HEADS.get(m, METRICS[m].title) for m in metrics if m in has and not (is_same and m == CALIBRATED)}
    return titles | ({ACCURACY: ALSO_CALIBRATED} if is_same else {})


def block(answer: Answer, lines: Sequence[Line], metric: str, title: str, with_counts: bool) -> list[list[str]]:
    """Figures of a metric under its title and the systems, a line each."""
    heads = [[title, *("" for _ in answer.systems[1:])], answer.systems]
    return [*heads, *([figure(line.cells, metric, s, with_counts) for s in answer.systems] for line in lines)]


def figure(cells: dict[tuple[str, str], dict], metric: str, system: str, with_counts: bool) -> str:
    """A figure of a system, with its interval and perhaps its counts if it is the flow's."""
    row = cells.get((metric, system))
    if row is None:
        return "-"
    if system != FLOW or metric not in WITH_ENDS:
        return f"{float(row['value']):.3f}"
    return with_ends(row) + (f" {row['count']}/{row['total']}" if with_counts and row["count"] else "")


def densities(answer: Answer) -> list[str]:
    """Mean log densities, and Gaussianity of latents beside them where a set has that of the same classes."""
    lines = paired(answer)
    places = [("set", "class"), *((line.set, line.label) for line in (shapes or density for density, shapes in lines))]
    blocks = [[[METRICS[name].title for name in DENSITIES], *(values(density, DENSITIES, 2) for density, _ in lines)]]
    if answer.gaussianity:
        heads = ["skew", "kurt", "skew-within", "kurt-within"]
        blocks += [
            [["part"], *([shapes.part if shapes else "-"] for _, shapes in lines)],
            [heads, *(values(shapes, SHAPES, 3) for _, shapes in lines)],
        ]
    return table(places, blocks)


def paired(answer: Answer) -> list[tuple[Line | None, Line | None]]:
    """Densities and Gaussianity of a set and the same classes; first those with both, then those with one of them."""
    left = {(line.set, line.label): line for line in answer.density}
    pairs = [(left.pop((shapes.set, shapes.label), None), shapes) for shapes in answer.gaussianity]
    both, alone = ([pair for pair in pairs if bool(pair[0]) == has] for has in (True, False))
    return [*both, *((line, None) for line in left.values()), *alone]


def values(line: Line | None, metrics: Sequence[str], digits: int) -> list[str]:
    """Figures of the flow."""
    rows = [line.cells.get((metric, FLOW)) if line else None for metric in metrics]
    return [f"{float(row['value']):.{digits}f}" if row else "-" for row in rows]
