"""Sentences on the figures of the test sets; each has its figures, with intervals where they have some."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dnf.experiment.classes import UNLABELLED
from dnf.experiment.sets import name_of
from dnf.metrics.figures import EXPERTS, FUSED, KNOWN
from dnf.report.cells import few, with_ends
from dnf.report.control_sentence import control
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex
from dnf.report.ranking_sentence import best
from dnf.report.wording import Sentence, not_beyond_chance, number

MOST = 5
SPARE = ("Ratio", "Unseen")  # sentences that are left out first: the details have their figures
MOST_NAMED = 3  # unseen classes, or sets of flagged utterances, that are named
EARLY = 0.5  # share of the steps before which the best one is early
COUNTS = ("spikes", "restores", "best_step", "steps")
SMALL = 0.001  # nats per frame: a smaller difference between training and evaluation is rounding


def sentences(figures: FigureIndex) -> list[Sentence]:
    """At most one sentence of each part and ``MOST`` in all, the headline first."""
    parts = (knows_nothing, accuracy, best, control, unseen, detected, assessment, odd)
    said = [sentence for part in parts for sentence in part(figures)]
    spare = iter(SPARE)
    while len(said) > MOST and (lead := next(spare, None)):
        said = [sentence for sentence in said if sentence.lead != lead]
    return said


# ---- accuracy ------------------------------------------------------------------------------------


def accuracy(figures: FigureIndex) -> Iterator[Sentence]:
    """How many utterances of the main test set are right: the headline."""
    if not figures.classes:
        return
    row = figures.whole(ACCURACY, figures.main)
    if not row:
        unlabelled = {row["class"] for row in figures.shares if row["set"] == figures.main} == {UNLABELLED}
        lacks = "has a class" if unlabelled else "is of a known class"
        why = f"no utterance of {figures.main} {lacks}" if figures.main else "no test set was scored"
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


# ---- unseen classes ------------------------------------------------------------------------------


def unseen(figures: FigureIndex) -> Iterator[Sentence]:
    """Which class the flow takes each unseen class for, on the first test set that has it."""
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
    found: dict[str, str] = {}  # by figure: a single test set is all of them
    for pool in (row["set"], KNOWN):
        if not more and (auc := figures.open_set.get((row["set"], label, pool))):
            found.setdefault(with_ends(auc), "all test sets" if pool == KNOWN else pool)
    words = ", of ".join(f"{pool} {figure}" for figure, pool in found.items())
    return [f"AUC of flagging it against known classes of {words}"] if found else []


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
    """Known utterances that are flagged, and what was odd in training; or that nothing was, if all counts are there."""
    counts = {name: int(row["value"]) for name in COUNTS if (row := figures.row(name))}
    found = [*flagged_known(figures), *odd_in_training(figures, counts)]
    if found or len(counts) == len(COUNTS):
        yield Sentence("Odd", f"{'; '.join(found) or 'nothing (no spikes of the loss, no restores)'}.")


def flagged_known(figures: FigureIndex) -> list[str]:
    """Known classes of test sets with more utterances flagged than the threshold is set for, beyond chance."""
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
