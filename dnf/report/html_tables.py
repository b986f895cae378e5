"""The tables of report.html, from rows of results.tsv; rows that none of them shows are left for ``other``."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from dnf.metrics.figure_rows import p_text
from dnf.metrics.figures import (
    CONTROL,
    DIFFERENCE,
    GAP,
    METRICS,
    MOST_DECIDED,
    costs_last,
    is_difference,
    of_part,
    score_of,
    shown,
)
from dnf.report.cells import Rows, html_share, number, speakers
from dnf.report.html_page import Section, paragraph, table

ACCURACIES = {
    "utt_accuracy": "utterances",
    "utt_accuracy_calibrated": "utterances, calibrated",
    "frame_accuracy": "frames",
}


def accuracy(rows: Rows, controls: dict[str, str]) -> Section:
    """Accuracy of utterances and frames per set and class, with the control's beside it."""
    by_place = rows.pivot((r for r in rows.left if r["metric"] in ACCURACIES), ("set", "class"))
    body = []
    for (name, true), cells in by_place.items():
        control = by_place.get((controls.get(name, ""), true), {}).get("utt_accuracy") if true != "all" else None
        beside = f"{number(control['value'], 4)} ({control['set']})" if control else ""
        body.append([name, true, *(html_share(cells.get(metric)) for metric in ACCURACIES), beside, speakers(cells)])
    heads = ["set", "class", *ACCURACIES.values(), "utterances of the control", "speakers"]
    controlled = any(row[5] for row in body)
    if not controlled:
        heads, body = [*heads[:5], heads[6]], [[*row[:5], row[6]] for row in body]
    html = table(heads, body, keys=2)
    if body and not controlled:
        html += paragraph("No control set has figures: the channel of a class may explain these accuracies.")
    return Section("Share decided as the true class, its 95 % interval, and counts", html)


def certainty(rows: Rows) -> Section:
    """How many decisions are near-ties, and the accuracy without them."""
    metrics = ("near_ties", "utt_accuracy_clear")
    by_place = rows.pivot((r for r in rows.left if r["metric"] in metrics), ("set", "class"))
    body = [
        [*key, *(html_share(cells.get(metric)) for metric in metrics), speakers(cells)]
        for key, cells in by_place.items()
    ]
    return Section(
        "Near-ties", table(["set", "class", "near-ties", "accuracy of the others", "speakers"], body, keys=2)
    )


def correlations(rows: Rows) -> Section:
    """Correlation of the log-likelihood ratio with expert scores."""
    body = []
    for level, points in (("utt", "utterances"), ("speaker", "speakers")):
        names = (f"{level}_pearson", f"{level}_spearman")
        by_place = rows.pivot((r for r in rows.left if r["metric"] in names), ("set", "class"))
        for key, cells in by_place.items():
            first = next(iter(cells.values()))
            ends = [html_share(cells.get(name)) for name in names]
            body.append([*key, f"{number(first['total'])} {points}", *ends, number(first["speakers"])])
    heads = ["set", "class", "of", "Pearson", "Spearman", "speakers"]
    return Section("Correlation of the log-likelihood ratio with expert scores", table(heads, body, keys=2))


