"""Doubt: foreign recordings and sets are found, held-out speakers are not, and ratios change as copies of dev say."""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from dnf.decisions.calibration import Calibration
from dnf.decisions.channel_bias import ChannelBias
from dnf.decisions.decide import control_rows
from dnf.decisions.detection_rows import trials_of
from dnf.decisions.doubt import FALSE_ALARM, FOREIGN, PRICE, Doubt, Home, limit_for_new_speakers, words
from dnf.decisions.doubt_sets import learn
from dnf.decisions.evidence import Evidence
from dnf.decisions.open_set import threshold, weights_of
from dnf.experiment.config import resolve
from dnf.metrics.detection import cllr
from dnf.metrics.trials import with_control
from dnf.scoring.channel_model import ChannelModel, left_out_distances
from dnf.scoring.channel_statistics import Statistics, profile, statistics
from dnf.scoring.shifted_evidence import Shifted

BINS = 20
FREQUENCIES = np.geomspace(100, 7000, BINS)


def recordings(speakers: int, seed: int, change=lambda frames: frames) -> tuple[np.ndarray, list[str]]:
    """Statistics of three made-up recordings of each speaker, who has a level and a spectrum, and the speakers."""
    rng, vectors, names = np.random.default_rng(seed), [], []
    for speaker in range(speakers):
        voice = 12 + rng.normal(0, 1) + np.cumsum(rng.normal(0, 0.3, BINS))
        for _ in range(3):
            loud = np.repeat(rng.random(40) < 0.7, 5)
            frames = voice + rng.normal(0, 1.5, (200, BINS)) + np.where(loud, 0, -6)[:, None]
            vectors.append(statistics([(change(frames), loud)], FREQUENCIES))
            names.append(f"{seed}-{speaker}")
    return np.stack(vectors), names


@pytest.fixture(scope="module")
def channels() -> ChannelModel:
    vectors, names = recordings(40, 1)
    return ChannelModel.fit(vectors, ["read"] * len(names), names, FREQUENCIES)


def reverberant(frames: np.ndarray) -> np.ndarray:
    """Frames with the energy of each before it, a quarter less each time."""
    heard = frames.copy()
    for n in range(1, len(frames)):
        heard[n] = np.logaddexp(frames[n], heard[n - 1] + np.log(0.75))
    return heard


SHIFTS = {
    "band limited": lambda frames: frames - np.where(FREQUENCIES > 3400, 25, 0),
    "floor|range|contrast": lambda frames: np.logaddexp(frames, 11.0),
    "louder": lambda frames: frames + 5.0,
    "slower decay": lambda frames: reverberant(frames),
    "spectral tilt": lambda frames: frames + np.log2(FREQUENCIES / 1000),
}


@pytest.mark.parametrize("wanted", SHIFTS)
def test_a_set_with_another_channel_is_foreign_and_the_difference_is_named(channels, wanted):
    verdict = channels.compare_set(*recordings(20, 100, SHIFTS[wanted]))
    assert verdict.is_foreign and any(word in verdict.sentence for word in wanted.split("|")), verdict
    assert verdict.remains == (wanted not in ("louder", "spectral tilt")), (
        "normalization removes level and tilt, and only these"
    )


def test_sets_of_held_out_speakers_are_not_foreign(channels):
    verdicts = [channels.compare_set(*recordings(7, seed)) for seed in range(200, 240)]
    assert sum(verdict.is_foreign for verdict in verdicts) <= 2, [verdict.errors for verdict in verdicts]
    assert verdicts[0].sentence == "like training as a set (21 recordings of 7 speakers)"


def test_a_small_difference_of_many_speakers_does_not_make_a_set_foreign(channels):
    verdict = channels.compare_set(*recordings(200, 400, lambda frames: frames + 2.0))
    assert verdict.errors > verdict.limit and not verdict.is_foreign and not verdict.unlike


def test_a_small_difference_beside_the_level_does_not_remain_after_normalization(channels):
    vectors, names = recordings(200, 400, lambda frames: np.logaddexp(frames, 4.0) + 5.0)
    verdict = channels.compare_set(vectors, names)
    assert verdict.is_foreign and not verdict.remains


