"""``plots.enabled=false``: no stage draws, pictures of earlier runs go, and the page does without."""

from drawn_experiment import write_experiment

from dnf.experiment.config import resolve
from dnf.metrics.figure_rows import COLUMNS
from dnf.plots import detection_figures, draw
from dnf.report import html


def test_no_stage_draws_and_no_page_shows_what_others_left(tmp_path):
    exp = write_experiment(tmp_path / "exp", ["ce", "en"], 3, {"train": {"ce": 2, "en": 2}})
    config = resolve(["plots.enabled=false"])
    config.save(exp / "config.yaml")
    (exp / "plots").mkdir()
    for name in ("curves", "detection_test"):
        (exp / "plots" / f"{name}.png").write_bytes(b"an old picture")
    row = {"metric": "utt_accuracy", "system": "dnf", "set": "train", "class": "all", "value": "1"}
    rows = "\n".join(["\t".join(COLUMNS), "\t".join(row.get(name, "") for name in COLUMNS)])
    (exp / "results.tsv").write_text(rows + "\n")
    html.main([str(exp)])
    assert "<img" not in (exp / "report.html").read_text()
    assert draw.make_plots(exp) == [] and [path.name for path in (exp / "plots").iterdir()] == ["detection_test.png"]
    assert detection_figures.make_plots(exp, {}, {}, config) == [] and not list((exp / "plots").iterdir())
