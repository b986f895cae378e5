"""What the files of a finished experiment must hold to be of any use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from dnf.experiment.config import Config
from dnf.experiment.tables import read_tsv
from dnf.models import checkpoint


def check_experiment(exp: Path) -> None:
    """Settings, environment, training, checkpoints, results and report can be read and go together."""
    config = Config.load(exp / "config.yaml")
    assert json.loads((exp / "env.json").read_text())["torch"]
    steps = [int(row["step"]) for row in read_tsv(exp / "history.tsv")]
    assert steps and steps == sorted(set(steps))
    for name in ("best.pt", "last.pt"):
        assert checkpoint.load(exp / name)["config"]["seed"] == config.seed
    shapes = read_tsv(exp / "gaussianity.tsv")
    assert shapes and all(np.isfinite(float(row["skew"])) for row in shapes)
    values = {row["metric"]: row["value"] for row in read_tsv(exp / "results.tsv") if not row["set"]}
    assert f"\nsteps {values['steps']}\n" in (exp / "results.txt").read_text()
    page = (exp / "report.html").read_text()
    assert "<h2>training</h2>" in page and page.endswith("</html>\n")


def check_picture(path: Path, dpi: int) -> None:
    """A PNG as wide as all, 6 inches, not too tall, and not blank."""
    image = Image.open(path)
    image.load()
    assert image.format == "PNG" and image.width == 6 * dpi and 2 * dpi <= image.height <= 24 * dpi
    assert np.asarray(image.convert("L")).std() > 5
