"""Lines of results.txt on calibration and detection: systems on sets, controls on the same lines, and warnings."""

from __future__ import annotations

from pathlib import Path

from dnf.decisions.calibration import Calibration
from dnf.experiment.config import Config
from dnf.experiment.layout import CALIBRATION_JSON, FLOW, systems
from dnf.experiment.sets import name_of
from dnf.metrics.figure_rows import p_text
from dnf.metrics.figures import CONTROL, GAP, MOST_NAMED, is_difference, shown
from dnf.report.cells import cell, gap_text, share_cell


def calibrations(exp: Path) -> dict[str, Calibration | None]:
    """The calibration of each system; None for a system without one."""
    paths = {name: folder / CALIBRATION_JSON for name, folder in systems(exp).items()}
    return {name: Calibration.load(path) if path.is_file() else None for name, path in paths.items()}


def silent_systems(exp: Path) -> list[str]:
    """Systems whose calibration carries no information."""
    return [name for name, made in calibrations(exp).items() if made and made.slope == 0]


def calibration_lines(exp: Path, config: Config) -> list[str]:
    """What each system's calibration is, or that it has none."""
    lines = []
    for name, made in calibrations(exp).items():
        if made is None:
            why = "dev lacks a class" if config.calibrate.enabled else "calibrate.enabled is false"
            lines.append(f"calibration {name} none: {why}; its scores rank utterances, but are no probabilities")
            continue
        if made.slope == 0:
            lines.append(f"calibration {name} carries no information: its scores do not separate the classes of dev")
            continue
        half = (
            "all durations have the same weight"
            if made.half is None
            else f"half weight at {made.half:.1f} effective frames"
        )
        counts, offsets = calibration_classes(made)
        lines.append(f"calibration {name} slope {made.slope:.3f} offsets {offsets} {half} [ dev: {counts} ]")
    return lines


def calibration_classes(made: Calibration) -> tuple[str, str]:
    """What a calibration was fitted on and its offsets, by class; of many classes how many, and how far they go."""
    if len(made.classes) > MOST_NAMED:
        utterances, speakers = sum(made.utterances.values()), sum(made.speakers.values())
        counts = f"{len(made.classes)} classes, {utterances} utterances of {speakers} speakers"
        return counts, f"{min(made.offsets):.3f} to {max(made.offsets):.3f}"
    counts = ", ".join(f"{c} {made.utterances[c]} utterances of {made.speakers[c]} speakers" for c in made.classes)
    return counts, " ".join(f"{c} {offset:.3f}" for c, offset in zip(made.classes, made.offsets))


def detection_lines(exp: Path, rows: list[dict], config: Config) -> list[str]:
    """Figures of the flow on each set and pair of classes, with those of the control; then its differences from others.

    Those of the other systems stand side by side with the flow's in ``dnf.report.side_by_side.system_lines``.
    """
    measures = shown("detection")
    if not any(row["metric"] in measures for row in rows):
        return []
    controls = config.data.controls
    return [
        *calibration_lines(exp, config),
        *measure_lines(rows, measures, controls),
        *calibrated_accuracy_lines(rows, controls),
        *difference_lines(rows, config),
    ]


def measure_lines(rows: list[dict], measures: list[str], controls: dict[str, str]) -> list[str]:
    """A line for each measure, set and pair of classes; after it the same with the control, and the difference."""
    by_place = {(row["metric"], row["set"], row["class"]): row for row in rows if row["system"] == FLOW}
    places = dict.fromkeys(
        (row["set"], row["class"]) for row in rows if row["metric"].removesuffix(CONTROL) in measures
    )
    lines = []
    for metric in measures:
        for name, classes in places:
            row, beside, gap = (by_place.get((metric + ending, name, classes)) for ending in ("", CONTROL, GAP))
            parts = [cell(row)] if row else []
            parts += [f"control {controls.get(name, '')} {cell(beside)}"] if beside else []
            parts += [gap_text(gap)] if gap else []
            lines += [f"{metric} {name} {classes} {FLOW} {' | '.join(parts)}"] if parts else []
    return lines


def calibrated_accuracy_lines(rows: list[dict], controls: dict[str, str]) -> list[str]:
    """Accuracy of calibrated decisions; after it that of the control, and the difference."""
    metric = "utt_accuracy_calibrated"
    by_place = {(row["metric"], row["set"], row["class"]): row for row in rows if row["system"] == FLOW}
    lines = []
    for (of_metric, name, true), row in by_place.items():
        if of_metric == metric:
            parts = [f"{metric} {name} {true} {FLOW} {share_cell(row)}"]
            beside, gap = by_place.get((metric, controls.get(name, ""), true)), by_place.get((metric + GAP, name, true))
            parts += [f"control {beside['set']} {share_cell(beside)}"] if beside and true != "all" else []
            parts += [gap_text(gap)] if gap else []
            lines.append(" | ".join(parts))
    return lines


def difference_lines(rows: list[dict], config: Config) -> list[str]:
    """The flow minus each other system on the same utterances; without a p-value on dev, which models are fitted on."""
    train, dev = (name_of(config.data, role) for role in ("train", "dev"))
    lines = []
    for row in rows:
        if is_difference(row["metric"]) and row["set"] != train:
            p = "" if row["set"] == dev else p_text(row["p"], row["metric"], config.report.bootstrap)
            place = f"{row['metric']} {row['set']} {row['class']} flow minus {row['system']}"
            lines.append(f"{place} {cell(row)} {p}".rstrip())
    return lines


def warning_lines(rows: list[dict], controls: dict[str, str]) -> list[str]:
    """A warning for each difference between a set and its control whose interval leaves 0 out."""
    by_place = {(r["metric"], r["set"], r["class"], r.get("system", "")): r for r in rows}
    lines = []
    for (metric, name, classes, system), row in by_place.items():
        if not metric.endswith(GAP) or not row["low"] or float(row["low"]) <= 0 <= float(row["high"]):
            continue
        metric, control = metric.removesuffix(GAP), controls.get(name, "")
        figure = by_place.get((metric, name, classes, system))
        beside = by_place.get((metric + CONTROL, name, classes, system))
        beside = beside or by_place.get((metric, control, classes, system))
        if figure and beside:
            figures = f"{float(figure['value']):.4f}, with control {control} {float(beside['value']):.4f}"
            lines.append(
                f"warning: {metric} {name} {classes} {system} {figures}: "
                f"{gap_text(row)} leaves 0 out: the channel may explain it"
            )
    return lines
