"""Systems side by side: those of an experiment in results.txt, and those of all experiments of a folder."""

from __future__ import annotations

from pathlib import Path

from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, FLOW, RESULTS_TSV, STAGES
from dnf.experiment.sets import name_of
from dnf.experiment.settings import DataSettings
from dnf.experiment.tables import aligned, read_tsv
from dnf.metrics.figures import CONTROL, METRICS, costs_last, shown


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
    """A table of all experiments below a folder that have results, a line for each of their systems.

    Utterance accuracy of each set, AUC and Cllr of each set of several classes that was not trained on and of its
    control, NLL of dev and number of parameters; what a system does not have is a dash.

    Raises:
        ValueError: no experiment below the folder has results.
    """
    table: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob(f"*/{RESULTS_TSV}")):
        data, rows = Config.load(path.parent / CONFIG_YAML).data, read_tsv(path)
        several = len({row["class"] for row in rows if row["metric"] == "auc"}) > 1
        for row in rows:
            system = row.get("system") or FLOW
            cells = table.setdefault(path.parent.name + (f" {system}" if system != FLOW else ""), {})
            cells.update(folder_cell(row, data, several_pairs=several))
    if not table:
        raise ValueError(
            f"{folder}: no {RESULTS_TSV} one folder below it; run the stages up to {STAGES['report'].number}, or name "
            "another folder"
        )
    columns = sorted({name for cells in table.values() for name in cells})
    lines = [["experiment", *columns]] + [
        [name, *(cells.get(c, "-") for c in columns)] for name, cells in table.items()
    ]
    return "\n".join(aligned(lines, 7))


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
