"""Stage 8: report.html, one page that holds everything: figures, tables, plots, settings, and how to read them.

The page needs no network, no scripts and no other file. It is made from results.tsv, and from config.yaml, env.json and
plots/*.png where they are there. A metric it does not know is listed, never dropped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import yaml

from dnf import entry, information, open_set_rows
from dnf.bootstrap import p_text
from dnf.detection_lines import GAP, warning_lines
from dnf.page import Html, Section, document, picture, table
from dnf.stage import read_marker
from dnf.systems import FLOW
from dnf.tables import read_tsv

logger = logging.getLogger(__name__)

COLUMNS = ("metric", "set", "class", "value")
DENSITIES = {"loglik": "LogLL", "logp": "LogP", "logdet": "LogDet", "nll": "NLL"}
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
TRAINING = {
    "training_nll": "nats per frame, of a sample of training frames as training saw them",
    "training_logp": "its LogP",
    "training_logdet": "its LogDet",
    "train_eval_difference": "nats per frame by which the saved model and training differ on the same training frames; "
    "0 but for rounding, or the two do not compute the same thing",
    "spikes": "steps whose loss stood far above the recent ones",
    "restores": "times that training went back to the last good checkpoint because a loss or gradient was not finite",
    "steps": "updates of the weights",
    "best_step": "the step whose weights were kept, chosen on dev",
    "parameters": "trainable numbers of the model",
    "frames": "training frames",
}
DETECTION = {"auc": "AUC", "eer": "EER", "min_dcf": "minDCF", "cllr": "Cllr, bits", "min_cllr": "minCllr, bits"}
DIFFERENCES = {
    "auc_difference": "AUC",
    "cllr_difference": "Cllr, bits",
    "utt_accuracy_calibrated_difference": "utterance accuracy",
}
CAPTIONS = {
    "curves": "Training curves. LogLL should rise and level off; dev should follow train, and the gap between them "
    "is overfitting. Vertical lines are spikes and restores: there should be none.",
    "gaussianity": "Shape of each latent dimension. Within-class values should lie on 0; pooled kurtosis of c goes "
    "towards -2 where classes lie far apart, which is separation, not a fault.",
    "scatter": "Latent frames. Left: two dimensions as they come, where classes may overlap although they separate "
    "in others. Right: the plane that separates the training classes most. A class should lie around its training "
    "mean; held-out frames that lie elsewhere show overfitting or another channel.",
    "scatter_r": "The residual part r. Its prior does not know the class, so classes should overlap; a shift is "
    "class (or channel) information that c has not taken up.",
    "tsne": "t-SNE keeps neighbours together and says nothing about distances or sizes. Clusters within a class are "
    "often speakers or recordings.",
    "llr_hist": "Log-likelihood ratios of utterances. Well separated classes lie on both sides of 0; an unseen "
    "class lies where the model puts it.",
    "durations": "Accuracy against seconds of speech: it should rise and level off. Where it levels off below 1, more "
    "speech of the same speaker does not help: what is wrong is the speaker or the channel, not the noise of frames.",
    "fisher": "Which dimensions carry class, most first: c should hold it, r none. A steep curve is class in few dims; "
    "the input's curve (x) says what a single dim had before the flow.",
    "detection": "Left, errors of each system at every threshold: lower is better, and a dashed line, the control, "
    "that lies far above its solid one says that channels are told apart. Right, whether posteriors mean what they "
    "say: above the line they are too low, below it too high.",
    "loglik_hist": "Log-likelihood of utterances under a flow that knows no classes. Speech unlike the training "
    "data should lie further left, but a flow may also give it more.",
}
READING = (
    "Accuracy is the share of utterances (or frames) decided as their true class. Intervals are 95 % over "
    "speakers: utterances of a speaker are not independent. Those of shares are of Korn & Graubard, the others by bootstrap, "
    "too narrow below ten speakers of a class and left out below five.",
    "An accuracy on the training corpora's own test set may be that of telling microphones apart. Trust the "
    "control: the same class from another corpus.",
    "LogP is the mean log prior density of the latents, LogDet the mean log|det| of the Jacobian, LogLL = LogP + "
    "LogDet the mean log-likelihood, and NLL = -LogLL the loss, all in nats per frame. Compare them between sets, "
    "not between models of other features.",
    "Skewness and excess kurtosis are 0 for a Gaussian; the table gives means over dimensions. Pooled figures mix "
    "the classes: two separated Gaussians have kurtosis towards -2. Within-class figures, after each class has lost "
    "its mean and scale, say whether the latents are Gaussian. Mardia's test looks at all dimensions together.",
    "A near-tie is an utterance whose margin between the two best classes is within its own standard error: its "
    "decision may as well have been the other one.",
    "Cllr is the cost in bits of using the log-likelihood ratios as they are: 0 if they are right and sure, 1 if they "
    "say nothing, more if they mislead; its minimum is what the best calibration would leave. They are calibrated on "
    "dev, so figures of dev itself are too good.",
    "An unseen class has no right answer: its table says how the model decides when it must.",
)


class Rows:
    """Rows of results.tsv that no table has shown yet."""

    def __init__(self, rows: Sequence[dict]):
        self.left = list(rows)

    def pivot(self, rows: Iterable[dict], key: Sequence[str], column: str = "metric") -> dict[tuple, dict[str, dict]]:
        """Take rows out and arrange them as ``[key][column]``; a second row for the same place stays."""
        found: dict[tuple, dict[str, dict]] = {}
        for row in list(rows):
            cells = found.setdefault(tuple(row[name] for name in key), {})
            if row[column] not in cells:
                cells[row[column]] = row
                self.left = [other for other in self.left if other is not row]
        return found


def number(text: str, digits: int | None = None) -> str:
    """A number as it reads best: decimals if asked, else integers with separators and other values as written."""
    try:
        value = float(text)
    except ValueError:
        return text
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else text


def share(row: dict | None) -> list[str]:
    """Cells: a share with its interval, and its counts."""
    if row is None:
        return ["", ""]
    interval = f" ({number(row['low'], 4)} to {number(row['high'], 4)})" if row.get("low") and row.get("high") else ""
    counts = f"{number(row['count'])} / {number(row['total'])}" if row.get("count") and row.get("total") else ""
    return [number(row["value"], 4) + interval, counts]


def speakers(cells: dict[str, dict]) -> str:
    """The number of speakers that the figures of a table row come from."""
    return next((number(row["speakers"]) for row in cells.values() if row.get("speakers")), "")


def accuracy(rows: Rows, controls: dict[str, str]) -> Section:
    """Accuracy of utterances and frames per set and class, with the control's beside it."""
    metrics = ("utt_accuracy", "utt_accuracy_calibrated", "frame_accuracy")
    found = rows.pivot((r for r in rows.left if r["metric"] in metrics), ("set", "class"))
    body = []
    for (name, true), cells in found.items():
        control = found.get((controls.get(name, ""), true), {}).get("utt_accuracy") if true != "all" else None
        beside = f"{control['set']}: {number(control['value'], 4)}" if control else ""
        calibrated = share(cells.get("utt_accuracy_calibrated"))[0]
        ends = [*share(cells.get("utt_accuracy")), beside, calibrated, *share(cells.get("frame_accuracy"))]
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
        [*key, *share(cells.get("near_ties")), *share(cells.get("utt_accuracy_clear")), speakers(cells)]
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
            ends = [share(cells.get(name))[0] for name in names]
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
        ends = [*share(cells.get("utt_share")), *share(cells.get("frame_share")), speakers(cells)]
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
        gaps.append([name, controls.get(name, ""), classes, system, title, share(cells[metric])[0]])
    found = rows.pivot((r for r in rows.left if r["metric"] not in DIFFERENCES), ("set", "class", "system"))
    for (name, classes, system), cells in found.items():
        for ending, place in (("", name), ("_control", f"{name}, control {controls.get(name, '')}")):
            own = {metric: cells.get(metric + ending) for metric in DETECTION}
            if any(own.values()):
                ends = (share(own[metric])[0] for metric in DETECTION)
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
        lines.append([name, classes, system, DIFFERENCES[metric], share(row)[0], p])
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


