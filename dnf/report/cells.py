"""A figure of results.txt with its counts and its interval, from a row of results.tsv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from dnf.metrics.bootstrap import FEW
from dnf.metrics.figures import DIFFERENCE, GAP

MOST_IN_LINE = 4  # names that are listed within a line


def ends(row: dict) -> str:
    """The interval of a row; ``to`` between ends of which one may be, or is, negative."""
    if not row.get("low"):
        return "no interval"
    between = " to " if row["metric"].endswith((DIFFERENCE, GAP)) or float(row["low"]) < 0 else "-"
    return f"95% {float(row['low']):.4f}{between}{float(row['high']):.4f}"


def few(row: dict) -> str:
    """A mark of percentile intervals over few speakers, counted in the class that has the fewest."""
    fewest = int(row.get("fewest") or row["speakers"] or FEW)
    return f", only {fewest} speakers per class" if row["low"] and fewest < FEW else ""


def cell(row: dict) -> str:
    """A figure as ``0.9741 [ 95% 0.9512-0.9903, 324 utterances, 84 speakers ]``."""
    counts = f"{row['total']} utterances, {row['speakers']} speakers{few(row)}"
    return f"{float(row['value']):.4f} [ {ends(row)}, {counts} ]"


def share_cell(row: dict) -> str:
    """A share as ``0.9431 [ 116 / 123, 95% 0.9012-0.9720, 8 speakers ]``."""
    return f"{float(row['value']):.4f} [ {row['count']} / {row['total']}, {ends(row)}, {row['speakers']} speakers ]"


def gap_text(row: dict | None) -> str:
    """By how much a set and its control differ, as ``difference 0.0341 [ 95% -0.0063 to 0.0987 ]``."""
    return f"difference {float(row['value']):.4f} [ {ends(row)}{few(row)} ]" if row else ""


def with_ends(row: dict, *more: str) -> str:
    """A figure as ``0.956 (0.873-0.991)``, with its interval if it has one, and more behind that."""
    ends = [f"{float(row['low']):.3f}-{float(row['high']):.3f}"] if row["low"] else []
    return f"{float(row['value']):.3f}" + (f" ({', '.join([*ends, *more])})" if ends or more else "")


def cut(text: str, width: int) -> str:
    """A text that is too long without its middle."""
    tail = (width - 2) // 3
    return text if len(text) <= width else f"{text[: width - 2 - tail]}..{text[-tail:]}"


def shortened(names: Sequence[str], between: str = ", ") -> str:
    """Names; of many the first and the last, and how many there are."""
    return between.join(names) if len(names) <= MOST_IN_LINE else f"{names[0]} ... {names[-1]} ({len(names)})"


class Rows:
    """Rows of results.tsv that no table has shown yet."""

    def __init__(self, rows: Sequence[dict]):
        self.left = list(rows)

    def pivot(self, rows: Iterable[dict], key: Sequence[str], column: str = "metric") -> dict[tuple, dict[str, dict]]:
        """Take rows out and arrange them as ``[key][column]``; a second row for the same place stays."""
        table: dict[tuple, dict[str, dict]] = {}
        for row in rows:
            table.setdefault(tuple(row[name] for name in key), {}).setdefault(row[column], row)
        taken = {id(row) for cells in table.values() for row in cells.values()}
        self.left = [row for row in self.left if id(row) not in taken]
        return table


def number(text: str, digits: int | None = None) -> str:
    """A number as it reads best: decimals if asked, else integers with separators and other values as written."""
    try:
        value = float(text)
    except ValueError:
        return text
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else text


def html_share(row: dict | None) -> Markup:
    """A figure, its interval and its counts below each other; nothing where there is no row."""
    if row is None:
        return Markup()
    below = []
    if row.get("low") and row.get("high"):
        below.append(f"{number(row['low'], 3)} to {number(row['high'], 3)}")
    if row.get("count") and row.get("total"):
        below.append(f"{number(row['count'])} / {number(row['total'])}")
    return Markup("{}{}").format(
        number(row["value"], 4), Markup().join(Markup("<small>{}</small>").format(s) for s in below)
    )


def speakers(cells: dict[str, dict]) -> str:
    """The number of speakers that the figures of a table row come from."""
    return next((number(row["speakers"]) for row in cells.values() if row.get("speakers")), "")
