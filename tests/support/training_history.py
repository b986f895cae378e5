"""The history of a training run."""

import csv
from pathlib import Path


def history(out: Path, without=("seconds", "frames_per_s")) -> list[dict]:
    with (out / "history.tsv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file, delimiter="\t")]
