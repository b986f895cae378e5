"""What the figures of the test sets allow to say, in sentences: each has its figures, with intervals where they have some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from dnf.experiment.classes import UNLABELLED
from dnf.experiment.layout import FLOW
from dnf.experiment.sets import name_of
from dnf.metrics.figure_rows import p_text
from dnf.metrics.figures import CONTROL, DIFFERENCE, EXPERTS, FUSED, HIGHER, KNOWN, METRICS
from dnf.report.cells import few, with_ends
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex

MOST = 7
LEVEL = 0.05  # a difference is beyond chance where its p-value is below, and its 95 % interval leaves 0 out
MOST_NAMED = 3  # unseen classes, or sets of flagged utterances, that are named
EARLY = 0.5  # share of the steps before which the best one is early
COUNTS = ("spikes", "restores", "best_step", "steps")
SMALL = 0.001  # nats per frame: a difference between training and evaluation below is rounding


class Sentence(NamedTuple):
    """A sentence of the answer.

    Attributes:
        lead: a word that says what it is about.
        text: the sentence.
    """

    lead: str
    text: str


def sentences(figures: FigureIndex) -> list[Sentence]:
    """At most ``MOST``, the headline first."""
    parts = (knows_nothing, accuracy, best, control, unseen, detected, assessment, odd)
    return [sentence for part in parts for sentence in part(figures)][:MOST]


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


# ---- accuracy ------------------------------------------------------------------------------------


def accuracy(figures: FigureIndex) -> Iterator[Sentence]:
    """How many utterances of the main test set are right: the headline."""
    if not figures.classes:
        return
    row = figures.whole(ACCURACY, figures.main)
    if not row:
        why = f"no utterance of {figures.main} is of a known class" if figures.main else "no test set was scored"
        yield Sentence("Accuracy", f"{why}, so nothing shows the accuracy on new speakers.")
        return
    spoken = with_ends(row, f"{row['speakers']} speakers")
    clauses = [f"{row['count']} of {row['total']} utterances of {figures.main} are right, {spoken}"]
    calibrated, frames = (figures.whole(metric, figures.main) for metric in (CALIBRATED, "frame_accuracy"))
    differs = calibrated and float(calibrated["value"]) != float(row["value"])
    clauses += [f"calibrated {with_ends(calibrated)}"] if differs else []
    clauses += [f"frames {with_ends(frames)}"] if frames else []
    weak = not_beyond_chance(figures)
    yield Sentence("Accuracy", f"{'; '.join(clauses)}.{' ' + weak if weak else ''}")


def not_beyond_chance(figures: FigureIndex) -> str:
    """That the flow may not separate the classes of the main test set, in a sentence; empty where it does."""
    if len(figures.pairs) == 1:
        row, chance = figures.row("auc", figures.main, figures.pairs[0]), 0.5
    else:
        row, chance = figures.row(ACCURACY, figures.main, "all"), 1 / len(figures.classes)
    if len(figures.labels(ACCURACY, figures.main)) < 2 or not row or not row["low"] or float(row["low"]) > chance:
        return ""
    return f"This is not shown to be better than chance: {title(row['metric'])} {with_ends(row)}, chance {chance:.3g}."


# ---- systems -------------------------------------------------------------------------------------


def best(figures: FigureIndex) -> Iterator[Sentence]:
    """All systems by one figure of the main test set, and from which of them the flow differs beyond chance."""
    if not figures.classes or not figures.main:
        return
    if not figures.others:
        yield Sentence("Best", "the flow was not compared with another system.")
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
        f"by {title(metric)} on {figures.main} {', '.join(ranked)}. {FLOW} {against(figures, judged)}"
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


def verdict(row: dict | None) -> int | None:
    """Of the flow minus another system: 1 where the flow is better beyond chance, -1 where it is worse, 0 where neither.

    None where there is no interval.
    """
    if not row or not row["low"]:
        return None
    if not leaves_out_0(row) or not row["p"] or float(row["p"]) >= LEVEL:
        return 0
    better = METRICS[row["metric"].removesuffix(DIFFERENCE).removesuffix(CONTROL)].better
    return 1 if (float(row["value"]) > 0) == (better == HIGHER) else -1


# ---- channel -------------------------------------------------------------------------------------


def control(figures: FigureIndex) -> Iterator[Sentence]:
    """Whether the control has lost against its set, so that the channel may explain the figures of the set."""
    if not figures.classes or not figures.main:
        return
    name = figures.main if figures.main in figures.controls else next(iter(figures.controls), "")
    shares, ratios = figures.gaps(name, (CALIBRATED, ACCURACY)), figures.gaps(name, ("cllr", "auc"))
    if not shares and not ratios:
        yield Sentence(
            "Control", "there is none of the same class from another corpus: the channel may explain all figures."
        )
        return
    place = figures.controls[name]
    if name == figures.main and not_beyond_chance(figures):
        yield Sentence(
            "Control", f"{place} says nothing: the flow is not shown to be better than chance on {name} itself."
        )
        return
    is_at_ceiling = bool(shares) and all(float(row["value"]) == 1 for gap in shares for row in compared(figures, *gap))
    told = [worst(figures, gaps) for gaps in ([] if is_at_ceiling else shares, ratios) if gaps]
    clauses = [ceiling(figures, *shares[-1])] if is_at_ceiling else []
    clauses += [gap_clause(figures, *gap) for gap in told]
    is_lost = any(loss(*gap)[0] > 0 and leaves_out_0(gap[1]) for gap in (*shares, *ratios))
    clauses += ["The channel may explain it"] if is_lost else []
    state = " shows no loss beyond chance" if not is_at_ceiling else ""
    if any(is_weak(figures, *gap) or not gap[1]["low"] for gap in told):
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
    """A loss beyond chance, else an AUC that may be chance, else Cllr, and of several the one that may be largest."""

    def rank(gap: tuple[str, dict]) -> tuple:
        now, most = loss(*gap)
        return now > 0 and leaves_out_0(gap[1]), is_weak(figures, *gap), gap[0] == "cllr", most

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
        gaps = figures.gaps(name, ("cllr", "auc", CALIBRATED, ACCURACY), system)
        lost = [title(metric) for metric, row in gaps if loss(metric, row)[0] > 0 and leaves_out_0(row)]
        found += [f"{system} (by {lost[0]})"] if lost else []
    return [f"{', '.join(found)} {'gets' if len(found) == 1 else 'get'} worse beyond chance"] if found else []


# ---- unseen classes ------------------------------------------------------------------------------


def unseen(figures: FigureIndex) -> Iterator[Sentence]:
    """What the classes that the flow does not know were taken for, each on the first test set that has it."""
    taken: dict[str, dict] = {}
    shares, known = {}, set(figures.classes)
    for row in (row for row in figures.shares if row["class"] not in known):
        shares.setdefault(row["set"], {}).setdefault(row["class"], []).append(row)
    for name in figures.tests:
        for label, of_class in shares.get(name, {}).items():
            taken.setdefault(label, max(of_class, key=lambda row: float(row["value"])))
    if not taken:
        return
    split = 1 / len(figures.classes)
    words = [
        f"{unseen_name(label)} taken for {row['decided']} in {row['count']} of {row['total']} utterances of {row['set']}, "
        f"{with_ends(row)}" + (", not beyond an even split" if row["low"] and float(row["low"]) <= split else "")
        for label, row in list(taken.items())[:MOST_NAMED]
    ]
    more = [f"{len(taken) - MOST_NAMED} more unseen classes"] if len(taken) > MOST_NAMED else []
    yield Sentence("Unseen", ". ".join(["; ".join(words + more), *flagging(figures, taken)]) + ".")


def unseen_name(label: str) -> str:
    """An unseen class, or what has no class, with its verb."""
    return "recordings without a class were" if label == UNLABELLED else f"{label} was"


def flagging(figures: FigureIndex, taken: dict[str, dict]) -> list[str]:
    """How well the open-set score finds an unseen class that is the only one, and among which known utterances."""
    (label, row), *more = taken.items()
    found = [
        f"{'all test sets' if pool == KNOWN else pool} {with_ends(auc)}"
        for pool in (row["set"], KNOWN)
        if not more and (auc := figures.open_set.get((row["set"], label, pool)))
    ]
    return [f"AUC of flagging it against known classes of {', of '.join(found)}"] if found else []


def detected(figures: FigureIndex) -> Iterator[Sentence]:
    """What the ratio of two classes detects, by the unseen classes of the first test set that has some."""
    places = [name for name in figures.tests if any(key[0] == name for key in figures.against)]
    if len(figures.classes) != 2 or not places:
        return
    name, sides = places[0], {known: {} for known in figures.classes}
    for (of_set, label, known), row in figures.against.items():
        if of_set == name and known in sides:
            sides[known][label] = row
    words = [
        ", ".join(f"{label} {with_ends(row)}" for label, row in list(sides[known].items())[:MOST_NAMED])
        for known in figures.classes
    ]
    if not all(words):
        return
    (first, second), pair = figures.classes, figures.row("auc", name, "+".join(figures.classes))
    itself = f"{second} {with_ends(pair)}, " if pair else ""
    found = next((a for a, b in ((first, second), (second, first)) if are_like(sides[b], sides[a])), "")
    clause = f": it separates {found} from all others" if found else ""
    text = f"AUC on {name} for {first} against {itself}{words[0]}; for {second} against {words[1]}{clause}."
    yield Sentence("Ratio", text)


def are_like(one: dict[str, dict], other: dict[str, dict]) -> bool:
    """Whether intervals say that all unseen classes are unlike the other known class, and may be like the first."""
    limits = [(float(other[label]["low"] or 0), float(row["low"] or 1)) for label, row in one.items() if label in other]
    return bool(limits) and all(unlike > 0.5 >= like for unlike, like in limits)


# ---- expert scores -------------------------------------------------------------------------------


def assessment(figures: FigureIndex) -> Iterator[Sentence]:
    """How well expert scores are predicted, and by timing alone, on the first test set that has some."""
    name = next((name for name in figures.tests if ("assess_utt_pearson", name, FUSED) in figures.predicted), "")
    if not name:
        return
    fused, timing, latents, experts = (
        figures.predicted.get((metric, name, predictor))
        for metric, predictor in (
            ("assess_utt_pearson", FUSED), ("assess_utt_pearson", "timing"), ("assess_partial", "latents"),
            ("assess_utt_ceiling", EXPERTS),
        )
    )  # fmt: skip
    beside = f", timing alone {with_ends(timing)}" if timing else ""
    beside += f", one expert with the others {with_ends(experts)}" if experts else ""
    more = f"; partial correlation of latents given timing {with_ends(latents)}" if latents else ""
    yield Sentence(
        "Scores", f"predicted expert scores of {name}: correlation {with_ends(fused)}{beside}{more}{few(fused)}."
    )


# ---- what is odd ---------------------------------------------------------------------------------


def odd(figures: FigureIndex) -> Iterator[Sentence]:
    """Known utterances that are flagged, and what was odd in training; that nothing was, where all of it is known."""
    counts = {name: int(row["value"]) for name in COUNTS if (row := figures.row(name))}
    found = [*flagged_known(figures), *odd_in_training(figures, counts)]
    if found or len(counts) == len(COUNTS):
        yield Sentence("Odd", f"{'; '.join(found) or 'nothing (no spikes of the loss, no restores)'}.")


def flagged_known(figures: FigureIndex) -> list[str]:
    """Known classes of test sets of which more is flagged as unseen, beyond chance, than the threshold is set for."""
    expected = figures.config.open_set.false_alarm
    rows = [
        row
        for name in figures.tests
        for label in figures.labels("open_set_false", name)
        if (row := figures.row("open_set_false", name, label))["low"] and float(row["low"]) > expected
    ]
    rows.sort(key=lambda row: -float(row["value"]))
    more = [f"flagged are more known classes: {len(rows) - MOST_NAMED}"] if len(rows) > MOST_NAMED else []
    return [
        f"{row['count']} of {row['total']} known utterances of {row['set']} ({row['class']}) are flagged as unseen"
        for row in rows[:MOST_NAMED]
    ] + more


def odd_in_training(figures: FigureIndex, counts: dict[str, int]) -> Iterator[str]:
    """What was odd in training, and whether train, dev and evaluation agree."""
    if counts.get("spikes"):
        yield f"{counts['spikes']} spikes of the loss in training"
    if counts.get("restores"):
        yield f"{counts['restores']} restores after a loss that was not finite"
    if counts.get("best_step", math.inf) < EARLY * counts.get("steps", 0):
        yield (
            f"{figures.config.train.select} on dev (train.select) was best already at step {counts['best_step']} of "
            f"{counts['steps']}"
        )
    agreement = figures.row("train_eval_difference")
    if agreement and abs(float(agreement["value"])) >= SMALL:
        yield f"training and evaluation differ by {float(agreement['value']):.3f} nats per frame"
    of_train, of_dev = (figures.mean("nll", name_of(figures.config.data, role)) for role in ("train", "dev"))
    if of_train is not None and of_dev is not None and of_dev < of_train:
        yield f"dev is more likely than train: NLL {of_dev:.2f} against {of_train:.2f}"


# ---- a flow without classes ----------------------------------------------------------------------


def knows_nothing(figures: FigureIndex) -> Iterator[Sentence]:
    """Which class of the test sets is the least likely to a flow that decides nothing."""
    if figures.classes:
        return
    text = "this flow has no classes: it gives densities, which have no interval, and makes no decisions."
    rows = [
        row
        for name in figures.tests
        for label in figures.labels("loglik", name)
        if (row := figures.row("loglik", name, label))
    ]
    if len(rows) > 1:
        words = [f"{row['set']} {row['class']} ({number(row['value'], 2)})" for row in rows]
        least, most = (pick(range(len(rows)), key=lambda n: float(rows[n]["value"])) for pick in (min, max))
        text += f" The least likely is {words[least]}, the most likely {words[most]}, by LogLL in nats per frame."
    yield Sentence("Density", text)
