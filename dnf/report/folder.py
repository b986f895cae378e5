"""All experiments of a folder and their systems, with the figures that compare them, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.experiment.config import lacking, read_yaml
from dnf.experiment.layout import (
    CONFIG_YAML,
    DEFAULTS,
    FLOW,
    NOT_EXPERIMENTS,
    RESULTS_TSV,
    STAGES,
    check_folder,
    run_again,
)
from dnf.experiment.tables import aligned
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import CONTROL, METRICS, shown
from dnf.report.cells import number, shortened
from dnf.report.shown_rows import read_results, shown_rows


class Column(NamedTuple):
    """A figure of a set; columns stand in the order of METRICS, of a metric those of dev last.

    Attributes:
        metric: its place in METRICS.
        fitted: whether the set is dev.
        set: on which it is; empty for a figure of the model.
        control: whether it is with the set's control.
        classes: of which it is, where a set has it of several.
    """

    metric: int
    fitted: bool
    set: str
    control: bool
    classes: str

    @property
    def name(self) -> str:
        return list(METRICS)[self.metric]

    @property
    def head(self) -> str:
        words = METRICS[self.name].title, self.set, "control" if self.control else "", self.classes
        return " ".join(filter(None, words))

    def text(self, row: dict) -> str:
        """The figure of a row, with four decimals unless its metric has others; whole numbers stay whole."""
        digits = METRICS[self.name].digits or 4
        return number(row["value"], digits if "." in row["value"] else None)


class System(NamedTuple):
    """A system of an experiment.

    Attributes:
        experiment, name: of the two.
        cells: rows of results.tsv by column.
        missing: what the experiment lacks, with the remedy; empty if nothing.
    """

    experiment: str
    name: str
    cells: dict[Column, dict]
    missing: str


def read_folder(folder: Path, metrics: Sequence[str] = ()) -> tuple[list[Column], list[System]]:
    """Columns and systems of all experiments one folder below.

    Args:
        folder: of experiments.
        metrics: names in METRICS; those of the table ``folder`` unless given.

    Raises:
        ValueError: there is no experiment, or a metric is none.
    """
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"{name}: not a metric; docs/results.md lists them: {', '.join(METRICS)}")
    check_folder(folder)
    chosen, known = [*metrics] or shown("folder"), read_yaml(DEFAULTS)
    folders = {path.parent for name in (CONFIG_YAML, RESULTS_TSV) for path in folder.glob(f"*/{name}")}
    found = sorted(path for path in folders if path.name not in NOT_EXPERIMENTS)
    if not found:
        raise ValueError(
            f"{folder}: no {RESULTS_TSV} one folder below it; run the stages up to {STAGES['report'].number}, or name "
            "another folder"
        )
    systems = [system for exp in found for system in read_experiment(exp, chosen, known)]
    return sorted({column for system in systems for column in system.cells}), systems


def read_experiment(exp: Path, metrics: Sequence[str], known: Mapping) -> list[System]:
    """The systems of an experiment, the flow first; the flow without figures where there are no results.

    Args:
        exp: folder of the experiment.
        metrics: which to read.
        known: settings of this version.
    """
    train, dev, missing = read_sets(exp, known)
    names, rows = {name + ending for name in metrics for ending in ("", CONTROL)}, []
    try:
        rows = [row for row in read_results(exp / RESULTS_TSV) if row["metric"] in names and row["set"] != train]
    except ValueError as error:
        missing.append(str(error).removeprefix(f"{exp}/"))
    columns = [name for name in COLUMNS if rows and name not in rows[0]]
    missing += [f"{RESULTS_TSV} has no column {shortened(columns)}; {run_again('report')}"] if columns else []
    cells: dict[str, dict[Column, dict]] = {FLOW: {}}
    for column, row in columns_of(shown_rows(rows, exp), dev):
        cells.setdefault(row.get("system") or FLOW, {}).setdefault(column, row)
    return [System(exp.name, name, of_system, "; ".join(missing)) for name, of_system in cells.items()]


def read_sets(exp: Path, known: Mapping) -> tuple[str, str, list[str]]:
    """Under which names train and dev of an experiment have figures, and what its settings lack.

    The other settings are not checked: that takes most of the time where there are hundreds of experiments.
    """
    missing, saved = [], {}
    try:
        saved = read_yaml(exp / CONFIG_YAML)
    except (OSError, ValueError):
        missing.append(f"{CONFIG_YAML}: cannot be read")
    names = lacking(saved, known)
    missing += [f"{CONFIG_YAML} has no {shortened(names)}"] if saved and names else []
    data = saved.get("data")
    given = {role: data.get(role) if isinstance(data, dict) else None for role in ("train", "dev")}
    sets = {role: names if names and isinstance(names, list) else known["data"][role] for role, names in given.items()}
    train, dev = (names[0] if len(names) == 1 else role for role, names in sets.items())
    return train, dev, missing


def columns_of(rows: Sequence[dict], dev: str) -> Iterable[tuple[Column, dict]]:
    """Rows of all classes of a set with their columns; rows of each class where the set has none of all classes.

    Densities are compared on the same frames, those of dev.
    """
    labels: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        labels.setdefault((row["metric"], row["set"]), set()).add(row["class"])
    place = {name: n for n, name in enumerate(METRICS)}
    for row in rows:
        of_set, metric = labels[row["metric"], row["set"]], row["metric"].removesuffix(CONTROL)
        if "all" in of_set and row["class"] != "all" or "likelihood" in METRICS[metric].shown and row["set"] != dev:
            continue
        classes = row["class"] if len(of_set) > 1 and row["class"] != "all" else ""
        yield Column(place[metric], row["set"] == dev, row["set"], metric != row["metric"], classes), row


def experiments(folder: Path, metrics: Sequence[str] = ()) -> str:
    """A table of all experiments below a folder, a line for each of their systems, and what some lack.

    Args:
        folder, metrics: as ``read_folder`` takes them.

    Raises:
        ValueError: there is no experiment, or a metric is none.
    """
    columns, systems = read_folder(folder, metrics)
    lines = [["experiment", "system", *(column.head for column in columns)]]
    for system in systems:
        figures = (column.text(system.cells[column]) if column in system.cells else "-" for column in columns)
        lines.append([system.experiment, system.name, *figures])
    missing = {system.experiment: system.missing for system in systems if system.missing}
    return "\n".join([*aligned(lines, 7), *(f"missing: {name}: {what}" for name, what in missing.items())])
