"""Whether a control has lost against its set, so that the channel may explain the figures of the set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnf.metrics.figures import CONTROL, HIGHER, METRICS, WITHOUT_DOUBT
from dnf.report.cells import with_ends
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex
from dnf.report.trivial_sentence import closest
from dnf.report.wording import Sentence, difference, leaves_out_0, not_beyond_chance, number, title

RATIOS = (f"cllr{WITHOUT_DOUBT}", "cllr", "auc")  # the second where nothing is doubted


def control(figures: FigureIndex) -> Iterator[Sentence]:
    """Whether the control holds, and which trivial system comes close, since that may be the channel, too."""
    close = closest(figures)
    for lead, text in of_control(figures):
        yield Sentence(lead, f"{text} {close}." if close else text)


def of_control(figures: FigureIndex) -> Iterator[Sentence]:
    """Whether the control has lost against its set, so that the channel may explain the figures of the set."""
    if not figures.labels(ACCURACY, figures.main):
        return
    name = figures.main if figures.main in figures.controls else next(iter(figures.controls), "")
    shares, ratios = figures.gaps(name, (CALIBRATED, ACCURACY)), figures.gaps(name, RATIOS)
    if not shares and not ratios:
        yield Sentence(
            "Control", "there is none of the same class from another corpus: the channel may explain all figures."
        )
        return
    place = figures.controls[name]
    if name == figures.main and not_beyond_chance(figures):
        yield Sentence(
            "Control",
            f"{place} says nothing: the {figures.subject} is not shown to be better than chance on {name} itself.",
        )
        return
    is_at_ceiling = bool(shares) and all(float(row["value"]) == 1 for gap in shares for row in compared(figures, *gap))
    shown = [worst(figures, gaps) for gaps in ([] if is_at_ceiling else shares, ratios) if gaps]
    clauses = [ceiling(figures, *shares[-1])] if is_at_ceiling else []
    clauses += [gap_clause(figures, *gap) for gap in shown]
    is_lost = any(loss(*gap)[0] > 0 and leaves_out_0(gap[1]) for gap in (*shares, *ratios))
    clauses += ["The channel may explain it"] if is_lost else []
    is_better = all(leaves_out_0(row) for _, row in (*shares, *ratios))
    state = " shows no loss" if is_better else " neither shows nor excludes a loss"
    state = "" if is_at_ceiling else state
    if any(is_weak(figures, *gap) or not gap[1]["low"] for gap in shown):
        state = " cannot be judged"
    state = " does not hold" if is_lost else state
    yield Sentence("Control", f"{place}{state}: {'. '.join(clauses + others_lost(figures, name))}.")


def compared(figures: FigureIndex, metric: str, gap: dict) -> tuple[dict, dict]:
    """Figures of a set and of its control, of which a row is the difference."""
    name, label = gap["set"], gap["class"]
    beside = figures.row(metric + CONTROL, name, label) or figures.row(metric, figures.controls[name], label)
    return figures.row(metric, name, label), beside


def is_weak(figures: FigureIndex, metric: str, gap: dict) -> bool:
    """Whether the AUC of a control may be chance."""
    beside = compared(figures, metric, gap)[1]
    return metric == "auc" and bool(beside["low"]) and float(beside["low"]) <= 0.5


def loss(metric: str, row: dict) -> tuple[float, float]:
    """By how much the control is worse than its set, and how much worse it may be by the interval."""
    ends = [float(row["value"])] + [float(row[end]) for end in ("low", "high") if row[end]]
    worse = ends if METRICS[metric].better == HIGHER else [-end for end in ends]
    return worse[0], max(worse)


def worst(figures: FigureIndex, gaps: Sequence[tuple[str, dict]]) -> tuple[str, dict]:
    """The gap to show: a loss beyond chance, else an AUC that may be chance, else Cllr; of several the largest possible."""

    def rank(gap: tuple[str, dict]) -> tuple:
        now, most = loss(*gap)
        return now > 0 and leaves_out_0(gap[1]), is_weak(figures, *gap), gap[0] != "auc", most

    return max(gaps, key=rank)


def gap_clause(figures: FigureIndex, metric: str, gap: dict) -> str:
    """Figures of a set and of its control with their difference, and what that says."""
    of_set, beside = compared(figures, metric, gap)
    label = "" if "+" in gap["class"] else f" of {gap['class']}"
    figure = f"{with_ends(beside)}, which may be chance" if is_weak(figures, metric, gap) else number(beside["value"])
    state = ("better" if loss(metric, gap)[0] < 0 else "worse") + " beyond chance" if leaves_out_0(gap) else "undecided"
    return (
        f"{title(metric)}{label} {number(of_set['value'])} -> {figure}, "
        f"difference {difference(gap)}{': ' + state if gap['low'] else ''}"
    )


def ceiling(figures: FigureIndex, metric: str, gap: dict) -> str:
    """That all of a set and of its control are right, which leaves no room for a difference."""
    _, row = compared(figures, metric, gap)
    return (
        f"{row['count']} of {row['total']} are right, as on {gap['set']}: both are at the ceiling with "
        f"{row['speakers']} speakers, which cannot show a loss"
    )


def others_lost(figures: FigureIndex, name: str) -> list[str]:
    """The other systems whose control is worse beyond chance, in a clause; nothing where there are none."""
    found = []
    for system in figures.others:
        gaps = figures.gaps(name, (*RATIOS, CALIBRATED, ACCURACY), system)
        lost = [title(metric) for metric, row in gaps if loss(metric, row)[0] > 0 and leaves_out_0(row)]
        found += [f"{system} (by {lost[0]})"] if lost else []
    return [f"{', '.join(found)} {'gets' if len(found) == 1 else 'get'} worse beyond chance"] if found else []
