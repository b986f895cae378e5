"""What a sweep over a setting found: figures of its experiments against the value, as a table and as one picture.

``./run.sh --sweep train.beta=0,1,10`` leaves ``exp/<name>_train.beta=0`` and so on. ``python3 -m dnf sweep exp train.beta``
prints the table and writes ``exp/sweeps/<name>_train.beta.tsv`` and ``.png``, for every <name> that has such experiments with
results.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, FLOW, RESULTS_TSV, SWEEPS, run_again
from dnf.experiment.sets import name_of
from dnf.experiment.tables import aligned, read_tsv, write_tsv
from dnf.metrics.figures import shown
from dnf.plots.kinds import drawers
from dnf.plots.style import write_figures

log = logging.getLogger(__name__)

COLUMNS = ("value", "metric", "set", "class", "figure", "low", "high")


def setting(config: Config, key: str) -> str:
    """The value of ``section.key`` or ``key``, as text.

    Raises:
        ValueError: there is no such setting.
    """
    value = config
    for name in key.split("."):
        known = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
        if name not in known:
            raise ValueError(f"{key}: not a setting; name one of conf/default.yaml, such as train.beta")
        value = getattr(value, name)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def order(value: str) -> tuple[float, str]:
    """Numbers by size, then words."""
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def finished(folder: Path, key: str) -> dict[str, dict[str, Path]]:
    """Folders of experiments of sweeps over ``key`` that have results, by name and then by value, in order.

    Raises:
        ValueError: no experiment of such a sweep has results.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob(f"*_{key}=*/{RESULTS_TSV}")):
        name = path.parent.name.rpartition(f"_{key}=")[0]
        found.setdefault(name, {})[setting(Config.load(path.parent / CONFIG_YAML), key)] = path.parent
    if not found:
        raise ValueError(f"{folder}: no experiment *_{key}=* has a results.tsv; run ./run.sh --sweep {key}=V1,V2,...")
    return {name: dict(sorted(values.items(), key=lambda item: order(item[0]))) for name, values in found.items()}


def rows_of(exp: Path) -> list[dict[str, str]]:
    """Figures of one experiment: of each set but those of training, over all its classes, or of the only one it has."""
    config, found = Config.load(exp / CONFIG_YAML), {}
    training = {*config.data.train, name_of(config.data, "train")}
    for row in read_tsv(exp / RESULTS_TSV):
        metric, name, classes = row["metric"], row["set"], row["class"]
        if metric not in shown("sweep") or name in training or row.get("system") not in (None, "", FLOW):
            continue
        if (
            (metric, name) not in found
            or classes == "all"
            or found[metric, name]["class"].count("+") < classes.count("+")
        ):
            ends = {"low": row["low"], "high": row["high"]}
            found[metric, name] = {"metric": metric, "set": name, "class": classes, "figure": row["value"], **ends}
    return list(found.values())


def table(rows: Sequence[dict[str, str]]) -> str:
    """Metric and set down, values across."""
    values = list(dict.fromkeys(row["value"] for row in rows))
    cells = {(row["metric"], row["set"], row["value"]): f"{float(row['figure']):.4f}" for row in rows}
    lines = [["metric", "set", *values]]
    for metric in shown("sweep"):
        for name in dict.fromkeys(row["set"] for row in rows if row["metric"] == metric):
            lines.append([metric, name, *(cells.get((metric, name, value), "-") for value in values)])
    return "\n".join(aligned(lines))


def summarize(folder: Path, key: str) -> list[str]:
    """Write table and picture of every sweep over ``key`` below ``folder``; the tables to print.

    Raises:
        ValueError: an experiment has no figures to compare, or there is none.
    """
    texts, out = [], folder / SWEEPS
    for name, values in finished(folder, key).items():
        rows = [{"value": value, **row} for value, exp in values.items() for row in rows_of(exp)]
        dpi = Config.load(next(iter(values.values())) / CONFIG_YAML).plots.dpi
        if not rows:
            raise ValueError(
                f"{folder}: the experiments {name}_{key}=* have no figures to compare; {run_again('report')}"
            )
        out.mkdir(exist_ok=True)
        write_tsv(out / f"{name}_{key}.tsv", rows, COLUMNS)
        for draw in drawers("sweep"):
            write_figures(draw(rows, f"{name}_{key}", name, key), out, dpi)
        log.info("%s and .png: %d values", out / f"{name}_{key}.tsv", len(values))
        texts.append(f"# {name} against {key}\n{table(rows)}")
    return texts


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("folder", type=Path, help="folder of the experiments")
    parser.add_argument("key", help="the setting that was swept over, e.g. train.beta")
    args = parser.parse_args(argv)
    for text in summarize(args.folder, args.key):
        print(text)
    return 0


if __name__ == "__main__":
    entry.run(main)
