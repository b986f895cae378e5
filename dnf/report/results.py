"""Stage report: every figure of an experiment in results.tsv and results.txt; and all experiments of a folder side by side.

``python3 -m dnf results exp/NAME`` writes both files, whole, and with ``--details SECTION`` prints a section of results.txt;
``python3 -m dnf results exp`` compares what is below ``exp``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    AUTOCORRELATION_TSV,
    BY_CORPUS_TSV,
    BY_SCORE_TSV,
    COMPARISON_HTML,
    CONFIG_YAML,
    DECILES_TSV,
    DOUBT_TSV,
    ENV_JSON,
    FLOW,
    GAUSSIANITY_TSV,
    LEFT_OUT_TSV,
    MODEL_JSON,
    RESULTS_TSV,
    RESULTS_TXT,
    SPEAKERS_TSV,
    done_marker,
    is_fused,
    is_taken,
    run_again,
    run_stage,
)
from dnf.experiment.markers import read_marker
from dnf.experiment.sets import fitted_sets, name_of
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.report import answer_text, lines
from dnf.report.answer import answer
from dnf.report.detection_lines import detection_lines, silent_systems, warning_lines
from dnf.report.folder import experiments
from dnf.report.result_rows import collect
from dnf.report.shown_rows import left_out_line, shown_rows, without_many_classes
from dnf.report.side_by_side import system_lines

log = logging.getLogger(__name__)


class Figures(NamedTuple):
    """What the sections of results.txt are made from; of sets, those that a model is fitted on come last.

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

    def table(self, name: str) -> list[dict]:
        """Rows of a file of the experiment; none where it is not there."""
        return fitted_last(read_tsv(self.exp / name), self.config) if (self.exp / name).is_file() else []


def fitted_last(rows: Iterable[dict], config: Config) -> list[dict]:
    """Rows of test sets, then those of dev and train."""
    return sorted(rows, key=lambda row: row["set"] in fitted_sets(config.data))


def accuracy_section(figures: Figures) -> list[str]:
    if not figures.classes:
        return ["# this flow has no classes: it gives densities and makes no decisions"]
    return lines.accuracy_lines(figures.rows, figures.controls)


def detection_section(figures: Figures) -> list[str]:
    measured = detection_lines(figures.exp, figures.all_systems, figures.config)
    more = left_out_line(figures.rows, figures.exp)
    return measured + warning_lines(figures.all_systems, figures.controls) + more


def unseen_section(figures: Figures) -> list[str]:
    of_shares = lines.share_lines(figures.rows, set(figures.classes)) if figures.classes else []
    return of_shares + lines.unseen_lines(figures.rows)


def confusion_section(figures: Figures) -> list[str]:
    return lines.confusion_lines(figures.rows, figures.classes) if figures.classes else []


def density_section(figures: Figures) -> list[str]:
    train = name_of(figures.config.data, "train")
    return lines.density_lines(figures.rows) + lines.training_line(figures.rows, train)


def run_section(figures: Figures) -> list[str]:
    """What was run, on what, and how long it took; the only section that differs between two equal runs."""
    exp, config = figures.exp, figures.config
    environment = json.loads((exp / ENV_JSON).read_text(encoding="utf-8"))
    made = read_marker(done_marker(exp, "latents" if is_fused(exp) else "train")) or {
        "source": "unknown",
        "key": "unknown",
    }
    facts = [environment["device_name"], f"{environment['threads']} threads", environment.get("precision", "float32")]
    facts += ["compiled"] if environment.get("compiled") else []
    return [
        f"# {made['source']}  experiment {exp}  seed {config.seed}  settings {made['key']}",
        *taken_line(exp),
        f"# git {environment['git']}  torch {environment['torch']}  lhotse {environment['lhotse']}",
        f"# device {environment['device']} ({', '.join(facts)})  seconds: {lines.stage_seconds(exp)}",
        *(f"# left out: {row['set']}: {row['reason']}" for row in figures.table(LEFT_OUT_TSV)),
    ]


