"""Stage report: report.html, one page that holds everything: figures, tables, plots, settings, and how to read them.

The page needs no network, no scripts and no other file. It is made from results.tsv, and from config.yaml, env.json and
plots/*.png where they are there. A metric it does not know is listed, never dropped.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml
from markupsafe import Markup

from dnf.experiment import entry
from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    CONFIG_YAML,
    ENV_JSON,
    FLOW,
    PLOTS,
    REPORT_HTML,
    RESULTS_TSV,
    done_marker,
    run_again,
    run_stage,
)
from dnf.experiment.stage import read_marker
from dnf.experiment.tables import read_tsv
from dnf.plots.kinds import KINDS, kind_of
from dnf.report import html_breakdowns
from dnf.report.cells import Rows
from dnf.report.detection_lines import warning_lines
from dnf.report.html_page import Section, document, fill, paragraph, picture, table
from dnf.report.html_tables import (
    accuracy,
    baseline,
    certainty,
    confusions,
    correlations,
    densities,
    detection,
    gaussianity,
    is_detection,
    other,
    training,
)
from dnf.report.shown_rows import left_out_line, shown_rows

logger = logging.getLogger(__name__)

# Bytes of the page that its pictures take at most.
MOST_OF_PICTURES = 2_500_000
# Columns that results.tsv must have.
NEEDED = ("metric", "set", "class", "value")
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
    "dev; calibrated figures of dev itself are by fits without the utterance's speaker. AUC, EER and minDCF are of the "
    "mean log-likelihood ratio per frame, which knows no duration; what duration alone tells stands beside the AUC.",
    "An unseen class has no right answer: its table says how the model decides when it must.",
)


class Sheet:
    """What the sections are made from; each takes the rows that it shows.

    Attributes:
        exp: folder of the experiment.
        read: rows of results.tsv.
        rows: those of the flow, without those of ``detection``.
        detection: rows that hold all systems against each other.
        others: rows of each other system.
        config_text: config.yaml; empty where it is missing.
        facts: of the run, by name.
        controls: the control of each set that has one.
        has_plots: whether pictures are shown.
        resamples: of the intervals.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """

    def __init__(self, exp: Path):
        self.exp, self.read = exp, shown_rows(read_results(exp / RESULTS_TSV), exp)
        self.config_text, config, self.facts = read_settings(exp)
        self.controls = (config.get("data") or {}).get("controls") or {}
        self.has_plots = (config.get("plots") or {}).get("enabled", True)
        self.resamples = (config.get("report") or {}).get("bootstrap", 1000)
        by_system: dict[str, list[dict]] = {FLOW: []}
        for row in self.read:
            by_system.setdefault(row.get("system") or FLOW, []).append(row)
        self.rows = Rows([row for row in by_system.pop(FLOW) if not is_detection(row["metric"])])
        self.detection = Rows([row for row in self.read if is_detection(row["metric"])])
        self.others = by_system


def read_results(path: Path) -> list[dict]:
    """Rows of results.tsv.

    Raises:
        ValueError: not there, or damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not there; {run_stage('report')}, which writes it first")
    rows = read_tsv(path)
    for line, row in enumerate(rows, start=2):
        if None in row or any(row.get(column) is None for column in (*NEEDED, *row)):
            raise ValueError(f"{path}: line {line}: not one value for each column of the header; {run_again('report')}")
    return rows


def read_settings(exp: Path) -> tuple[str, dict, dict]:
    """config.yaml as text and read, and facts of the run; empty where a file is missing.

    Raises:
        ValueError: a file is damaged.
    """
    settings, environment = exp / CONFIG_YAML, exp / ENV_JSON
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    try:
        config = yaml.safe_load(text) or {}
        facts = json.loads(environment.read_text(encoding="utf-8")) if environment.is_file() else {}
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{exp}: {CONFIG_YAML} or {ENV_JSON} is damaged ({error}); {run_again('train')}") from None
    trained = read_marker(done_marker(exp, "train"))
    seed = {"seed": config["seed"]} if "seed" in config else {}
    return text, config, seed | ({"data": trained["source"]} if trained else {}) | facts


