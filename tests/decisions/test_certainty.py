"""Near-ties, the log-likelihood ratio, its correlation with expert scores, and their lines in results.txt."""

import numpy as np
import pytest
from scipy import stats

from dnf.decisions.accuracy_rows import Tally, accuracy_rows, correlation_rows
from dnf.decisions.decision_rows import decide
from dnf.experiment.config import resolve
from dnf.metrics.bootstrap import interval
from dnf.metrics.correlation import COEFFICIENTS, by_speaker, pearson
from dnf.metrics.trials import Trials
from dnf.report import cells
from dnf.report.lines import correlation_lines, duration_lines
from dnf.scoring.latent_store import Latents


def latents(loglik: list[np.ndarray], classes=("ce", "en"), logdet: float = 5.0, names=None) -> Latents:
    """Latents of utterances with these log p(x | class) ``(rows, K)``."""
    first, utts = 0, []
    for n, rows in enumerate(loglik):
        utts.append(
            {
                "utt": f"s{n}-1",
                "speaker": f"s{n}",
                "class": (names or ["en"] * len(loglik))[n],
                "set": "a",
                "score": "",
                "first": first,
                "rows": len(rows),
            }
        )
        first += len(rows)
    logp = np.concatenate(loglik).astype(np.float32) - logdet
    return Latents(list(classes), 4, utts, logp, np.full(first, logdet, np.float32))


def test_a_margin_within_its_error_is_a_near_tie():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 4, 400)
    noise -= noise.mean()
    # margins with mean 0.3 and deviation 4: standard error 0.2 if frames are independent, 0.66 if eleven of them are one
    tie = np.stack([np.zeros(400), 0.3 + noise], 1)
    clear = np.stack([np.zeros(400), 3.0 + noise], 1)
    for window, expected in ((1.0, ["yes", "no"]), (11.0, ["yes", "no"])):
        assert [row["near_tie"] for row in decide(latents([tie, clear]), "en", window, 2.0)] == expected
    assert next(decide(latents([tie]), "en", 1.0, 1.0))["near_tie"] == "no"
    assert next(decide(latents([tie]), "en", 11.0, 1.0))["near_tie"] == "yes"


def test_one_frame_says_nothing_of_its_error():
    one, two = np.array([[0.0, 9.0]]), np.array([[0.0, 9.0], [0.0, 9.0]])
    assert [row["near_tie"] for row in decide(latents([one, two]), "en", 1.0, 2.0)] == ["yes", "no"]


def test_frames_known_to_be_correlated_make_near_ties():
    """The error of a mean of correlated frames is that of as many as they are worth, not of windows side by side."""
    frames = np.array([[2.0, 1.0], [1.0, 1.2]] * 8)
    for covariance, wanted in ((np.zeros(0), "no"), (0.9 ** np.arange(15), "yes")):
        assert next(decide(latents([frames]), "en", 1.0, 2.0, covariance))["near_tie"] == wanted


def test_the_margin_is_between_the_best_two_classes_of_the_utterance():
    frames = np.array([[0.0, 9.0, -90.0], [0.0, 1.0, 30.0]])
    row = next(decide(latents([frames], ("ce", "en", "je")), "en", 1.0, 2.0))
    assert row["decision"] == "en" and float(row["margin"]) == pytest.approx((10 - 0) / 2)


def test_ratio_of_two_classes_is_their_difference_and_of_more_the_mean_density_of_the_others():
    two = np.array([[-3.0, -1.0], [-4.0, -1.0]])
    for reference, sign in (("en", 1), ("ce", -1)):
        assert float(next(decide(latents([two]), reference, 1.0, 2.0))["llr"]) == pytest.approx(sign * 2.5)
    three = np.array([[-3.0, -1.0, -2.0]])
    expected = -1.0 - np.log((np.exp(-3.0) + np.exp(-2.0)) / 2)
    assert float(next(decide(latents([three], ("ce", "en", "je")), "en", 1.0, 2.0))["llr"]) == pytest.approx(
        expected, abs=1e-5
    )


def test_the_listing_has_the_mean_log_prior_density_of_each_class():
    row = next(decide(latents([np.array([[-3.0, -1.0], [-5.0, -2.0]])], logdet=7.0), "en", 1.0, 2.0))
    assert float(row["logp_ce"]) == pytest.approx(-11.0) and float(row["logp_en"]) == pytest.approx(-8.5)
    assert float(row["logdet"]) == pytest.approx(7.0)


def test_accuracy_of_the_clear_leaves_near_ties_out():
    clear = {"decision": "en", "near_tie": "no", "frames": 2, "frames_en": 2, "frames_ce": 0}
    wrong = {"decision": "ce", "near_tie": "yes", "frames": 2, "frames_en": 0, "frames_ce": 2}
    rows = [
        {"utt": f"s{n}-1", "speaker": f"s{n}", "class": "en", "llr": "0.5", "score": ""} | (clear if n < 3 else wrong)
        for n in range(4)
    ]
    tally = Tally(["ce", "en"])
    assert [tally.add(row) for row in rows] == rows
    found = {(r["metric"], r["class"]): r for r in accuracy_rows("a", tally, 50, 1)}
    assert float(found["near_ties", "en"]["value"]) == 0.25 and float(found["utt_accuracy", "en"]["value"]) == 0.75
    assert float(found["utt_accuracy_clear", "en"]["value"]) == 1.0 and found["utt_accuracy_clear", "en"]["total"] == 3


