"""Stage report: every figure of an experiment in results.tsv and results.txt; and all experiments of a folder side by side.

``python3 -m dnf results exp/NAME`` writes both files, whole; ``python3 -m dnf results exp`` compares what is below
``exp``.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from dnf.decisions import breakdowns
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    ACCURACY_TSV,
    AGREEMENT_JSON,
    CONFIG_YAML,
    DENSITIES_TSV,
    ENV_JSON,
    FLOW,
    GAUSSIANITY_TSV,
    LEFT_OUT_TSV,
    RESULTS_TSV,
    RESULTS_TXT,
    STAGES,
    TRAINING_JSON,
)
from dnf.experiment.sets import name_of
from dnf.experiment.stage import read_marker
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.report.compare import experiments, system_lines
from dnf.report.detection_lines import detection_lines, warning_lines
from dnf.report.lines import (
    accuracy_lines,
    confusion_lines,
    correlation_lines,
    density_lines,
    duration_lines,
    fisher_lines,
    gaussianity_lines,
    near_tie_lines,
    open_set_lines,
    seconds_lines,
    share_lines,
    table_lines,
    training_line,
)

log = logging.getLogger(__name__)

GAUSSIANITY = ("skew", "kurt", "skew_within", "kurt_within", "mardia_kurt_z", "mardia_skew_p", "mardia_kurt_p")


def collect(exp: Path) -> list[dict]:
    """All figures of an experiment as rows of ``results.tsv``; none depends on the clock or the load of the machine."""
    for name, number in ((ACCURACY_TSV, 7), (GAUSSIANITY_TSV, 4), (AGREEMENT_JSON, 4), (TRAINING_JSON, 3)):
        if not (exp / name).is_file():
            raise ValueError(f"{exp / name}: not there; run stage {number}")
    rows = read_tsv(exp / ACCURACY_TSV)
    for path in sorted(exp.glob(f"scores/*/{DENSITIES_TSV}")):
        for row in read_tsv(path):
            figures = {name: row[name] for name in ("loglik", "logp", "logdet")} | {
                "nll": f"{-float(row['loglik']):.6f}"
            }
            rows += [
                {"system": FLOW, "metric": name, "set": path.parent.name, "class": row["class"]}
                | {"value": value, "total": row["frames"]}
                for name, value in figures.items()
            ]
    for row in read_tsv(exp / GAUSSIANITY_TSV):
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
    rows += breakdowns.fisher_summary(exp)
    agreement = json.loads((exp / AGREEMENT_JSON).read_text(encoding="utf-8"))
    rows += [
        {"metric": f"training_{name}", "value": f"{agreement[f'training_{name}']:.6f}", "total": agreement["frames"]}
        for name in ("nll", "logp", "logdet")
    ]
    rows.append(
        {"metric": "train_eval_difference", "value": f"{agreement['difference']:.6f}", "total": agreement["frames"]}
    )
    rows += [
        {"metric": name, "value": value}
        for name, value in json.loads((exp / TRAINING_JSON).read_text(encoding="utf-8")).items()
    ]
    return [{column: str(row.get(column, "")) for column in COLUMNS} for row in rows]


def header(exp: Path, config: Config) -> list[str]:
    """What was run, on what, and how long it took; the only part of results.txt that differs between two equal runs."""
    environment = json.loads((exp / ENV_JSON).read_text(encoding="utf-8"))
    markers = {name: read_marker(exp / f".done.{name}") for name, stage in STAGES.items() if stage.place == "exp"}
    seconds = " ".join(f"{name} {marker['seconds']}" for name, marker in markers.items() if marker)
    train = markers["train"] or {"source": "unknown", "key": "unknown"}
    facts = [environment["device_name"], f"{environment['threads']} threads", environment.get("precision", "float32")]
    facts += ["compiled"] if environment.get("compiled") else []
    return [
        f"# {train['source']}  experiment {exp}  seed {config.seed}  settings {train['key']}",
        f"# git {environment['git']}  torch {environment['torch']}  lhotse {environment['lhotse']}",
        f"# device {environment['device']} ({', '.join(facts)})  seconds: {seconds}",
        *(f"# left out: {row['set']}: {row['reason']}" for row in read_tsv(exp / LEFT_OUT_TSV)),
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
        "open set: none of the model's classes; AUC of unseen classes, and shares flagged": open_set_lines(rows),
        "accuracy of recordings of so many seconds, normalized by themselves, by likelihood (durations.tsv)": seconds_lines(
            rows
        ),
        "by speaker (all of them in speakers.tsv) and by expert score": table_lines(exp),
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
        "Fisher ratio: variance of the class means over variance within class, mean over dims; x is the input": fisher_lines(
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
    config, rows = Config.load(exp / CONFIG_YAML), collect(exp)
    write_tsv(exp / RESULTS_TSV, rows, COLUMNS)
    temporary = exp / "results.txt.tmp"
    temporary.write_text(text(exp, rows, config), encoding="utf-8")
    temporary.replace(exp / RESULTS_TXT)
    log.info("%s", exp / RESULTS_TXT)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("folder", type=Path, help="an experiment to write results of, or the folder of all to compare")
    args = parser.parse_args(argv)
    if (args.folder / CONFIG_YAML).is_file():
        write(args.folder)
    else:
        print(experiments(args.folder))
    return 0


if __name__ == "__main__":
    entry.run(main)
