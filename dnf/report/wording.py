"""What the sentences of the answer share: their form, how differences are written, and what counts as beyond chance."""

from __future__ import annotations

from typing import NamedTuple

from dnf.metrics.figures import CONTROL, DIFFERENCE, HIGHER, METRICS
from dnf.report.cells import with_ends
from dnf.report.figure_index import ACCURACY, FigureIndex

LEVEL = 0.05  # a difference is beyond chance if its p-value is below this and its 95 % interval leaves 0 out


class Sentence(NamedTuple):
    """A sentence of the answer.

    Attributes:
        lead: a word that says what it is about.
        text: the sentence.
    """

    lead: str
    text: str


def number(text: str, digits: int = 3) -> str:
    return f"{float(text):.{digits}f}"


def difference(row: dict) -> str:
    """A difference as ``-0.039 (-0.072 to -0.011)``."""
    ends = f"{number(row['low'])} to {number(row['high'])}" if row["low"] else "no interval: too few speakers"
    return f"{number(row['value'])} ({ends})"


def leaves_out_0(row: dict) -> bool:
    """Whether the interval of a difference leaves 0 out."""
    return bool(row["low"]) and not float(row["low"]) <= 0 <= float(row["high"])


def title(metric: str) -> str:
    return METRICS[metric].title


def verdict(row: dict | None) -> int | None:
    """Whether the flow is better than another system beyond chance (1), worse beyond chance (-1), or neither (0).

    None where there is no interval. ``row`` is of the difference, the flow minus the other system.
    """
    if not row or not row["low"]:
        return None
    if not leaves_out_0(row) or not row["p"] or float(row["p"]) >= LEVEL:
        return 0
    better = METRICS[row["metric"].removesuffix(DIFFERENCE).removesuffix(CONTROL)].better
    return 1 if (float(row["value"]) > 0) == (better == HIGHER) else -1


def not_beyond_chance(figures: FigureIndex) -> str:
    """A sentence that the flow may not separate the classes of the main test set; empty where it does."""
    if len(figures.pairs) == 1:
        row, chance = figures.row("auc", figures.main, figures.pairs[0]), 0.5
    else:
        row, chance = figures.row(ACCURACY, figures.main, "all"), 1 / len(figures.classes)
    if len(figures.labels(ACCURACY, figures.main)) < 2 or not row or not row["low"] or float(row["low"]) > chance:
        return ""
    return f"This is not shown to be better than chance: {title(row['metric'])} {with_ends(row)}, chance {chance:.3g}."