def scored(seed: int, slope: float, speakers: int = 12, each: int = 6):
    """Ratios, scores and speakers whose relation is known."""
    rng = np.random.default_rng(seed)
    who = np.repeat([f"s{n:02}" for n in range(speakers)], each)
    level = np.repeat(rng.normal(size=speakers), each)
    scores = level + 0.3 * rng.normal(size=len(who))
    return slope * level + 0.3 * rng.normal(size=len(who)), scores, who


def trials_of_scores(ratios, scores, speakers) -> Trials:
    return Trials(speakers, speakers, speakers, {"llr": np.array(ratios), "score": np.array(scores)})


def test_correlations_are_scipys_at_both_levels():
    ratios, scores, who = scored(1, 1.0)
    rows = {
        r["metric"]: r
        for r in correlation_rows(trials_of_scores(ratios, scores, who), 200, 1, **{"set": "a", "class": "ce"})
    }
    assert float(rows["utt_pearson"]["value"]) == pytest.approx(stats.pearsonr(ratios, scores).statistic, abs=1e-5)
    assert float(rows["utt_spearman"]["value"]) == pytest.approx(stats.spearmanr(ratios, scores).statistic, abs=1e-5)
    means = np.array([[ratios[who == w].mean(), scores[who == w].mean()] for w in sorted(set(who))]).T
    assert float(rows["speaker_pearson"]["value"]) == pytest.approx(stats.pearsonr(*means).statistic, abs=1e-5)
    assert (
        rows["speaker_pearson"]["total"] == 12
        and rows["utt_pearson"]["total"] == 72
        and rows["utt_pearson"]["speakers"] == 12
    )
    assert float(rows["utt_pearson"]["low"]) < float(rows["utt_pearson"]["value"]) < float(rows["utt_pearson"]["high"])


@pytest.mark.parametrize(("name", "wanted"), (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)))
def test_a_resample_has_scipys_correlation_of_what_it_drew(name, wanted):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(40), rng.integers(1, 6, 40).astype(float)  # scores have many ties
    weights = rng.integers(0, 4, (30, 40)).astype(float)
    weights[0], weights[1] = (y == 3), np.eye(40)[5] * 40  # only one score; only one utterance
    found = COEFFICIENTS[name](weights, x, y)
    assert np.isnan(found[:2]).all()
    for row, value in zip(weights[2:].astype(int), found[2:]):
        assert value == pytest.approx(wanted(np.repeat(x, row), np.repeat(y, row)).statistic, abs=1e-12)


def test_interval_resamples_speakers_not_utterances():
    """Many utterances of few speakers are no more certain than their speakers are."""
    ratios, scores, who = scored(2, 1.0, speakers=6, each=200)
    own = np.array([f"u{n}" for n in range(len(who))])
    wide, narrow = (np.diff(interval(pearson, names, ratios, scores, resamples=200, seed=1))[0] for names in (who, own))
    assert wide > 3 * narrow


def test_no_correlation_of_constants_or_of_two_points():
    names = {"set": "a", "class": "ce"}
    assert correlation_rows(trials_of_scores([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], ["a", "b", "c"]), 20, 1, **names) == []
    assert correlation_rows(trials_of_scores([1.0, 2.0], [4.0, 5.0], ["a", "b"]), 20, 1, **names) == []
    few = correlation_rows(trials_of_scores([1.0, 2.0, 4.0], [4.0, 5.0, 5.0], ["a", "b", "b"]), 20, 1, **names)
    assert [(row["metric"], row["low"]) for row in few] == [("utt_pearson", ""), ("utt_spearman", "")]


def test_mean_of_a_speaker_weighs_its_utterances_alike():
    ratios, scores, names = by_speaker(np.array(["a", "a", "b"]), np.array([1.0, 3.0, 8.0]), np.array([2.0, 4.0, 5.0]))
    assert ratios.tolist() == [2.0, 8.0] and scores.tolist() == [3.0, 5.0] and names.tolist() == ["a", "b"]


def row(metric: str, name: str, true: str, value: float, decided: str = "") -> dict:
    figures = {"value": f"{value:.6f}", "low": "", "high": "", "count": "1", "total": "2", "speakers": "2"}
    return {"metric": metric, "set": name, "class": true, "decided": decided} | figures


def test_durations_stand_on_one_line_with_the_whole():
    data = resolve(
        ["data.views={b_3s: {sets: [b], seconds: 3}, b_1s: {sets: [b], seconds: 1}, b+c: {sets: [b, c]}}"]
    ).data
    rows = [row("utt_accuracy", name, "cn", value) for name, value in (("b", 0.9), ("b_1s", 0.5), ("b_3s", 0.6))]
    (line,) = duration_lines(rows, data)
    assert (
        line.startswith("duration b cn 1 s 0.5000 [")
        and " | 3 s 0.6000 [" in line
        and line.endswith("| whole 0.9000 [ 1 / 2, no interval, 2 speakers ]")
    )


def test_an_interval_with_a_negative_end_can_be_read():
    interval = {"metric": "utt_pearson", "low": "-0.61", "high": "-0.2"}
    assert cells.ends(interval) == "95% -0.6100 to -0.2000"
    assert cells.ends(interval | {"low": "0.1", "high": "0.2"}) == "95% 0.1000-0.2000"


def test_correlation_lines_name_level_set_reference_and_points():
    rows = [
        row(f"{level}_{name}", "t", "ce", value, "en")
        for level in ("utt", "speaker")
        for name, value in (("pearson", 0.5), ("spearman", 0.25))
    ]
    lines = correlation_lines(rows)
    assert (
        lines[0]
        == "correlation utt t ce llr of en pearson 0.5000 (no interval) spearman 0.2500 (no interval) [ 2 points, 2 speakers ]"
    )
    assert lines[1].startswith("correlation speaker t ce")
