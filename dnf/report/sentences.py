"""What the figures of the test sets allow to say, in sentences: each has its figures, with intervals where they have some."""

from __future__ import annotations

from collections.abc import Iterator

from dnf.experiment.classes import UNLABELLED
from dnf.experiment.sets import name_of
from dnf.metrics.figure_rows import p_text
from dnf.metrics.figures import CONTROL, DIFFERENCE, EXPERTS, FUSED, GAP, HIGHER, METRICS
from dnf.report.cells import few, with_ends
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex

MOST = 5
LEVEL = 0.05  # a difference is beyond chance where its p-value is below, and its 95 % interval leaves 0 out
MOST_UNSEEN = 3  # unseen classes that are named
EARLY = 0.8  # share of the steps before which the best one is early
COUNTS = ("spikes", "restores", "best_step", "steps")
SMALL = 0.001  # nats per frame: a difference between training and evaluation below is rounding


def sentences(figures: FigureIndex) -> list[str]:
    """At most ``MOST``, in order of weight."""
    parts = (knows_nothing, comparison, control, unseen, detected, assessment, training)
    return [sentence for part in parts for sentence in part(figures)][:MOST]


def number(text: str, digits: int = 4) -> str:
    return f"{float(text):.{digits}f}"


def difference(row: dict, *more: str) -> str:
    """A difference as ``-0.0389 (-0.072 to -0.011, p 0.125)``."""
    ends = [f"{number(row['low'], 3)} to {number(row['high'], 3)}"] if row["low"] else ["no interval: too few speakers"]
    return f"{number(row['value'])} ({', '.join([*ends, *filter(None, more)])}{few(row)})"


def leaves_out_0(row: dict) -> bool:
    """Whether the interval of a difference leaves 0 out."""
    return bool(row["low"]) and not float(row["low"]) <= 0 <= float(row["high"])


def title(metric: str) -> str:
    return METRICS[metric].title


# ---- systems -------------------------------------------------------------------------------------


def comparison(figures: FigureIndex) -> Iterator[str]:
    """Whether the flow or the best other system is better on the main test set, and whether that may be chance."""
    if not figures.classes:
        return
    if not figures.main:
        yield "No test set was scored, so nothing shows the accuracy on new speakers."
        return
    if weak := not_beyond_chance(figures):
        yield weak
    if not figures.other:
        yield "The flow was not compared with another system."
        return
    places = {
        CALIBRATED: "all",
        **({"cllr": figures.pairs[0], "auc": figures.pairs[0]} if len(figures.pairs) == 1 else {}),
    }
    rows = {
        metric: row
        for metric, label in places.items()
        if (row := figures.row(metric + DIFFERENCE, figures.main, label, figures.other))
    }
    if not rows:
        yield f"Nothing on {figures.main} says whether the flow or {figures.other} is better: see `systems` of the details."
        return
    first = next((metric for metric, row in rows.items() if verdict(metric, row)), next(iter(rows)))
    row, word = rows.pop(first), {1: "is better than", -1: "loses to", 0: "does not differ significantly from"}
    words = word[verdict(first, row)] if row["low"] else "cannot be judged against"
    of_flow, of_other = (figures.row(first, figures.main, places[first], system) for system in figures.systems)
    p = p_text(row.get("p", ""), first, figures.config.report.bootstrap)
    rest = [
        f"; by {title(metric)} it {short_verdict(figures, metric, more)}" for metric, more in list(rows.items())[:1]
    ]
    yield (
        f"The flow {words} {figures.other} on {figures.main} by {title(first)}: "
        f"{number(of_flow['value'])} against {number(of_other['value'])}, difference {difference(row, p)}{''.join(rest)}."
    )


def verdict(metric: str, row: dict) -> int:
    """1 where the flow is better beyond chance, -1 where it is worse, 0 where the difference may be chance."""
    if not leaves_out_0(row) or not row.get("p") or float(row["p"]) >= LEVEL:
        return 0
    return 1 if (float(row["value"]) > 0) == (METRICS[metric].better == HIGHER) else -1


def short_verdict(figures: FigureIndex, metric: str, row: dict) -> str:
    p = p_text(row.get("p", ""), metric, figures.config.report.bootstrap)
    word = {1: "is better", -1: "loses", 0: "does not differ significantly"}[verdict(metric, row)]
    return f"{word} ({number(row['value'])}{', ' + p if p else ''})"