def test_vectors_are_compared_with_those_of_training():
    """Speakers, and recordings of each, around the origin in 30 dims; other data are three off in one of them."""
    rng, axis = np.random.default_rng(0), np.eye(30)[7]
    speakers = [f"s{n}" for n in range(60) for _ in range(3)]

    def drawn() -> np.ndarray:
        return np.repeat(rng.normal(0, 0.7, (60, 30)), 3, axis=0) + rng.normal(0, 0.7, (180, 30))

    model = ChannelModel.fit(drawn(), ["read"] * 180, speakers, np.zeros(0))
    home, few = drawn(), slice(0, 30)
    assert (
        not model.compare_set(home, speakers).is_foreign and not model.compare_set(home[few], speakers[few]).is_foreign
    )
    verdict = model.compare_set(home[few] + 3 * axis, speakers[few])
    assert verdict.is_foreign and verdict.remains and verdict.sentence.endswith(": different vectors")
    unlike = [model.compare(vector + 10 * axis).unlike for vector in home[few]]
    assert unlike == [["different vectors"]] * 30
    assert sum(bool(model.compare(vector).unlike) for vector in home) <= 9


def test_one_odd_recording_does_not_make_a_set_foreign(channels):
    vectors, names = recordings(7, 300)
    vectors[0] += 50.0
    assert not channels.compare_set(vectors, names).is_foreign


def test_statistics_are_taken_apart_as_they_were_put_together():
    rng = np.random.default_rng(0)
    frames, speech = rng.normal(10, 3, (300, 8)), rng.random(300) < 0.6
    parts = Statistics.of(statistics([(frames, speech)], np.geomspace(100, 7000, 8)))
    mean = frames[speech].mean(0)
    np.testing.assert_allclose(parts.spectrum + parts.level, mean)
    np.testing.assert_allclose(parts.spread, frames[speech].std(0))
    np.testing.assert_allclose(parts.floor, np.quantile(frames, 0.1, axis=0, method="inverted_cdf") - mean, atol=0.1)
    np.testing.assert_allclose(parts.dynamics, np.sqrt((np.diff(frames, axis=0) ** 2).mean(0)))
    slopes = frames[4:] - frames[:-4]
    rises, falls = (np.sqrt((np.maximum(side, 0) ** 2).mean(0)) for side in (slopes, -slopes))
    np.testing.assert_allclose(parts.decay, np.log(falls / rises), atol=1e-6)
    assert (parts.share, parts.duration) == (speech.mean(), np.log(300))


class Fitted(NamedTuple):
    """Doubt of a model whose ratios move to one class in noise and stay in a band, with dev and its noisy copies."""

    doubt: Doubt
    dev: Evidence
    noisy: Evidence
    calibration: Calibration
    density: np.ndarray
    vectors: np.ndarray
    noise: np.ndarray


@pytest.fixture(scope="module")
def fitted(channels) -> Fitted:
    rng = np.random.default_rng(5)
    vectors, names = recordings(40, 500)
    noise, band = (recordings(40, 500, SHIFTS[name])[0] for name in ("floor|range|contrast", "band limited"))
    labels = np.where([int(name.split("-")[1]) % 2 for name in names], "en", "ce")
    utts = [{"utt": f"{name}-{n}", "class": of, "speaker": name} for n, (of, name) in enumerate(zip(labels, names))]

    def evidence(offset: float) -> Evidence:
        ratio = np.where(labels == "en", 1.0, -1.0) + rng.normal(0, 0.7, len(labels)) + offset
        return Evidence(["ce", "en"], utts, np.stack([-ratio / 2, ratio / 2], 1), np.full(len(labels), 100))

    dev, noisy, plain = evidence(0.0), evidence(-2.5), evidence(0.0)
    calibration, density = Calibration.fit(dev, resolve([]).calibrate), rng.normal(-100, 5, len(labels))
    shifted = Shifted(
        np.repeat(["noise", "band"], len(labels)),
        np.tile([utt["utt"] for utt in utts], 2),
        np.tile(labels, 2),
        np.tile(names, 2),
        np.concatenate([noisy.mean, plain.mean]),
        np.full(2 * len(labels), 100),
        np.concatenate([noise, band]),
    )
    doubt = Doubt.fit(Home(list(zip(labels, names)), channels.distances(vectors), density, dev.frames))
    doubt = learn(doubt, dev, vectors, shifted, calibration, channels, resolve([]))
    return Fitted(doubt, dev, noisy, calibration, density, vectors, noise)


