"""Stage report: every figure of an experiment in results.tsv and results.txt; and all experiments of a folder side by side.

``python3 -m dnf results exp/NAME`` writes both files, whole; ``python3 -m dnf results exp`` compares what is below
``exp``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dnf.decisions.breakdowns import fisher_summary
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.files import replace_file
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
    SCORES,
    STAGES,
    TRAINING_JSON,
    done_marker,
    run_stage,
)
from dnf.experiment.sets import name_of
from dnf.experiment.stage import read_marker
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import shown
from dnf.report import lines
from dnf.report.detection_lines import detection_lines, warning_lines
from dnf.report.shown_rows import left_out_line, shown_rows
from dnf.report.side_by_side import experiments, system_lines

log = logging.getLogger(__name__)

# ---- results.tsv ---------------------------------------------------------------------------------

WRITTEN_BY = {ACCURACY_TSV: "decide", GAUSSIANITY_TSV: "latents", AGREEMENT_JSON: "latents", TRAINING_JSON: "train"}


def accuracy_rows(exp: Path) -> list[dict]:
    """What stage decide found, of all systems."""
    return read_tsv(exp / ACCURACY_TSV)


def density_rows(exp: Path) -> list[dict]:
    """Mean log densities of the flow on each set and class."""
    rows = []
    for path in sorted(exp.glob(f"{SCORES}/*/{DENSITIES_TSV}")):
        for densities in read_tsv(path):
            place = {"system": FLOW, "set": path.parent.name, "class": densities["class"], "total": densities["frames"]}
            values = densities | {"nll": f"{-float(densities['loglik']):.6f}"}
            rows += [place | {"metric": metric, "value": values[metric]} for metric in shown("likelihood")]
    return rows


def gaussianity_rows(exp: Path) -> list[dict]:
    """Moments of the latents, and Mardia's test where there were frames enough."""
    rows = []
    for shapes in read_tsv(exp / GAUSSIANITY_TSV):
        place = {"system": FLOW, "set": shapes["set"], "class": shapes["classes"], "total": shapes["frames"]}
        for metric in shown("gaussianity"):
            if shapes[metric]:
                rows.append(place | {"metric": f"{metric}_{shapes['part']}", "value": shapes[metric]})
    return rows


def agreement_rows(exp: Path) -> list[dict]:
    """Densities of a sample of training frames in training mode, and how far evaluation is from them."""
    agreement = json.loads((exp / AGREEMENT_JSON).read_text(encoding="utf-8"))
    values = {f"training_{name}": agreement[f"training_{name}"] for name in ("nll", "logp", "logdet")}
    values["train_eval_difference"] = agreement["difference"]
    return [{"metric": name, "value": f"{value:.6f}", "total": agreement["frames"]} for name, value in values.items()]


def training_rows(exp: Path) -> list[dict]:
    """Counts of training."""
    counts = json.loads((exp / TRAINING_JSON).read_text(encoding="utf-8"))
    return [{"metric": name, "value": value} for name, value in counts.items()]


SOURCES = (accuracy_rows, density_rows, gaussianity_rows, fisher_summary, agreement_rows, training_rows)


def collect(exp: Path) -> list[dict]:
    """All figures of an experiment as rows of ``results.tsv``; none depends on the clock or the load of the machine.

    Raises:
        ValueError: a stage that some figures are from has not run.
    """
    for name, stage in WRITTEN_BY.items():
        if not (exp / name).is_file():
            raise ValueError(f"{exp / name}: not there; {run_stage(stage)}")
    rows = [row for rows_of in SOURCES for row in rows_of(exp)]
    return [{column: str(row.get(column, "")) for column in COLUMNS} for row in rows]


# ---- results.txt ---------------------------------------------------------------------------------


class Figures(NamedTuple):
    """What the blocks of results.txt are made from.

    Attributes:
        exp: folder of the experiment.
        config: its settings.
        all_systems: rows of results.tsv.
        rows: those of the flow.
        classes: those that the flow decides between; none for a flow that knows no classes.
    """

    exp: Path
    config: Config
    all_systems: list[dict]
    rows: list[dict]
    classes: list[str]

    @property
    def controls(self) -> dict[str, str]:
        return self.config.data.controls


def accuracy_block(figures: Figures) -> list[str]:
    if not figures.classes:
        return ["# this flow knows no classes: it gives densities and decides nothing"]
    return lines.accuracy_lines(figures.rows, figures.controls)


