"""Trivial systems: what they read, and that bands tell channels apart and nothing else."""

import numpy as np
import pytest

from dnf.decisions.trivial import Bands, Trivial
from dnf.experiment.config import resolve
from dnf.metrics.detection import auc
from dnf.scoring.channel_statistics import statistics
from dnf.scoring.latent_store import Latents
from dnf.scoring.latent_writer import write_utterances

FREQUENCIES = np.geomspace(100, 7000, 20)


def vectors(labels: list[str], seed: int, tilt: float) -> np.ndarray:
    """Channel statistics ``(U, S)`` of noise whose spectrum rises by ``tilt`` nats more over the bins where the class is en."""
    rng, found = np.random.default_rng(seed), []
    for label in labels:
        frames = 10 + rng.standard_normal((60, 20)) + 0.3 * rng.standard_normal(20)
        frames += (label == "en") * tilt * np.linspace(0, 1, 20)
        found.append(statistics([(frames, np.arange(60) % 3 > 0)], FREQUENCIES))
    return np.stack(found).astype(np.float32)


@pytest.fixture
def exp(tmp_path):
    """Latents of train and test with the statistics of a channel that differs by class in ``tilted`` and not in ``alike``."""
    for seed, (name, tilt) in enumerate({"train": 1.0, "tilted": 1.0, "alike": 0.0}.items()):
        labels = ["en", "zh", "ja"] * 30
        utts = [
            {"utt": f"u{n}", "speaker": f"s{n}", "class": label, "set": name, "score": ""}
            for n, label in enumerate(labels)
        ]
        write_utterances(tmp_path / "latents" / name, ["en", "zh"], utts, np.zeros((90, 2)))
        np.save(tmp_path / "latents" / name / "channel.npy", vectors(labels, seed, tilt))
    return tmp_path


def test_bands_tell_apart_what_training_differs_in(exp):
    trivial = Trivial.open(exp, resolve(["data.classes=[en, zh]"]))
    for name, low, high in (("tilted", 0.95, 1.0), ("alike", 0.35, 0.65)):
        found = trivial.scores(name, ["zh", "en"])
        labels = np.array([utt["class"] for utt in Latents.open(exp / "latents" / name).utts])
        known = labels != "ja"
        ratio = found["bands"][:, 1] - found["bands"][:, 0]  # of en, which comes second
        assert low <= auc(ratio[known], labels[known] == "en") <= high
        assert found.keys() == {"duration", "level", "bands"}  # there are no frames
        np.testing.assert_allclose(
            found["level"], vectors(list(labels), 1 if name == "tilted" else 2, name == "tilted")[:, 20]
        )


def test_bands_of_training_are_kept_for_a_model_on_other_data(exp):
    config = resolve(["data.classes=[en, zh]"])
    before = Trivial.open(exp, config).scores("tilted", ["en", "zh"])
    (exp / "model.json").write_text("{}")
    (exp / "latents/train/channel.npy").unlink()
    after = Trivial.open(exp, config).scores("tilted", ["en", "zh"])
    np.testing.assert_array_equal(before["bands"], after["bands"])
    (exp / "bands.npz").unlink()
    assert "bands" not in Trivial.open(exp, config).scores("tilted", ["en", "zh"])
    assert Trivial.open(exp, resolve(["features.kind=vectors"])) is None


def test_a_class_without_training_utterances_has_no_bands(exp):
    latents = Latents.open(exp / "latents/train")
    only = latents._replace(utts=[utt for utt in latents.utts if utt["class"] != "zh"])
    assert Bands.fit(only, vectors(["en"] * len(only.utts), 0, 0.0)) is None
