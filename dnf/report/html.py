"""Stage report: report.html, one page: the answer, the pictures that show it, and all other figures in sections that open.

The page needs no network and no other file. It is made from results.tsv, and from config.yaml, env.json and
plots/*.png where they are there. A metric it does not know is listed, never dropped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from markupsafe import Markup

from dnf.experiment import entry
from dnf.experiment.config import Config, of_any_version, resolve
from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    CONFIG_YAML,
    ENV_JSON,
    FLOW,
    PLOTS,
    REPORT_HTML,
    RESULTS_TSV,
    done_marker,
    is_taken,
    run_again,
    run_stage,
)
from dnf.experiment.markers import read_marker
from dnf.experiment.sets import fitted_sets
from dnf.metrics.figure_rows import COLUMNS
from dnf.plots.kinds import FIRST, KINDS, kind_of
from dnf.report import html_answer, html_breakdowns
from dnf.report.answer import answer
from dnf.report.cells import Rows, shortened
from dnf.report.detection_lines import calibration_lines, calibrations, warning_lines
from dnf.report.html_page import Section, document, fill, paragraph, picture, section, table
from dnf.report.html_tables import (
    accuracy,
    against_unseen,
    assessment,
    baseline,
    certainty,
    confusions,
    correlations,
    densities,
    detection,
    fusion,
    gaussianity,
    is_detection,
    other,
    training,
    unseen,
)
from dnf.report.lines import stage_seconds
from dnf.report.shown_rows import left_out_line, read_results, shown_rows

logger = logging.getLogger(__name__)

# Pictures that the page begins with at most, and bytes of the others.
MOST_FIRST = 4
MOST_OF_PICTURES = 2_000_000
READING = (
    "Accuracy is the share of utterances (or frames) decided as their true class. Intervals are 95 % over "
    "speakers: utterances of a speaker are not independent. Those of shares are by Korn & Graubard, the others by bootstrap, "
    "which is too narrow below ten speakers of a class and left out below five.",
    "A high accuracy on the test set of the training corpora may come from microphones that differ between the corpora. "
    "The control tests this: it is the same class from another corpus.",
    "LogP is the mean log prior density of the latents, LogDet the mean log|det| of the Jacobian, LogLL = LogP + "
    "LogDet the mean log-likelihood, and NLL = -LogLL the loss, all in nats per frame. Compare them between sets, "
    "not between models of other features.",
    "Skewness and excess kurtosis are 0 for a Gaussian; the table gives means over dimensions. Pooled figures mix "
    "the classes: two separated Gaussians have kurtosis towards -2. Within-class figures, after each class has lost "
    "its mean and scale, say whether the latents are Gaussian. Mardia's test looks at all dimensions together.",
    "A near-tie is an utterance whose margin between the two best classes is below 2 standard errors, or "
    "below decide.near_tie if that is set: chance may have decided it.",
    "Cllr is the cost in bits of the calibrated log-likelihood ratios: 0 if they are right and sure, 1 if they "
    "say nothing, more if they mislead; minCllr is what the best calibration would leave. They are calibrated on "
    "dev; calibrated figures of dev itself are by fits without the utterance's speaker. AUC, EER and minDCF are of the "
    "mean log-likelihood ratio per frame, which does not depend on duration; the AUC of duration, rate of speech, level and bands alone stand beside.",
    "An unseen class has no correct decision: its table has the model's decisions.",
)


class Sheet:
    """What the page is made from; each section takes the rows that it shows.

    Attributes:
        exp: folder of the experiment.
        answer: of the experiment.
        read: rows of results.tsv in the order of the answer's sets, then the others, train and dev last.
        rows: those of the flow, without those of ``detection``.
        detection: rows that compare all systems.
        others: rows of each other system.
        config_text: config.yaml; empty where it is missing.
        facts: of the run, by name.
        calibrations: what that of each system is; none where no system has one.
        controls: the control of each set that has one.
        pictures: of the experiment by kind, those of a kind in the order of the sets.
        order: of the sets.
        resamples: of the intervals.
        missing: what the experiment lacks, with the remedy.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """

    def __init__(self, exp: Path):
        self.config_text, self.facts = read_facts(exp)
        self.exp, self.missing, rows = exp, [], list(read_results(exp / RESULTS_TSV))
        config = self.read_config()
        rows = shown_rows([dict.fromkeys(COLUMNS, "") | row for row in rows], exp)
        self.answer = answer(exp, rows, config)
        self.calibrations = self.read_calibrations(config)
        self.controls, self.resamples = config.data.controls, config.report.bootstrap
        self.order = order = SetOrder(
            [line.set for line in (*self.answer.accuracy, *self.answer.density)], fitted_sets(config.data)
        )
        self.read = sorted(rows, key=lambda row: order.place(row["set"]))
        self.pictures = pictures_of(exp, order) if config.plots.enabled else {}
        if config.plots.enabled and not is_taken(exp) and not any(self.pictures.values()):
            self.missing.append(f"no pictures; {run_stage('plots')}")
        by_system: dict[str, list[dict]] = {FLOW: []}
        for row in self.read:
            by_system.setdefault(row["system"] or FLOW, []).append(row)
        self.rows = Rows([row for row in by_system.pop(FLOW) if not is_detection(row["metric"])])
        self.detection = Rows([row for row in self.read if is_detection(row["metric"])])
        self.others = by_system

    def read_config(self) -> Config:
        """Settings, of an earlier version with what they lack, and the defaults for those that cannot be read."""
        try:
            config, lacking = of_any_version(self.exp / CONFIG_YAML)
        except ValueError as error:
            config, lacking = resolve([]), []
            self.missing.append(str(error))
        self.missing += [f"{CONFIG_YAML} has no {shortened(lacking)}"] if lacking else []
        return config

    def read_calibrations(self, config: Config) -> list[str]:
        """Lines on the calibrations; none where one is of an earlier version."""
        try:
            return calibration_lines(self.exp, config) if any(calibrations(self.exp).values()) else []
        except ValueError as error:
            self.missing.append(str(error))
            return []


class SetOrder:
    """The order of sets on the page: the given ones, then others, then those that were fitted."""

    def __init__(self, first: Sequence[str], fitted: Collection[str]):
        self.places = {name: n for n, name in enumerate(dict.fromkeys(first))}
        self.last = {name: len(self.places) + 1 for name in fitted}

    def place(self, name: str) -> int:
        return self.places.get(name, self.last.get(name, len(self.places)))


def read_facts(exp: Path) -> tuple[str, dict]:
    """config.yaml as text, and facts of the run; empty where a file is missing.

    Raises:
        ValueError: a file is damaged.
    """
    settings, environment = exp / CONFIG_YAML, exp / ENV_JSON
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    try:
        facts = json.loads(environment.read_text(encoding="utf-8")) if environment.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{environment}: damaged ({error}); {run_again('train')}") from None
    trained = read_marker(done_marker(exp, "train"))
    if seconds := stage_seconds(exp):  # as results.txt has them; train_seconds are those of the steps alone
        facts = {name: fact for name, fact in facts.items() if name != "train_seconds"} | {"seconds": seconds}
    return text, ({"data": trained["source"]} if trained else {}) | facts


def pictures_of(exp: Path, order: SetOrder) -> dict[str, list[Path]]:
    """The pictures of an experiment, by kind in the order of ``KINDS``; of a kind in the order of their sets."""
    of_kind: dict[str, list[Path]] = {kind: [] for kind in (*KINDS, "")}
    for path in sorted((exp / PLOTS).glob("*.png")):
        of_kind[kind_of(path.stem)].append(path)
    return {
        kind: sorted(paths, key=lambda path: order.place(path.stem.removeprefix(f"{kind}_")))
        for kind, paths in of_kind.items()
    }


def shown_picture(path: Path) -> Markup:
    """A picture with what to look for."""
    kind = KINDS.get(kind_of(path.stem))
    return picture(path.stem, path.read_bytes(), kind.caption if kind else "")


def first_pictures(sheet: Sheet) -> Markup:
    """One picture of each kind that the page begins with, as far as they are there."""
    kinds = [kind for kind in FIRST if sheet.pictures.get(kind)][:MOST_FIRST]
    shown = [sheet.pictures[kind].pop(0) for kind in kinds]
    return Markup('<div class="pictures">{}</div>').format(Markup().join(map(shown_picture, shown)))


def more_pictures(sheet: Sheet) -> list[Section]:
    """The pictures that are left, the first of each kind before the second, until the page is full."""
    ranked = [(rank, path) for paths in sheet.pictures.values() for rank, path in enumerate(paths)]
    shown, size = set(), 0
    for _, path in sorted(ranked, key=lambda item: item[0]):
        size += path.stat().st_size
        if size <= MOST_OF_PICTURES:
            shown.add(path)
    left = len(ranked) - len(shown)
    words = paragraph(f"{left} more pictures are in {PLOTS}/ of the experiment.") if left else Markup()
    return [Section("", words + Markup().join(shown_picture(path) for _, path in ranked if path in shown))]


def detection_parts(sheet: Sheet) -> list[Section]:
    warnings = warning_lines(sheet.read, sheet.controls)
    parts = detection(sheet.detection, sheet.controls, sheet.resamples)
    fits = fill("list.html", lines=sheet.calibrations) if sheet.calibrations else Markup()
    words = Markup().join(map(paragraph, left_out_line(sheet.read, sheet.exp)))
    return [Section("", warned(warnings), len(warnings)), Section("Calibration", fits), *parts, Section("", words)]


def warned(lines: Sequence[str]) -> Markup:
    """Warnings, a paragraph each."""
    return Markup().join(Markup("<p><b>{}</b></p>").format(line) for line in lines)


def other_systems(sheet: Sheet) -> list[Section]:
    return [part for name, rows in sheet.others.items() for part in baseline(name, rows, sheet.controls)]


def settings_part(sheet: Sheet) -> list[Section]:
    return [Section("", Markup("<pre>{}</pre>").format(sheet.config_text) if sheet.config_text else Markup())]


def run_part(sheet: Sheet) -> list[Section]:
    """Facts of the run, of which lists and numbers stand as in JSON."""
    lines = [[name, fact if isinstance(fact, str) else json.dumps(fact)] for name, fact in sheet.facts.items()]
    return [Section("", table(["", ""], lines, keys=1))]


# In the order of the page; results.txt has the same names. ``other`` shows what no table before it has shown.
SECTIONS: list[tuple[str, Callable[[Sheet], list[Section]]]] = [
    ("accuracy", lambda sheet: [accuracy(sheet.rows, sheet.controls)]),
    ("detection", detection_parts),
    ("unseen", lambda sheet: [unseen(sheet.rows), against_unseen(sheet.rows)]),
    ("open_set", lambda sheet: [html_breakdowns.open_set(sheet.rows)]),
    ("seconds", lambda sheet: [html_breakdowns.durations(sheet.rows)]),
    ("speakers", lambda sheet: html_breakdowns.groups(sheet.exp, sheet.order.place)),
    ("near_ties", lambda sheet: [certainty(sheet.rows)]),
    ("correlation", lambda sheet: [correlations(sheet.rows)]),
    ("assess", lambda sheet: [assessment(sheet.rows)]),
    ("confusion", lambda sheet: [confusions(sheet.rows)]),
    ("fusion", lambda sheet: [fusion(sheet.rows)]),
    ("density", lambda sheet: [densities(sheet.rows)]),
    ("gaussianity", lambda sheet: [gaussianity(sheet.rows)]),
    ("fisher", lambda sheet: [html_breakdowns.fisher(sheet.rows)]),
    ("training", lambda sheet: [training(sheet.rows)]),
    ("systems", other_systems),
    ("other", lambda sheet: [other(Rows([*sheet.rows.left, *sheet.detection.left]))]),
    ("pictures", more_pictures),
    ("reading", lambda sheet: [Section("", fill("list.html", lines=READING))]),
    ("settings", settings_part),
    ("run", run_part),
]


def page(exp: Path) -> str:
    """The page as text.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """
    sheet = Sheet(exp)
    lines = [*sheet.answer.trained, sheet.answer.glossary, *(f"Missing: {text}" for text in sheet.missing)]
    body = html_answer.short(sheet.answer) + first_pictures(sheet)
    body += Markup().join(section(name, parts_of(sheet)) for name, parts_of in SECTIONS)
    return document(sheet.answer.name, lines, body)


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