def not_beyond_chance(figures: FigureIndex) -> str:
    """That the flow may not separate the classes of the main test set, in a sentence; empty where it does."""
    if len(figures.pairs) == 1:
        row, chance = figures.row("auc", figures.main, figures.pairs[0]), 0.5
    else:
        row, chance = figures.row(ACCURACY, figures.main, "all"), 1 / len(figures.classes)
    if len(figures.labels(ACCURACY, figures.main)) < 2 or not row or not row["low"] or float(row["low"]) > chance:
        return ""
    return f"The flow is not shown to be better than chance on {figures.main}: {title(row['metric'])} {with_ends(row)}, chance {chance:.3g}."


# ---- channel -------------------------------------------------------------------------------------


def control(figures: FigureIndex) -> Iterator[str]:
    """Whether the control has lost against its set, so that the channel may explain the figures of the set."""
    if not figures.classes or not figures.main:
        return
    name = figures.main if figures.main in figures.controls else next(iter(figures.controls), "")
    gaps = [
        (metric, row)
        for metric in (CALIBRATED, ACCURACY, "auc", "cllr")
        for label in figures.labels(metric + GAP, name)
        if (row := figures.row(metric + GAP, name, label))
    ]
    if not gaps:
        yield "There is no control of the same class from another corpus: the channel may explain all figures."
        return
    place = figures.controls[name]
    if name == figures.main and not_beyond_chance(figures):
        yield f"Control {place} says nothing: the flow is not shown to be better than chance on {name} itself."
        return
    lost = [gap for gap in gaps if leaves_out_0(gap[1]) and loss(*gap)[0] > 0]
    weak = [
        gap for gap in gaps if gap[0] == "auc" and may_be_chance(figures.row(f"auc{CONTROL}", name, gap[1]["class"]))
    ]
    shares = [gap for gap in gaps if gap[0] != "cllr"]
    metric, row = max(lost or weak or shares, key=lambda gap: loss(*gap)[1])
    state = "does not hold" if lost else "shows no significant loss"
    state = state if row["low"] and (lost or not weak) else "cannot be judged"
    beside = figures.row(metric + CONTROL, name, row["class"]) or figures.row(metric, place, row["class"])
    yield (
        f"Control {place} {state}: {title(metric)} of {row['class']} {with_ends(beside)} against "
        f"{number(figures.row(metric, name, row['class'])['value'])} on {name}, difference {difference(row)}"
        f"{'; the channel may explain it' if lost else ''}."
    )


def may_be_chance(auc: dict | None) -> bool:
    return auc is not None and bool(auc["low"]) and float(auc["low"]) <= 0.5


def loss(metric: str, row: dict) -> tuple[float, float]:
    """By how much the control is worse than its set, and how much worse it may be by the interval."""
    ends = [float(row["value"])] + [float(row[end]) for end in ("low", "high") if row[end]]
    worse = ends if METRICS[metric].better == HIGHER else [-end for end in ends]
    return worse[0], max(worse)


# ---- unseen classes ------------------------------------------------------------------------------


def unseen(figures: FigureIndex) -> Iterator[str]:
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
        f"{unseen_name(label)} taken for {row['decided']} in {row['count']} of {row['total']} utterances of {row['set']}: "
        f"{with_ends(row)}" + (", not beyond an even split" if row["low"] and float(row["low"]) <= split else "")
        for label, row in list(taken.items())[:MOST_UNSEEN]
    ]
    more = [f"{len(taken) - MOST_UNSEEN} more unseen classes"] if len(taken) > MOST_UNSEEN else []
    yield "; ".join(words + more) + f"{flagged(figures, taken)}."


def unseen_name(label: str) -> str:
    """An unseen class, or what has no class, with its verb."""
    return "recordings without a class were" if label == UNLABELLED else f"{label} (unseen) was"


def flagged(figures: FigureIndex, taken: dict[str, dict]) -> str:
    """How well the open-set score finds an unseen class that is the only one."""
    (label, row), *more = taken.items()
    auc = None if more else figures.row("open_set_auc", row["set"], label)
    return f"; AUC of flagging it as none of the classes {with_ends(auc)}" if auc else ""


