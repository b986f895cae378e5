"""Lines of ``results.txt``: one figure each, with its counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dnf.experiment.layout import STAGES, done_marker
from dnf.experiment.markers import read_marker
from dnf.experiment.settings import DataSettings
from dnf.metrics.figures import GAP, KNOWN, METRICS, MOST_CLASSES, class_names, shown
from dnf.report.cells import cell, ends, few, gap_text, share_cell


def stage_seconds(exp: Path) -> str:
    """The seconds that each stage of an experiment took, as ``train 55.7 latents 92.3``."""
    markers = {name: read_marker(done_marker(exp, name)) for name, stage in STAGES.items() if stage.place == "exp"}
    return " ".join(f"{name} {marker['seconds']}" for name, marker in markers.items() if marker)


def seconds_lines(rows: list[dict]) -> list[str]:
    """Accuracy of recordings of so many seconds, decided by likelihood, a line for each set and class."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for r in (r for r in rows if r["metric"] == "duration_accuracy"):
        ends = f"{float(r['low']):.4f}-{float(r['high']):.4f}" if r["low"] else "no interval"
        counts = f"[ {r['total']} of {r['speakers']} speakers ]"
        cell = f"{r['decided'].removesuffix('s')} s {float(r['value']):.4f} ({ends}) {counts}"
        by_place.setdefault((r["set"], r["class"]), []).append(cell)
    return [f"seconds {name} {true} {' | '.join(cells)}" for (name, true), cells in by_place.items()]