def columns_of(evidence: Evidence) -> np.ndarray:
    return np.array(evidence.columns([utt["class"] for utt in evidence.utts]))


def test_the_bias_of_noise_is_subtracted_and_home_has_none(fitted, channels):
    doubt, dev, noisy, calibration, _, vectors, noise = fitted
    bias = doubt.bias(channels.profiles_of(noise))
    assert bias[:, 1] - bias[:, 0] == pytest.approx(-2.5, abs=1.0) and (bias[:, 1] - bias[:, 0]).mean() < -2.0
    before, after, least = (
        cllr(calibration.loglik(of), columns_of(of)) for of in (noisy, noisy.without(bias.mean(0)), dev)
    )
    assert before > 1.2 and after < least + 0.1
    assert abs(doubt.bias(channels.profiles_of(vectors)).mean(0)).max() < 0.2
    assert doubt.bias(channels.profiles_of(vectors) + 1e3) == pytest.approx(0.0), "nothing is known so far away"


def test_the_bias_does_not_depend_on_the_class_or_the_speaker_of_a_copy(fitted, channels):
    """Copies and originals of a class lie elsewhere, as those of another corpus do: only their differences count."""
    _, dev, noisy, calibration, _, vectors, noise = fitted
    labels, names = columns_of(dev), np.array([utt["speaker"] for utt in dev.utts])
    place = 3.0 * labels[:, None] * np.array(channels.scale)
    home, scale = np.array(channels.profiles).mean(0), np.array(channels.scale)
    profiles = [channels.profiles_of(of) + place for of in (vectors, noise)]
    bias, left_out = ChannelBias.fit(home, scale, profiles[1] - profiles[0], noisy.mean - dev.mean, names, 120)
    gap = (left_out[:, 1] - left_out[:, 0])[labels == 1].mean() - (left_out[:, 1] - left_out[:, 0])[labels == 0].mean()
    assert abs(gap) < 0.3 and left_out.mean() == pytest.approx(0.0, abs=1e-9)
    alone, none = ChannelBias.fit(
        home, scale, profiles[1] - profiles[0], noisy.mean - dev.mean, np.repeat("s", 120), 120
    )
    assert (alone.weights == bias.weights).all() and not none.any(), "one speaker cannot be left out"


def test_foreign_recordings_have_a_factor_that_costs_unharmed_ones_little(fitted):
    doubt, dev, calibration = fitted.doubt, fitted.dev, fitted.calibration
    assert doubt.factor(np.array([True, False])).tolist() == [doubt.foreign, 1.0] and 0.25 <= doubt.foreign < 1
    foreign, home = (cllr(f * calibration.loglik(dev), columns_of(dev)) for f in (doubt.foreign, 1.0))
    assert home < foreign < home + 1.5 * PRICE


@pytest.mark.parametrize("speakers", [4, 8, 20])
def test_few_recordings_of_new_speakers_are_beyond_the_limit(speakers):
    """Speakers differ more than the recordings of each; a quantile alone is far too low for few of them."""
    rng, shares = np.random.default_rng(speakers), {"limit": [], "quantile": []}
    names = [(f"c{n % 2}", f"s{n}") for n in range(speakers) for _ in range(15)]
    for _ in range(200):
        known, new = (rng.normal(0, 1.3, (count, 1)) + rng.normal(0, 0.7, (count, 15)) for count in (speakers, 200))
        limits = {
            "limit": limit_for_new_speakers(known.ravel(), names),
            "quantile": threshold(known.ravel(), FALSE_ALARM, weights_of(names)),
        }
        for name, limit in limits.items():
            shares[name].append((new > limit).mean())
    assert 0.02 < np.mean(shares["limit"]) < 1.2 * FALSE_ALARM
    assert speakers > 4 or np.mean(shares["quantile"]) > 1.7 * FALSE_ALARM


