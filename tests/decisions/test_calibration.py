"""Evidence of correlated frames, and calibration on dev, against formulas and simulated utterances of known truth."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import signal, special
from sklearn.linear_model import LogisticRegression

from dnf.decisions import calibration, decide
from dnf.decisions.calibration import Calibration, columns_of, prior_of, usual_half
from dnf.decisions.detection_rows import detection_rows, trials_of
from dnf.decisions.evidence import Evidence, dev_covariance, evidence
from dnf.experiment import tables
from dnf.experiment.config import resolve
from dnf.experiment.layout import systems
from dnf.metrics import detection
from dnf.metrics.effective_frames import autocovariance, effective_frames, observed
from dnf.metrics.figures import TRIVIAL
from dnf.metrics.trials import Trials, with_control
from dnf.plots.detection_figures import reliability_bins
from dnf.report import detection_lines
from dnf.report.detection_lines import calibration_lines, warning_lines
from dnf.scoring.latent_store import Latents

SETTINGS = resolve([]).calibrate


def effective_of(evidence: Evidence) -> np.ndarray:
    return effective_frames(evidence.frames, evidence.covariance)


def ar1(rng, frames: int, rho: float) -> np.ndarray:
    """A stationary AR(1) series of variance 1."""
    noise = np.sqrt(1 - rho**2) * rng.standard_normal(frames)
    noise[0] = rng.standard_normal()
    return signal.lfilter([1], [1, -rho], noise)


def utterances(
    seed, lengths, speakers=20, rho=0.6, shift=0.5, spread=0.4, classes=("en", "ce"), bias=0.0, bilingual=False
):
    """Frame log-likelihoods of two classes ``(n, 2)`` of utterances: AR(1) frames around a mean of the utterance's own.

    The log-likelihood ratio of the frames has mean ``bias`` +- ``shift``, deviation 1 within an utterance, and its
    means of utterances the deviation ``spread``, so the right log-likelihood ratio of an utterance is known.
    """
    rng, rows = np.random.default_rng(seed), []
    for n, length in enumerate(lengths):
        true = n % 2
        ratio = bias + (shift, -shift)[true] + spread * rng.standard_normal() + ar1(rng, length, rho)
        level = rng.standard_normal((length, 1))
        speaker = f"s{n // (2 if bilingual else 1) % speakers:02}"
        rows.append((classes[true], speaker, level + np.stack([ratio / 2, -ratio / 2], 1)))
    return rows


def latents(rows, classes=("en", "ce"), cond_dim: int = 4) -> Latents:
    first, utts = 0, []
    for n, (true, speaker, loglik) in enumerate(rows):
        row = {"utt": f"{speaker}-{n:04}", "speaker": speaker, "class": true, "set": "a", "score": ""}
        utts.append(row | {"first": first, "rows": len(loglik)})
        first += len(loglik)
    logp = np.concatenate([loglik for *_, loglik in rows]).astype(np.float32)
    return Latents(list(classes), cond_dim, utts, logp - 5, np.full(first, 5, np.float32))


def true_llr(found: Evidence, rho=0.6, shift=0.5, spread=0.4, bias=0.0) -> np.ndarray:
    """The log-likelihood ratio of the means of ``utterances``, in closed form."""
    n = found.frames
    inflation = np.array([1 + 2 * ((1 - np.arange(1, k) / k) * rho ** np.arange(1, k)).sum() for k in n])
    return 2 * shift * (found.mean[:, 0] - found.mean[:, 1] - bias) / (spread**2 + inflation / n)


def targets(found: Evidence) -> np.ndarray:
    return np.array([utt["class"] == "en" for utt in found.utts])


# ---- evidence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", (0.0, 0.5, 0.8))
def test_correlated_frames_count_as_the_formula_of_ar1_says(rho):
    found = evidence(latents(utterances(1, [300] * 60, rho=rho)))
    wanted = 300 / (1 + 2 * ((1 - np.arange(1, 300) / 300) * rho ** np.arange(1, 300)).sum())
    np.testing.assert_allclose(effective_of(found), wanted, rtol=0.15)
    assert found.covariance[0] == pytest.approx(1, rel=0.1)
    assert (effective_of(found) <= 300).all()


def test_the_mean_of_effective_frames_varies_as_it_should():
    rng = np.random.default_rng(2)
    for n in (1, 2, 5, 50):
        means = [ar1(rng, n, 0.7).mean() for _ in range(6000)]
        effective = effective_frames(np.array([n]), 0.7 ** np.arange(60))
        assert np.var(means) == pytest.approx(1 / effective[0], rel=0.08)


def test_autocovariance_by_hand_with_pairs_of_classes():
    rng = np.random.default_rng(3)
    series = [signal.lfilter([1, 1, 1, 1], [1], rng.standard_normal((n, 3)), axis=0) for n in (40, 25)]
    products, counts = np.zeros(2), np.zeros(2)
    for x in series:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            ratio = x[:, a] - x[:, b] - (x[:, a] - x[:, b]).mean()
            for lag in range(2):
                products[lag] += (ratio[: len(ratio) - lag] * ratio[lag:]).sum() / 3
                counts[lag] += (len(ratio) - lag) / 3
    np.testing.assert_allclose(autocovariance(series)[:2], products / counts)


def test_what_an_utterance_has_for_good_is_no_correlation_of_frames():
    found = evidence(latents(utterances(4, [200] * 40, rho=0.0, spread=30)))
    np.testing.assert_allclose(effective_of(found), 200, rtol=0.15)


@pytest.mark.parametrize("covariance", ([], [1.0], [0.0], [1.0, -0.4]))
def test_frames_that_are_not_correlated_count_each(covariance):
    assert effective_frames(np.array([0, 1, 7]), np.array(covariance)).tolist() == [1, 1, 7]


def test_evidence_of_an_utterance_of_one_frame_and_of_one_class():
    found = evidence(latents([("en", "a", np.array([[1.0, 2.0]])), ("ce", "b", np.array([[3.0, 5.0]]))]))
    np.testing.assert_allclose(found.mean, [[1, 2], [3, 5]], atol=1e-5)
    assert effective_of(found).tolist() == [1, 1] and found.frames.tolist() == [1, 1]
    plain = evidence(latents([("en", "a", np.ones((4, 1)))], classes=("en",)))
    assert plain.mean.shape == (1, 1) and effective_of(plain).tolist() == [4]


def test_the_autocovariance_of_dev_serves_other_sets():
    dev = evidence(latents(utterances(5, [300] * 40, rho=0.8)))
    one = evidence(latents(utterances(6, [50], rho=0.0)), dev.covariance)
    assert effective_of(one)[0] == effective_frames(np.array([50]), dev.covariance)[0] < 12


def test_utterances_of_unseen_classes_are_no_evidence_of_correlation():
    rows = utterances(5, [100] * 20)
    strange = [("je", "x", np.repeat([[5.0, -5.0], [-5.0, 5.0]], 50, axis=0))]
    alone, beside = evidence(latents(rows)), evidence(latents(rows + strange))
    np.testing.assert_array_equal(alone.covariance, beside.covariance)
    assert len(evidence(latents(strange)).covariance) == 0


def test_observations_are_effective_frames_or_windows_side_by_side():
    frames, covariance = np.array([0, 4, 100]), 0.7 ** np.arange(60)
    np.testing.assert_array_equal(observed(frames, covariance, 10), effective_frames(frames, covariance))
    assert observed(frames, np.zeros(0), 10).tolist() == [1, 1, 10]


def test_the_autocovariance_of_dev_is_read_from_its_latents(tmp_path):
    found, data = latents(utterances(5, [50] * 10)), resolve(["data.dev=[dev]"]).data
    assert len(dev_covariance(tmp_path, data)) == 0
    write_latents(tmp_path / "latents" / "dev", found)
    np.testing.assert_array_equal(dev_covariance(tmp_path, data), evidence(found).covariance)


# ---- calibration ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lengths() -> np.ndarray:
    return np.random.default_rng(9).integers(60, 400, 400)


def test_calibrated_ratios_are_the_true_ones(lengths):
    """Slope, offset and half weight of utterances made from the model behind the form of the calibration."""
    dev = evidence(latents(utterances(1, lengths, speakers=400, bias=0.7)))
    made = Calibration.fit(dev, SETTINGS)
    test = evidence(latents(utterances(2, [12, 100, 600] * 300, bias=0.7)), dev.covariance)
    loglik, right = made.loglik(test), true_llr(test, bias=0.7)
    llr = loglik[:, 0] - loglik[:, 1]
    assert made.half == pytest.approx(1 / 0.4**2, rel=0.35)
    assert np.polyfit(right, llr, 1) == pytest.approx([1, 0], abs=0.25)
    assert np.corrcoef(right, llr)[0, 1] > 0.99
    for length in (12, 100, 600):
        own = test.frames == length
        assert detection.cllr(llr[own], targets(test)[own]) < detection.cllr(right[own], targets(test)[own]) + 0.03


def test_cllr_of_calibrated_scores_is_near_its_minimum_where_sums_are_far(lengths):
    dev, test = (evidence(latents(utterances(seed, lengths, speakers=400, bias=0.3))) for seed in (1, 2))
    loglik, target = Calibration.fit(dev, SETTINGS).loglik(test), targets(test)
    llr, sums = loglik[:, 0] - loglik[:, 1], test.frames * (test.mean[:, 0] - test.mean[:, 1])
    assert detection.cllr(llr, target) < detection.cllr(true_llr(test, bias=0.3), target) + 0.015
    assert detection.cllr(llr, target) < 1.15 * detection.min_cllr(llr, target)
    assert detection.cllr(sums, target) > 3
    assert detection.auc(llr, target) >= detection.auc(sums, target)


def test_duration_as_a_covariate_keeps_short_utterances_modest(lengths):
    dev = evidence(latents(utterances(1, lengths)))
    short = evidence(latents(utterances(2, [5] * 600)), dev.covariance)
    costs = {}
    for duration in (True, False):
        made = Calibration.fit(dev, resolve([f"calibrate.duration={str(duration).lower()}"]).calibrate)
        loglik = made.loglik(short)
        costs[duration] = detection.cllr(loglik[:, 0] - loglik[:, 1], targets(short))
        assert (made.half is None) is not duration
    assert costs[True] < costs[False] - 0.1 and costs[True] < 1


def test_without_duration_it_is_logistic_regression_of_scikit_learn():
    """Frames independent, one utterance a speaker, next to no pseudo-speakers: nothing is left but the regression."""
    rows = utterances(3, [40] * 120, speakers=120)
    rows += utterances(4, [40] * 60, speakers=60)[::2]  # more of one class
    rows = [(true, f"{n}", loglik) for n, (true, _, loglik) in enumerate(rows)]
    dev = evidence(latents(rows))
    made = Calibration.fit(dev, resolve(["calibrate.duration=false", "calibrate.pseudo_speakers=1e-9"]).calibrate)
    model = LogisticRegression(C=1e9, class_weight="balanced", tol=1e-10)
    ratio = dev.mean[:, 0] - dev.mean[:, 1]
    model.fit(ratio[:, None], targets(dev))
    assert made.slope == pytest.approx(model.coef_[0, 0], rel=1e-3)
    shift = np.array(made.offsets) - made.slope * np.array(made.middle)
    assert shift[0] - shift[1] == pytest.approx(model.intercept_[0], abs=1e-3)
    assert sum(made.offsets) == pytest.approx(0, abs=1e-9)


def test_copies_of_a_speakers_utterances_change_nothing():
    rows = utterances(5, [60] * 40, speakers=40)
    once = evidence(latents(rows))
    more = evidence(latents(rows + 5 * rows[:2]), once.covariance)
    fitted = [Calibration.fit(found, resolve(["calibrate.duration=false"]).calibrate) for found in (once, more)]
    assert fitted[0].slope == pytest.approx(fitted[1].slope, rel=1e-4)
    np.testing.assert_allclose(fitted[0].offsets, fitted[1].offsets, atol=1e-4)
    assert fitted[1].speakers == fitted[0].speakers == {"en": 20, "ce": 20} and fitted[1].utterances["en"] == 25


@pytest.mark.parametrize("speakers", (4, 20))
def test_odds_are_about_those_that_the_speakers_of_dev_are_fitted_to(speakers):
    """Classes that never overlap leave a plain regression without end."""
    dev = evidence(latents(utterances(6, [50] * 80, speakers=speakers, shift=20)))
    loglik = Calibration.fit(dev, SETTINGS).loglik(dev)
    odds = np.exp(np.abs(loglik[:, 0] - loglik[:, 1]))
    assert np.median(odds) == pytest.approx(speakers / 2 / 0.2 + 1, rel=0.3)  # half of the speakers are of each class


def test_offsets_do_not_lean_to_the_class_of_more_speakers():
    rows = [("en", f"a{n}", np.zeros((50, 2))) for n in range(60)] + [
        ("ce", f"b{n}", np.zeros((50, 2))) for n in range(3)
    ]
    made = Calibration.fit(evidence(latents(rows)), SETTINGS)
    assert made.speakers == {"en": 60, "ce": 3} and np.abs(made.offsets).max() < 1e-6


def test_scores_that_tell_nothing_say_nothing(tmp_path, caplog):
    rows = utterances(7, [50] * 60, speakers=60)
    turned = [(true, speaker, loglik[:, ::-1]) for true, speaker, loglik in rows]
    made = decide.calibrate(tmp_path, evidence(latents(turned)), resolve([]))
    loglik = made.loglik(evidence(latents(rows)))
    assert made.slope == 0 and np.abs(loglik[:, 0] - loglik[:, 1]).max() < 0.3
    assert "do not separate" in caplog.text
    line = "calibration dnf carries no information: its scores do not separate the classes of dev"
    assert calibration_lines(tmp_path, resolve([])) == [line]


@pytest.mark.parametrize("seed", range(4))
def test_the_length_of_utterances_does_not_tell_their_class(seed):
    """Scores that are alike for all classes but of longer utterances in one of them, and far from 0."""
    lengths = [(300, 40)[n % 2] for n in range(80)]
    dev = evidence(latents(utterances(seed, lengths, shift=0.0, spread=0.1, bias=1.0)))
    calibrated = Calibration.fit(dev, SETTINGS).loglik(dev)
    ratio = calibrated[:, 0] - calibrated[:, 1]
    assert detection.cllr(ratio, targets(dev)) > 0.9
    found, of_length = detection.auc(ratio, targets(dev)), detection.auc(dev.frames, targets(dev))
    assert of_length == 1 and found < 0.7


@pytest.mark.parametrize("calibrated", (True, False))
def test_a_blind_system_ranks_no_better_for_longer_utterances_of_one_class(calibrated):
    """Every utterance scores 1 on the average, whatever its class; those of en are longer."""
    found = evidence(latents(utterances(3, [(300, 40)[n % 2] for n in range(300)], shift=0.0, spread=0.1, bias=1.0)))
    loglik = Calibration.fit(found, SETTINGS).loglik(found) if calibrated else None
    trials = trials_of(found, loglik, ["en", "ce"], {}, duration=found.frames.astype(float))
    rows = {r["metric"]: float(r["value"]) for r in detection_rows(trials, SETTINGS, 20, 1, set="a")}
    assert rows["auc"] == pytest.approx(0.5, abs=0.08) and rows["eer"] > 0.35 and rows["min_dcf"] > 0.5
    assert rows["auc_duration"] == 1 and ("cllr" in rows) == calibrated
    summed = effective_of(found) * (found.mean[:, 0] - found.mean[:, 1])
    assert detection.auc(summed, targets(found)) > 0.95


@pytest.mark.parametrize("folds", (calibration.FOLDS, 3))
def test_a_left_out_speaker_is_scored_by_a_fit_without_him(monkeypatch, folds):
    monkeypatch.setattr(calibration, "FOLDS", folds)
    dev = evidence(latents(utterances(1, [40] * 24, speakers=8) + [("je", "x", np.ones((40, 2)) * [1, -1])]))
    found = Calibration.left_out(dev, SETTINGS)
    for n in range(8):
        out = [u for u, utt in enumerate(dev.utts) if utt["speaker"] == f"s{n:02}"]
        beside = {f"s{m:02}" for m in range(8) if m % folds == n % folds}
        kept = np.array([u for u, utt in enumerate(dev.utts) if utt["speaker"] not in beside])
        np.testing.assert_allclose(found[out], Calibration.fit(dev.only(kept), SETTINGS).loglik(dev.only(out)))
    labels, all_in = columns_of(dev, np.arange(24)), Calibration.fit(dev, SETTINGS).loglik(dev)
    assert detection.cllr(found[:24], labels) > detection.cllr(all_in[:24], labels)
    np.testing.assert_array_equal(found[24], all_in[24])


def many_classes(count: int) -> Evidence:
    """Two speakers of each class with two utterances each, whose own class is somewhat the likeliest."""
    labels = np.repeat(np.arange(count), 4)
    mean = np.random.default_rng(1).standard_normal((len(labels), count)) + np.eye(count)[labels]
    utts = [{"speaker": f"s{n % 2}c{k:03d}", "class": f"c{k:03d}"} for n, k in enumerate(labels)]
    return Evidence([f"c{k:03d}" for k in range(count)], utts, mean, np.full(len(labels), 20))


def test_fits_without_speakers_of_many_classes_take_bounded_work(monkeypatch):
    work, fit = [], calibration.regress

    def counted(mean, *rest, **more):
        work.append(mean.size)
        return fit(mean, *rest, **more)

    monkeypatch.setattr(calibration, "regress", counted)
    monkeypatch.setattr(calibration, "CELLS", 100_000)
    for count in (10, 40):
        work.clear()
        dev = many_classes(count)
        found = Calibration.left_out(dev, SETTINGS)
        assert found.shape == dev.mean.shape, "every class keeps one of its two speakers in every fit"
        assert sum(work) <= max(calibration.CELLS, calibration.FEW_FOLDS * dev.mean.size)
        assert len(work) == {10: 20, 40: 15}[count]


def test_the_one_speaker_of_a_class_cannot_be_left_out():
    rows = [("ce", "s1", loglik) if true == "ce" else (true, s, loglik) for true, s, loglik in utterances(1, [40] * 12)]
    assert Calibration.left_out(evidence(latents(rows)), SETTINGS) is None


def test_three_classes_and_their_posteriors_under_priors(tmp_path):
    rng, rows, names = np.random.default_rng(8), [], ("ce", "en", "je")
    for n in range(150):
        mean = 0.5 * rng.standard_normal(3) + np.eye(3)[n % 3]
        rows.append((names[n % 3], f"s{n:03}", mean + rng.standard_normal((80, 3))))
    dev = evidence(latents(rows, names))
    made = Calibration.fit(dev, SETTINGS)
    labels = np.array([names.index(utt["class"]) for utt in dev.utts])
    assert detection.cllr(made.loglik(dev), labels) < 0.8 * np.log2(3)
    trials = trials_of(dev, made.loglik(dev), ["en", "ce", "je"], {})
    rows = detection_rows(trials, SETTINGS, 20, 1, cllr="cllr_of_dev", set="a")
    costs = {r["class"]: float(r["value"]) for r in rows if r["metric"] == "cllr_of_dev"}
    assert list(costs) == ["en+ce", "en+je", "ce+je", "en+ce+je"]
    assert costs["en+ce+je"] == pytest.approx(detection.cllr(made.loglik(dev), labels), abs=1e-6)
    equal, moved = made.posteriors(dev, {}), made.posteriors(dev, {"ce": 1, "en": 8, "je": 1})
    np.testing.assert_allclose(equal, special.softmax(made.loglik(dev), 1))
    np.testing.assert_allclose(moved.sum(1), 1)
    ratio = np.log(moved / equal)
    np.testing.assert_allclose(ratio[:, 1] - ratio[:, 0], np.log(8))
    made.save(tmp_path / "calibration.json")
    loaded = Calibration.load(tmp_path / "calibration.json")
    assert loaded == made
    np.testing.assert_array_equal(loaded.posteriors(dev, {}), equal)


def test_fits_and_reads_that_cannot_be_are_refused_in_a_line(tmp_path):
    dev = evidence(latents(utterances(1, [30] * 10)))
    only = evidence(latents([row for row in utterances(1, [30] * 10) if row[0] == "en"]))
    with pytest.raises(ValueError, match="dev has no utterance of class ce"):
        Calibration.fit(only, SETTINGS)
    with pytest.raises(ValueError, match="calibrated for classes en ce, not ce en"):
        Calibration.fit(dev, SETTINGS).loglik(dev._replace(classes=["ce", "en"]))
    with pytest.raises(ValueError, match="calibrate.priors: no prior for class ce"):
        prior_of(["en", "ce"], {"en": 0.5})
    with pytest.raises(ValueError, match="run stage decide"):
        Calibration.load(tmp_path / "calibration.json")
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(ValueError, match="not a calibration; run stage decide again"):
        Calibration.load(tmp_path / "calibration.json")
    for word in ("calibrate.dcf_prior=1.5", "calibrate.pseudo_speakers=0", "calibrate.priors={en: -1}"):
        with pytest.raises(ValueError, match="calibrate"):
            resolve([word])


def test_unseen_classes_of_dev_do_not_count():
    rows = utterances(2, [40] * 30)
    strange = [("je", "x", 9 * np.ones((40, 2)) * [1, -1])]
    a, b = evidence(latents(rows)), evidence(latents(rows))
    b = evidence(latents(rows + strange), a.covariance)
    assert Calibration.fit(a, SETTINGS) == Calibration.fit(b, SETTINGS)


def test_variance_components_give_the_usual_half_weight():
    found = evidence(latents(utterances(3, [200] * 400, spread=0.5, rho=0.5)))
    labels = (~targets(found)).astype(int)
    half = usual_half(found.mean - found.mean.mean(1, keepdims=True), labels, effective_of(found), found.covariance)
    assert half == pytest.approx(1 / 0.5**2, rel=0.25)


# ---- stage 7 with two systems --------------------------------------------------------------------


def write_latents(folder, found: Latents) -> None:
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"classes": found.classes, "cond_dim": found.cond_dim}))
    lines = ["\t".join(found.utts[0]), *("\t".join(map(str, utt.values())) for utt in found.utts)]
    (folder / "utts.tsv").write_text("\n".join(lines) + "\n")
    np.save(folder / "logp.npy", found.logp)
    np.save(folder / "logdet.npy", found.logdet)


@pytest.fixture(scope="module")
def two_systems(tmp_path_factory):
    """A flow and a baseline that is a little worse; the control of ``test`` is speakers of en who sound like ce."""
    exp = tmp_path_factory.mktemp("two") / "exp"
    words = [
        "data.train=[train]",
        "data.dev=[dev]",
        "data.classes=[en, ce]",
        "data.controls={test: other}",
        "plots.dpi=50",
    ]
    config = resolve([*words, "report.bootstrap=200"])
    config.save(exp / "config.yaml")
    for folder, cond_dim in ((exp, 4), (exp / "baselines" / "lda", 0)):
        for seed, (name, rows) in enumerate(
            {
                "train": utterances(1, [60] * 40),
                "dev": utterances(2, [60] * 60, speakers=30),
                "test": utterances(3, [60] * 80, speakers=40),
                "other": [row for row in utterances(4, [60] * 40, shift=-0.7) if row[0] == "en"],
            }.items()
        ):
            noise = np.random.default_rng(seed)
            extra = 0 if folder == exp else 1.0
            moved = [(c, s, loglik + extra * noise.standard_normal((1, 2))) for c, s, loglik in rows]
            write_latents(folder / "latents" / name, latents(moved, cond_dim=cond_dim))
    assert decide.main([str(exp)]) == 0
    (exp / "baselines" / "not_scored_yet").mkdir()
    return SimpleNamespace(exp=exp, config=config, rows=tables.read_tsv(exp / "accuracy.tsv"))


def test_systems_are_the_flow_and_the_baselines_that_have_latents(two_systems):
    assert systems(two_systems.exp) == {"dnf": two_systems.exp, "lda": two_systems.exp / "baselines" / "lda"}


def test_every_figure_of_every_system_has_its_row_and_interval(two_systems):
    found = {(r["system"], r["metric"], r["set"], r["class"]): r for r in two_systems.rows if not r["decided"]}
    for system, metric in ((s, m) for s in ("dnf", "lda") for m in ("auc", "eer", "min_dcf", "cllr")):
        row, beside = found[system, metric, "test", "en+ce"], found[system, f"{metric}_control", "test", "en+ce"]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        assert (row["total"], row["speakers"], beside["total"]) == ("80", "40", "60")
    assert (system, "utt_accuracy", "other", "en") in found and ("dnf", "auc", "other", "en+ce") not in found
    row = found["lda", "auc_difference", "test", "en+ce"]
    values = [float(found[s, "auc", "test", "en+ce"]["value"]) for s in ("dnf", "lda")]
    assert float(row["value"]) == pytest.approx(values[0] - values[1], abs=2e-6) and 0 < float(row["p"]) <= 1
    assert found["lda", "auc_difference", "dev", "en+ce"]["p"] == ""  # fitted on dev
    assert {r["system"] for r in two_systems.rows} == {"dnf", "lda"}


def test_what_duration_tells_stands_beside_the_auc_of_the_flow(two_systems):
    trivial = tuple(f"auc_{name}" for name in TRIVIAL)  # no frames and channels are there for the others
    found = [(r["system"], r["set"], r["metric"]) for r in two_systems.rows if r["metric"].startswith(trivial)]
    names = [(name, "auc_duration") for name in ("dev", "test", "train")] + [("test", "auc_duration_control")]
    assert sorted(found) == sorted(("dnf", *name) for name in names)
    lines = detection_lines.detection_lines(two_systems.exp, two_systems.rows, two_systems.config)
    assert any(line.startswith("auc_duration test en+ce dnf 0.5000 ") and "control other" in line for line in lines)


def test_calibrated_figures_of_dev_leave_the_speaker_out(two_systems):
    for system, folder in systems(two_systems.exp).items():
        of_dev = {r["metric"]: r for r in two_systems.rows if (r["system"], r["set"]) == (system, "dev")}
        assert "cllr" not in of_dev and "cllr_in_sample" not in of_dev
        dev = evidence(Latents.open(folder / "latents" / "dev"))
        loglik = Calibration.left_out(dev, two_systems.config.calibrate)
        cost = detection.cllr(loglik[:, 0] - loglik[:, 1], targets(dev))
        assert float(of_dev["cllr_left_out"]["value"]) == pytest.approx(cost, abs=1e-6)
        rows = tables.read_tsv(folder / "decisions" / "dev.txt")
        np.testing.assert_allclose([float(r["llr_calibrated"]) for r in rows], loglik[:, 0] - loglik[:, 1], atol=1e-5)
    assert {r["set"] for r in two_systems.rows if r["metric"] == "cllr_left_out"} == {"dev"}


def test_decisions_have_the_posteriors_of_the_calibration(two_systems):
    for system, folder in systems(two_systems.exp).items():
        made = Calibration.load(folder / "calibration.json")
        found = evidence(Latents.open(folder / "latents" / "test"))
        rows = tables.read_tsv(folder / "decisions" / "test.txt")
        posteriors = made.posteriors(found, {})
        for k, name in enumerate(("en", "ce")):
            np.testing.assert_allclose([float(r[f"posterior_{name}"]) for r in rows], posteriors[:, k], atol=1e-6)
        llr = [float(r["llr_calibrated"]) for r in rows]
        np.testing.assert_allclose(llr, np.log(posteriors[:, 0] / posteriors[:, 1]), atol=1e-5)
        assert [r["decision_calibrated"] for r in rows] == [("en", "ce")[k] for k in posteriors.argmax(1)]
        accuracy = np.mean([r["class"] == ("en", "ce")[int(v < 0)] for r, v in zip(rows, llr)])
        row = next(
            r for r in two_systems.rows
            if (r["system"], r["metric"], r["set"], r["class"]) == (system, "utt_accuracy_calibrated", "test", "all")
        )  # fmt: skip
        assert float(row["value"]) == pytest.approx(accuracy, abs=1e-6)


def test_a_control_that_falls_is_warned_of(two_systems):
    lines = warning_lines(two_systems.rows, two_systems.config.data.controls)
    assert any(line.startswith("warning: auc test en+ce dnf ") for line in lines)
    assert any(line.startswith("warning: utt_accuracy test en dnf ") for line in lines)
    assert any("warning: cllr test en+ce lda" in line and "difference -" in line for line in lines)
    same = [row | {"low": "0.0", "high": "1.0"} for row in two_systems.rows]
    assert warning_lines(same, two_systems.config.data.controls) == []


def test_differences_from_the_control_are_rows_with_intervals(two_systems):
    found = {(r["system"], r["metric"], r["set"], r["class"]): r for r in two_systems.rows if not r["decided"]}
    for metric in ("auc", "cllr", "utt_accuracy", "utt_accuracy_calibrated"):
        at = "en+ce" if metric in ("auc", "cllr") else "en"
        gap = found["dnf", f"{metric}_control_gap", "test", at]
        beside = found.get(("dnf", f"{metric}_control", "test", at)) or found["dnf", metric, "other", at]
        wanted = float(found["dnf", metric, "test", at]["value"]) - float(beside["value"])
        assert float(gap["value"]) == pytest.approx(wanted, abs=2e-6)
        assert float(gap["low"]) <= wanted <= float(gap["high"])
    assert {r["class"] for r in two_systems.rows if r["metric"] == "utt_accuracy_control_gap"} == {"en"}


def test_bins_of_a_reliability_curve_are_alike_and_hold_equal_posteriors_together():
    target = np.arange(60) % 2 == 0
    names = ["u"] * 60, ["s"] * 60, np.where(target, "en", "ce")

    def pair(llr: np.ndarray) -> Trials:
        return Trials(*names, {"mean": np.ones(60), "calibrated": llr}, ("en", "ce"))

    stated, seen, _ = reliability_bins(pair(np.zeros(60)))
    assert stated == pytest.approx([0.5]) and seen == pytest.approx([0.5])
    stated, seen, deviation = reliability_bins(pair(np.where(target, 2.0, -2.0)))
    assert stated == pytest.approx(1 / (1 + np.exp([2.0, -2.0]))) and seen == pytest.approx([0, 1])
    assert deviation == pytest.approx([0, 0], abs=1e-6)
    assert len(reliability_bins(pair(np.arange(60) / 10))[0]) == 4


def test_pictures_are_there(two_systems):
    names = {path.name for path in (two_systems.exp / "plots").glob("*.png")}
    assert names == {"detection_test.png"}


def test_a_control_of_both_classes_stands_for_itself():
    of_set, one, both, none = (
        trials_of(evidence(latents(rows)), None, ["en", "ce"], {})
        for rows in (
            utterances(1, [10] * 8),
            [row for row in utterances(2, [10] * 6) if row[0] == "en"],
            utterances(3, [10] * 4),
            [("je", "x", np.ones((3, 2)))],
        )
    )
    assert with_control(of_set, one).labels.tolist() == ["en"] * 3 + ["ce"] * 4
    assert with_control(of_set, both).utts.tolist() == both.utts.tolist()
    assert with_control(of_set, one).pairs() == [("en", "ce")]
    third = with_control(*(replace(trials, classes=["en", "ce", "je"]) for trials in (of_set, both)))
    assert replace(third, control=frozenset(["je"])).pairs() == []
    assert with_control(of_set, none) is None


@pytest.mark.parametrize("word", ("calibrate.enabled=false", None))
def test_without_calibration_scores_still_rank(tmp_path, word):
    """Calibration switched off, or a dev set of one class: no Cllr, no posteriors, and a reason."""
    exp = tmp_path / "exp"
    words = ["data.train=[train]", "data.dev=[dev]", "data.classes=[en, ce]", "report.bootstrap=20", "plots.dpi=50"]
    config = resolve(words + ([word] if word else []))
    config.save(exp / "config.yaml")
    rows = utterances(1, [30] * 20)
    write_latents(exp / "latents" / "dev", latents(rows if word else [row for row in rows if row[0] == "en"]))
    write_latents(exp / "latents" / "test", latents(rows))
    (exp / "calibration.json").write_text("of an earlier run")
    decide.main([str(exp)])
    assert not (exp / "calibration.json").exists()
    found = {r["metric"] for r in tables.read_tsv(exp / "accuracy.tsv") if r["set"] == "test"}
    assert {"auc", "eer", "min_dcf", "min_cllr"} <= found and not {"cllr", "utt_accuracy_calibrated"} & found
    decisions = tables.read_tsv(exp / "decisions" / "test.txt")
    for column in ("posterior_en", "decision_calibrated", "llr_calibrated"):
        assert {row[column] for row in decisions} == {""}
    lines = detection_lines.detection_lines(exp, tables.read_tsv(exp / "accuracy.tsv"), config)
    assert lines[0].startswith(
        "calibration dnf none: " + ("calibrate.enabled is false" if word else "dev lacks a class")
    )


def test_a_baseline_of_other_utterances_is_refused(two_systems, tmp_path):
    import shutil

    exp = tmp_path / "exp"
    shutil.copytree(two_systems.exp, exp)
    shutil.rmtree(exp / "baselines" / "lda" / "latents" / "test")
    write_latents(exp / "baselines" / "lda" / "latents" / "test", latents(utterances(3, [60] * 79), cond_dim=0))
    with pytest.raises(ValueError, match="lda: its classes or its utterances of set test .* score it again"):
        decide.main([str(exp)])
