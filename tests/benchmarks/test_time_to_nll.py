"""Time to NLL: both optimizers train the model, from the same start, and leave a table and one picture."""

import shutil

import pytest

from benchmarks import time_to_nll
from dnf.experiment.tables import read_tsv

LONG = ("train.steps=60", "train.lr=0.003")


@pytest.fixture
def exp(problem, small_config, tmp_path):
    """An experiment on the frames of ``problem``."""
    shutil.copytree(problem, tmp_path / "exp/frames")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/classes.txt").write_text("en\nzh\n")
    small_config(*LONG).save(tmp_path / "exp/small/config.yaml")
    return tmp_path / "exp/small"


def test_each_run_leaves_its_curve(exp, tmp_path, capsys):
    runs = ["adamw", "muon", "muon train.steps=20 train.beta=1"]
    assert time_to_nll.main([str(exp), str(tmp_path / "out"), *runs, "--looks", "4"]) == 0
    tables = {run: read_tsv(tmp_path / "out" / f"{run}.tsv") for run in runs}
    for run, steps in zip(runs, (60, 60, 20)):
        seconds, nll = ([float(row[name]) for row in tables[run]] for name in ("seconds", "nll"))
        assert tables[run][-1]["step"] == str(steps) and seconds == sorted(seconds) and nll[-1] < nll[0]
        assert ("ce" in tables[run][0]) == ("beta" in run)
    assert tables["adamw"][-1]["nll"] != tables["muon"][-1]["nll"]
    assert (tmp_path / "out/time_to_nll.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count(" after ") == 3
    assert not list((tmp_path / "out").glob("*.pt"))


def test_muon_trains_matrices_and_adamw_the_rest(new_trainer):
    trainer = new_trainer()
    both = time_to_nll.MuonAndAdamW(trainer)
    muon, adamw = ({id(p) for g in o.param_groups for p in g["params"]} for o in (both.muon, both.adamw))
    assert muon.isdisjoint(adamw) and muon | adamw == {id(p) for p in trainer.model.parameters()}
    assert muon == {id(p) for p in trainer.model.flow.parameters() if p.dim() == 2}


def test_an_unknown_optimizer_is_named(exp, tmp_path):
    with pytest.raises(ValueError, match="'sgd train.lr=1': begins with no optimizer; use one of: adamw muon"):
        time_to_nll.main([str(exp), str(tmp_path / "out"), "sgd train.lr=1"])
