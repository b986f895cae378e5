"""The mini recipe, killed with SIGKILL again and again, ends as if nothing had happened."""

import os

import kill_table
import pytest

from dnf.experiment.config import resolve
from dnf.experiment.layout import Layout
from dnf.experiment.stage import begin, finish
from dnf.experiment.tables import read_tsv
from dnf.training.history import COLUMNS, History


@pytest.mark.slow
def test_killed_at_twelve_random_moments(tmp_path):
    rows, same = kill_table.make_table(tmp_path, moments=12, seed=1)
    shown = "\n".join("  ".join(row.cells()) for row in rows)
    assert same, shown
    assert len(rows) == 12 and all(row.equal for row in rows), shown
    assert all(row.killed and row.outlived == 0 for row in rows), shown
    assert {row.victim for row in rows} == set(kill_table.VICTIMS)
    assert len({row.stage for row in rows}) >= 7 and "from step" in shown, shown
    reference, killed = (
        sorted(str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*") if "tb" not in p.parts)
        for name in ("reference", "killed")
    )
    assert killed == reference  # nothing half made is left, and nothing is missing


def test_moments_are_drawn_from_the_seed():
    rows = kill_table.draw(12, 1)
    assert rows == kill_table.draw(12, 1) != kill_table.draw(12, 2)
    assert {row.stage for row in rows} == set(kill_table.STAGES)
    assert [row.victim for row in rows].count("everything") == 3


def test_a_difference_is_seen(tmp_path):
    for name, text in (("reference", "1"), ("killed", "2")):
        folder = tmp_path / name / "exp" / kill_table.EXP
        folder.mkdir(parents=True)
        (folder / "results.tsv").write_text(text)
        (folder / ".done.report").touch()
    rows = [kill_table.Row(1, "report", 0.5, "task"), kill_table.Row(2, "train", 0.5, "task")]
    kill_table.compare(rows, tmp_path / "killed", tmp_path / "reference")
    assert [row.equal for row in rows] == [False, None]


def test_a_marker_reaches_the_disk_after_what_it_vouches_for(tmp_path, monkeypatch):
    layout = Layout(*(tmp_path / name for name in ("data", "feats", "frames", "exp")))
    seen = []
    monkeypatch.setattr(os, "sync", lambda: seen.append(layout.marker("data").exists()))
    for force in (False, True):
        begin("data", resolve([]), layout, "", [], force=force)
        finish("data", resolve([]), layout, "", [])
    assert seen == [False] * 4  # gone before the stage writes anew, and there only after all of it
    assert layout.marker("data").exists()


def test_a_row_that_a_power_cut_tore_is_dropped(tmp_path):
    rows = ["\t".join(COLUMNS), "\t".join(["10", "0.5", "1.0"] + ["1"] * (len(COLUMNS) - 3)), "2\t0.8"]
    (tmp_path / "history.tsv").write_text("\n".join(rows))
    with History(tmp_path, 20) as history:
        history.write(30, 1.5, 100, {"nll": 2.0})
    assert [row["step"] for row in read_tsv(tmp_path / "history.tsv")] == ["10", "30"]
