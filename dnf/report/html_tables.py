"""The tables of report.html, from rows of results.tsv; rows that none of them shows are left for ``other``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dnf.metrics.figure_rows import p_text
from dnf.report.cells import GAP, Rows, html_share, number, speakers
from dnf.report.html_page import Html, Section, table

DENSITIES = {"loglik": "LogLL", "logp": "LogP", "logdet": "LogDet", "nll": "NLL"}
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
TRAINING = {
    "training_nll": "nats per frame, of a sample of training frames, scored when best.pt was written, in training mode",
    "training_logp": "its LogP",
    "training_logdet": "its LogDet",
    "train_eval_difference": "nats per frame by which stage latents differs from that; 0 but for rounding, or model, features or "
    "code are not those of training",
    "spikes": "steps whose loss stood far above the recent ones",
    "restores": "times that training went back to the last good checkpoint because a loss or gradient was not finite",
    "steps": "updates of the weights",
    "best_step": "the step whose weights were kept, chosen on dev",
    "parameters": "trainable numbers of the model",
    "frames": "training frames",
}
DETECTION = {
    "auc": "AUC",
    "auc_duration": "AUC of duration alone",
    "eer": "EER",
    "min_dcf": "minDCF",
    "cllr": "Cllr, bits",
    "cllr_left_out": "Cllr, speaker left out",
    "min_cllr": "minCllr, bits",
}
DIFFERENCES = {
    "auc_difference": "AUC",
    "cllr_difference": "Cllr, bits",
    "utt_accuracy_calibrated_difference": "utterance accuracy",
}


def accuracy(rows: Rows, controls: dict[str, str]) -> Section:
    """Accuracy of utterances and frames per set and class, with the control's beside it."""
    metrics = ("utt_accuracy", "utt_accuracy_calibrated", "frame_accuracy")
    found = rows.pivot((r for r in rows.left if r["metric"] in metrics), ("set", "class"))
    body = []
    for (name, true), cells in found.items():
        control = found.get((controls.get(name, ""), true), {}).get("utt_accuracy") if true != "all" else None
        beside = f"{control['set']}: {number(control['value'], 4)}" if control else ""
        calibrated = html_share(cells.get("utt_accuracy_calibrated"))[0]
        ends = [*html_share(cells.get("utt_accuracy")), beside, calibrated, *html_share(cells.get("frame_accuracy"))]
        body.append([name, true, *ends, speakers(cells)])
    heads = ["set", "class", "utterances (95 %)", "right / all", "control", "calibrated (95 %)", "frames (95 %)"]
    heads += ["right / all", "speakers"]
    controlled = any(row[4] for row in body)
    if not controlled:
        heads, body = [h for h in heads if h != "control"], [row[:4] + row[5:] for row in body]
    html = table(heads, body, keys=2)
    if not controlled:
        html += Html(
            "<p>No control set has figures: nothing here shows that classes are told by more than channels.</p>"
        )
    return Section("Accuracy", html if body else Html(""))


def certainty(rows: Rows) -> Section:
    """How many decisions are near-ties, and the accuracy without them."""
    found = rows.pivot((r for r in rows.left if r["metric"] in ("near_ties", "utt_accuracy_clear")), ("set", "class"))
    body = [
        [*key, *html_share(cells.get("near_ties")), *html_share(cells.get("utt_accuracy_clear")), speakers(cells)]
        for key, cells in found.items()
    ]
    heads = ["set", "class", "near-ties (95 %)", "so / all", "accuracy of the others (95 %)", "right / all", "speakers"]
    return Section("Near-ties", table(heads, body, keys=2) if body else Html(""))


def correlations(rows: Rows) -> Section:
    """Correlation of the log-likelihood ratio with expert scores."""
    body = []
    for level, points in (("utt", "utterances"), ("speaker", "speakers")):
        names = (f"{level}_pearson", f"{level}_spearman")
        found = rows.pivot((r for r in rows.left if r["metric"] in names), ("set", "class"))
        for key, cells in found.items():
            first = next(iter(cells.values()))
            ends = [html_share(cells.get(name))[0] for name in names]
            body.append([*key, f"{number(first['total'])} {points}", *ends, number(first["speakers"])])
    heads = ["set", "class", "of", "Pearson (95 %)", "Spearman (95 %)", "speakers"]
    return Section("Correlation with expert scores", table(heads, body, keys=2) if body else Html(""))


