"""Rows of results.tsv as results.txt and report.html show them, so that neither grows with the pairs of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dnf.experiment.layout import PAIRS_TSV, RESULTS_TSV, run_again, run_stage
from dnf.experiment.tables import each_row, read_tsv
from dnf.metrics.figures import CONTROL, MOST_CLASSES, class_names, shown
from dnf.metrics.trials import MOST_PAIRS, MOST_ROWS, most_confused

# Columns that results.tsv must have.
NEEDED = {"metric", "set", "class", "value"}


def read_results(path: Path) -> Iterator[dict]:
    """Rows of results.tsv.

    Raises:
        ValueError: not there, or damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: does not exist; {run_stage('report')}, which writes it first")
    for line, row in enumerate(each_row(path), start=2):
        if None in row or None in row.values() or (line == 2 and not row.keys() >= NEEDED):
            raise ValueError(f"{path}: line {line}: not one value for each column of the header; {run_again('report')}")
        yield row


def is_of_pair(row: dict, metrics: Sequence[str]) -> bool:
    """Whether a row is of one of these metrics, or of it with the control, and of two classes."""
    return row["metric"].removesuffix(CONTROL) in metrics and row["class"].count("+") == 1


def shown_rows(rows: Sequence[dict], exp: Path) -> list[dict]:
    """Rows with short names of many classes, and without those of pairs beyond the most confused of each set.

    Args:
        rows: of results.tsv.
        exp: folder of the experiment, where ``pairs.tsv`` ranks the pairs if they are many.
    """
    pairs: dict[tuple[str, bool], dict[str, None]] = {}
    metrics = shown("detection")
    for row in (row for row in rows if is_of_pair(row, metrics)):
        pairs.setdefault((row["set"], row["metric"].endswith(CONTROL)), {})[row["class"]] = None
    path = exp / PAIRS_TSV
    dev_auc = {row["class"]: float(row["auc"]) for row in read_tsv(path)} if path.is_file() else {}
    chosen = {place: set(most_confused(list(of_set), dev_auc)) for place, of_set in pairs.items()}
    return [
        row | {"class": class_names(row["class"])}
        for row in rows
        if not is_of_pair(row, metrics) or row["class"] in chosen[row["set"], row["metric"].endswith(CONTROL)]
    ]


def without_many_classes(rows: Sequence[dict]) -> list[dict]:
    """The rows without those of single classes where a set has them of more than ``MOST_CLASSES``."""
    counts = Counter((row["system"], row["metric"], row["set"], row["decided"]) for row in rows)
    return [
        row
        for row in rows
        if row["class"] in ("", "all")
        or counts[row["system"], row["metric"], row["set"], row["decided"]] <= MOST_CLASSES
    ]


def left_out_line(rows: Sequence[dict], exp: Path) -> list[str]:
    """Where the pairs of classes are that are not shown, in a line; nothing where all are."""
    if any(row["metric"].startswith("rank_auc") for row in rows):
        return [
            f"classes: figures of a model of more than {MOST_CLASSES} are of all classes together, and none are of pairs; rank_auc is "
            f"the AUC of the true class against the others within an utterance; {RESULTS_TSV} has the accuracy of each class"
        ]
    if not (exp / PAIRS_TSV).is_file():
        return []
    return [
        f"pairs of classes: of a set with more than {MOST_PAIRS}, the {MOST_PAIRS} of lowest AUC of the flow on dev are shown; "
        f"{RESULTS_TSV} has figures of {MOST_ROWS} without intervals, {PAIRS_TSV} the AUC on dev of all"
    ]
