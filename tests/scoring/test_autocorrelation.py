"""Autocorrelation of latents: of AR(1) frames with a known coefficient, of innovations, and whatever the batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dnf.features import rows
from dnf.features.windows import Windows
from dnf.metrics.autocorrelation import LAGS
from dnf.models.checkpoint import Trained
from dnf.models.dnf import DNF
from dnf.scoring.gaussianity_rows import autocorrelation_rows
from dnf.scoring.latents import write_latents

CLASSES, ALL = ["en", "zh"], ["en", "ja", "zh"]
COEFFICIENT, OFFSETS = 0.8, {"en": 3.0, "zh": -5.0}  # of AR(1) frames; mean of each class
ONE_FRAME = ("splice.left=0", "splice.right=0", "cmvn.scope=none", "prior.cond_dim=3", "prior.var_c=4")
CONDITIONAL = (
    "flow.kind=conditional", "flow.first=joint", "prior.variances=free", "splice.left=2", "splice.right=0", "cmvn.scope=none",
    "prior.cond_dim=4",
)  # fmt: skip


def ar1(seed: int, lengths: list[int]) -> dict:
    """Utterances of 4-d AR(1) frames of en and zh in turn, and of ja, which no model knows, constant ones."""
    rng, made = np.random.default_rng(seed), {}
    for n, length in enumerate(lengths):
        name, frames = CLASSES[n % 2], rng.standard_normal((length, 4))
        for t in range(1, length):
            frames[t] = COEFFICIENT * frames[t - 1] + math.sqrt(1 - COEFFICIENT**2) * frames[t]
        made[f"s{seed}{n:02d}-u"] = (f"s{seed}{n:02d}", name, 2 * frames + OFFSETS[name], np.ones(length))
        made[f"s{seed}{n:02d}ja-u"] = (f"s{seed}{n:02d}ja", "ja", np.full((9, 4), 7.0), np.ones(9))
    return made


def measured(model: DNF, config, store, out) -> list[dict]:
    """Rows of autocorrelation.tsv."""
    windows = Windows([store], config.splice, config.cmvn, CLASSES, keep_unseen=True, device=torch.device("cpu"))
    trained = Trained(model.eval(), config, CLASSES, {})
    moments, _, autocorrelation = write_latents(trained, windows, ALL, out, 0)
    return autocorrelation_rows("test", moments, autocorrelation, ALL, trained)


@pytest.fixture
def identity(small_config):
    """Make a flow that maps nothing, whose class means are those of the frames; r has the mean 0 always."""

    def make(*words: str) -> tuple[DNF, object]:
        config = small_config(*ONE_FRAME, *words)
        model = DNF.from_config(config, 2)
        with torch.no_grad():
            model.prior.means.copy_(torch.tensor(list(OFFSETS.values()))[:, None].expand(2, 3))
        return model, config

    return make


def test_frames_of_a_known_coefficient_have_its_powers(identity, write_store, tmp_path):
    store = write_store(tmp_path / "store", ar1(0, [2000, 1, 5, 3000, 1500, 2500]))
    of_part = {}
    for row in measured(*identity(), store, tmp_path / "out"):
        of_part.setdefault((row["part"], row["dim"]), []).append(row)
    assert list(of_part) == [("c", 3), ("r", 1)]
    for of_lags in of_part.values():
        assert [(row["lag"], row["seconds"]) for row in of_lags] == [(n, f"{n / 100:g}") for n in LAGS]
        assert {(row["set"], row["classes"]) for row in of_lags} == {("test", "en+zh")}
    pairs = [sum(max(0, n - lag) for n in (2000, 1, 5, 3000, 1500, 2500)) for lag in LAGS]
    assert [row["pairs"] for row in of_part["c", 3]] == pairs
    values = [float(row["autocorrelation"]) for row in of_part["c", 3]]
    np.testing.assert_allclose(values, [COEFFICIENT**lag for lag in LAGS], atol=0.04)
    assert float(of_part["r", 1][-1]["autocorrelation"]) > 0.7  # the class means are not taken away in r


def test_a_hop_makes_lags_longer(identity, write_store, tmp_path):
    store = write_store(tmp_path / "store", ar1(1, [4000, 4000]))
    first = measured(*identity("splice.hop=3"), store, tmp_path / "out")[0]
    assert (first["lag"], first["seconds"]) == (1, "0.03")
    assert float(first["autocorrelation"]) == pytest.approx(COEFFICIENT**3, abs=0.06)


@pytest.mark.parametrize("batch", (1, 4, 11, 26))
def test_batches_change_nothing(identity, write_store, tmp_path, monkeypatch, batch):
    """Utterances end within batches and at their ends; some span several batches."""
    lengths = [13, 2, 40, 26, 11]
    utterances = ar1(2, lengths)
    store = write_store(tmp_path / "store", utterances)
    monkeypatch.setattr(rows, "BATCH", batch)
    found = [row for row in measured(*identity(), store, tmp_path / "out") if row["part"] == "c"]
    x = [np.float32(frames[:, :3]) - OFFSETS[name] for _, name, frames, _ in utterances.values() if name in OFFSETS]
    for row, lag in zip(found, LAGS, strict=True):
        a, b = (np.concatenate(part) for part in zip(*((u[:-lag], u[lag:]) for u in x)))
        assert row["pairs"] == len(a)
        assert float(row["autocorrelation"]) == pytest.approx(
            (2 * (a * b).sum(0) / (a**2 + b**2).sum(0)).mean(), rel=1e-5
        )


def test_a_set_without_known_classes_or_neighbours_has_no_rows(identity, write_store, tmp_path):
    for name, utterances in (
        ("unknown", {"j-u": ("j", "ja", np.ones((5, 4)), np.ones(5))}),
        ("single", {"e-u": ("e", "en", np.ones((1, 4)), np.ones(1))}),
    ):
        assert measured(*identity(), write_store(tmp_path / name, utterances), tmp_path / "out") == []


def test_latents_of_a_conditional_flow_are_uncorrelated_and_those_of_windows_are_not(
    new_trainer, write_store, tmp_path
):
    """Before step 1 the flow is the Gaussian that predicts a frame from those before; AR(1) frames need no better one."""
    for name, seed in (("train", 3), ("dev", 4)):
        store = write_store(tmp_path / "frames" / name, ar1(seed, [1500] * 4))
    lag1 = {}
    for kind, words in (("conditional", CONDITIONAL), ("windows", (*ONE_FRAME, "splice.left=2"))):
        trainer = new_trainer(*words, out=kind, stores=tmp_path / "frames")
        lag1[kind] = float(measured(trainer.model, trainer.config, store, tmp_path / "out")[0]["autocorrelation"])
    assert abs(lag1["conditional"]) < 0.03 and lag1["windows"] > 0.5