def taken_line(exp: Path) -> list[str]:
    """Where the model came from, if not from stage train."""
    if not is_taken(exp):
        return []
    noted = json.loads((exp / MODEL_JSON).read_text(encoding="utf-8"))
    return [
        f"# scored with {noted['model']}, trained on {noted['trained_on']}; figures of train and dev are those found there"
    ]


class Section(NamedTuple):
    """A section of the details: its name, its title, which may have settings in it, and its lines."""

    name: str
    title: str
    lines: Callable[[Figures], list[str]]


# A section without lines is left out.
SECTIONS = [
    Section(
        "accuracy",
        "share decided as the true class by likelihood, as in the notes; 95% interval over speakers (Korn & Graubard)",
        accuracy_section,
    ),
    Section(
        "systems",
        "on the same frames and utterances; utt_accuracy and frame_accuracy by likelihood, as in the "
        "notes, utt_accuracy_calibrated by posterior under calibrate.priors",
        lambda figures: system_lines(figures.all_systems, silent_systems(figures.exp)),
    ),
    Section(
        "detection",
        "and calibration: Cllr in bits, lower is better (two classes: 1 is no information), on dev with each speaker left "
        "out of the fit; AUC, EER and minDCF of the mean log-likelihood ratio per frame, auc_duration, "
        "auc_rate, auc_level and auc_bands of trivial systems; utt_accuracy_calibrated: by posterior under calibrate.priors",
        detection_section,
    ),
    Section(
        "unseen",
        "shares decided for classes that the model has not seen; AUC of the ratio of each known class against them",
        unseen_section,
    ),
    Section(
        "duration",
        "accuracy of utterances against their duration",
        lambda figures: lines.duration_lines(figures.rows, figures.config.data),
    ),
    Section(
        "open_set",
        "detection of unseen classes: AUC, and shares flagged",
        lambda figures: lines.open_set_lines(figures.rows),
    ),
    Section(
        "doubt",
        "sets and recordings unlike training, and the factor that their log-likelihood ratios are multiplied by (docs/doubt.md)",
        lambda figures: lines.doubt_lines(figures.table(DOUBT_TSV)),
    ),
    Section(
        "seconds",
        "accuracy of recordings of so many seconds, normalized by themselves, by likelihood (durations.tsv)",
        lambda figures: lines.seconds_lines(figures.rows),
    ),
    Section(
        "speakers",
        "accuracy by speaker (all of them in speakers.tsv) and by expert score",
        lambda figures: lines.speaker_lines(figures.table(SPEAKERS_TSV), figures.table(BY_SCORE_TSV)),
    ),
    Section(
        "corpora",
        "accuracy by corpus, by likelihood (by_corpus.tsv), where corpora are known",
        lambda figures: lines.corpus_lines(figures.table(BY_CORPUS_TSV), name_of(figures.config.data, "train")),
    ),
    Section(
        "near_ties",
        "margin below {config.decide.near_tie:g} standard errors; accuracy of the other utterances",
        lambda figures: lines.near_tie_lines(figures.rows),
    ),
    Section(
        "correlation",
        "of the utterances' log-likelihood ratio with expert scores, 95% interval by bootstrap over speakers",
        lambda figures: lines.correlation_lines(figures.rows),
    ),
    Section(
        "assess",
        "expert scores predicted by each predictor and by all (fused), of train and dev by fits without the speaker; 95% interval by "
        "bootstrap over speakers; then mean predicted and mean expert score of tenths by prediction",
        lambda figures: lines.assess_lines(figures.rows, figures.table(DECILES_TSV)),
    ),
    Section(
        "fusion",
        "weight of each system: nats of fused log-likelihood per nat of its calibrated log-likelihood, fitted on dev",
        lambda figures: lines.fusion_lines(figures.rows),
    ),
    Section("confusion", "true class -> decided", confusion_section),
    Section(
        "density",
        "mean log densities in nats per frame; LogLL = LogP + LogDet, the notes print NLL as LogLL (loss)",
        density_section,
    ),
    Section(
        "gaussianity",
        "mean over dims of skewness and excess kurtosis, pooled as in the notes and within class; autocorrelation in an "
        "utterance, within class, at lags of so many vectors: 0 is right for a conditional flow",
        lambda figures: (
            lines.gaussianity_lines(figures.table(GAUSSIANITY_TSV))
            + lines.autocorrelation_lines(figures.table(AUTOCORRELATION_TSV))
        ),
    ),
    Section(
        "fisher",
        "variance of the class means over variance within class, mean over dims; x is the input",
        lambda figures: lines.fisher_lines(figures.rows),
    ),
    Section(
        "training",
        "steps, spikes and restores, and whether evaluation agrees with training",
        lambda figures: lines.training_lines(figures.rows),
    ),
    Section("run", "versions, machine and times of the run", run_section),
]
HEAD = "## "  # of a section in results.txt


