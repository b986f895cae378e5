"""The answer of an experiment: what was trained on what, small tables of the test sets, and a few sentences.

results.txt and report.html begin with it. Its figures are of test sets; dev only chooses the best other system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnf.experiment.config import Config
from dnf.experiment.layout import DOUBT_TSV, FLOW, LEFT_OUT_TSV
from dnf.experiment.sets import name_of
from dnf.experiment.tables import read_tsv
from dnf.metrics.figures import CONTROL, DIFFERENCE, PARTS, WITHOUT_DOUBT, class_names
from dnf.report.cells import cut, shortened
from dnf.report.doubt_sentence import foreign
from dnf.report.figure_index import ACCURACY, CALIBRATED, FigureIndex
from dnf.report.sentences import MOST as MOST_SENTENCES
from dnf.report.sentences import sentences
from dnf.report.wording import Sentence, verdict

WORST = 3  # classes of a set that are shown where it has more than MOST
MOST = 4
LONGEST = 28  # letters of a name in a sentence

ACCURACIES = (ACCURACY, CALIBRATED, "frame_accuracy")
DETECTION = ("auc", "eer", "cllr")
DENSITIES = ("loglik", "logp", "logdet")
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")


@dataclass(frozen=True)
class Line:
    """A line of a table: figures of a set.

    Attributes:
        set: its name.
        label: class, classes joined by +, or ``all``.
        control_of: the set that it is the control of; empty for none.
        cells: rows of results.tsv by metric, without its ending, and system.
        part: of the latents, with its number of dims, such as ``c120``; empty for what is not of a part.
        better: metrics, without their ending, and the system that a paired test finds better beyond chance.
    """

    set: str
    label: str
    control_of: str
    cells: dict[tuple[str, str], dict]
    part: str = ""
    better: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Answer:
    """The answer of an experiment.

    The lines of each table are in order of importance: where there is no room for all, the last are left out.

    Attributes:
        name: of the experiment.
        subject: what its figures are of, flow or fused system.
        trained: what was trained on what, and what it was tested on; two lines.
        glossary: what the names mean, in a line.
        systems: the flow and the best other system on dev, if there is one.
        accuracy: of each test set and class; metrics ``ACCURACIES``.
        detection: of each pair of classes, and of all classes if more; metrics ``DETECTION``. A control's line has its
            utterances of the classes that it has, and those of its set for the others.
        density: of the known classes of each test set together, then of each class; metrics ``DENSITIES`` of the flow.
        gaussianity: of each test set and part of the latents; metrics ``SHAPES`` of the flow.
        agreement: row of the difference between training and evaluation; None if it was not measured.
        sentences: what the figures allow to say, the headline first.
    """

    name: str
    subject: str
    trained: list[str]
    glossary: str
    systems: list[str]
    accuracy: list[Line]
    detection: list[Line]
    density: list[Line]
    gaussianity: list[Line]
    agreement: dict | None
    sentences: list[Sentence]


def answer(exp: Path, rows: Sequence[dict], config: Config) -> Answer:
    """The answer of an experiment.

    Args:
        exp: folder of the experiment.
        rows: of results.tsv, as ``dnf.report.shown_rows`` gives them.
        config: settings of the experiment.
    """
    figures = FigureIndex(rows, config)
    doubts = read_tsv(exp / DOUBT_TSV) if (exp / DOUBT_TSV).is_file() else []
    headline, *more = sentences(figures) or [None]
    said = [sentence for sentence in (headline, *foreign(doubts), *more) if sentence][:MOST_SENTENCES]
    return Answer(
        exp.resolve().name,
        figures.subject,
        [with_short_words(line) for line in trained_lines(figures, left_out(exp))],
        with_short_words(glossary(figures)),
        figures.systems,
        list(accuracy_table(figures)),
        list(detection_table(figures)),
        list(density_table(figures)),
        list(gaussianity_table(figures)),
        figures.row("train_eval_difference"),
        [Sentence(lead, with_short_words(text)) for lead, text in said],
    )


def with_short_words(line: str) -> str:
    """A line in which no name of a set or class is long."""
    return " ".join(cut(word, LONGEST) for word in line.split(" "))


def cells_of(figures: FigureIndex, metrics: Iterable[str], place: tuple[str, str], ending: str = "") -> dict:
    """Rows of the systems by metric and system; those that are not there are left out."""
    rows = {
        (metric, system): figures.row(metric + ending, *place, system)
        for metric in metrics
        for system in figures.systems
    }
    return {key: row for key, row in rows.items() if row}


def better_of(figures: FigureIndex, metrics: Iterable[str], place: tuple[str, str], ending: str = "") -> frozenset:
    """Metrics, and which of the two systems a paired test finds better beyond chance."""
    winners = {1: FLOW, -1: figures.other}
    found = {m: verdict(figures.row(m + ending + DIFFERENCE, *place, figures.other)) for m in metrics}
    return frozenset((metric, winners[sign]) for metric, sign in found.items() if sign)


def accuracy_table(figures: FigureIndex) -> Iterable[Line]:
    """Of each set all classes together and each of them; the main set and its control first."""
    lines = list(lines_of_sets(figures))
    first = next((line for line in lines if line.set == figures.main), None)
    return sorted(lines, key=lambda line: 0 if line is first else 1 if figures.main == line.control_of else 2)


def lines_of_sets(figures: FigureIndex) -> Iterable[Line]:
    """All classes of a set and each of them, or of many those of lowest accuracy; of a single class only that."""
    for name, control_of in figures.with_controls():
        labels = figures.labels(ACCURACY, name)
        worst = sorted(labels, key=lambda label: float(figures.row(ACCURACY, name, label)["value"]))
        chosen = worst[:WORST] if len(labels) > MOST else [label for label in figures.classes if label in labels]
        for label in ["all", *chosen] if len(labels) > 1 else labels:
            table = ACCURACIES, (name, label)
            yield Line(name, label, control_of, cells_of(figures, *table), better=better_of(figures, *table))


def detection_table(figures: FigureIndex) -> Iterable[Line]:
    """Each pair of classes of a set, and all its classes if more, and behind each the same with the control."""
    for name in (name for name, control_of in figures.with_controls() if not control_of):
        labels = dict.fromkeys(figures.labels("auc", name) + figures.labels("cllr", name))
        for label in sorted(labels, key=lambda label: -label.count("+")):
            table = DETECTION, (name, label)
            yield Line(name, label, "", cells_of(figures, *table), better=better_of(figures, *table))
            if name in figures.controls and (beside := cells_of(figures, *table, CONTROL)):
                yield Line(figures.controls[name], label, name, beside, better=better_of(figures, *table, CONTROL))


def density_table(figures: FigureIndex) -> Iterable[Line]:
    """The known classes of each set together, then each of its classes if it has several."""
    places = figures.with_controls()
    for name, control_of in places:
        known = figures.known("loglik", name)
        row = {metric: figures.row(metric, name, known[0]) for metric in DENSITIES} if known else {}
        cells = {(m, FLOW): row[m] | {"value": str(figures.mean(m, name))} for m in row if row[m]}
        if cells:
            yield Line(name, class_names("+".join(sorted(known))), control_of, cells)
    for name, control_of in places:
        labels = figures.labels("loglik", name)
        for label in labels if len(labels) > 1 else ():
            cells = {(m, FLOW): row for m in DENSITIES if (row := figures.row(m, name, label))}
            yield Line(name, label, control_of, cells)


def gaussianity_table(figures: FigureIndex) -> Iterable[Line]:
    """Each set and part of the latents; the input is none."""
    for name, control_of in figures.with_controls():
        for part in (part for part in PARTS if part != "x"):
            for label in figures.labels(f"kurt_{part}", name):
                cells = {(m, FLOW): row for m in SHAPES if (row := figures.row(f"{m}_{part}", name, label))}
                dims = figures.config.prior.cond_dim
                yield Line(
                    name, label, control_of, cells, f"{part}{dims if part == 'c' else figures.config.latent_dim - dims}"
                )


def left_out(exp: Path) -> list[str]:
    """Names of the sets that were not there to be scored."""
    path = exp / LEFT_OUT_TSV
    return [row["set"] for row in read_tsv(path)] if path.is_file() else []


def trained_lines(figures: FigureIndex, left_out: Sequence[str]) -> list[str]:
    """What was trained on what, and what it was tested on."""
    config, frames = figures.config, figures.row("frames")
    spoken = figures.row(ACCURACY, name_of(config.data, "train"), "all")
    dims = f"{config.latent_dim} dims (c {config.prior.cond_dim}, r {config.latent_dim - config.prior.cond_dim})"
    counts = [f"{spoken['speakers']} speakers"] if spoken else []
    counts += [f"{int(frames['value']):,} frames"] if frames else []
    knows = f"of {shortened(figures.classes)}" if figures.classes else "without classes"
    counted = f" ({', '.join(counts)})" if counts else ""
    made = f"{config.flow.kind} {knows}, {dims}; {hybrid(config)}trained on"
    if figures.members:
        made = f"fusion of {shortened(figures.members)}; {knows}; trained on"
    trained = f"{made} {shortened(config.data.train)}{counted}"
    tested = [f"{name}, control of {of}" if of else name for name, of in figures.with_controls()]
    missing = f"; left out: {shortened(left_out)}" if left_out else ""
    return [trained, f"tested on {shortened(tested, '; ') or 'nothing'}{missing}"]


def hybrid(config: Config) -> str:
    """The weight of the cross-entropy, where it is part of the loss."""
    return f"hybrid (train.beta {config.train.beta:g}), " if config.train.beta else ""


def glossary(figures: FigureIndex) -> str:
    """What the names of systems, classes and figures mean."""
    words = [f"{FLOW} is the {figures.subject}"]
    if figures.others:
        words.append(f"{', '.join(figures.others)}: other systems on the same frames, {figures.other} the best on dev")
    known = f"{shortened(figures.classes)}: classes of the model" if figures.classes else ""
    labels = dict.fromkeys(row["class"] for row in figures.shares if row["set"] in figures.tests)
    unseen = [label for label in labels if label not in figures.classes]
    words += [known + (f", {shortened(unseen)} unseen" if unseen else "")] if known else []
    words += ["control: the same class from another corpus"] if figures.controls else []
    words += ["Cllr: bits, 0 is perfect, 1 is chance (two classes)"] if figures.pairs else []
    doubted = any(figures.labels(f"cllr{WITHOUT_DOUBT}", name) for name in figures.tests)
    words += ["without doubt: before ratios are shrunk in data unlike training"] if doubted else []
    return "; ".join(words)
