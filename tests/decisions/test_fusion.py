"""Fusion of systems: weights against known optima, and dev without the speaker."""

import dataclasses

import numpy as np
import pytest

from dnf.decisions.calibration import Calibration
from dnf.decisions.evidence import Evidence
from dnf.decisions.fusion import Fusion, centred
from dnf.experiment.config import resolve
from dnf.metrics import detection

SETTINGS = resolve([]).calibrate
PLAIN = dataclasses.replace(SETTINGS, pseudo_speakers=1e-6, duration=False)


def systems(speakers: int, draws: int, number: int = 2, seed: int = 0) -> list[Evidence]:
    """Evidence of systems whose log-likelihood ratios are independent given the class, normal with mean +-1 and variance 2."""
    rng = np.random.default_rng(seed)
    utts = [
        {"utt": f"{name}{s}-{n}", "speaker": f"{name}{s}", "class": name}
        for name in ("a", "b")
        for s in range(speakers)
        for n in range(draws)
    ]
    sign = np.where([utt["class"] == "a" for utt in utts], 1, -1)
    ratios = [sign + np.sqrt(2) * rng.standard_normal(len(utts)) for _ in range(number)]
    ones = np.ones(len(utts), dtype=np.int64)
    return [Evidence(["a", "b"], utts, np.stack([ratio / 2, -ratio / 2], 1), ones) for ratio in ratios]


def test_independent_systems_add_and_a_system_named_twice_shares_its_weight():
    one, two = systems(2000, 2)
    fusion = Fusion.fit([one, two], PLAIN)
    assert fusion.weights == pytest.approx([1, 1], abs=0.08) and fusion.offsets == pytest.approx([0, 0], abs=0.05)
    assert sum(Fusion.fit([one, one], PLAIN).weights) == pytest.approx(1, abs=1e-3)
    target = np.array([utt["class"] == "a" for utt in one.utts])
    ratio = lambda loglik: loglik[:, 0] - loglik[:, 1]  # noqa: E731
    fused = ratio(fusion.loglik([one, two]))
    alone = ratio(Calibration.fit(one, PLAIN).loglik(one))
    assert detection.cllr(fused, target) < detection.cllr(alone, target) - 0.1
    exact = ratio(one.mean + two.mean)  # the log-likelihood ratio of both
    assert detection.cllr(fused, target) == pytest.approx(detection.cllr(exact, target), abs=0.002)


def test_a_system_that_knows_nothing_gets_no_weight_and_none_is_negative():
    one, noise = systems(200, 2)
    noise = noise._replace(mean=-one.mean)
    weights = Fusion.fit([one, noise], SETTINGS).weights
    assert weights[0] > 0.5 and 0 <= weights[1] < 2  # of log-likelihoods that are 0


def test_dev_is_scored_by_fits_without_the_speaker():
    both = systems(4, 3, seed=3)
    left_out = Fusion.left_out(both, SETTINGS)
    out = np.array([utt["speaker"] == "a2" for utt in both[0].utts])
    kept = [system.only(np.flatnonzero(~out)) for system in both]
    rest = [system.only(np.flatnonzero(out)) for system in both]
    np.testing.assert_allclose(left_out[out], Fusion.fit(kept, SETTINGS).loglik(rest))
    assert not np.allclose(left_out, Fusion.fit(both, SETTINGS).loglik(both))
    single = [system.only(np.arange(3, 15)) for system in both]
    few = [
        system.only(np.array([u for u in range(12) if system.utts[u]["speaker"] in ("a1", "b0", "b1")]))
        for system in single
    ]
    assert Fusion.left_out(few, SETTINGS) is None  # a1 is the only speaker of a


def test_a_fusion_is_saved_and_read(tmp_path):
    both = systems(4, 3)
    fusion = Fusion.fit(both, SETTINGS)
    fusion.save(tmp_path / "fusion.json")
    again = Fusion.load(tmp_path / "fusion.json")
    assert again == fusion
    np.testing.assert_array_equal(again.loglik(both), fusion.loglik(both))
    assert np.allclose(centred(fusion.calibrations, both).sum(2), 0)
    (tmp_path / "fusion.json").write_text("{}")
    with pytest.raises(ValueError, match="not a fusion"):
        Fusion.load(tmp_path / "fusion.json")