def assessment(rows: Rows) -> Section:
    """How well expert scores are predicted."""
    body = []
    for level, points in (("utt", "utterances"), ("speaker", "speakers")):
        names = [f"assess_{level}_{name}" for name in ("pearson", "spearman", "rmse", "ceiling", "pairs")]
        by_place = rows.pivot((r for r in rows.left if r["metric"] in names), ("set", "class", "decided"))
        for key, cells in by_place.items():
            first = next(iter(cells.values()))
            figures = [html_share(cells.get(name)) for name in names]
            body.append([*key, f"{number(first['total'])} {points}", *figures, number(first["speakers"])])
    heads = [
        "set",
        "class",
        "by",
        "of",
        "Pearson",
        "Spearman",
        "error",
        "one expert, others",
        "two experts",
        "speakers",
    ]
    html = table(heads, body, keys=3)
    more = ("assess_partial", "assess_partial_tempo", "assess_coverage")
    heads = [
        "set",
        "class",
        "score",
        "partial correlation of latents given timing",
        "given tempo",
        "coverage of 80 % intervals",
    ]
    heads.append("speakers")
    body = []
    for score in dict.fromkeys(score_of(r["decided"]) for r in rows.left if r["metric"] in more):
        of_score = (r for r in rows.left if r["metric"] in more and score_of(r["decided"]) == score)
        for key, cells in rows.pivot(of_score, ("set", "class")).items():
            body.append([*key, score or "main", *(html_share(cells.get(name)) for name in more), speakers(cells)])
    return Section("Predicted expert scores", html + table(heads, body, keys=3))


def confusions(rows: Rows) -> Section:
    """Confusion matrices of the classes the model knows."""
    shares = decided_shares(rows)
    known = list(dict.fromkeys(r["decided"] for r in shares))
    matrices = Markup()
    for metric, unit in (("utt_share", "Utterances"), ("frame_share", "Frames")):
        of_known = (r for r in shares if r["metric"] == metric and r["class"] in known)
        by_place = rows.pivot(of_known, ("set", "class"), "decided")
        if len(known) <= MOST_DECIDED:
            body = [[*key, *(matrix_cell(cells.get(c)) for c in known)] for key, cells in by_place.items()]
            heads = ["set", "true class", *(f"decided {c}" for c in known)]
        else:
            body = [[*key, matrix_cell(cells.get(key[1])), mistakes(key[1], cells)] for key, cells in by_place.items()]
            heads = ["set", "true class", "right", "most often decided otherwise"]
        matrices += table(heads, body, keys=2, caption=f"{unit}: count (share of the true class)")
    return Section("True class by decided class", matrices)


def unseen(rows: Rows) -> Section:
    """What classes the model has not seen were taken for."""
    shares = decided_shares(rows)
    known = {r["decided"] for r in shares}
    of_unseen = (r for r in shares if r["class"] not in known)
    body = [
        [*key, html_share(cells.get("utt_share")), html_share(cells.get("frame_share")), speakers(cells)]
        for key, cells in rows.pivot(of_unseen, ("set", "class", "decided")).items()
    ]
    heads = ["set", "true class", "decided", "utterances", "frames", "speakers"]
    return Section("Unseen classes and their decisions", table(heads, body, keys=3))


def against_unseen(rows: Rows) -> Section:
    """How far each known class is from the unseen ones by its log-likelihood ratio."""
    found = rows.pivot((r for r in rows.left if r["metric"] == "auc_unseen"), ("set", "class", "decided"))
    body = [[*key, html_share(cells["auc_unseen"]), cells["auc_unseen"]["speakers"]] for key, cells in found.items()]
    words = paragraph(
        "AUC of the log-likelihood ratio of a known class, its utterances against those of an unseen class. Where unseen "
        "classes are far from one known class and at 0.5 from the other, the ratio separates the first from all others."
    )
    shown_table = table(["set", "unseen class", "against", "AUC", "speakers"], body, keys=3)
    return Section("Unseen classes against each known class", shown_table and words + shown_table)


def decided_shares(rows: Rows) -> list[dict]:
    """Shares of a true class by the class decided."""
    return [r for r in rows.left if r["metric"] in ("utt_share", "frame_share") and r.get("decided")]


def mistakes(true: str, cells: dict[str, dict]) -> str:
    """Wrong classes with their counts, the most frequent first."""
    wrong = {name: int(row["count"]) for name, row in cells.items() if name != true and int(row["count"])}
    return ", ".join(f"{name} {wrong[name]:,}" for name in sorted(wrong, key=wrong.get, reverse=True))


