"""Stage 8: every figure of an experiment in results.tsv and results.txt; and all experiments of a folder side by side.

``python3 -m dnf.results exp/NAME`` writes both files, whole; ``python3 -m dnf.results exp`` compares what is below
``exp``.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from dnf import entry, information, open_set_rows
from dnf.cells import GAP, ends, few, gap_text, share_cell
from dnf.compare import experiments, system_lines
from dnf.config import Config
from dnf.decide import COLUMNS
from dnf.detection_lines import detection_lines, warning_lines
from dnf.sets import name_of
from dnf.settings import Data
from dnf.stage import STAGES, read_marker
from dnf.systems import FLOW
from dnf.tables import read_tsv, write_tsv

log = logging.getLogger(__name__)

GAUSSIANITY = ("skew", "kurt", "skew_within", "kurt_within", "mardia_kurt_z", "mardia_skew_p", "mardia_kurt_p")


def collect(exp: Path) -> list[dict]:
    """All figures of an experiment as rows of ``results.tsv``; none depends on the clock or the load of the machine."""
    for name, number in (("accuracy.tsv", 7), ("gaussianity.tsv", 4), ("agreement.json", 4), ("training.json", 3)):
        if not (exp / name).is_file():
            raise ValueError(f"{exp / name}: not there; run stage {number}")
    rows = read_tsv(exp / "accuracy.tsv")
    for path in sorted(exp.glob("scores/*/densities.tsv")):
        for row in read_tsv(path):
            figures = {name: row[name] for name in ("loglik", "logp", "logdet")} | {
                "nll": f"{-float(row['loglik']):.6f}"
            }
            rows += [
                {"system": FLOW, "metric": name, "set": path.parent.name, "class": row["class"]}
                | {"value": value, "total": row["frames"]}
                for name, value in figures.items()
            ]
    for row in read_tsv(exp / "gaussianity.tsv"):
        rows += [
            {
                "system": FLOW,
                "metric": f"{name}_{row['part']}",
                "set": row["set"],
                "class": row["classes"],
                "value": row[name],
                "total": row["frames"],
            }
            for name in GAUSSIANITY
            if row[name]
        ]
    rows += information.fisher_summary(exp)
    agreement = json.loads((exp / "agreement.json").read_text(encoding="utf-8"))
    rows += [
        {"metric": f"training_{name}", "value": f"{agreement[f'training_{name}']:.6f}", "total": agreement["frames"]}
        for name in ("nll", "logp", "logdet")
    ]
    rows.append(
        {"metric": "train_eval_difference", "value": f"{agreement['difference']:.6f}", "total": agreement["frames"]}
    )
    rows += [
        {"metric": name, "value": value}
        for name, value in json.loads((exp / "training.json").read_text(encoding="utf-8")).items()
    ]
    return [{column: str(row.get(column, "")) for column in COLUMNS} for row in rows]


def accuracy_lines(rows: list[dict], controls: dict[str, str]) -> list[str]:
    """One accuracy a line; where a set has a control, the same class of the control stands on the same line."""
    found = {(r["metric"], r["set"], r["class"]): r for r in rows if r["metric"] in ("frame_accuracy", "utt_accuracy")}
    gaps = {(r["metric"], r["set"], r["class"]): r for r in rows if r["metric"].endswith(GAP)}
    lines = []
    for (metric, name, true), row in found.items():
        if true == "all" and sum(key[:2] == (metric, name) for key in found) == 2:
            continue
        line = f"{metric} {name} {true} {share_cell(row)}"
        control = found.get((metric, controls.get(name), true))
        if control and true != "all":
            line += f" | control {control['set']} {share_cell(control)}"
            apart = gap_text(gaps.get((metric + GAP, name, true)))
            line += f" | {apart}" if apart else ""
        lines.append(line)
    return lines


def share_lines(rows: list[dict], model_classes: set[str]) -> list[str]:
    """How sets of classes the model does not know were decided."""
    return [
        f"{r['metric']} {r['set']} {r['class']} (unseen) decided {r['decided']} {share_cell(r)}"
        for r in rows
        if r["metric"].endswith("_share") and r["class"] not in model_classes
    ]


def duration_lines(rows: list[dict], data: Data) -> list[str]:
    """For every set that views cut to pieces: accuracy of the pieces, shortest first, and of whole utterances."""
    found = {(r["set"], r["class"]): r for r in rows if r["metric"] == "utt_accuracy"}
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
        for true in dict.fromkeys(c for name, c in found if name in [view for _, view in views] and c != "all"):
            cells = [
                f"{seconds:g} s {share_cell(found[name, true])}"
                for seconds, name in sorted(views)
                if (name, true) in found
            ]
            cells += [f"whole {share_cell(found[whole, true])}"] if (whole, true) in found else []
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
        for r in (r for r in rows if r["metric"] == f"{level}_pearson"):
            same = next((o for o in rows if o["metric"] == f"{level}_spearman" and o["set"] == r["set"]), None)
            cells = [
                f"{name} {float(row['value']):.4f} ({ends(row)})"
                for name, row in (("pearson", r), ("spearman", same))
                if row
            ]
            lines.append(
                f"correlation {level} {r['set']} {r['class']} llr of {r['decided']} {' '.join(cells)} [ {r['total']} points, {r['speakers']} speakers{few(r)} ]"
            )
    return lines


def training_line(rows: list[dict], name: str) -> list[str]:
    """The densities of a sample of training frames when training took them, the model in training mode."""
    m = {r["metric"]: r for r in rows if r["metric"] in ("training_nll", "training_logp", "training_logdet")}
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
            cells = "  ".join(f"{c} {decided[c]}" for c in model_classes)
            lines.append(f"confusion {unit} {name} {true} -> {cells}")
    return lines


def density_lines(rows: list[dict]) -> list[str]:
    table: dict[tuple[str, str], dict[str, dict]] = {}
    for r in rows:
        if r["metric"] in ("loglik", "logp", "logdet", "nll"):
            table.setdefault((r["set"], r["class"]), {})[r["metric"]] = r
    return [
        f"density {name} {true} LogLL {float(m['loglik']['value']):.3f} LogP {float(m['logp']['value']):.3f} "
        f"LogDet {float(m['logdet']['value']):.3f} NLL {float(m['nll']['value']):.3f} [ {m['loglik']['total']} frames ]"
        for (name, true), m in table.items()
        if true != "all" or sum(key[0] == name for key in table) > 2
    ]


def gaussianity_lines(exp: Path) -> list[str]:
    lines = []
    for r in read_tsv(exp / "gaussianity.tsv"):
        test = (
            f"Mardia kurtosis z {float(r['mardia_kurt_z']):.1f} p {r['mardia_kurt_p']} skewness p {r['mardia_skew_p']} [ {r['mardia_frames']} frames ]"
            if r["mardia_kurt_z"]
            else "Mardia not tested: too few frames for the dims"
        )
        lines.append(
            f"gaussianity {r['set']} {r['classes']} {r['part']}{r['dim']} skew {float(r['skew']):.5f} kurt {float(r['kurt']):.5f} "
            f"within-class skew {float(r['skew_within']):.5f} kurt {float(r['kurt_within']):.5f} | {test}"
        )
    return lines


def header(exp: Path, config: Config) -> list[str]:
    """What was run, on what, and how long it took; the only part of results.txt that differs between two equal runs."""
    environment = json.loads((exp / "env.json").read_text(encoding="utf-8"))
    markers = {name: read_marker(exp / f".done.{name}") for name, stage in STAGES.items() if stage.place == "exp"}
    seconds = " ".join(f"{name} {marker['seconds']}" for name, marker in markers.items() if marker)
    train = markers["train"] or {"source": "unknown", "key": "unknown"}
    facts = [environment["device_name"], f"{environment['threads']} threads", environment.get("precision", "float32")]
    facts += ["compiled"] if environment.get("compiled") else []
    return [
        f"# {train['source']}  experiment {exp}  seed {config.seed}  settings {train['key']}",
        f"# git {environment['git']}  torch {environment['torch']}  lhotse {environment['lhotse']}",
        f"# device {environment['device']} ({', '.join(facts)})  seconds: {seconds}",
        *(f"# left out: {row['set']}: {row['reason']}" for row in read_tsv(exp / "left_out.tsv")),
    ]


def text(exp: Path, rows: list[dict], config: Config) -> str:
    """``results.txt``: one figure a line, each with its counts, so that ``grep`` and ``sort`` can read it."""
    every_system, rows = rows, [row for row in rows if row["system"] in ("", FLOW)]
    model_classes = sorted({r["decided"] for r in rows if r["metric"] == "utt_share"})
    single = {r["metric"]: r["value"] for r in rows if not r["set"]}
    count = next(r["total"] for r in rows if r["metric"] == "train_eval_difference")
    accuracy = (
        accuracy_lines(rows, config.data.controls)
        if model_classes
        else ["# this flow knows no classes: it gives densities and decides nothing"]
    )
    blocks = {
        "accuracy: share decided as the true class by likelihood, as in the notes; 95% interval over speakers "
        "(Korn & Graubard)": accuracy,
        "all systems side by side, on the same frames and utterances; utt_accuracy and frame_accuracy by likelihood, as in "
        "the notes, utt_accuracy_calibrated by posterior under calibrate.priors": system_lines(every_system),
        "calibration and detection: Cllr in bits, lower is better (two classes: 1 says nothing), on dev with each speaker left out of the "
        "fit; AUC, EER and minDCF of the mean log-likelihood ratio per frame, auc_duration of the number of frames alone; "
        "utt_accuracy_calibrated: by posterior under calibrate.priors": [
            *detection_lines(exp, every_system, config),
            *warning_lines(every_system, config.data.controls),
        ],
        "shares decided for classes the model has not seen": share_lines(rows, set(model_classes))
        if model_classes
        else [],
        "accuracy of utterances against their duration": duration_lines(rows, config.data),
        "open set: none of the model's classes; AUC of unseen classes, and shares flagged": open_set_rows.lines(rows),
        "accuracy of recordings of so many seconds, normalized by themselves, by likelihood (durations.tsv)": information.lines(
            rows
        ),
        "by speaker (all of them in speakers.tsv) and by expert score": information.table_lines(exp),
        f"near-ties: margin below {config.decide.near_tie:g} standard errors; accuracy of the other utterances": near_tie_lines(
            rows
        ),
        "correlation of the utterances' log-likelihood ratio with expert scores, 95% interval by bootstrap over speakers": correlation_lines(
            rows
        ),
        "confusion: true class -> decided": confusion_lines(rows, model_classes) if model_classes else [],
        "mean log densities in nats per frame; LogLL = LogP + LogDet, the notes print NLL as LogLL (loss)": [
            *training_line(rows, name_of(config.data, "train")),
            *density_lines(rows),
        ],
        "Gaussianity: mean over dims of skewness and excess kurtosis, pooled as in the notes and within class": gaussianity_lines(
            exp
        ),
        "Fisher ratio: variance of the class means over variance within class, mean over dims; x is the input": information.fisher_lines(
            rows
        ),
        "training": [
            f"train_eval_difference {float(single['train_eval_difference']):.6f} nats per frame [ {count} frames ]",
            *(
                f"{name} {single[name]}"
                for name in ("parameters", "frames", "steps", "best_step", "spikes", "restores")
            ),
        ],
    }
    lines = header(exp, config)
    for title, body in blocks.items():
        if body:
            lines += ["", f"# {title}", *body]
    return "\n".join(lines) + "\n"


def write(exp: Path) -> None:
    """Write results.tsv and results.txt of an experiment, whole."""
    config, rows = Config.load(exp / "config.yaml"), collect(exp)
    write_tsv(exp / "results.tsv", rows, COLUMNS)
    temporary = exp / "results.txt.tmp"
    temporary.write_text(text(exp, rows, config), encoding="utf-8")
    temporary.replace(exp / "results.txt")
    log.info("%s", exp / "results.txt")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.results", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="an experiment to write results of, or the folder of all to compare")
    args = parser.parse_args(argv)
    if (args.folder / "config.yaml").is_file():
        write(args.folder)
    else:
        print(experiments(args.folder))
    return 0


if __name__ == "__main__":
    entry.run(main)
