"""The mini recipe, killed with SIGKILL again and again, ends as if nothing had happened."""

import kill_table
import pytest


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