def matrix_cell(row: dict | None) -> str:
    """Count and share, on a background as strong as the share."""
    if row is None:
        return ""
    value = number(row["value"], 4)
    text = f"{number(row['count'])} ({value})" if row.get("count") else value
    try:
        strength = min(1.0, max(0.0, float(value)))
    except ValueError:
        return text
    return Markup('<span class="heat" style="--share: {:.3f}">{}</span>').format(strength, text)


def densities(rows: Rows) -> Section:
    """Mean log densities per set and class."""
    metrics = shown("likelihood")
    body = []
    for (name, true), cells in rows.pivot((r for r in rows.left if r["metric"] in metrics), ("set", "class")).items():
        body.append([name, true, frames(cells), *(value(cells.get(metric), metric) for metric in metrics)])
    heads = ["set", "class", "frames", *(METRICS[metric].title for metric in metrics)]
    return Section("Nats per frame", table(heads, body, keys=2))


def frames(cells: dict[str, dict]) -> str:
    """How many frames the figures of a table row come from."""
    return number(next((row.get("count") or row.get("total") or "" for row in cells.values()), ""))


def value(row: dict | None, metric: str) -> str:
    """The figure with the decimals of its metric; nothing where there is none."""
    return number(row["value"], METRICS[metric].digits) if row else ""


def gaussianity(rows: Rows) -> Section:
    """Moments and Mardia's test, where there is one, per set, classes and part of the latent."""
    of_latents = [row for row in rows.left if of_part(row["metric"])[0] in shown("gaussianity")]
    present = {of_part(row["metric"])[0] for row in of_latents}
    metrics = [metric for metric in shown("gaussianity") if metric in present]
    lines = []
    for (name, classes), cells in rows.pivot(of_latents, ("set", "class")).items():
        by_part: dict[str, dict[str, dict]] = {}
        for metric, row in cells.items():
            stem, part = of_part(metric)
            by_part.setdefault(part, {})[stem] = row
        for part, figures in by_part.items():
            values = (value(figures.get(metric), metric) for metric in metrics)
            lines.append([name, classes, part, frames(figures), *values])
    heads = ["set", "classes", "part", "frames", *(METRICS[metric].title for metric in metrics)]
    return Section("Means over dimensions", table(heads, lines, keys=3))


def training(rows: Rows) -> Section:
    """What says whether training went well."""
    body = []
    for metric in shown("training"):
        for row in rows.pivot((r for r in rows.left if r["metric"] == metric), ("set", "class")).values():
            place = " ".join(filter(None, (row[metric]["set"], row[metric]["class"])))
            body.append([f"{metric} {place}".strip(), number(row[metric]["value"]), METRICS[metric].meaning])
    return Section("", table(["figure", "value", "meaning"], body, keys=1))


def fusion(rows: Rows) -> Section:
    """Weight of each system of a fusion."""
    weights = rows.pivot((row for row in rows.left if row["metric"] == "fusion_weight"), ("decided",))
    body = [[name, number(row["fusion_weight"]["value"])] for (name,), row in weights.items()]
    return Section("", table(["system", METRICS["fusion_weight"].title], body, keys=1))


def is_detection(metric: str) -> bool:
    """Whether a metric is of the tables that compare all systems."""
    of_table = metric.removesuffix(CONTROL) in {*shown("page"), *shown("trivial")}
    return of_table or metric.endswith(GAP) or is_paired(metric)


def is_paired(metric: str) -> bool:
    """Whether a metric is the flow minus another system."""
    return is_difference(metric) and metric.removesuffix(DIFFERENCE).removesuffix(CONTROL) in METRICS


def detection(rows: Rows, controls: dict[str, str], resamples: int) -> list[Section]:
    """Detection by each system on each set and on its control, and how far systems and controls differ."""
    apart = gaps(rows, controls)
    found = measures(rows, controls, "All systems, with 95 % intervals", costs_last(shown("page")))
    trivial = measures(rows, controls, "Trivial systems, on the sets of the flow", shown("trivial"))
    return [found, apart, paired_differences(rows, controls, resamples), trivial]