def speaker_lines(of_speakers: list[dict], by_score: list[dict]) -> list[str]:
    """Each set's and class's speakers of lowest, middle and highest accuracy, and figures by expert score.

    More than ``MOST_CLASSES`` classes are taken together.

    Args:
        of_speakers: rows of speakers.tsv.
        by_score: rows of by_score.tsv.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    many = len({row["class"] for row in of_speakers}) > MOST_CLASSES
    for row in of_speakers:
        if row["accuracy"]:
            groups.setdefault((row["set"], "all" if many else row["class"]), []).append(row)
    lines = []
    for (name, true), speakers in groups.items():
        speakers = sorted(speakers, key=lambda row: (float(row["accuracy"]), row["speaker"]))
        lowest, highest = (row["accuracy"] for row in (speakers[0], speakers[-1]))
        if lowest == highest and len(speakers) > 1:
            lines.append(f"speakers {name} {true} all {len(speakers)} speakers {float(lowest):.4f}")
            continue
        cells = (
            f"{word} {float(row['accuracy']):.4f} ({row['speaker']}, llr {float(row['llr_mean']):.3f})"
            for word, row in (
                ("lowest", speakers[0]),
                ("median", speakers[len(speakers) // 2]),
                ("highest", speakers[-1]),
            )
        )
        lines.append(f"speakers {name} {true} {' | '.join(cells)} [ {len(speakers)} speakers ]")
    for row in by_score:
        accuracy = f"accuracy {float(row['accuracy']):.4f} " if row["accuracy"] else ""
        counts = f"{row['utterances']} utterances, {row['speakers']} speakers"
        lines.append(
            f"score {row['set']} {row['class']} {row['score']} {accuracy}llr {float(row['llr_mean']):.4f} [ {counts} ]"
        )
    return lines


def fisher_lines(rows: list[dict]) -> list[str]:
    """Mean Fisher ratio of each part and what the top tenth of its dims has of the sum."""
    top = {(r["set"], r["class"], r["metric"]): r["value"] for r in rows if r["metric"].startswith("fisher_top_")}
    lines = []
    for r in rows:
        part = r["metric"].removeprefix("fisher_")
        if r["metric"].startswith("fisher_") and not part.startswith("top_"):
            share = float(top[r["set"], r["class"], f"fisher_top_{part}"])
            lines.append(
                f"fisher {r['set']} {r['class']} {part}{r['total']} mean {float(r['value']):.3g} "
                f"| top tenth of the dims {share:.3f} of the sum"
            )
    return lines


def open_set_lines(rows: list[dict]) -> list[str]:
    """Rows of ``results.tsv`` as lines of ``results.txt``."""
    lines, others = [], shown("open set")
    for r in rows:
        if r["metric"] == "open_set_auc":
            against = f"known classes of {r['decided']}" if r["decided"] != KNOWN else "known classes of all test sets"
            counts = f"{r['count']} against {int(r['total']) - int(r['count'])}"
            mark = few(r)
            name = f"open_set_auc {r['set']} {r['class']} (unseen) against {against}"
        elif r["metric"] in others:
            name = f"{r['metric']} {r['set']} {r['class']}" + (
                " (unseen)" if r["metric"] == "open_set_detected" else ""
            )
            counts, mark = f"{r['count']} / {r['total']}", ""
        else:
            continue
        lines.append(f"{name} {float(r['value']):.4f} [ {counts}, {ends(r)}, {r['speakers']} speakers{mark} ]")
    return lines


def accuracy_lines(rows: list[dict], controls: dict[str, str]) -> list[str]:
    """One accuracy a line; where a set has a control, the same class of the control stands on the same line."""
    by_place = {
        (r["metric"], r["set"], r["class"]): r for r in rows if r["metric"] in ("frame_accuracy", "utt_accuracy")
    }
    gaps = {(r["metric"], r["set"], r["class"]): r for r in rows if r["metric"].endswith(GAP)}
    places = Counter((metric, name) for metric, name, _ in by_place)
    lines = []
    for (metric, name, true), row in by_place.items():
        if true == "all" and places[metric, name] == 2:
            continue
        line = f"{metric} {name} {true} {share_cell(row)}"
        control = by_place.get((metric, controls.get(name), true))
        if control and true != "all":
            line += f" | control {control['set']} {share_cell(control)}"
            apart = gap_text(gaps.get((metric + GAP, name, true)))
            line += f" | {apart}" if apart else ""
        lines.append(line)
    return lines


def unseen_lines(rows: list[dict]) -> list[str]:
    """How far the log-likelihood ratio separates each known class from classes the model does not know."""
    return [
        f"auc_unseen {r['set']} {r['class']} (unseen) against {r['decided']} {cell(r)}"
        for r in rows
        if r["metric"] == "auc_unseen"
    ]


def doubt_lines(rows: list[dict]) -> list[str]:
    """Whether each test set is like training, from rows of doubt.tsv."""
    return [
        f"{row['verdict']} {row['set']} {float(row['errors']):.2f} standard errors from training (limit {float(row['limit']):.2f}) "
        f"[ {row['recordings']} recordings, {row['speakers']} speakers ], foreign recordings {float(row['foreign']):.4f}, "
        f"mean factor {float(row['factor']):.2f}" + (f": {row['unlike']}" if row["unlike"] else "")
        for row in rows
    ]


def corpus_lines(rows: list[dict], train: str) -> list[str]:
    """Accuracy of each class and corpus of the sets that have several, from rows of by_corpus.tsv.

    The first line says so if each class of ``train`` has one corpus of its own.
    """
    corpora: dict[str, set[str]] = {}
    for row in rows:
        corpora.setdefault(row["set"], set()).add(row["corpus"])
    pairs = [(row["class"], row["corpus"]) for row in rows if row["set"] == train and row["accuracy"]]
    lines = []
    if len(pairs) > 1 and all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1)):
        which = ", ".join(f"{name} of {corpus}" for name, corpus in pairs)
        lines.append(f"# class and corpus cannot be separated here: each class of {train} has one corpus ({which})")
    return lines + [
        f"corpus {row['set']} {row['class']} {row['corpus']} accuracy {float(row['accuracy']):.4f} "
        f"[ {row['utterances']} utterances, 95% {row['low']}-{row['high']}, {row['speakers']} speakers ]"
        for row in rows
        if row["accuracy"] and len(corpora[row["set"]]) > 1
    ]


def share_lines(rows: list[dict], model_classes: set[str]) -> list[str]:
    """How sets of classes the model does not know were decided."""
    return [
        f"{r['metric']} {r['set']} {r['class']} (unseen) decided {r['decided']} {share_cell(r)}"
        for r in rows
        if r["metric"].endswith("_share") and r["class"] not in model_classes
    ]


def duration_lines(rows: list[dict], data: DataSettings) -> list[str]:
    """For every set that views cut to pieces: accuracy of the pieces, shortest first, and of whole utterances."""
    by_place = {(r["set"], r["class"]): r for r in rows if r["metric"] == "utt_accuracy"}
    cuts: dict[tuple[str, ...], list[tuple[float, str]]] = {}
    for name, view in data.views.items():
        if view.seconds:
            cuts.setdefault(tuple(view.sets), []).append((view.seconds, name))
    lines = []
    for sets, views in cuts.items():
        whole = (
            sets[0]
            if len(sets) == 1
            else next((n for n, v in data.views.items() if tuple(v.sets) == sets and not v.seconds), "")
        )
        for true in dict.fromkeys(c for name, c in by_place if name in [view for _, view in views] and c != "all"):
            cells = [
                f"{seconds:g} s {share_cell(by_place[name, true])}"
                for seconds, name in sorted(views)
                if (name, true) in by_place
            ]
            cells += [f"whole {share_cell(by_place[whole, true])}"] if (whole, true) in by_place else []
            lines.append(f"duration {'+'.join(sets)} {true} {' | '.join(cells)}")
    return lines


def near_tie_lines(rows: list[dict]) -> list[str]:
    """Share of near-ties, and the accuracy without them."""
    clear = {(r["set"], r["class"]): r for r in rows if r["metric"] == "utt_accuracy_clear"}
    lines = []
    for r in rows:
        if r["metric"] == "near_ties" and r["class"] != "all":
            other = clear.get((r["set"], r["class"]))
            lines.append(
                f"near_ties {r['set']} {r['class']} {share_cell(r)} | others {share_cell(other) if other else 'none'}"
            )
    return lines


def correlation_lines(rows: list[dict]) -> list[str]:
    """Pearson and Spearman on one line for each set and level."""
    lines = []
    for level in ("utt", "speaker"):
        spearman = {r["set"]: r for r in rows if r["metric"] == f"{level}_spearman"}
        for r in (r for r in rows if r["metric"] == f"{level}_pearson"):
            same = spearman.get(r["set"])
            cells = [
                f"{name} {float(row['value']):.4f} ({ends(row)})"
                for name, row in (("pearson", r), ("spearman", same))
                if row
            ]
            lines.append(
                f"correlation {level} {r['set']} {r['class']} llr of {r['decided']} {' '.join(cells)} [ {r['total']} points, {r['speakers']} speakers{few(r)} ]"
            )
    return lines


def assess_lines(rows: list[dict], deciles: list[dict]) -> list[str]:
    """How well each predictor predicts expert scores, a line for each set and level; then the experts, and the deciles.

    Args:
        rows: of results.tsv.
        deciles: of deciles.tsv.
    """
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in (row for row in rows if row["metric"].startswith("assess_")):
        level, _, metric = row["metric"].removeprefix("assess_").partition("_")
        level, metric = (f"{level}_{metric}", "") if level == "partial" and metric else (level, metric)
        place = (
            (level, row["set"], row["class"], row["decided"])
            if metric
            else ("", row["set"], row["class"], row["decided"])
        )
        groups.setdefault(place, []).append(row | {"name": metric or level})
    lines = []
    for place, cells in groups.items():
        figures = " ".join(f"{row['name']} {float(row['value']):.4f} ({ends(row)})" for row in cells)
        first = cells[0]
        counts = f"[ {first['total']} points, {first['speakers']} speakers{few(first)} ]"
        lines.append(f"assess {' '.join(filter(None, place))} {figures} {counts}")
    means: dict[tuple[str, str], list[str]] = {}
    for row in deciles:
        cell = f"{float(row['predicted']):.2f} {float(row['score']):.2f}"
        means.setdefault((row["set"], row["class"]), []).append(cell)
    return lines + [f"deciles {' '.join(place)} predicted expert {' | '.join(cells)}" for place, cells in means.items()]


def training_line(rows: list[dict], name: str) -> list[str]:
    """Densities of a sample of training frames, with the model in training mode; none of a fused system."""
    m = {r["metric"]: r for r in rows if r["metric"] in ("training_nll", "training_logp", "training_logdet")}
    if not m:
        return []
    values = {key: float(row["value"]) for key, row in m.items()}
    return [
        f"density {name} (in training mode) LogLL {-values['training_nll']:.3f} LogP {values['training_logp']:.3f} "
        f"LogDet {values['training_logdet']:.3f} NLL {values['training_nll']:.3f} [ {m['training_nll']['total']} frames, sampled ]"
    ]


def confusion_lines(rows: list[dict], model_classes: list[str]) -> list[str]:
    """True class by decided class, counts of utterances and of frames."""
    lines = []
    for metric, unit in (("utt_share", "utterances"), ("frame_share", "frames")):
        counts: dict[tuple[str, str], dict[str, str]] = {}
        for r in rows:
            if r["metric"] == metric:
                counts.setdefault((r["set"], r["class"]), {})[r["decided"]] = r["count"]
        for (name, true), decided in counts.items():
            cells = "  ".join(f"{c} {decided[c]}" for c in model_classes if c in decided)
            lines.append(f"confusion {unit} {name} {true} -> {cells}")
    return lines


def density_lines(rows: list[dict]) -> list[str]:
    """Mean log densities of each set and class, a line each."""
    metrics = shown("likelihood")
    table: dict[tuple[str, str], dict[str, dict]] = {}
    for row in rows:
        if row["metric"] in metrics:
            table.setdefault((row["set"], row["class"]), {})[row["metric"]] = row
    places = Counter(name for name, _ in table)
    lines = []
    for (name, true), by_metric in table.items():
        if true != "all" or places[name] != 2:
            figures = " ".join(
                f"{METRICS[m].title} {float(by_metric[m]['value']):.{METRICS[m].digits}f}" for m in metrics
            )
            lines.append(f"density {name} {true} {figures} [ {by_metric['loglik']['total']} frames ]")
    return lines


def gaussianity_lines(shapes: list[dict]) -> list[str]:
    """Rows of gaussianity.tsv: skewness and kurtosis of latents, and Mardia's test, by set, classes and part."""
    lines = []
    for r in shapes:
        test = "Mardia not tested: too few frames for the dims"
        if r["mardia_kurt_z"]:
            p_values = f"p {r['mardia_kurt_p']} skewness p {r['mardia_skew_p']}"
            test = f"Mardia kurtosis z {float(r['mardia_kurt_z']):.1f} {p_values} [ {r['mardia_frames']} frames ]"
        pooled, within = (
            f"skew {float(r['skew' + ending]):.5f} kurt {float(r['kurt' + ending]):.5f}" for ending in ("", "_within")
        )
        lines.append(
            f"gaussianity {r['set']} {class_names(r['classes'])} {r['part']}{r['dim']} {pooled} within-class {within} | {test}"
        )
    return lines