def text(exp: Path, rows: list[dict], config: Config) -> str:
    """``results.txt``: the answer, then details in sections: one figure a line, each with its counts, for ``grep``."""
    rows = shown_rows(rows, exp)
    short = answer_text.text(answer(exp, rows, config))
    known = sorted({row["class"] for row in rows if row["metric"] == "utt_accuracy"} - {"all"})
    rows = fitted_last(without_many_classes(rows), config)
    of_flow = [row for row in rows if row["system"] in ("", FLOW)]
    classes = sorted({row["decided"] for row in of_flow if row["metric"] == "utt_share"})
    figures = Figures(exp, config, rows, of_flow, classes or known)
    page = [*short, "", "# details", f"# one section: python3 -m dnf results {exp} --details SECTION"]
    for section in SECTIONS:
        if of_section := section.lines(figures):
            page += ["", f"{HEAD}{section.name}: {section.title.format(config=config)}", *of_section]
    return "\n".join(page) + "\n"


def details(exp: Path, name: str) -> str:
    """A section of an experiment's results.txt.

    Raises:
        ValueError: there is no results.txt, or it has no such section.
    """
    path = exp / RESULTS_TXT
    if not path.is_file():
        raise ValueError(f"{path}: does not exist; {run_stage('report')}")
    _, *sections = f"\n{path.read_text(encoding='utf-8')}".split(f"\n{HEAD}")
    by_name = {section.partition(":")[0]: f"{HEAD}{section}" for section in sections}
    if not by_name:
        raise ValueError(f"{path}: has no sections, an earlier version wrote it; {run_again('report')}")
    if name not in by_name:
        raise ValueError(f"{path}: has no section {name}; name one of {', '.join(by_name)}")
    return by_name[name].strip()


def write(exp: Path) -> None:
    """Write results.tsv and results.txt of an experiment, whole."""
    config, rows = Config.load(exp / CONFIG_YAML), collect(exp)
    write_tsv(exp / RESULTS_TSV, rows, COLUMNS)
    replace_file(exp / RESULTS_TXT, text(exp, rows, config).encode())
    log.info("%s", exp / RESULTS_TXT)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("folder", type=Path, help="an experiment to write results of, or the folder of all to compare")
    parser.add_argument(
        "--details", metavar="SECTION", help="print a section of an experiment's results.txt; write nothing"
    )
    parser.add_argument(
        "--html", action="store_true", help=f"of a folder of experiments: write {COMPARISON_HTML} there"
    )
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="METRIC", help="of a folder of experiments: compare these figures"
    )
    args = parser.parse_args(argv)
    is_experiment = (args.folder / CONFIG_YAML).is_file()
    if is_experiment and (args.html or args.metrics):
        parser.error(f"{args.folder} is one experiment; --html and --metrics compare those of a folder")
    if args.details is not None:
        print(details(args.folder, args.details))
    elif is_experiment:
        write(args.folder)
    elif args.html:
        from dnf.report import html_comparison  # its templates are slow to import, and the text needs none

        html_comparison.write(args.folder, args.metrics)
    else:
        print(experiments(args.folder, args.metrics))
    return 0


if __name__ == "__main__":
    entry.run(main)