def detection_block(figures: Figures) -> list[str]:
    measured = detection_lines(figures.exp, figures.all_systems, figures.config)
    more = left_out_line(figures.exp) if measured else []
    return measured + warning_lines(figures.all_systems, figures.controls) + more


def unseen_block(figures: Figures) -> list[str]:
    return lines.share_lines(figures.rows, set(figures.classes)) if figures.classes else []


def confusion_block(figures: Figures) -> list[str]:
    return lines.confusion_lines(figures.rows, figures.classes) if figures.classes else []


def density_block(figures: Figures) -> list[str]:
    train = name_of(figures.config.data, "train")
    return lines.training_line(figures.rows, train) + lines.density_lines(figures.rows)


# Title, which may name settings, and lines; a block without lines is left out.
BLOCKS: list[tuple[str, Callable[[Figures], list[str]]]] = [
    (
        "accuracy: share decided as the true class by likelihood, as in the notes; 95% interval over speakers "
        "(Korn & Graubard)",
        accuracy_block,
    ),
    (
        "all systems side by side, on the same frames and utterances; utt_accuracy and frame_accuracy by likelihood, as "
        "in the notes, utt_accuracy_calibrated by posterior under calibrate.priors",
        lambda figures: system_lines(figures.all_systems),
    ),
    (
        "calibration and detection: Cllr in bits, lower is better (two classes: 1 says nothing), on dev with each "
        "speaker left out of the fit; AUC, EER and minDCF of the mean log-likelihood ratio per frame, auc_duration of "
        "the number of frames alone; utt_accuracy_calibrated: by posterior under calibrate.priors",
        detection_block,
    ),
    ("shares decided for classes the model has not seen", unseen_block),
    (
        "accuracy of utterances against their duration",
        lambda figures: lines.duration_lines(figures.rows, figures.config.data),
    ),
    (
        "open set: none of the model's classes; AUC of unseen classes, and shares flagged",
        lambda figures: lines.open_set_lines(figures.rows),
    ),
    (
        "accuracy of recordings of so many seconds, normalized by themselves, by likelihood (durations.tsv)",
        lambda figures: lines.seconds_lines(figures.rows),
    ),
    (
        "by speaker (all of them in speakers.tsv) and by expert score",
        lambda figures: lines.table_lines(figures.exp),
    ),
    (
        "near-ties: margin below {config.decide.near_tie:g} standard errors; accuracy of the other utterances",
        lambda figures: lines.near_tie_lines(figures.rows),
    ),
    (
        "correlation of the utterances' log-likelihood ratio with expert scores, 95% interval by bootstrap over "
        "speakers",
        lambda figures: lines.correlation_lines(figures.rows),
    ),
    ("confusion: true class -> decided", confusion_block),
    (
        "mean log densities in nats per frame; LogLL = LogP + LogDet, the notes print NLL as LogLL (loss)",
        density_block,
    ),
    (
        "Gaussianity: mean over dims of skewness and excess kurtosis, pooled as in the notes and within class",
        lambda figures: lines.gaussianity_lines(figures.exp),
    ),
    (
        "Fisher ratio: variance of the class means over variance within class, mean over dims; x is the input",
        lambda figures: lines.fisher_lines(figures.rows),
    ),
    ("training", lambda figures: lines.training_lines(figures.rows)),
]


def header(exp: Path, config: Config) -> list[str]:
    """What was run, on what, and how long it took; the only part of results.txt that differs between two equal runs."""
    environment = json.loads((exp / ENV_JSON).read_text(encoding="utf-8"))
    markers = {name: read_marker(done_marker(exp, name)) for name, stage in STAGES.items() if stage.place == "exp"}
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
    rows = shown_rows(rows, exp)
    of_flow = [row for row in rows if row["system"] in ("", FLOW)]
    classes = sorted({row["decided"] for row in of_flow if row["metric"] == "utt_share"})
    figures = Figures(exp, config, rows, of_flow, classes)
    page = header(exp, config)
    for title, lines_of in BLOCKS:
        if block := lines_of(figures):
            page += ["", f"# {title.format(config=config)}", *block]
    return "\n".join(page) + "\n"


def write(exp: Path) -> None:
    """Write results.tsv and results.txt of an experiment, whole."""
    config, rows = Config.load(exp / CONFIG_YAML), collect(exp)
    write_tsv(exp / RESULTS_TSV, rows, COLUMNS)
    replace_file(exp / RESULTS_TXT, text(exp, rows, config).encode())
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