def autocorrelation_lines(rows: list[dict]) -> list[str]:
    """Rows of autocorrelation.tsv: a line per set, classes and part, with all lags."""
    by_part: dict[tuple[str, str, str], list[dict]] = {}
    for r in rows:
        by_part.setdefault((r["set"], class_names(r["classes"]), r["part"] + r["dim"]), []).append(r)
    lines = []
    for place, of_lags in by_part.items():
        figures = " ".join(f"lag {r['lag']} {float(r['autocorrelation']):.4f}" for r in of_lags)
        lines.append(
            f"autocorrelation {' '.join(place)} {figures} [ {of_lags[0]['pairs']} pairs at lag {of_lags[0]['lag']} ]"
        )
    return lines


def training_lines(rows: list[dict]) -> list[str]:
    """How far training and evaluation agree, then what training did, as training.json has it; none of a fused system."""
    of_run = {row["metric"]: row for row in rows if row["metric"] in shown("training") and not row["set"]}
    if not of_run:
        return []
    agreement = of_run.pop("train_eval_difference")
    counts = [f"{name} {row['value']}" for name, row in of_run.items() if not name.startswith("training_")]
    difference = f"{float(agreement['value']):.6f} nats per frame"
    return [f"train_eval_difference {difference} [ {agreement['total']} frames ]", *counts]


def fusion_lines(rows: list[dict]) -> list[str]:
    """Weight of each system of a fusion."""
    return [f"fusion_weight {row['decided']} {row['value']}" for row in rows if row["metric"] == "fusion_weight"]