def pictures(folder: Path) -> Section:
    """All plots, by kind, each with what to look for."""
    html, kinds = Html(""), list(CAPTIONS)

    def kind_of(path: Path) -> str:
        return max((k for k in kinds if path.stem == k or path.stem.startswith(f"{k}_")), key=len, default="")

    paths = sorted(folder.glob("*.png"), key=lambda p: (kinds.index(kind_of(p)) if kind_of(p) else len(kinds), p.name))
    for path in paths:
        html += picture(path.stem, path.read_bytes(), CAPTIONS.get(kind_of(path), path.stem))
    return Section("Plots", html)


def page(exp: Path) -> str:
    """The page as text.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """
    path = exp / "results.tsv"
    if not path.is_file():
        raise ValueError(f"{path}: not there; run stage 8 (--stage 8), which writes it first")
    read = read_tsv(path)
    for line, row in enumerate(read, start=2):
        if None in row or any(row.get(column) is None for column in (*COLUMNS, *row)):
            raise ValueError(f"{path}: line {line}: not one value for each column of the header; run stage 8 again")
    settings, environment = exp / "config.yaml", exp / "env.json"
    config_text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    try:
        config = yaml.safe_load(config_text) or {}
        facts = json.loads(environment.read_text(encoding="utf-8")) if environment.is_file() else {}
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{exp}: config.yaml or env.json is damaged ({error}); run stage 3 again (--stage 3)"
        ) from None
    trained = read_marker(exp / ".done.train")
    facts = {"data": trained["source"], **facts} if trained else facts
    rows = Rows([row for row in read if row.get("system", "") in ("", FLOW)])
    others = {row["system"]: [] for row in read if row.get("system", "") not in ("", FLOW)}
    for row in read:
        others.get(row.get("system", ""), []).append(row)
    all_detection = Rows([row for row in read if is_detection(row["metric"])])
    rows.left = [row for row in rows.left if not is_detection(row["metric"])]
    seed = {"seed": config["seed"]} if "seed" in config else {}
    head = [
        [str(key), value if isinstance(value, str) else json.dumps(value)] for key, value in {**seed, **facts}.items()
    ]
    controls = (config.get("data") or {}).get("controls") or {}
    resamples = (config.get("report") or {}).get("bootstrap", 1000)
    sections = [
        accuracy(rows, controls),
        *detection(all_detection, controls, warning_lines(read, controls), resamples),
        certainty(rows),
        open_set_rows.section(rows),
        *information.sections(rows, exp),
        correlations(rows),
        *confusions(rows),
        densities(rows),
        gaussianity(rows),
        training(rows),
        *(section for name, own in others.items() for section in baseline(name, own, controls)),
        other(Rows([*rows.left, *all_detection.left])),
        pictures(exp / "plots"),
        Section("How to read this", Html("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in READING) + "</ul>")),
        Section("Settings", Html(f"<pre>{escape(config_text)}</pre>") if config_text else Html("")),
        Section("Run", table(["", ""], head, keys=1) if head else Html("")),
    ]
    return document(exp.resolve().name, facts_line({**seed, **facts}), [s for s in sections if s.html])


def facts_line(facts: dict) -> str:
    """The few facts that stand under the title."""
    wanted = ("data", "git", "seed", "device_name", "train_seconds")
    return ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in wanted if facts.get(name) not in (None, ""))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("exp", type=Path, help="experiment folder with results.tsv")
    args = parser.parse_args(argv)
    path = args.exp / "report.html"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page(args.exp), encoding="utf-8")
    os.replace(temporary, path)
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    entry.run(main)