def measures(rows: Rows, controls: dict[str, str], title: str, metrics: Sequence[str]) -> Section:
    """Some figures of each system, set and pair of classes, those with the control below."""
    of_measures = (row for row in rows.left if row["metric"].removesuffix(CONTROL) in metrics)
    body = []
    for (name, classes, system), cells in rows.pivot(of_measures, ("set", "class", "system")).items():
        for ending, place in (("", name), (CONTROL, f"{name}, control {controls.get(name, '')}")):
            figures = {metric: cells[metric + ending] for metric in metrics if metric + ending in cells}
            if figures:
                ends = (html_share(figures.get(metric)) for metric in metrics)
                body.append([place, classes, system, *ends, speakers(figures)])
    places = list(dict.fromkeys(line[0] for line in body))
    body.sort(key=lambda line: (places.index(line[0]), line[1]))
    heads = ["set", "classes", "system", *(METRICS[metric].head for metric in metrics), "speakers"]
    return Section(title, table(heads, body, keys=3))


def gaps(rows: Rows, controls: dict[str, str]) -> Section:
    """Each figure of a set minus that of its control."""
    body, key = [], ("set", "class", "system", "metric")
    of_gaps = (row for row in rows.left if row["metric"].endswith(GAP))
    for (name, classes, system, metric), cells in rows.pivot(of_gaps, key).items():
        title = METRICS[metric.removesuffix(GAP)].title
        body.append([name, controls.get(name, ""), classes, system, title, html_share(cells[metric])])
    heads = ["set", "control", "classes", "system", "of", "difference"]
    return Section("Each set minus its control", table(heads, body, keys=5))


def paired_differences(rows: Rows, controls: dict[str, str], resamples: int) -> Section:
    """The flow minus each other system on a set, or on a set with its control, with p-values."""
    body, key = [], ("set", "class", "system", "metric")
    of_pairs = (row for row in rows.left if is_paired(row["metric"]))
    for (name, classes, system, metric), cells in rows.pivot(of_pairs, key).items():
        p = p_text(cells[metric].get("p"), metric, resamples).removeprefix("p ")
        figure = metric.removesuffix(DIFFERENCE)
        place = f"{name}, control {controls.get(name, '')}" if figure.endswith(CONTROL) else name
        title = METRICS[figure.removesuffix(CONTROL)].head
        body.append([place, classes, system, title, html_share(cells[metric]), p])
    heads = ["set", "classes", "against", "of", "difference", "p"]
    return Section("The flow minus each baseline (paired)", table(heads, body, keys=4))


def baseline(name: str, rows_of_system: list[dict], controls: dict[str, str]) -> list[Section]:
    """The tables of another system, those of detection left out."""
    rows = Rows([row for row in rows_of_system if not is_detection(row["metric"])])
    parts = [
        accuracy(rows, controls),
        certainty(rows),
        correlations(rows),
        assessment(rows),
        confusions(rows),
        unseen(rows),
        against_unseen(rows),
        other(rows),
    ]
    return [Section(f"{name}: {part.title}", part.html) for part in parts]


def other(rows: Rows) -> Section:
    """What no table above has shown, as it stands in results.tsv."""
    names = [
        name for name in ("system", "metric", "set", "class", "decided") if any(row.get(name) for row in rows.left)
    ]
    body = []
    for row in rows.left:
        ends, counts = (" to ".join(filter(None, map(row.get, pair))) for pair in (("low", "high"), ("count", "total")))
        names_of_row = [row.get(name) or "" for name in names]
        body.append([*names_of_row, row["value"], ends, counts.replace(" to ", " / "), row.get("speakers") or ""])
    heads = [*names, "value", "95 %", "counts", "speakers"]
    return Section("Figures that no other table shows", table(heads, body, keys=len(names)))
