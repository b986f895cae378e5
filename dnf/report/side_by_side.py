"""The systems of an experiment side by side in results.txt."""

from __future__ import annotations

from collections.abc import Collection

from dnf.experiment.layout import FLOW
from dnf.experiment.tables import aligned
from dnf.metrics.figures import CONTROL, costs_last, shown
from dnf.report.figure_index import CALIBRATED


def system_lines(rows: list[dict], silent: Collection[str] = ()) -> list[str]:
    """A table of the figures that several systems have: a line each, by set; systems side by side, the flow first.

    Args:
        rows: of results.tsv.
        silent: systems whose calibration carries no information: they decide the same class for every utterance, so that
            their calibrated accuracy on a set of one class is 0 or 1 and says nothing.
    """
    metrics = [metric + ending for ending in ("", CONTROL) for metric in costs_last(shown("systems"))]
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    classes: dict[str, set[str]] = {}
    for row in (row for row in rows if row["metric"] == CALIBRATED and row["class"] != "all"):
        classes.setdefault(row["set"], set()).add(row["class"])
    for row in rows:
        if row["metric"] in metrics:
            says_nothing = (
                row["metric"] == CALIBRATED and row["system"] in silent and len(classes.get(row["set"], ())) == 1
            )
            text = "says nothing: one class" if says_nothing else cell(row)
            cells.setdefault((row["set"], row["metric"], row["class"]), {})[row["system"]] = text
    over_all_classes = {key[:2] for key in cells if key[2] == "all"}
    names = sorted({name for by_system in cells.values() for name in by_system}, key=lambda name: (name != FLOW, name))
    place = {name: n for n, name in enumerate(dict.fromkeys(name for name, _, _ in cells))}
    keys = [
        key
        for key in sorted(cells, key=lambda key: (place[key[0]], metrics.index(key[1])))
        if len(cells[key]) > 1 and (key[2] == "all" or key[:2] not in over_all_classes)
    ]
    if not keys:
        return []
    lines = [["systems", "set", "metric", "class", *names]]
    lines += [["systems", *key, *(cells[key].get(name, "-") for name in names)] for key in keys]
    return aligned(lines, 7)


def cell(row: dict) -> str:
    """A figure as ``0.9431 (0.9012-0.9720)``, with its interval if it has one."""
    return f"{float(row['value']):.4f}" + (f" ({float(row['low']):.4f}-{float(row['high']):.4f})" if row["low"] else "")
