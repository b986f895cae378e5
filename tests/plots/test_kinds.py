"""Every kind of picture of the table: it is drawn on a tiny experiment, readable, of bounded size and not blank."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_experiment import write_experiment
from experiment_files import check_picture

from dnf.experiment.config import Config
from dnf.experiment.tables import write_tsv
from dnf.metrics.trials import Trials
from dnf.plots import assess_figures, draw, style
from dnf.plots.detection_figures import detection_figure, make_plots
from dnf.plots.kinds import KINDS, drawers, kind_of

SETS = {"train": {"ce": 6, "en": 6}, "test": {"ce": 3, "en": 3, "je": 3}}


def trials(classes: list[str], errors: int = 2) -> Trials:
    """Twelve utterances of two classes, the first ``errors`` of them on the wrong side."""
    labels = np.arange(12) % 2
    mean = np.where(labels[:, None] == np.arange(2), 1.0, 0.0)
    mean[:errors] = mean[:errors, ::-1]
    names = np.array([f"u{i:02d}" for i in range(12)])
    scores = {"mean": mean, "calibrated": mean, "frames": np.full(12, 100)}
    return Trials(names, names, np.array(classes)[labels], scores, classes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folder of the pictures of all stages of two experiments, one of which knows no classes, and of a sweep."""
    root = tmp_path_factory.mktemp("kinds")
    exp = write_experiment(root / "exp", ["ce", "en"], 3, SETS)
    fisher = [("test", "ce+en", part, i, f"{1 / (1 + i)}") for part in "crx" for i in range(5)]
    write_tsv(exp / "fisher.tsv", [dict(zip(("set", "classes", "part", "dim_index", "fisher"), row)) for row in fisher])
    pieces = [
        {"set": "test", "seconds": seconds, "speaker": f"{c}{s}", "class": c, "decision": "ce", "frames": 100}
        for seconds in (1, 3)
        for c in ("ce", "en")
        for s in range(6)
    ]
    write_tsv(exp / "pieces.tsv", pieces)
    draw.make_plots(exp)
    make_plots(exp, {"dnf": {"test": trials(["ce", "en"])}}, {"dnf": {}}, Config.load(exp / "config.yaml"))
    scored = [
        {"speaker": f"s{n % 5}", "score": n % 7, "fused": n % 6 + 0.5, "loglik": -n % 11, "seconds": 1 + n % 9}
        for n in range(30)
    ]
    (exp / "assess").mkdir()
    write_tsv(exp / "assess" / "test.tsv", scored)
    assess_figures.make_plots(exp, Config.load(exp / "config.yaml"))
    plain = write_experiment(root / "plain", ["en"], 0, SETS)
    draw.make_plots(plain)
    rows = [
        {"value": value, "metric": metric, "set": "test", "figure": figure, "low": "0.4", "high": "0.9"}
        for metric in ("utt_accuracy", "cllr", "min_cllr")
        for value, figure in (("0", "0.5"), ("1", "0.7"))
    ]
    for drawer in drawers("sweep"):
        style.write_figures(drawer(rows, "sweep_beta", "exp", "train.beta"), root / "sweeps", 200)
    return [path for folder in ("exp/plots", "plain/plots", "sweeps") for path in sorted((root / folder).glob("*.png"))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_and_is_a_picture(pictures, kind):
    of_kind = [path for path in pictures if kind_of(path.stem) == kind]
    assert of_kind
    for path in of_kind:
        assert path.stat().st_size < 1_000_000
        check_picture(path, 200)


def test_every_picture_is_of_a_kind_with_a_caption(pictures):
    assert all(kind_of(path.stem) for path in pictures) and all(kind.caption for kind in KINDS.values())


def test_the_longest_name_of_a_kind_wins():
    assert kind_of("scatter_r_test") == "scatter_r" and kind_of("scatter_test") == "scatter"
    assert kind_of("curves") == "curves" and not kind_of("something_else")


def test_systems_without_errors_are_one_line_of_text_and_reliability_joins_no_points():
    systems = {"dnf": trials(["ce", "en"], 0), "gmm": trials(["ce", "en"]), "mlp": trials(["ce", "en"], 0)}
    figure = detection_figure("test", "exp", {name: (of, of) for name, of in systems.items()}, "other")
    det, reliability = figure.axes
    entries = [text.get_text().replace("\u00a0", " ") for text in det.get_legend().get_texts()]
    assert entries[:2] == ["gmm: EER 16.7 %", "gmm, control other: EER 16.7 %"]
    assert entries[2:] == ["dnf, mlp: no errors", "dnf, mlp, control other: no errors"]
    assert len(det.lines) == 5  # curve and dot of one system and its control, and the diagonal
    assert [bars[0].get_linestyle() for bars in reliability.containers] == ["None"] * 3
    det, _ = detection_figure("test", "exp", {"dnf": (trials(["ce", "en"], 0), None)}, "").axes
    assert len(det.lines) == 1 and [text.get_text() for text in det.texts] == ["no errors"]