def confusions(rows: Rows) -> list[Section]:
    """Confusion matrices of the classes the model knows, and shares of those it does not."""
    shares = [r for r in rows.left if r["metric"] in ("utt_share", "frame_share") and r.get("decided")]
    known = list(dict.fromkeys(r["decided"] for r in shares))
    matrices, unseen = Html(""), []
    for metric, unit in (("utt_share", "Utterances"), ("frame_share", "Frames")):
        of_known = (r for r in shares if r["metric"] == metric and r["class"] in known)
        found = rows.pivot(of_known, ("set", "class"), "decided")
        body = [[*key, *(matrix_cell(cells.get(c)) for c in known)] for key, cells in found.items()]
        if body:
            heads = ["set", "true class", *(f"decided {c}" for c in known)]
            matrices += table(heads, body, keys=2, caption=f"{unit}: count (share of the true class)")
    of_unseen = [r for r in shares if r["class"] not in known]
    for (name, true, decided), cells in rows.pivot(of_unseen, ("set", "class", "decided")).items():
        ends = [*html_share(cells.get("utt_share")), *html_share(cells.get("frame_share")), speakers(cells)]
        unseen.append([name, true, decided, *ends])
    heads = [
        "set",
        "true class",
        "decided",
        "utterances (95 %)",
        "so decided / all",
        "frames (95 %)",
        "so decided / all",
    ]
    unseen_table = table([*heads, "speakers"], unseen, keys=3) if unseen else Html("")
    return [Section("Confusions", matrices), Section("Classes the model has not seen", unseen_table)]


def matrix_cell(row: dict | None) -> str | Html:
    """Count and share, on a background as strong as the share."""
    if row is None:
        return ""
    value = number(row["value"], 4)
    text = f"{number(row['count'])} ({value})" if row.get("count") else value
    try:
        strength = min(1.0, max(0.0, float(value)))
    except ValueError:
        return text
    return Html(f'<span class="heat" style="background:rgba(0,114,178,{0.45 * strength:.3f})">{escape(text)}</span>')


def densities(rows: Rows) -> Section:
    """Mean log densities per set and class."""
    found = rows.pivot((r for r in rows.left if r["metric"] in DENSITIES), ("set", "class"))
    body = []
    for (name, true), cells in found.items():
        frames = next((r.get("count") or r.get("total") or "" for r in cells.values()), "")
        body.append(
            [name, true, number(frames), *(number(cells[m]["value"], 3) if m in cells else "" for m in DENSITIES)]
        )
    html = table(["set", "class", "frames", *DENSITIES.values()], body, keys=2) if body else Html("")
    return Section("Likelihood (nats per frame)", html)


def gaussianity(rows: Rows) -> Section:
    """Moments and Mardia's test per set, classes and part of the latent."""
    own = [r for r in rows.left if shape_name(r["metric"])]
    others = [m for m in dict.fromkeys(shape_name(r["metric"]) for r in own) if m not in SHAPES]
    lines = []
    for (name, classes), cells in rows.pivot(own, ("set", "class")).items():
        for part in dict.fromkeys(metric[-1] for metric in cells):
            of_part = {shape_name(metric): row for metric, row in cells.items() if metric.endswith(f"_{part}")}
            frames = next((r.get("count") or r.get("total") or "" for r in of_part.values()), "")
            shapes = (number(of_part[m]["value"], 4) if m in of_part else "" for m in SHAPES)
            tests = (number(of_part[m]["value"]) if m in of_part else "" for m in others)
            lines.append([name, classes, part, number(frames), *shapes, *tests])
    heads = ["set", "classes", "part", "frames", "skewness", "kurtosis", "skewness within", "kurtosis within"]
    html = table([*heads, *(m.replace("_", " ") for m in others)], lines, keys=3) if lines else Html("")
    return Section("Gaussianity (means over dimensions)", html)


