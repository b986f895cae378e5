"""Rows of results.tsv: every figure of an experiment."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dnf.decisions.breakdowns import fisher_summary
from dnf.experiment.layout import (
    ACCURACY_TSV,
    AGREEMENT_JSON,
    AUTOCORRELATION_TSV,
    DENSITIES_TSV,
    FLOW,
    FUSION_JSON,
    GAUSSIANITY_TSV,
    SCORES,
    TRAINING_JSON,
    is_fused,
    members_of,
    run_stage,
)
from dnf.experiment.tables import read_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import shown

WRITTEN_BY = {ACCURACY_TSV: "decide", GAUSSIANITY_TSV: "latents", AGREEMENT_JSON: "latents", TRAINING_JSON: "train"}


def accuracy_rows(exp: Path) -> list[dict]:
    """What stage decide found, of all systems."""
    return read_tsv(exp / ACCURACY_TSV)


def density_rows(exp: Path) -> list[dict]:
    """Mean log densities of the flow on each set and class."""
    rows = []
    for path in sorted(exp.glob(f"{SCORES}/*/{DENSITIES_TSV}")):
        for densities in read_tsv(path):
            place = {"system": FLOW, "set": path.parent.name, "class": densities["class"], "total": densities["frames"]}
            values = densities | {"nll": f"{-float(densities['loglik']):.6f}"}
            rows += [place | {"metric": metric, "value": values[metric]} for metric in shown("likelihood")]
    return rows


def gaussianity_rows(exp: Path) -> list[dict]:
    """Moments of the latents, and Mardia's test where there were frames enough."""
    rows = []
    for shapes in read_tsv(exp / GAUSSIANITY_TSV):
        place = {"system": FLOW, "set": shapes["set"], "class": shapes["classes"], "total": shapes["frames"]}
        for metric in shown("gaussianity"):
            if shapes.get(metric):
                rows.append(place | {"metric": f"{metric}_{shapes['part']}", "value": shapes[metric]})
    return rows


def autocorrelation_rows(exp: Path) -> list[dict]:
    """Autocorrelation of the latents of successive vectors."""
    path = exp / AUTOCORRELATION_TSV
    return [
        {"system": FLOW, "set": row["set"], "class": row["classes"], "total": row["pairs"]}
        | {"metric": f"autocorrelation_{row['part']}", "value": row["autocorrelation"]}
        for row in (read_tsv(path) if path.is_file() else ())
        if row["lag"] == "1"
    ]


def agreement_rows(exp: Path) -> list[dict]:
    """Densities of a sample of training frames in training mode, and how far evaluation is from them."""
    agreement = json.loads((exp / AGREEMENT_JSON).read_text(encoding="utf-8"))
    values = {f"training_{name}": agreement[f"training_{name}"] for name in ("nll", "logp", "logdet")}
    values["train_eval_difference"] = agreement["difference"]
    return [{"metric": name, "value": f"{value:.6f}", "total": agreement["frames"]} for name, value in values.items()]


def training_rows(exp: Path) -> list[dict]:
    """Counts of training."""
    counts = json.loads((exp / TRAINING_JSON).read_text(encoding="utf-8"))
    return [{"metric": name, "value": value} for name, value in counts.items()]


def fusion_rows(exp: Path) -> list[dict]:
    """Weight of each system of a fusion, named relative to the folder of experiments."""
    members = [os.path.relpath(member, exp / "..") for member in members_of(exp)]
    weights = json.loads((exp / FUSION_JSON).read_text(encoding="utf-8"))["weights"]
    return [
        {"metric": "fusion_weight", "decided": name, "value": f"{weight:.6f}"}
        for name, weight in zip(members, weights, strict=True)
    ]


SOURCES = (
    accuracy_rows,
    density_rows,
    gaussianity_rows,
    autocorrelation_rows,
    fisher_summary,
    agreement_rows,
    training_rows,
)
OF_FUSED = (accuracy_rows, fusion_rows)


def collect(exp: Path) -> list[dict]:
    """All figures of an experiment as rows of ``results.tsv``; none depends on the clock or the load of the machine.

    Raises:
        ValueError: a stage that some figures are from has not run.
    """
    for name, stage in WRITTEN_BY.items():
        if not (exp / name).is_file() and (stage == "decide" or not is_fused(exp)):
            raise ValueError(f"{exp / name}: does not exist; {run_stage(stage)}")
    rows = [row for rows_of in (OF_FUSED if is_fused(exp) else SOURCES) for row in rows_of(exp)]
    return [{column: str(row.get(column, "")) for column in COLUMNS} for row in rows]
