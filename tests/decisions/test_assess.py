"""Predicted expert scores: statistics by hand, timing of made-up utterances, fits that leave speakers out, bad input."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dnf.decisions.assess import FOLDS, Assessment, Regression, best_fit, load_fits, regressions, save_fits
from dnf.decisions.assess_columns import Columns, Scored
from dnf.decisions.assess_rows import assess_rows
from dnf.experiment.config import Config, resolve
from dnf.experiment.tables import read_tsv
from dnf.features.timing import FEATURES, LAGS, autocorrelation, cepstra_of, measures, store_measures, timing
from dnf.metrics.correlation import one_against_others, pairwise, partial, rmse
from dnf.report.lines import assess_lines

ONE = np.ones((1, 60))


def test_partial_correlation_is_that_of_the_residuals():
    given, own, x = np.random.default_rng(0).standard_normal((3, 60))
    y = given + 0.5 * x + own
    residuals = [values - np.polyval(np.polyfit(given, values, 1), given) for values in (x, y)]
    assert partial(ONE, x, y, given)[0] == pytest.approx(stats.pearsonr(*residuals).statistic)


def test_weights_of_the_error_count_utterances_several_times():
    x, y, weights = np.array([1.0, 2.0, 5.0]), np.array([2.0, 2.0, 3.0]), np.array([[1.0, 0.0, 2.0]])
    assert rmse(weights, x, y)[0] == pytest.approx(np.sqrt((1 + 2 * 4) / 3))


def test_experts_are_compared_on_the_utterances_that_they_marked():
    marks = np.random.default_rng(1).standard_normal((60, 3))
    marks[:, :] += marks[:, :1]
    marks[40:, 2] = np.nan
    r = {
        (i, j): stats.pearsonr(*marks[np.isfinite(marks[:, [i, j]]).all(1)][:, [i, j]].T).statistic
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    assert pairwise(ONE, marks)[0] == pytest.approx(np.mean(list(r.values())))
    others = [np.nanmean(np.delete(marks, k, 1), 1) for k in range(3)]
    has = [np.isfinite(marks[:, k]) for k in range(3)]
    wanted = [stats.pearsonr(marks[h, k], other[h]).statistic for k, (h, other) in enumerate(zip(has, others))]
    assert one_against_others(ONE, marks)[0] == pytest.approx(np.mean(wanted))


def test_timing_of_an_utterance_by_hand():
    """Two stretches of speech of 1 s with 4 loud places each, 0.5 s of pause between them, 0.2 s of silence at both ends."""
    spoken = np.repeat([False, True, False, True, False], [20, 100, 50, 100, 20])
    loudness = np.where(spoken, 10.0, 2.0)
    loudness[spoken] += np.tile(np.sin(np.arange(100) / 25 * 2 * np.pi), 2)
    found = dict(zip(FEATURES, timing(loudness, spoken, 0.01), strict=True))
    assert np.exp(found["log duration, s"]) == pytest.approx(2.9) and found["share of speech"] == pytest.approx(2 / 2.9)
    assert (found["pauses"], found["mean length of pauses, s"]) == (1, pytest.approx(0.5))
    assert found["peaks a second"] == pytest.approx(8 / 2.9) and found["peaks a second of speech"] == pytest.approx(4)
    silent = measures(np.zeros(5), np.zeros((5, 12)), np.zeros(5, dtype=bool), 0.01)
    assert np.isfinite(silent).all()


def test_a_slow_spectrum_has_a_high_autocorrelation():
    """Sinusoids of the cepstra between the first and the last speech frame: the autocorrelation is a cosine."""
    period, n = 64, 64 * 40
    cepstra = np.sin(2 * np.pi * np.arange(n) / period)[:, None] * np.ones(12)
    padded = np.vstack([np.full((30, 12), 9.0), cepstra, np.full((30, 12), -9.0)])
    spoken = np.repeat([False, True, False], [30, n, 30])
    wanted = np.cos(2 * np.pi * np.round(np.array(LAGS) / 0.01) / period)
    assert autocorrelation(padded, spoken, 0.01) == pytest.approx(wanted, abs=0.01)


def made(speakers: int = 20, each: int = 12, noise: float = 0.5) -> tuple[dict, np.ndarray, np.ndarray]:
    """Scores of one column and noise; a second column that knows the speaker and nothing else."""
    rng = np.random.default_rng(3)
    who = np.repeat([f"s{n:02d}" for n in range(speakers)], each).astype(object)
    own = np.repeat(rng.standard_normal(speakers), each)
    x = rng.standard_normal(len(who))
    scores = 5 + x + own + noise * rng.standard_normal(len(who))
    identity = np.equal.outer(who, np.unique(who)).astype(float)
    return {"known": x[:, None], "speaker": identity}, scores, who


@pytest.mark.parametrize("regression", ("svr", "ridge"))
def test_predictions_of_fitted_utterances_leave_their_speaker_out(regression):
    columns, scores, who = made()
    assessment = Assessment.fit(columns, scores, who, regression)
    r = {name: np.corrcoef(found, scores)[0, 1] for name, found in assessment.left_out.items()}
    assert r["known"] > 0.5 and r["speaker"] < 0.2, "a column of speakers predicts nothing of another speaker"
    inside = assessment.predict(columns)
    assert np.corrcoef(inside["speaker"], scores)[0, 1] > 0.4, "but it does of its own"
    assert all(weight >= 0 for weight in assessment.weights.values()) and assessment.weights["known"] > 0.5


def test_settings_have_the_smallest_error_on_speakers_left_out():
    columns, scores, who = made(noise=0.0)
    columns = {"exact": scores[:, None], "noise": np.random.default_rng(0).standard_normal((len(who), 50))}
    chosen = {
        name: best_fit(regressions("ridge", x.shape[1]), x, scores, who)[0].regressor_[-1].alpha
        for name, x in columns.items()
    }
    assert chosen == {"exact": 1.0, "noise": 1000.0}


@pytest.mark.parametrize("regression", ("svr", "ridge", "best"))
def test_arrays_predict_as_the_regression_that_they_come_from(regression):
    x, (_, scores, who) = np.random.default_rng(5).standard_normal((60, 3)) * (1, 5, 20), made(each=3)
    fitted, _ = best_fit(regressions(regression, 3), x, scores + np.sin(x[:, 0]), who)
    model = Regression.of(fitted)
    np.testing.assert_allclose(model.predict(x), fitted.predict(x), rtol=1e-9)
    step = np.array([0.0, 1e-5, 0.0])
    change = (model.predict((x[7] + step)[None]) - model.predict((x[7] - step)[None]))[0] / 2e-5
    assert model.slope(x[7])[1] == pytest.approx(change, rel=1e-4, abs=1e-9)


def test_the_best_regression_is_the_one_with_the_smaller_error():
    _, scores, who = made(speakers=20, each=4, noise=0.0)
    curved = {"curve": scores[:, None]}
    assert len(Assessment.fit(curved, np.abs(scores - 5), who, "best").models["curve"].support), "only kernels bend"
    assert not len(Assessment.fit(curved, scores, who, "best").models["curve"].support)


def test_a_saved_fit_predicts_the_same(tmp_path):
    columns, scores, who = made(speakers=12, each=4)
    fit = Assessment.fit(columns, scores, who, "best")
    other = Assessment.fit({"known": columns["known"]}, 2 * scores, who, "ridge")
    save_fits(tmp_path / "assess.npz", {"": fit, "fluency": other})
    found = load_fits(tmp_path / "assess.npz")
    assert list(found) == ["", "fluency"] and found["fluency"].scale == other.scale
    again = found[""]
    one, other = fit.predict(columns), again.predict(columns)
    assert list(one) == list(other) == ["known", "speaker", "fused"]
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(fit.ends(one["fused"], who), again.ends(other["fused"], who))
    (tmp_path / "assess.npz").write_bytes((tmp_path / "assess.npz").read_bytes()[:900])
    with pytest.raises(ValueError, match="assess.npz: is damaged .*; run stage decide again"):
        load_fits(tmp_path / "assess.npz")


def test_parts_of_a_score_add_up_to_it():
    columns, scores, who = made()
    fit = Assessment.fit({"tempo": columns["known"], "latents": columns["speaker"]}, scores, who, "ridge")
    found = fit.predict({"tempo": columns["known"], "latents": columns["speaker"]})
    parts = fit.parts(found)
    mean = fit.intercept + sum(fit.weights[name] * fit.left_out[name].mean() for name in fit.weights)
    fused = np.clip(mean + parts["timing"] + parts["sound"], *fit.scale)
    np.testing.assert_allclose(found["fused"], fused, atol=1e-9)
    step = 0.06 * (fit.scale[1] - fit.scale[0])
    assert fit.lowered_by({"timing": -step, "sound": -2 * step}) == "sound and timing"
    assert fit.lowered_by({"timing": -step / 2, "sound": step}) == "neither"


def test_intervals_cover_four_of_five_scores_of_new_speakers():
    columns, scores, who = made(speakers=80, noise=1.0)
    part = np.arange(len(who)) < len(who) // 2
    assessment = Assessment.fit({"known": columns["known"][part]}, scores[part], who[part], "ridge")
    fused = assessment.predict({"known": columns["known"][~part]})["fused"]
    low, high = assessment.ends(fused, who[~part])
    assert 0.72 < ((low <= scores[~part]) & (scores[~part] <= high)).mean() < 0.88
    assert low.min() >= scores[part].min() and high.max() <= scores[part].max()


def test_an_interval_does_not_use_errors_of_the_same_speaker():
    columns, scores, who = made(speakers=10)
    scores = np.where(who == "s00", scores + 50 * (-1.0) ** np.arange(len(who)), scores)
    assessment = Assessment.fit({"known": columns["known"]}, scores, who, "ridge")
    fused = np.full(2, np.median(assessment.left_out["fused"]))
    widths = np.subtract(*reversed(assessment.ends(fused, np.array(["s00", "new"], dtype=object))))
    assert widths[0] < widths[1]


# ---- an experiment -------------------------------------------------------------------------------


def write_experiment(
    root: Path, sets: dict[str, tuple[dict, np.ndarray, np.ndarray]], *words: str
) -> tuple[Path, Config]:
    """An experiment whose latents have column ``known`` as first dim; NaN is a score that is missing."""
    exp = root / "exp" / "a"
    for name, (columns, scores, who) in sets.items():
        folder = exp / "latents" / name
        folder.mkdir(parents=True)
        texts = ["" if np.isnan(score) else f"{score:.3f}" for score in scores]
        lines = ["utt\tspeaker\tclass\tset\tscore\tfirst\trows"]
        lines += [f"{w}-{name}{n}\t{w}\tce\t{name}\t{text}\t{n}\t1" for n, (w, text) in enumerate(zip(who, texts))]
        (folder / "utts.tsv").write_text("\n".join(lines) + "\n")
        (folder / "meta.json").write_text(json.dumps({"classes": ["ce", "en"], "cond_dim": 1, "frames": len(who)}))
        np.save(folder / "z_mean.npy", columns["known"].astype(np.float32))
        np.save(folder / "z_squashed.npy", np.tanh(columns["known"]).astype(np.float32))
        np.save(folder / "logp.npy", np.zeros((len(who), 2), dtype=np.float32))
        np.save(folder / "logdet.npy", np.zeros(len(who), dtype=np.float32))
        write_frames(root / "exp" / "frames" / name, [line.split("\t") for line in lines[1:]])
    return exp, resolve(["report.bootstrap=20", "assess.regression=ridge", *words])


def write_frames(folder: Path, utts: list[list[str]]) -> None:
    """A frame store of these utterances, of 50 frames and one more for each before it, half of them speech."""
    folder.mkdir(parents=True)
    counts = 50 + np.arange(len(utts))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    centres = [first + np.arange(count // 2) for first, count in zip(offsets, counts)]
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "spoken.npy", np.concatenate([[0], np.cumsum([len(of_utt) for of_utt in centres])]))
    np.concatenate(centres).astype("int64").tofile(folder / "centres.bin")
    np.zeros((offsets[-1], 4), dtype="float16").tofile(folder / "frames.bin")
    np.zeros((len(utts), 2, 5)).tofile(folder / "stats.bin")
    lines = ["utt\tspeaker\tclass\tscore", *("\t".join([*cells[:3], ""]) for cells in utts)]
    (folder / "utts.tsv").write_text("\n".join(lines) + "\n")
    meta = {"frames": int(offsets[-1]), "dim": 4, "speech": sum(map(len, centres)), "utterances": len(utts)}
    (folder / "meta.json").write_text(json.dumps(meta | {"dtype": "float16"}))


def experiment(root: Path, *words: str, **changes) -> tuple[Path, Config]:
    """Twenty speakers of train, ten of dev, ten of test; ``changes`` map scores of train."""
    columns, scores, who = made(speakers=40)
    parts = {"train": slice(0, 240), "dev": slice(240, 360), "test": slice(360, 480)}
    sets = {name: ({"known": columns["known"][part]}, scores[part], who[part]) for name, part in parts.items()}
    for name, change in changes.items():
        sets[name] = (sets[name][0], change(sets[name][1]), sets[name][2])
    return write_experiment(root, sets, *words)


LATENTS = "assess.predictors=[latents]"


def test_rows_and_files_of_an_experiment(tmp_path):
    exp, config = experiment(tmp_path, LATENTS)
    (tmp_path / "data" / "test").mkdir(parents=True)
    test = [line.split("\t") for line in (exp / "latents/test/utts.tsv").read_text().splitlines()[1:]]
    marks = "".join(
        f"{utt} {float(score) - 1} {score} {float(score) + 0.5}\n" for utt, _, _, _, score, *_ in sorted(test)
    )
    (tmp_path / "data" / "test" / "utt2scores").write_text(marks)
    rows = assess_rows(exp, config)
    value = {(row["metric"], row["set"], row["decided"]): float(row["value"]) for row in rows}
    written = read_tsv(exp / "assess" / "test.tsv")
    fused, expert = (np.array([float(row[name]) for row in written]) for name in ("fused", "score"))
    assert value["assess_utt_pearson", "test", "fused"] == pytest.approx(np.corrcoef(fused, expert)[0, 1], abs=1e-3)
    assert value["assess_utt_rmse", "test", "fused"] == pytest.approx(np.sqrt(np.mean((fused - expert) ** 2)), abs=1e-3)
    assert {row["loglik"] for row in written} == {"0.0000"}, "that of the zeros in logp and logdet"
    inside = [float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in written]
    assert value["assess_coverage", "test", "fused"] == pytest.approx(np.mean(inside), abs=0.02)
    assert value["assess_utt_ceiling", "test", "experts"] == pytest.approx(1, abs=1e-3)
    assert {row["set"] for row in rows} == {"train", "dev", "test"}
    deciles = read_tsv(exp / "deciles.tsv")
    of_test = [row for row in deciles if row["set"] == "test"]
    assert sum(int(row["utterances"]) for row in of_test) == len(written)
    tenths = np.sort(fused).reshape(10, -1).mean(1)
    np.testing.assert_allclose([float(row["predicted"]) for row in of_test], tenths, atol=1e-3)
    assert np.mean([float(row["score"]) for row in of_test]) == pytest.approx(expert.mean(), abs=1e-3)
    lines = assess_lines([{k: str(v) for k, v in row.items()} for row in rows], deciles)
    assert any(line.startswith("assess utt test ce fused pearson 0.") for line in lines)
    assert sum(line.startswith("deciles ") for line in lines) == 3


def write_fluency(root: Path, exp: Path, change=lambda score: score) -> None:
    """A further score ``fluency`` of all sets: ten minus the main one, and the marks of two experts."""
    for utts in exp.glob("latents/*/utts.tsv"):
        folder = root / "data" / utts.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        rows = sorted(line.split("\t") for line in utts.read_text().splitlines()[1:])
        scores = {utt: change(10 - float(score)) for utt, _, _, _, score, *_ in rows if score}
        lines = {utt: score for utt, score in scores.items() if not np.isnan(score)}
        (folder / "utt2score_fluency").write_text("".join(f"{utt} {score}\n" for utt, score in lines.items()))
        (folder / "utt2scores_fluency").write_text("".join(f"{utt} {s} {s - 1}\n" for utt, s in lines.items()))


def test_a_further_score_has_a_fit_and_figures_of_its_own(tmp_path):
    exp, config = experiment(tmp_path, LATENTS)
    alone, main = assess_rows(exp, config), read_tsv(exp / "assess" / "test.tsv")
    write_fluency(tmp_path, exp)
    rows = assess_rows(exp, config)
    assert [row for row in rows if not row["decided"].startswith("fluency.")] == alone
    value = {(row["metric"], row["set"], row["decided"]): float(row["value"]) for row in rows}
    assert value["assess_utt_pearson", "test", "fluency.fused"] == pytest.approx(
        value["assess_utt_pearson", "test", "fused"], abs=1e-3
    )
    assert value["assess_utt_pairs", "test", "fluency.experts"] == pytest.approx(1)
    written = read_tsv(exp / "assess" / "test.tsv")
    assert [{name: row[name] for name in main[0]} for row in written] == main
    for row in written:
        found = [float(row[name]) for name in ("score_fluency", "predicted_fluency", "fluency_low", "fluency_high")]
        wanted = [10 - float(row[name]) for name in ("score", "fused", "high", "low")]
        assert found == pytest.approx(wanted, abs=0.02)
    lines = assess_lines([{k: str(v) for k, v in row.items()} for row in rows], read_tsv(exp / "deciles.tsv"))
    assert any(line.startswith("assess utt test ce fluency.fused pearson 0.") for line in lines)
    (exp / "model.json").write_text("{}")  # a copied model, on data without this score
    shutil.rmtree(tmp_path / "data")
    assert not any(row["decided"].startswith("fluency.") for row in assess_rows(exp, config))
    copied = read_tsv(exp / "assess" / "test.tsv")
    assert [row["predicted_fluency"] for row in copied] == [row["predicted_fluency"] for row in written]
    assert {row["score_fluency"] for row in copied} == {""}


def test_a_further_score_that_cannot_be_fitted_leaves_the_main_one(tmp_path, caplog):
    exp, config = experiment(tmp_path, LATENTS)
    write_fluency(tmp_path, exp, lambda score: 7.0)
    rows = assess_rows(exp, config)
    assert rows and not any(row["decided"].startswith("fluency.") for row in rows)
    assert "no prediction of expert scores fluency: all scores of train and dev are 7" in caplog.text
    assert list(load_fits(exp / "assess.npz")) == [""]


def test_further_scores_need_the_main_one(tmp_path, caplog):
    exp, config = experiment(tmp_path, LATENTS)
    write_fluency(tmp_path, exp)
    for utts in exp.glob("latents/*/utts.tsv"):
        rows = [line.split("\t") for line in utts.read_text().splitlines()]
        utts.write_text(
            "".join("\t".join([*row[:4], row[4] * (n == 0), *row[5:]]) + "\n" for n, row in enumerate(rows))
        )
    assert assess_rows(exp, config) == []
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "no prediction of expert scores fluency, which need the main score, utt2score"


def test_further_scores_may_be_missing_and_must_have_one_scale(tmp_path, caplog):
    exp, config = experiment(tmp_path, LATENTS)
    write_fluency(tmp_path, exp, lambda score: score if score > 5 else np.nan)
    path = tmp_path / "data" / "test" / "utt2score_fluency"
    scores = [line.split() for line in path.read_text().splitlines()]
    path.write_text("".join(f"{utt} {10 * float(score)}\n" for utt, score in scores))
    assess_rows(exp, config)
    written = read_tsv(exp / "assess" / "test.tsv")
    assert sum(row["score_fluency"] != "" for row in written) == len(scores) < len(written)
    said = [record.getMessage() for record in caplog.records]
    (scale,) = [line for line in said if "outside" in line]
    assert scale.startswith(f"test: {len(scores)} of {len(scores)} expert scores fluency are outside 5.")
    assert sum("utterances have no expert score (utt2score_fluency)" in line for line in said) == 3
    path.write_text(path.read_text().replace(f" {10 * float(scores[0][1])}", " good", 1))
    with pytest.raises(ValueError, match="score 'good' is not a number; correct utt2score_fluency"):
        assess_rows(exp, config)


def test_an_experiment_has_the_predictors_that_it_can_have(tmp_path):
    asked = "assess.predictors=[llr, duration, timing, tempo, latents, vectors]"
    exp, config = experiment(tmp_path, asked)
    assert Columns(exp, config).predictors() == ["duration", "timing", "tempo", "latents"], "nothing was decided"
    (exp / "decisions").mkdir()
    (exp / "decisions" / "train.txt").touch()
    assert Columns(exp, config).predictors() == ["llr", "duration", "timing", "tempo", "latents"]
    vectors = resolve(["features.kind=vectors", "vectors.dim=4", "prior.cond_dim=4", asked])
    assert Columns(exp, vectors).predictors() == ["llr", "latents", "vectors"]


def test_vectors_are_those_of_the_data(tmp_path, write_store):
    exp, _ = experiment(tmp_path, LATENTS)
    vectors = resolve(["features.kind=vectors", "vectors.dim=4", "prior.cond_dim=4", "assess.predictors=[vectors]"])
    scored = Scored.read(exp / "latents" / "test")
    shutil.rmtree(tmp_path / "exp" / "frames" / "test")
    x = np.random.default_rng(4).standard_normal((len(scored.utts), 4)).astype(np.float32)
    of_utts = {utt["utt"]: (utt["speaker"], "ce", row[None], np.ones(1)) for utt, row in zip(scored.utts, x)}
    write_store(tmp_path / "exp" / "frames" / "test", of_utts)
    (found,) = Columns(exp, vectors).of("test", scored, ["vectors"]).values()
    np.testing.assert_allclose(found, x, atol=2e-3)


def test_timing_of_each_utterance_uses_all_its_bins(tmp_path, write_store):
    rng = np.random.default_rng(0)
    utts = {f"s-{n}": ("s", "en", rng.normal(8, 3, (50 + n, 4)), rng.random(50 + n) < 0.8) for n in range(3)}
    for utt, found in store_measures(write_store(tmp_path / "test", utts), 0.01):
        frames, spoken = utts[utt][2:]
        wanted = measures(frames.mean(1), cepstra_of(frames), spoken, 0.01)
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3) and found[5] > 0


def test_timing_comes_from_the_frame_stores(tmp_path):
    exp, config = experiment(tmp_path, "assess.predictors=[duration, timing, tempo, latents]")
    rows = assess_rows(exp, config)
    of_test = {row["decided"] for row in rows if row["set"] == "test"}
    assert of_test == {"duration", "timing", "tempo", "latents", "fused"}
    assert any(row["metric"] == "assess_partial_tempo" for row in rows)
    assert {row["set"] for row in rows if row["metric"] == "assess_partial"} == {"train", "dev", "test"}
    written = read_tsv(exp / "assess" / "test.tsv")
    columns = (np.array([float(row[name]) for row in written]) for name in ("latents", "score", "timing"))
    (row,) = [row for row in rows if (row["metric"], row["set"]) == ("assess_partial", "test")]
    assert float(row["value"]) == pytest.approx(partial(np.ones((1, len(written))), *columns)[0], abs=1e-3)
    seconds = [float(row["seconds"]) for row in written]
    np.testing.assert_allclose(seconds, 0.01 * (50 + np.arange(len(seconds))), atol=1e-3)


def test_a_copied_model_predicts_with_the_fit_that_came_with_it(tmp_path):
    """Also utterances without a score, which have no part in the figures."""
    exp, config = experiment(tmp_path, "assess.predictors=[duration, latents]")
    before = assess_rows(exp, config)
    wanted = read_tsv(exp / "assess" / "test.tsv")
    (exp / "model.json").write_text("{}")
    path = exp / "latents" / "test" / "utts.tsv"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    lines[1][4] = ""
    path.write_text("".join("\t".join(cells) + "\n" for cells in lines))
    shutil.rmtree(exp / "latents" / "train")
    after = assess_rows(exp, config)
    found = read_tsv(exp / "assess" / "test.tsv")
    assert [row | {"score": ""} for row in found] == [row | {"score": ""} for row in wanted]
    counts = {row["total"] for row in after if (row["set"], row["metric"]) == ("test", "assess_utt_pearson")}
    assert counts == {119} and len(found) == 120 and len(before) > 0
    (exp / "assess.npz").unlink()
    assert assess_rows(exp, config) == [] and not (exp / "assess").exists()


def test_latents_of_an_older_stage_are_refused(tmp_path):
    exp, config = experiment(tmp_path, LATENTS)
    (exp / "latents" / "dev" / "z_squashed.npy").unlink()
    with pytest.raises(ValueError, match=r"dev/z_squashed.npy: does not exist; run stage latents again \(--stage 4\)$"):
        assess_rows(exp, config)


def test_a_view_with_the_scored_utterances_of_a_set_is_not_repeated(tmp_path):
    """The set is kept, also where the name of the view comes first."""
    exp, config = experiment(tmp_path, LATENTS, "data.views={test+native: {sets: [test]}, all: {sets: [train]}}")
    for name, of_set in (("test+native", "test"), ("all", "train")):
        shutil.copytree(exp / "latents" / of_set, exp / "latents" / name)
    assert {row["set"] for row in assess_rows(exp, config)} == {"train", "dev", "test"}


def test_predictions_of_train_and_of_a_view_of_it_leave_the_speaker_out(tmp_path):
    """The latents know the speaker and nothing else, so they predict only scores of speakers of the fit."""
    columns, scores, who = made()
    exp, config = write_experiment(
        tmp_path, {"train": ({"known": columns["speaker"]}, scores, who)}, LATENTS, "data.views={part: {sets: [train]}}"
    )
    shutil.copytree(exp / "latents" / "train", exp / "latents" / "part")
    path = exp / "latents" / "part" / "utts.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:121]))
    assess_rows(exp, config)
    train, part = (read_tsv(exp / "assess" / f"{name}.tsv") for name in ("train", "part"))
    assert np.corrcoef(*(np.array([row[name] for row in train], float) for name in ("latents", "score")))[0, 1] < 0.2
    assert [(row["latents"], row["fused"]) for row in part] == [(row["latents"], row["fused"]) for row in train[:120]]


def test_scores_of_test_have_no_part_in_the_fit(tmp_path):
    found = []
    for name, change in (("a", lambda scores: scores), ("b", lambda scores: 9 - scores)):
        exp, config = experiment(tmp_path / name, LATENTS, test=change)
        assess_rows(exp, config)
        found.append([row["fused"] for row in read_tsv(exp / "assess" / "test.tsv")])
    assert found[0] == found[1]


NAN = np.nan


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"train": lambda s: np.full_like(s, 3), "dev": lambda s: s * NAN}, "all scores of train are 3"),
        (
            {"train": lambda s: np.where(np.arange(len(s)) < 108, s, NAN), "dev": lambda s: s * NAN},
            "train have 9 speakers",
        ),
    ],
)
def test_too_little_to_fit_is_said_and_predicts_nothing(tmp_path, caplog, changes, said):
    exp, config = experiment(tmp_path, LATENTS, **changes)
    assert assess_rows(exp, config) == [] and not (exp / "assess").exists()
    (warning,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("no prediction")]
    assert said in warning and "\n" not in warning


def test_a_fit_takes_the_sets_that_are_named(tmp_path, caplog):
    """Such as accented sets, which a flow of native speech has not seen."""
    exp, config = experiment(tmp_path, LATENTS, "assess.fit=[dev, test]", train=lambda scores: scores * NAN)
    assert {row["set"] for row in assess_rows(exp, config)} == {"dev", "test"}
    assert len(load_fits(exp / "assess.npz")[""].errors) == 240
    exp, config = experiment(tmp_path / "b", LATENTS, "assess.fit=[je_train]")
    assert assess_rows(exp, config) == []
    assert "no prediction of expert scores: je_train of assess.fit is not scored or has no scores" in caplog.text


def test_scores_may_have_any_scale(tmp_path):
    """In a scale of 0 to 100 with the same order, predictions are the same numbers times ten."""
    found = []
    for name, factor in (("a", 1.0), ("b", 10.0)):
        change = {part: (lambda s, f=factor: f * s) for part in ("train", "dev", "test")}
        exp, config = experiment(tmp_path / name, LATENTS, **change)
        value = {(row["metric"], row["set"], row["decided"]): float(row["value"]) for row in assess_rows(exp, config)}
        rows = read_tsv(exp / "assess" / "test.tsv")
        found.append((value["assess_utt_pearson", "test", "fused"], np.array([float(row["fused"]) for row in rows])))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    np.testing.assert_allclose(10 * found[0][1], found[1][1], rtol=1e-3, atol=2e-2)


def test_a_score_far_out_of_range_does_not_leave_the_range_of_the_fit(tmp_path):
    exp, config = experiment(tmp_path, LATENTS, test=lambda s: np.append(1e4, s[1:]))
    assess_rows(exp, config)
    fit, rows = load_fits(exp / "assess.npz")[""], read_tsv(exp / "assess" / "test.tsv")
    ends = np.array([[float(row[name]) for name in ("low", "fused", "high")] for row in rows])
    assert float(rows[0]["score"]) == 1e4 and fit.scale[0] <= ends.min() and ends.max() <= fit.scale[1]


def test_without_scores_of_train_nothing_is_predicted_and_nothing_said(tmp_path, caplog):
    exp, config = experiment(tmp_path, LATENTS, train=lambda scores: scores * NAN)
    with caplog.at_level(logging.WARNING):
        assert assess_rows(exp, config) == [] and not caplog.records


def test_utterances_without_a_score_are_left_out_and_counted(tmp_path, caplog):
    found = []
    for name, missing in (("all", []), ("some", [NAN] * 5)):
        exp, config = experiment(tmp_path / name, LATENTS, test=lambda s, m=missing: np.append(m, s[len(m) :]))
        assert assess_rows(exp, config)
        found.append([(row["utt"], row["latents"]) for row in read_tsv(exp / "assess" / "test.tsv")])
    assert "5 utterances have no expert score" in caplog.text
    assert len(found[1]) == 115 and found[1] == found[0][5:], "the predictions of the others do not change"


@pytest.mark.parametrize("text", ("nan", "inf", "good"))
def test_a_score_that_is_no_number_is_refused(tmp_path, text):
    exp, config = experiment(tmp_path, LATENTS)
    path = exp / "latents" / "test" / "utts.tsv"
    lines = path.read_text().splitlines()
    cells = lines[1].split("\t")
    path.write_text("\n".join([lines[0], "\t".join([*cells[:4], text, *cells[5:]]), *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=rf"{cells[0]}: score '{text}' is not a number; correct utt2score$"):
        assess_rows(exp, config)


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda text: text.replace("-test", "-other"),
            r"has no score of s30-test0 and 119 more utterances; write a line",
        ),
        (lambda text: text.replace(" 1.5", " nan", 1), r"'nan' is not a number; correct the score"),
    ],
)
def test_an_external_file_with_other_ids_or_no_number_is_refused(tmp_path, change, said):
    path = tmp_path / "gop"
    words = "assess.predictors=[latents, external]", f"assess.external={path}"
    exp, config = experiment(tmp_path, *words)
    utts = [
        line.split("\t")[0]
        for part in ("train", "dev", "test")
        for line in (exp / f"latents/{part}/utts.tsv").read_text().splitlines()[1:]
    ]
    good = "".join(f"{utt} 1.5\n" for utt in sorted(utts))
    path.write_text(good)
    assert {row["decided"] for row in assess_rows(exp, config)} == {"latents", "external", "fused"}
    path.write_text(change(good))
    with pytest.raises(ValueError, match=said):
        assess_rows(exp, config)
    path.unlink()
    with pytest.raises(
        ValueError, match=r"assess.external: .*gop: no such file; name a file of lines 'utterance score'$"
    ):
        assess_rows(exp, config)


@pytest.mark.parametrize("words", (["assess.predictors=[external]"], ["assess.external=gop"]))
def test_an_external_predictor_and_its_file_are_set_together(words):
    with pytest.raises(ValueError, match="assess.predictors: external needs assess.external"):
        resolve(words)


def test_folds_need_no_more_speakers_than_a_fit():
    columns, scores, who = made(speakers=10, each=3)
    assert FOLDS <= 10 and Assessment.fit({"known": columns["known"]}, scores, who, "svr").errors.shape == (30,)