def baseline_sections(sheet: Sheet) -> list[Section]:
    return [section for name, rows in sheet.others.items() for section in baseline(name, rows, sheet.controls)]


def pictures(sheet: Sheet) -> list[Section]:
    """All plots, by kind, each with what to look for."""
    order = list(KINDS)

    def place(path: Path) -> tuple[int, str]:
        kind = kind_of(path.stem)
        return (order.index(kind) if kind else len(order)), path.name

    paths = sorted((sheet.exp / PLOTS).glob("*.png"), key=place) if sheet.has_plots else []
    of_kind: Counter = Counter()
    turns = {}
    for path in paths:
        turns[path] = of_kind[kind_of(path.stem)]
        of_kind[kind_of(path.stem)] += 1
    html, size = {}, 0
    for path in sorted(paths, key=turns.get):
        kind = kind_of(path.stem)
        shown_picture = picture(path.stem, path.read_bytes(), KINDS[kind].caption if kind else path.stem)
        if size + len(shown_picture) <= MOST_OF_PICTURES:
            html[path] = shown_picture
            size += len(shown_picture)
    left = len(paths) - len(html)
    words = paragraph(f"{left} more pictures are in {PLOTS}/ of the experiment.") if left else Markup()
    return [Section("Plots", words + Markup().join(html[path] for path in paths if path in html))]


def reading_section(sheet: Sheet) -> list[Section]:
    return [Section("How to read this", fill("list.html", lines=READING))]


def settings_section(sheet: Sheet) -> list[Section]:
    return [Section("Settings", Markup("<pre>{}</pre>").format(sheet.config_text) if sheet.config_text else Markup())]


def run_section(sheet: Sheet) -> list[Section]:
    """Facts of the run, of which lists and numbers stand as in JSON."""
    lines = [[name, fact if isinstance(fact, str) else json.dumps(fact)] for name, fact in sheet.facts.items()]
    return [Section("Run", table(["", ""], lines, keys=1))]


def detection_sections(sheet: Sheet) -> list[Section]:
    warnings = warning_lines(sheet.read, sheet.controls) + left_out_line(sheet.exp)
    return detection(sheet.detection, sheet.controls, warnings, sheet.resamples)


# In the order of the page; what no table before it has shown is left for ``other``.
SECTIONS: list[Callable[[Sheet], list[Section]]] = [
    lambda sheet: [accuracy(sheet.rows, sheet.controls)],
    detection_sections,
    lambda sheet: [certainty(sheet.rows), html_breakdowns.open_set_section(sheet.rows)],
    lambda sheet: html_breakdowns.breakdown_sections(sheet.rows, sheet.exp),
    lambda sheet: [correlations(sheet.rows), *confusions(sheet.rows)],
    lambda sheet: [densities(sheet.rows), gaussianity(sheet.rows), training(sheet.rows)],
    baseline_sections,
    lambda sheet: [other(Rows([*sheet.rows.left, *sheet.detection.left]))],
    pictures,
    reading_section,
    settings_section,
    run_section,
]


def page(exp: Path) -> str:
    """The page as text.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """
    sheet = Sheet(exp)
    sections = [section for sections_of in SECTIONS for section in sections_of(sheet)]
    return document(exp.resolve().name, facts_line(sheet.facts), sections)


def facts_line(facts: dict) -> str:
    """The few facts that stand under the title."""
    wanted = ("data", "git", "seed", "device_name", "train_seconds")
    return ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in wanted if facts.get(name) not in (None, ""))


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="experiment folder with results.tsv")
    args = parser.parse_args(argv)
    path = args.exp / REPORT_HTML
    replace_file(path, page(args.exp).encode())
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    entry.run(main)
