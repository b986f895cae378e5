"""A sweep: one experiment for each value, and a table and a picture of what they found."""

import subprocess
from pathlib import Path

import pytest
import recipe_runs
from recipe_runs import command, counts, environment

from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.plots.sweep_figure import picture
from dnf.report.sweep import finished, main, rows_of, setting

COUNTS = counts(2, 2, 2, 2, 3)


@pytest.fixture
def experiments(small_config, tmp_path):
    """Folder of made-up experiments ``name_train.beta=V``, with and without calibration."""

    def make(values: dict[str, float], name: str = "hybrid", calibrated: bool = False, system: bool = False) -> Path:
        for text, beta in values.items():
            exp = tmp_path / "exp" / f"{name}_train.beta={text}"
            small_config(f"train.beta={beta}").save(exp / "config.yaml")
            rows = []
            for of in ("train", "dev", "test"):
                for kind in ("utt_accuracy", "frame_accuracy", "nll"):
                    for label in ("en", "all"):
                        value = 0.5 + beta / 100 + (0.1 if label == "en" else 0)
                        ends = {} if kind == "nll" else {"low": f"{value - 0.05}", "high": f"{value + 0.05}"}
                        rows.append({"metric": kind, "set": of, "class": label, "value": f"{value}"} | ends)
                if calibrated:
                    rows += [
                        {"metric": m, "set": of, "class": "en+zh", "value": v}
                        for m, v in (("cllr", "0.4"), ("min_cllr", "0.3"))
                    ]
            rows.append(
                {"metric": "utt_accuracy", "set": "other", "class": "en", "value": "0.9", "low": "", "high": ""}
            )
            if system:
                rows = [
                    {"system": s} | r | ({"value": "0.1"} if s == "lda" else {}) for s in ("dnf", "lda") for r in rows
                ]
            columns = COLUMNS if system else [name for name in COLUMNS if name != "system"]
            write_tsv(exp / "results.tsv", rows, columns)
        return tmp_path / "exp"

    return make


def test_values_are_in_order_and_unfinished_experiments_left_out(experiments):
    folder = experiments({"10": 10, "0": 0, "1": 1, "0.5": 0.5})
    (folder / "hybrid_train.beta=3").mkdir()
    assert list(finished(folder, "train.beta")["hybrid"]) == ["0", "0.5", "1", "10"]


def test_table_and_picture_of_every_sweep(experiments, capsys):
    experiments({"0": 0, "10": 10})
    folder = experiments({"1": 1, "2": 2}, name="a_b")
    assert main([str(folder), "train.beta"]) == 0
    out = capsys.readouterr().out
    assert "# a_b against train.beta" in out and "# hybrid against train.beta" in out
    assert "metric          set    0       10\n" in out
    assert "utt_accuracy    dev    0.5000  0.6000\n" in out and "utt_accuracy    other  0.9000  0.9000\n" in out
    for name in ("a_b", "hybrid"):
        assert (folder / "sweeps" / f"{name}_train.beta.png").read_bytes().startswith(b"\x89PNG")
    rows = read_tsv(folder / "sweeps" / "hybrid_train.beta.tsv")
    assert rows[0] == {
        "value": "0",
        "metric": "utt_accuracy",
        "set": "dev",
        "class": "all",
        "figure": "0.5",
        "low": "0.45",
        "high": "0.55",
    }
    assert {row["set"] for row in rows} == {"dev", "test", "other"}


@pytest.mark.parametrize("calibrated", (False, True))
def test_the_calibration_panel_is_there_when_its_figures_are(experiments, calibrated):
    folder = experiments({"0": 0, "3": 3}, calibrated=calibrated)
    rows = [{"value": v} | row for v, exp in finished(folder, "train.beta")["hybrid"].items() for row in rows_of(exp)]
    titles = [axes.get_title() for axes in picture(rows, "hybrid", "train.beta").axes if axes.get_visible()]
    assert ("Cllr (line), minCllr (dashed)" in titles) == calibrated and len(titles) == 3 + calibrated


def test_figures_are_those_of_the_flow_not_of_a_baseline(experiments):
    folder = experiments({"0": 0}, system=True)
    assert {row["figure"] for row in rows_of(folder / "hybrid_train.beta=0") if row["set"] == "dev"} == {"0.5"}


def test_settings_by_name(small_config):
    config = small_config("train.beta=0.25", "prior.cond_r=true", "prior.variances=free")
    assert [setting(config, key) for key in ("train.beta", "prior.cond_r", "prior.variances", "seed")] == [
        "0.25",
        "true",
        "free",
        "1",
    ]
    for key in ("train.bet", "beta", "train.beta.x"):
        with pytest.raises(ValueError, match=f"{key}: not a setting"):
            setting(config, key)


def test_a_folder_without_a_sweep_is_told(tmp_path):
    with pytest.raises(
        ValueError, match=r"no experiment \*_train.beta=\* has a results.tsv; run ./run.sh --sweep train.beta="
    ):
        finished(tmp_path, "train.beta")


# ---- the driver ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_driver_runs_each_value_into_a_folder_of_its_own(tmp_path):
    folder = tmp_path / "run"
    words = ("--exp", "dnf120", "--sweep", "train.beta=0,2.5", "--set", "train.steps=4")
    recipe_runs.run(folder, *COUNTS, *words)
    for value in ("0", "2.5"):
        exp = folder / "exp" / f"dnf120_train.beta={value}"
        assert (exp / "results.txt").is_file() and f"\n  beta: {float(value)}\n" in (exp / "config.yaml").read_text()
    assert not (folder / "exp" / "dnf120").exists()
    assert (folder / "exp/sweeps/dnf120_train.beta.png").is_file()
    assert {row["value"] for row in read_tsv(folder / "exp/sweeps/dnf120_train.beta.tsv")} == {"0", "2.5"}


@pytest.mark.parametrize(
    "words", ("train.beta", "train.beta=", "train.beta=1,,2", "=1", "train.beta=a/b", "train.beta=1, 2")
)
def test_what_is_no_sweep_is_refused(tmp_path, words):
    argv = command("--sweep", words, "--dry-run")
    done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "give KEY=V1,V2,..., such as train.beta=0,1,10" in done.stderr