def shape_name(metric: str) -> str:
    """``kurt_within`` of ``kurt_within_c``; empty for a metric that is not about Gaussianity."""
    stem, _, part = metric.rpartition("_")
    return stem if part in ("c", "r", "x") and (stem in SHAPES or stem.startswith("mardia_")) else ""


def training(rows: Rows) -> Section:
    """What says whether training went well."""
    body = []
    for metric, meaning in TRAINING.items():
        for row in rows.pivot((r for r in rows.left if r["metric"] == metric), ("set", "class")).values():
            place = " ".join(filter(None, (row[metric]["set"], row[metric]["class"])))
            body.append([f"{metric} {place}".strip(), number(row[metric]["value"]), Html(escape(meaning))])
    return Section("Training", table(["figure", "value", "meaning"], body, keys=1) if body else Html(""))


def is_detection(metric: str) -> bool:
    """Whether a metric is of the tables that hold all systems together."""
    return metric.removesuffix("_control") in DETECTION or metric in DIFFERENCES or metric.endswith(GAP)


def detection(rows: Rows, controls: dict[str, str], warnings: Sequence[str], resamples: int) -> list[Section]:
    """How well each system tells classes apart on each set, and on its control; what separates systems."""
    body, gaps = [], []
    found = rows.pivot((r for r in rows.left if r["metric"].endswith(GAP)), ("set", "class", "system", "metric"))
    for (name, classes, system, metric), cells in found.items():
        title = metric.removesuffix(GAP).replace("_", " ")
        gaps.append([name, controls.get(name, ""), classes, system, title, html_share(cells[metric])[0]])
    found = rows.pivot((r for r in rows.left if r["metric"] not in DIFFERENCES), ("set", "class", "system"))
    for (name, classes, system), cells in found.items():
        for ending, place in (("", name), ("_control", f"{name}, control {controls.get(name, '')}")):
            own = {metric: cells.get(metric + ending) for metric in DETECTION}
            if any(own.values()):
                ends = (html_share(own[metric])[0] for metric in DETECTION)
                body.append([place, classes, system, *ends, speakers({m: r for m, r in own.items() if r})])
    heads = ["set", "classes", "system", *(f"{title} (95 %)" for title in DETECTION.values()), "speakers"]
    body.sort(key=lambda line: line[:2])
    html = table(heads, body, keys=3) if body else Html("")
    for line in warnings:
        html += Html(f"<p><b>{escape(line)}</b></p>")
    heads = ["set", "control", "classes", "system", "of", "difference (95 %)"]
    apart = Section("Each set minus its control", table(heads, gaps, keys=5) if gaps else Html(""))
    sections = [Section("Detection and calibration", html), apart]
    lines = []
    found = rows.pivot((r for r in rows.left if r["metric"] in DIFFERENCES), ("set", "class", "system", "metric"))
    for (name, classes, system, metric), cells in found.items():
        row = cells[metric]
        p = p_text(row.get("p"), metric, resamples).removeprefix("p ")
        lines.append([name, classes, system, DIFFERENCES[metric], html_share(row)[0], p])
    heads = ["set", "classes", "against", "of", "difference (95 %)", "p"]
    html = table(heads, lines, keys=4) if lines else Html("")
    return [*sections, Section("The flow minus each baseline (paired)", html)]


def baseline(name: str, own: list[dict], controls: dict[str, str]) -> list[Section]:
    """The tables of another system, those of detection left out."""
    rows = Rows([row for row in own if not is_detection(row["metric"])])
    made = [accuracy(rows, controls), certainty(rows), correlations(rows), *confusions(rows), other(rows)]
    return [Section(f"{name}: {section.title}", section.html) for section in made]


def other(rows: Rows) -> Section:
    """What no table above has shown, as it stands in results.tsv."""
    if not rows.left:
        return Section("Other figures", Html(""))
    columns = [c for c in rows.left[0] if any(row[c] for row in rows.left)]
    return Section("Other figures", table(columns, [[row[c] for c in columns] for row in rows.left], keys=3))