def test_left_out_distances_are_of_fits_without_the_speaker():
    vectors, names = recordings(12, 700)
    apart = left_out_distances(profile(vectors), ["read"] * len(names), names)
    fit = ChannelModel.fit(vectors, ["read"] * len(names), names, FREQUENCIES)
    fresh = fit.distances(recordings(40, 800)[0])
    assert fit.distances(vectors).mean() < 1.05 < apart.mean() and 0.7 < apart.mean() / fresh.mean() < 1.3


def test_a_set_and_its_control_are_compared_without_doubt(fitted):
    """The control is the set itself, doubted: only what users get may differ."""
    dev, settings = fitted.dev, resolve([])
    loglik = fitted.calibration.loglik(dev)
    of_set, control = (trials_of(dev, loglik, ["en", "ce"], {}, doubted=doubted) for doubted in (None, loglik / 2))
    system = SimpleNamespace(config=settings, draw=(20, 1))
    rows = control_rows(system, of_set, control, with_control(of_set, control), "test")
    found = {row["metric"]: float(row["value"]) for row in rows if row["class"] == "en+ce"}
    columns = columns_of(dev)
    plain, halved = cllr(loglik, columns), cllr(loglik / 2, columns)
    assert found["cllr_control"] == pytest.approx(halved, abs=1e-6) and halved > plain + 0.01
    assert found["cllr_without_doubt"] == found["cllr_without_doubt_control"] == pytest.approx(plain, abs=1e-6)
    assert found["cllr_without_doubt_control_gap"] == 0 and "cllr_control_gap" not in found
    moved = trials_of(dev, loglik, ["en", "ce"], {}, doubted=loglik + [99.0, 0.0])
    rows = control_rows(system, of_set, moved, with_control(of_set, moved), "test")
    gaps = {row["class"]: row["value"] for row in rows if row["metric"] == "utt_accuracy_calibrated_control_gap"}
    right = (loglik.argmax(1) == columns).astype(float)
    wanted = {"ce": right[columns == 0].mean() - 1, "en": right[columns == 1].mean()}
    assert {name: float(gap) for name, gap in gaps.items()} == pytest.approx(wanted, abs=1e-6), (
        "decisions are those users get"
    )
    rows = control_rows(system, of_set, of_set, with_control(of_set, of_set), "test")
    assert not any("doubt" in row["metric"] for row in rows), "nothing is doubted"


def test_few_of_dev_and_most_of_another_channel_are_foreign(fitted, channels):
    doubt, dev, density, vectors = fitted.doubt, fitted.dev, fitted.density, fitted.vectors
    home = doubt.score(channels.distances(vectors), density, dev.frames)
    assert (home > doubt.limit).mean() <= 0.06
    other, names = recordings(10, 600, SHIFTS["band limited"])
    assert (doubt.score(channels.distances(other), density[: len(names)], dev.frames[: len(names)]) > doubt.limit).all()


def test_doubt_is_kept(fitted, tmp_path):
    doubt, path = fitted.doubt, tmp_path / "doubt.json"
    doubt.save(path)
    kept, profiles = Doubt.load(path), np.random.default_rng(0).normal(size=(5, 23))
    assert (kept.bias(profiles) == doubt.bias(profiles)).all() and replace(kept, bias=doubt.bias) == doubt
    kept.bias.copies.tofile(tmp_path / "bias.npz")
    with pytest.raises(ValueError, match="bias.npz: is damaged .*; run stage decide again"):
        Doubt.load(path)
    replace(doubt, bias=None).save(path)
    assert Doubt.load(path).bias is None
    (tmp_path / "doubt.json").write_text("{}")
    with pytest.raises(ValueError, match="run stage decide again"):
        Doubt.load(tmp_path / "doubt.json")


def test_a_word_for_each_recording():
    posteriors = np.array([[0.95, 0.05], [0.6, 0.4], [0.99, 0.01]])
    assert words(posteriors, [False, False, True]) == ["sure", "unsure", FOREIGN]
