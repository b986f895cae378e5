"""Systems side by side: those of an experiment in results.txt, and those of all experiments of a folder."""

from __future__ import annotations

from pathlib import Path

from dnf.experiment.config import of_any_version, resolve
from dnf.experiment.layout import CONFIG_YAML, FLOW, RESULTS_TSV, STAGES, run_again, run_stage
from dnf.experiment.sets import name_of
from dnf.experiment.settings import DataSettings
from dnf.experiment.tables import aligned, read_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import CONTROL, METRICS, costs_last, shown
from dnf.report.cells import shortened


def system_lines(rows: list[dict]) -> list[str]:
    """A table of the figures that several systems have: a line each, by set; systems side by side, the flow first."""
    metrics = [metric + ending for ending in ("", CONTROL) for metric in costs_last(shown("systems"))]
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        if row["metric"] in metrics:
            cells.setdefault((row["set"], row["metric"], row["class"]), {})[row["system"]] = cell(row)
    over_all_classes = {key[:2] for key in cells if key[2] == "all"}
    names = sorted({name for by_system in cells.values() for name in by_system}, key=lambda name: (name != FLOW, name))
    place = {name: n for n, name in enumerate(dict.fromkeys(name for name, _, _ in cells))}
    keys = [
        key
        for key in sorted(cells, key=lambda key: (place[key[0]], metrics.index(key[1])))
        if len(cells[key]) > 1 and (key[2] == "all" or key[:2] not in over_all_classes)
    ]
    if not keys:
        return []
    lines = [["systems", "set", "metric", "class", *names]]
    lines += [["systems", *key, *(cells[key].get(name, "-") for name in names)] for key in keys]
    return aligned(lines, 7)


def cell(row: dict) -> str:
    """A figure as ``0.9431 (0.9012-0.9720)``, with its interval if it has one."""
    return f"{float(row['value']):.4f}" + (f" ({float(row['low']):.4f}-{float(row['high']):.4f})" if row["low"] else "")


def experiments(folder: Path) -> str:
    """A table of all experiments below a folder, a line for each of their systems, then what any of them lacks.

    Utterance accuracy of each set, AUC and Cllr of each set of several classes that was not trained on and of its
    control, NLL of dev and number of parameters; what a system does not have is a dash.

    Raises:
        ValueError: no experiment below the folder has results.
    """
    table: dict[str, dict[str, str]] = {}
    missing: dict[str, list[str]] = {}
    for exp in sorted({path.parent for name in (CONFIG_YAML, RESULTS_TSV) for path in folder.glob(f"*/{name}")}):
        systems, missing[exp.name] = system_cells(exp)
        table |= {exp.name + (f" {name}" if name != FLOW else ""): cells for name, cells in systems.items()}
    if not table:
        raise ValueError(
            f"{folder}: no {RESULTS_TSV} one folder below it; run the stages up to {STAGES['report'].number}, or name "
            "another folder"
        )
    columns = sorted({name for cells in table.values() for name in cells})
    lines = [["experiment", *columns]] + [
        [name, *(cells.get(c, "-") for c in columns)] for name, cells in table.items()
    ]
    lacking = [f"missing: {name}: {'; '.join(what)}" for name, what in missing.items() if what]
    return "\n".join([*aligned(lines, 7), *lacking])


def system_cells(exp: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Cells of the table of ``experiments`` by system and head of the column, and what an experiment lacks of today's."""
    path = exp / RESULTS_TSV
    if not path.is_file():
        return {}, [f"no {RESULTS_TSV}; {run_stage('report')}"]
    rows, missing = read_tsv(path), []
    try:
        config, settings = of_any_version(exp / CONFIG_YAML)
    except ValueError as error:
        config, settings, missing = resolve([]), [], [str(error)]
    columns = [name for name in COLUMNS if rows and name not in rows[0]]
    missing += [f"{CONFIG_YAML} has no {shortened(settings)}"] if settings else []
    missing += [f"{RESULTS_TSV} has no column {shortened(columns)}"] if columns else []
    several = len({row["class"] for row in rows if row["metric"] == "auc"}) > 1
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = table.setdefault(row.get("system") or FLOW, {})
        cells.update(folder_cell(row, config.data, several_pairs=several))
    return table, missing + ([f"an earlier version made it; {run_again('report')}"] if missing else [])


def folder_cell(row: dict, data: DataSettings, *, several_pairs: bool) -> dict[str, str]:
    """Head of the column and text of a figure, if it has a place in the table.

    Args:
        row: of results.tsv.
        data: settings, which name the sets of training.
        several_pairs: whether figures of pairs of classes need the pair in the head.
    """
    metric = row["metric"].removesuffix(CONTROL)
    place = row["set"] + (" control" if metric != row["metric"] else "")
    if metric == "utt_accuracy" and row["class"] == "all":
        return {f"utt {place}": f"{float(row['value']):.4f}"}
    if metric == "nll" and (row["set"], row["class"]) == (name_of(data, "dev"), "all"):
        return {f"{METRICS[metric].title} {row['set']}": f"{float(row['value']):.2f}"}
    if metric == "parameters":
        return {METRICS[metric].title: row["value"]}
    if metric in shown("folder") and row["set"] != name_of(data, "train"):
        pair = f" {row['class']}" if several_pairs else ""
        return {f"{METRICS[metric].title} {place}{pair}": f"{float(row['value']):.4f}"}
    return {}
