"""A made-up results.tsv with some figures for every table of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dnf.experiment.config import Config
from dnf.experiment.tables import write_tsv
from dnf.metrics.figure_rows import COLUMNS

SHARES = ("utt_accuracy", "utt_accuracy_calibrated", "frame_accuracy", "near_ties", "utt_accuracy_clear")
DETECTION = (
    "auc",
    "eer",
    "cllr",
    "min_cllr",
    "min_dcf",
    "auc_duration",
    "auc_control",
    "cllr_control",
    "auc_control_gap",
)
SYSTEMS = ("dnf", "gmm", "lda")


def figure(metric: str, name: str, true: str, value: float, **cells) -> dict:
    """A row with an interval and counts, unless ``cells`` say otherwise."""
    place = {"system": SYSTEMS[0], "metric": metric, "set": name, "class": true, "value": f"{value:.6f}"}
    counts = {"low": f"{value - 0.05:.6f}", "high": f"{value + 0.04:.6f}", "count": 90, "total": 100, "speakers": 8}
    return dict.fromkeys(COLUMNS, "") | place | counts | cells


def rows_of_system(system: str, name: str, classes: Sequence[str], value: float) -> Iterator[dict]:
    """What every system has on every set."""
    for true in (*classes, "all"):
        yield from (figure(metric, name, true, value, system=system) for metric in SHARES)
    pair = "+".join(classes[:2])
    yield from (figure(metric, name, pair, value, system=system, count="") for metric in DETECTION)
    for true in (*classes[:20], "unseen"):
        shares = (figure("utt_share", name, true, value, system=system, decided=decided) for decided in classes[:8])
        yield from shares


def rows_of_flow(name: str, classes: Sequence[str]) -> Iterator[dict]:
    """What the flow alone has on every set."""
    no_ends = {"low": "", "high": ""}
    for metric in ("loglik", "logp", "logdet", "nll"):
        yield figure(metric, name, "all", -120.5, **no_ends)
    for metric in ("skew", "kurt", "skew_within", "kurt_within"):
        yield figure(f"{metric}_c", name, "+".join(classes), 0.01, **no_ends)
    for seconds in ("0.5s", "1s", "5s"):
        yield figure("duration_accuracy", name, classes[0], 0.8, decided=seconds)


def write_experiment(
    folder: Path,
    config: Config,
    classes: Sequence[str] = ("en", "ce"),
    tests: Sequence[str] = ("test", "mic"),
    value=0.6,
) -> Path:
    """Settings and results of an experiment; figures of each system and set differ, ``value`` is the flow's on the first."""
    rows = [figure("parameters", "", "", 0) | {"value": "398240", "low": "", "high": ""}]
    for n, name in enumerate((*tests, "dev", "train")):
        for s, system in enumerate(SYSTEMS):
            rows += rows_of_system(system, name, classes, value + 0.05 * s - 0.01 * n)
        rows += rows_of_flow(name, classes)
    controlled = config.data.controls
    rows = [row for row in rows if "_control" not in row["metric"] or row["set"] in controlled]
    config.save(folder / "config.yaml")
    write_tsv(folder / "results.tsv", rows, COLUMNS)
    return folder
