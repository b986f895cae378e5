"""Lines of results.txt on calibration and detection: systems on sets, controls on the same lines, and warnings."""

from __future__ import annotations

from pathlib import Path

from dnf.decisions.calibration import Calibration
from dnf.experiment.config import Config
from dnf.experiment.layout import CALIBRATION_JSON, FLOW, systems
from dnf.experiment.sets import name_of
from dnf.metrics.figure_rows import p_text
from dnf.report.cells import GAP, cell, gap_text, share_cell

MEASURES = ("auc", "auc_duration", "cllr", "cllr_left_out", "cllr_in_sample", "min_cllr", "eer", "min_dcf")


def calibration_lines(exp: Path, config: Config) -> list[str]:
    """What each system's calibration is, or that it has none."""
    lines = []
    for name, folder in systems(exp).items():
        path = folder / CALIBRATION_JSON
        if not path.is_file():
            why = "dev lacks a class" if config.calibrate.enabled else "calibrate.enabled is false"
            lines.append(f"calibration {name} none: {why}; its scores rank utterances and mean no probability")
            continue
        made = Calibration.load(path)
        if made.slope == 0:
            lines.append(f"calibration {name} says nothing: its scores do not tell dev's classes apart")
            continue
        half = "any duration weighs alike" if made.half is None else f"half weight at {made.half:.1f} effective frames"
        counts = ", ".join(f"{c} {made.utterances[c]} utterances of {made.speakers[c]} speakers" for c in made.classes)
        offsets = " ".join(f"{c} {offset:.3f}" for c, offset in zip(made.classes, made.offsets))
        lines.append(f"calibration {name} slope {made.slope:.3f} offsets {offsets} {half} [ dev: {counts} ]")
    return lines


def detection_lines(exp: Path, rows: list[dict], config: Config) -> list[str]:
    """Figures of the flow on each set and pair of classes, with those of the control; then its differences from others.

    Those of the other systems stand side by side with the flow's in ``dnf.report.compare.system_lines``.
    """
    found = {(r["metric"], r["set"], r["class"], r["system"]): r for r in rows}
    if not any(r["metric"] in MEASURES for r in rows):
        return []
    lines = calibration_lines(exp, config)
    places = dict.fromkeys((r["set"], r["class"]) for r in rows if r["metric"].removesuffix("_control") in MEASURES)
    for metric in MEASURES:
        for name, classes in places:
            row = found.get((metric, name, classes, FLOW))
            beside = found.get((f"{metric}_control", name, classes, FLOW))
            parts = [cell(row)] if row else []
            parts += [f"control {config.data.controls.get(name, '')} {cell(beside)}"] if beside else []
            parts += filter(None, [gap_text(found.get((metric + GAP, name, classes, FLOW)))])
            lines += [f"{metric} {name} {classes} {FLOW} {' | '.join(parts)}"] if parts else []
    for r in rows:
        if r["metric"] == "utt_accuracy_calibrated" and r["system"] == FLOW:
            row = found.get((r["metric"], config.data.controls.get(r["set"], ""), r["class"], r["system"]))
            beside = f" | control {row['set']} {share_cell(row)}" if row and r["class"] != "all" else ""
            apart = gap_text(found.get((r["metric"] + GAP, r["set"], r["class"], FLOW)))
            beside += f" | {apart}" if apart else ""
            lines.append(f"{r['metric']} {r['set']} {r['class']} {r['system']} {share_cell(r)}{beside}")
    for r in rows:
        if r["metric"].endswith("_difference") and r["system"] and r["set"] != name_of(config.data, "train"):
            p = "" if r["set"] == name_of(config.data, "dev") else p_text(r["p"], r["metric"], config.report.bootstrap)
            lines.append(f"{r['metric']} {r['set']} {r['class']} flow minus {r['system']} {cell(r)} {p}".rstrip())
    return lines


def warning_lines(rows: list[dict], controls: dict[str, str]) -> list[str]:
    """Where the interval of the difference between a figure of a set and that of its control leaves 0 out."""
    found = {(r["metric"], r["set"], r["class"], r.get("system", "")): r for r in rows}
    lines = []
    for (metric, name, classes, system), row in found.items():
        if not metric.endswith(GAP) or not row["low"] or float(row["low"]) <= 0 <= float(row["high"]):
            continue
        metric, control = metric.removesuffix(GAP), controls.get(name, "")
        figure = found.get((metric, name, classes, system))
        beside = found.get((f"{metric}_control", name, classes, system))
        beside = beside or found.get((metric, control, classes, system))
        if figure and beside:
            figures = f"{float(figure['value']):.4f}, with control {control} {float(beside['value']):.4f}"
            lines.append(
                f"warning: {metric} {name} {classes} {system} {figures}: "
                f"{gap_text(row)} leaves 0 out, so channels may be told apart"
            )
    return lines
