"""A figure of results.txt with its counts and its interval, from a row of results.tsv."""

from __future__ import annotations

from dnf.bootstrap import FEW

GAP = "_control_gap"  # ending of a metric: the figure of a set minus that of its control


def ends(row: dict) -> str:
    """The interval of a row; ``to`` between ends of which one may be, or is, negative."""
    if not row.get("low"):
        return "no interval"
    between = " to " if row["metric"].endswith(("_difference", GAP)) or float(row["low"]) < 0 else "-"
    return f"95% {float(row['low']):.4f}{between}{float(row['high']):.4f}"


def few(row: dict) -> str:
    """A mark of percentile intervals over few speakers, counted in the class that has the fewest."""
    fewest = int(row.get("fewest") or row["speakers"] or FEW)
    return f", few speakers ({fewest})" if row["low"] and fewest < FEW else ""


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
