"""Whether a trivial system, which hears no accent, comes close to the flow on the main test set."""

from __future__ import annotations

from dnf.metrics.figures import CONTROL, TRIVIAL
from dnf.report.cells import with_ends
from dnf.report.figure_index import FigureIndex


def upright(row: dict) -> dict:
    """A row of an AUC, turned round if it is below 0.5: a trivial system may be higher for either class."""
    if float(row["value"]) >= 0.5:
        return row
    ends = {"low": row["high"], "high": row["low"]}
    turned = {"value": row["value"]} | {name: end for name, end in ends.items() if end}
    return row | {name: f"{1 - float(text):.6f}" for name, text in turned.items()}


def closest(figures: FigureIndex) -> str:
    """A sentence on the trivial system of highest AUC of two classes, where it reaches the interval of the flow's; else empty."""
    auc = figures.row("auc", figures.main, figures.pairs[0]) if len(figures.pairs) == 1 else None
    rows = {name: figures.row(f"auc_{name}", figures.main, *figures.pairs) for name in (TRIVIAL if auc else ())}
    rows = {name: upright(row) for name, row in rows.items() if row}
    name = max(rows, key=lambda name: float(rows[name]["value"]), default="")
    if not name or float(rows[name]["value"]) < float(auc["low"] or auc["value"]):
        return ""
    control = figures.row(f"auc_{name}{CONTROL}", figures.main, *figures.pairs)
    beside = f" and with the control {with_ends(upright(control))}" if control else ""
    return f"{name.capitalize()} alone has AUC {with_ends(rows[name])} on {figures.main}{beside}: close to the {figures.subject}"
