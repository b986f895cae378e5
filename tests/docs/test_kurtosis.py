"""The script behind docs/kurtosis.md: its batch normalization is a flow, and it prints a row for each way to score."""

import importlib.util

import pytest
import torch
from flow_checks import jacobian_logdet, vectors
from recipe_runs import ROOT

from benchmarks.ours import make_store


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("kurtosis", ROOT / "docs" / "kurtosis.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_batch_normalization_standardizes_the_batch_and_then_what_it_remembers(script):
    norm, x = script.BatchNorm(3), vectors(500, 3).float() + 7
    z, _ = norm(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), rtol=1e-4, atol=0)
    norm.eval()
    of = {}
    for norm.statistics in ("average", "last", "first"):
        of[norm.statistics], logdet = norm(x[:5])
        torch.testing.assert_close(logdet, jacobian_logdet(norm, x[:5]))
    torch.testing.assert_close(of["last"], z[:5])
    torch.testing.assert_close(of["first"], x[:5])
    torch.testing.assert_close(
        of["average"], (x[:5] - 0.1 * x.mean(0)) / (0.9 + 0.1 * x.var(0, correction=0)).sqrt(), rtol=1e-4, atol=1e-5
    )


def test_the_script_prints_a_row_for_each_way_to_score(script, tmp_path, capsys):
    for name in ("train", "dev"):
        make_store(tmp_path / name, 3000, 40)
    size = ["--steps", "2", "--set", "flow.blocks=2", "flow.hidden=8", "train.batch_size=100"]
    script.main([str(tmp_path), "--classes", "a", "b", "--apart", "0", *size])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("plain", "batch"))]
    assert [row[0] for row in rows] == ["plain, means of the data"] * 2 + ["batch norm, means of the data"] * 10
    assert [row[1] for row in rows[::2]] == [
        "evaluation", "training", "training, utterances in order", "evaluation, average", "evaluation, last", "evaluation, first",
    ]  # fmt: skip
    for row in rows:
        assert all(torch.isfinite(torch.tensor([float(value) for value in row[3:-1]])))
        assert float(row[8]) == pytest.approx(0, abs=0.1)  # kurtosis of Gaussian frames
