"""Predicted expert scores in the graph of the ONNX file, against those of classify."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dnf.decisions import assess
from dnf.decisions.assess import Assessment
from dnf.features.timing import cepstra_of, measures
from dnf.inference.onnx_score import Scores, Timing
from dnf.inference.predicted_score import Utterance, predicted


def recordings(count: int = 12):
    """Frames ``(N, 40)`` and speech marks of made-up recordings; some have flat stretches, or no pause."""
    rng = np.random.default_rng(0)
    for n in range(count):
        length = int(rng.integers(60, 900))
        loudness = np.convolve(rng.normal(0, 3, length + 8), np.ones(9) / 9, "valid") + 8
        spoken = np.convolve(rng.normal(0, 1, length + 40), np.ones(41) / 41, "valid") > (-9, 0, 0.1, -0.1)[n % 4]
        frames = loudness[:, None] + rng.normal(0, 0.5, (length, 40))
        frames = np.where(rng.random(length)[:, None] < 0.1, -15.9, frames) if n % 3 else np.maximum(frames, 8.0)
        yield frames.astype(np.float16).astype(np.float32), spoken


def test_timing_is_that_of_stage_decide(small_config):
    graph, found = Timing(small_config("features.num_filters=40")), []
    for frames, spoken in recordings(40):
        wanted = measures(frames.mean(1), cepstra_of(frames), spoken, 0.01)
        values = graph(torch.from_numpy(frames), torch.from_numpy(spoken)).numpy()
        assert values == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        found.append(values)
    assert (np.std(found, 0) > 0).all(), "each measure differs between the recordings"


def test_onnxruntime_measures_timing_as_pytorch_does(small_config, tmp_path):
    """Also a pause of exactly the least length, which single precision would miss."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")
    import onnxruntime

    graph, path = Timing(small_config("features.num_filters=40")), tmp_path / "timing.onnx"
    made = [(torch.from_numpy(frames), torch.from_numpy(spoken)) for frames, spoken in recordings(30)]
    for _, spoken in made:
        spoken[19:36] = torch.arange(17) % 16 == 0
    axis = {0: torch.export.Dim.AUTO}
    exported = torch.export.export(graph, made[0], dynamic_shapes=(axis, axis), strict=True)
    torch.onnx.export(exported, dynamo=True, opset_version=18, input_names=["frames", "spoken"], verbose=False).save(
        path
    )
    session = onnxruntime.InferenceSession(path)
    for frames, spoken in made:
        (found,) = session.run(None, {"frames": frames.numpy(), "spoken": spoken.numpy()})
        assert found == pytest.approx(graph(frames, spoken).numpy(), abs=1e-5)
        assert found == pytest.approx(
            measures(frames.numpy().mean(1), cepstra_of(frames.numpy()), spoken.numpy(), 0.01), abs=1e-4
        )


ONE_POINT = {"svr": {"C": (1.0,), "gamma": (0.3,)}, "ridge": {"alpha": (10.0,)}}  # quick


def fits(regression: str) -> dict[str, Assessment]:
    """Fits of two scores by all predictors that a recording has."""
    rng, who = np.random.default_rng(1), np.repeat([f"s{n:02d}" for n in range(15)], 4).astype(object)
    sizes = {"duration": 1, "timing": 7, "tempo": 6, "latents": 8, "llr": 1}
    columns = {name: rng.standard_normal((60, size)) for name, size in sizes.items()}
    scores = 5 + sum(x[:, 0] for x in columns.values()) + rng.standard_normal(60)
    return {
        "": Assessment.fit(columns, scores, who, regression),
        "b": Assessment.fit(columns, -scores, who, regression),
    }


@pytest.mark.parametrize("regression", ["svr", "ridge"])
def test_scores_are_those_of_classify(small_config, regression, monkeypatch):
    monkeypatch.setattr(assess, "GRIDS", ONE_POINT)
    config, made, rng = small_config("features.num_filters=40"), fits(regression), np.random.default_rng(2)
    graph, seen = Scores(made, config, 1), []
    for frames, spoken in recordings():
        latents, loglik = rng.standard_normal(8), rng.standard_normal(3)
        times = measures(frames.mean(1), cepstra_of(frames), spoken, 0.01)
        wanted = predicted(made, Utterance(times, latents, loglik, 20), 1)
        tensors = map(torch.from_numpy, (frames, spoken, latents, loglik))
        scores, intervals, parts = (of.numpy() for of in graph(torch.zeros(9), *tensors, torch.tensor(20.0)))
        names = ("predicted_score", "predicted_b"), ("score_low", "score_high", "b_low", "b_high")
        assert scores == pytest.approx([wanted[name] for name in names[0]], abs=6e-4)
        assert intervals.ravel() == pytest.approx([wanted[name] for name in names[1]], abs=6e-4)
        assert parts == pytest.approx(list(wanted["score_parts"].values()), abs=6e-4)
        seen.append(scores)
    assert np.std(seen, 0).min() > 0.05


def test_a_long_recording_has_no_score(small_config, monkeypatch):
    monkeypatch.setattr(assess, "GRIDS", ONE_POINT)
    graph, (frames, spoken) = Scores(fits("ridge"), small_config("features.num_filters=40"), 0), next(recordings())
    rest = torch.from_numpy(frames), torch.from_numpy(spoken), torch.zeros(8), torch.zeros(2), torch.tensor(5.0)
    for seconds, is_known in ((60, True), (60.1, False)):
        for values in graph(torch.zeros(round(seconds * 16000)), *rest):
            assert values.isfinite().all() == is_known