def detected(figures: FigureIndex) -> Iterator[str]:
    """What the ratio of two classes detects, by the unseen classes of the first test set that has some."""
    places = [name for name in figures.tests if any(key[0] == name for key in figures.against)]
    if len(figures.classes) != 2 or not places:
        return
    name, sides = places[0], {known: {} for known in figures.classes}
    for (of_set, label, known), row in figures.against.items():
        if of_set == name and known in sides:
            sides[known][label] = row
    words = [
        ", ".join(f"{label} {with_ends(row)}" for label, row in list(sides[known].items())[:MOST_UNSEEN])
        for known in figures.classes
    ]
    if not all(words):
        return
    (first, second), pair = figures.classes, figures.row("auc", name, "+".join(figures.classes))
    itself = f"{second} {with_ends(pair)}, " if pair else ""
    found = next((a for a, b in ((first, second), (second, first)) if are_like(sides[b], sides[a])), "")
    clause = f": it separates {found} from all others" if found else ""
    yield f"AUC of the ratio on {name} for {first} against {itself}{words[0]}; for {second} against {words[1]}{clause}."


def are_like(one: dict[str, dict], other: dict[str, dict]) -> bool:
    """Whether intervals say that all unseen classes are unlike the other known class, and may be like the first."""
    limits = [(float(other[label]["low"] or 0), float(row["low"] or 1)) for label, row in one.items() if label in other]
    return bool(limits) and all(unlike > 0.5 >= like for unlike, like in limits)


# ---- expert scores -------------------------------------------------------------------------------


def assessment(figures: FigureIndex) -> Iterator[str]:
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
    yield f"Predicted expert scores of {name}: correlation {with_ends(fused)}{beside}{more}{few(fused)}."


# ---- training ------------------------------------------------------------------------------------


def training(figures: FigureIndex) -> Iterator[str]:
    """What was odd in training, and how train, dev and evaluation agree."""
    counts = {name: int(row["value"]) for name in COUNTS if (row := figures.row(name))}
    if len(counts) < len(COUNTS):
        return
    odd = [f"{counts['spikes']} spikes of the loss"] if counts["spikes"] else []
    odd += [f"{counts['restores']} restores after a loss that was not finite"] if counts["restores"] else []
    early = counts["best_step"] < EARLY * counts["steps"]
    odd += [f"dev was best already at step {counts['best_step']} of {counts['steps']}"] if early else []
    agreement = figures.row("train_eval_difference")
    apart = float(agreement["value"]) if agreement else 0.0
    odd += ["training and evaluation differ"] if abs(apart) >= SMALL else []
    head = f"Odd in training: {', '.join(odd)}" if odd else "Nothing odd in training: no spikes, no restores"
    more = [f"train/eval difference {apart:.6f} nats per frame"] if agreement else []
    of_train, of_dev = (mean_nll(figures, name_of(figures.config.data, role)) for role in ("train", "dev"))
    more += [f"NLL {of_dev:.2f} on dev, {of_train:.2f} on train"] if of_train and of_dev else []
    yield f"{'; '.join([head, *more])}."


def mean_nll(figures: FigureIndex, name: str) -> float:
    """Mean over the frames of the classes that the model was trained on; 0 where none is known."""
    labels = figures.classes or figures.config.data.classes or figures.labels("nll", name)
    rows = [row for label in labels if (row := figures.row("nll", name, label))]
    frames = sum(int(row["total"]) for row in rows)
    return sum(float(row["value"]) * int(row["total"]) for row in rows) / frames if frames else 0.0


# ---- a flow without classes ----------------------------------------------------------------------


def knows_nothing(figures: FigureIndex) -> Iterator[str]:
    """Which class of the test sets is the least likely to a flow that decides nothing."""
    if figures.classes:
        return
    yield "This flow has no classes: it gives densities, which have no interval, and makes no decisions."
    rows = [
        row
        for name in figures.tests
        for label in figures.labels("loglik", name)
        if (row := figures.row("loglik", name, label))
    ]
    if len(rows) > 1:
        words = [f"{row['set']} {row['class']} ({number(row['value'], 2)})" for row in rows]
        least, most = (pick(range(len(rows)), key=lambda n: float(rows[n]["value"])) for pick in (min, max))
        yield f"The least likely is {words[least]}, the most likely {words[most]}, by LogLL in nats per frame."
