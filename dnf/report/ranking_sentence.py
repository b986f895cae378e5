"""All systems ranked by one figure of the main test set, and from which of them the flow differs beyond chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from dnf.experiment.layout import FLOW
from dnf.metrics.figure_rows import p_text
from dnf.metrics.figures import DIFFERENCE, HIGHER, METRICS
from dnf.report.cells import few
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex
from dnf.report.wording import Sentence, number, title, verdict


def best(figures: FigureIndex) -> Iterator[Sentence]:
    """All systems by one figure of the main test set, and from which of them the flow differs beyond chance."""
    if not figures.labels(ACCURACY, figures.main):
        return
    if not figures.others:
        by_hand = "; dnf compare does it with its members" if figures.members else ""
        yield Sentence("Best", f"the {figures.subject} was not compared with another system{by_hand}.")
        return
    metric, label = ranked_by(figures)
    rows = {s: row for s in (FLOW, *figures.others) if metric and (row := figures.row(metric, figures.main, label, s))}
    if len(rows) < 2:
        yield Sentence("Best", f"nothing on {figures.main} ranks the systems: see systems of the details.")
        return
    sign = -1 if METRICS[metric].better == HIGHER else 1
    order = sorted(rows, key=lambda system: sign * float(rows[system]["value"]))
    ranked = [f"{s} {number(rows[s]['value'])}{' (chance)' if may_be_chance(figures, rows[s]) else ''}" for s in order]
    judged = {s: figures.row(metric + DIFFERENCE, figures.main, label, s) for s in order if s != FLOW}
    marks = [few(row) for row in judged.values() if row]
    yield Sentence(
        "Best",
        f"by {title(metric)} on {figures.main}: {', '.join(ranked)}. {FLOW} {against(figures, judged)}"
        f"{next(filter(None, marks), '')}.",
    )


def ranked_by(figures: FigureIndex) -> tuple[str, str]:
    """Metric and classes that all systems are ranked by: Cllr of all classes, else accuracy; empty for a single class."""
    if len(figures.labels(ACCURACY, figures.main)) < 2:
        return "", ""
    labels = figures.labels("cllr", figures.main)
    of_all = [label for label in labels if label.count("+") > 1] or labels
    places = [("cllr", label) for label in of_all if len(of_all) == 1] + [(CALIBRATED, "all"), (ACCURACY, "all")]
    return next((place for place in places if figures.row(place[0], figures.main, place[1])), ("", ""))


def may_be_chance(figures: FigureIndex, row: dict) -> bool:
    """Whether a figure of the main test set, or an end of its interval, is what chance gives."""
    classes = len(figures.labels(ACCURACY, figures.main))
    if row["metric"] == "cllr":
        return float(row["high"] or row["value"]) >= math.log2(classes)
    return float(row["low"] or row["value"]) <= 1 / classes


def against(figures: FigureIndex, judged: dict[str, dict | None]) -> str:
    """What paired tests say of the flow and the others: ``beats gmm (p 0.0040); loses to mlp (p 0.0100)``."""
    words = {1: "beats", -1: "loses to", 0: "undecided against", None: "cannot be judged against"}
    found: dict[int | None, list[tuple[str, str]]] = {}
    for system, row in judged.items():
        p = p_text(row["p"], row["metric"], figures.config.report.bootstrap) if row else ""
        found.setdefault(verdict(row), []).append((p, system))
    clauses = []
    for kind in (kind for kind in words if kind in found):
        groups = [(p, [system for _, system in of_p]) for p, of_p in groupby(found[kind], key=lambda item: item[0])]
        named = (f"{', '.join(systems)}{f' ({p})' if p else ''}" for p, systems in groups)
        clauses.append(f"{words[kind]} {', '.join(named)}")
    return "; ".join(clauses)
