"""The open-set score on latents whose answer is known: AUC, false-alarm rate, and what each figure sees."""

import csv
import json
from types import SimpleNamespace
from typing import get_args, get_type_hints

import numpy as np
import pytest
from scipy import stats

from dnf.decisions import decide, open_set_rows
from dnf.decisions.open_set import SCORES, OpenSet, Scale, against_frames, mean_of, nearest, threshold, weights_of
from dnf.decisions.open_set_rows import auc_row
from dnf.decisions.utterance_summary import read, summary_of
from dnf.experiment.config import resolve
from dnf.experiment.settings import OpenSetSettings
from dnf.metrics import figure_rows
from dnf.metrics.trials import Trials
from dnf.report import html_breakdowns
from dnf.report.lines import open_set_lines
from dnf.scoring.latent_store import Latents

DIM, MEANS = 6, {"ce": -0.5, "en": 0.5}


def frames_of(
    rng, centre: float, rows: int, scale: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z ``(rows, D)`` of one utterance, its logp ``(rows, 2)`` under both classes and its logdet."""
    own = 0.15 * rng.standard_normal(DIM)  # of the speaker
    z = centre + shift * np.eye(DIM)[0] + own + scale * rng.standard_normal((rows, DIM))
    logp = [-0.5 * ((z - mean) ** 2).sum(1) - DIM / 2 * np.log(2 * np.pi) for mean in MEANS.values()]
    return z, np.stack(logp, 1), rng.normal(1.0, 0.1, rows)


def summaries(seed: int, per_class: int, rows=(40, 200), **how):
    """Summary of ``per_class`` utterances of each class, their classes and speakers."""
    rng, found, labels = np.random.default_rng(seed), [], []
    for name, centre in MEANS.items():
        for _ in range(per_class):
            z, logp, logdet = frames_of(rng, centre, int(rng.integers(*rows)), **how)
            found.append(summary_of(logp, logdet, z.mean(0)))
            labels.append(name)
    return type(found[0])(*(np.concatenate(arrays) for arrays in zip(*found))), labels


def fitted(score: str = "combined", false_alarm: float = 0.05, dev: int = 300) -> OpenSet:
    train, labels = summaries(1, 100)
    return OpenSet.fit(train, labels, summaries(2, dev)[0], list(MEANS), OpenSetSettings(score, false_alarm))


def area(unseen, known, resamples: int) -> tuple[float, float | None, float | None]:
    """AUC and the ends of its interval from the scores of each speaker."""
    sides = []
    for kind, speakers in (("unseen", unseen), ("known", known)):
        names = [f"{kind}{n}" for n, scores in enumerate(speakers) for _ in scores]
        sides.append(Trials(names, names, names, {"open_set": np.concatenate(speakers)}))
    row = auc_row(*sides, resamples, 1)
    assert row["speakers"] == len(unseen) + len(known) and row["count"] == len(sides[0])
    return tuple(float(row[name]) if row[name] else None for name in ("value", "low", "high"))


def test_the_auc_of_gaussians_is_the_known_one():
    """Of N(d, 1) against N(0, 1) it is Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    value, low, high = area(rng.normal(1.2, 1, (100, 50)), rng.normal(0, 1, (100, 50)), 300)
    assert value == pytest.approx(stats.norm.cdf(1.2 / np.sqrt(2)), abs=0.01)
    assert low < value < high < low + 0.03


def test_the_auc_counts_pairs_and_ties():
    value, low, _ = area([[1.0, 2.0]], [[2.0, 0.0], [5.0]], 50)
    assert value == pytest.approx((0 + 1 + 0 + 0.5 + 1 + 0) / 6) and low is None


def test_the_interval_of_an_auc_is_over_speakers():
    """Five speakers' worth of scores, however many each has, is little."""
    rng = np.random.default_rng(0)
    sides = [[rng.normal(m, 0.1, 200) for m in means] for means in ((0, 2, 1, 3, 1), (-1, 1, 2, 0, 1))]
    _, low, high = area(*sides, 500)
    assert high - low > 0.4
    assert area(sides[0], sides[1][:4], 500)[1] is None  # too few speakers


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("false_alarm", [0.05, 0.2])
def test_the_threshold_holds_the_false_alarm_rate_on_held_out_utterances(score, false_alarm):
    model, held_out = fitted(score, false_alarm), summaries(3, 1000)[0]
    assert model.is_none_of_these(held_out).mean() == pytest.approx(false_alarm, abs=0.35 * false_alarm + 0.01)


def test_the_false_alarm_rate_holds_for_shorter_and_longer_utterances_than_most():
    model = fitted("combined")
    for rows in ((40, 60), (180, 200)):
        assert model.is_none_of_these(summaries(4, 500, rows)[0]).mean() < 0.12


def test_the_threshold_is_a_rank():
    assert threshold(np.arange(1.0, 100.0), 0.05, np.ones(99)) == 95
    assert threshold(np.array([3.0, 1.0, 2.0]), 0.05, np.ones(3)) == 3  # too few for 5 %: the largest


def test_classes_and_speakers_weigh_alike_in_the_threshold():
    """Speaker a of 80 utterances weighs as b of 20; a class of one speaker as that of both."""
    names = [("en", "a")] * 80 + [("en", "b")] * 20 + [("ce", "c")] * 50
    weights = weights_of(names)
    assert [weights[:80].sum(), weights[80:100].sum(), weights[100:].sum()] == pytest.approx([0.5, 0.5, 1.0])
    scores = np.concatenate([np.linspace(0, 1, 80), np.linspace(10, 11, 20), np.linspace(0, 1, 50)])
    assert threshold(scores, 0.2, np.ones(150)) <= 1 < 10 < threshold(scores, 0.2, weights)  # b: a quarter


def test_typicality_sees_a_norm_that_is_too_small_and_density_does_not():
    model, small = fitted("typicality"), summaries(5, 200, scale=0.6)[0]
    known = summaries(6, 200)[0]
    assert model.is_none_of_these(small).mean() > 0.95
    assert (model.score(small, "density") > model.score(known, "density").max()).mean() == 0
    assert model.score(small, "density").mean() < -3  # more likely than what it was trained on


def test_distance_sees_a_shift_that_the_norm_hardly_shows():
    model, moved, known = fitted("distance"), summaries(7, 200, shift=0.8)[0], summaries(8, 200)[0]
    areas = {name: area([model.score(moved, name)], [model.score(known, name)], 10)[0] for name in SCORES}
    assert areas["distance"] > 0.9 > areas["typicality"]
    assert areas["combined"] > 0.8


def test_what_lies_between_the_classes_has_a_small_gap():
    model, rng = fitted("gap"), np.random.default_rng(9)
    parts = [frames_of(rng, 0.0, 100) for _ in range(100)]
    between = [summary_of(logp, logdet, z.mean(0)) for z, logp, logdet in parts]
    assert np.mean([model.is_none_of_these(one)[0] for one in between]) > 0.9


def test_the_setting_names_the_scores():
    assert get_args(get_type_hints(OpenSetSettings)["score"]) == tuple(SCORES)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_is_finite_is_kept_and_is_higher_far_away(tmp_path, score):
    """Far away in log density, in the mean latent and between the classes, each of which some score looks at."""
    model, known, (far, _) = fitted(score), summaries(10, 20)[0], summaries(11, 20, scale=3.0, shift=6.0)
    best, second = known.best.T
    far = far._replace(best=far.best.min(1, keepdims=True) + np.array([[(best - second).min() / 2, 0.0]]))
    model.save(tmp_path / "open_set.json")
    loaded = OpenSet.load(tmp_path / "open_set.json")
    assert (loaded.threshold, loaded.classes, loaded.score_name) == (model.threshold, model.classes, score)
    assert loaded.score_names == list(SCORES)
    for summary in (known, far):
        assert np.isfinite(model.score(summary)).all() and len(model.score(summary)) == len(summary.frames)
        np.testing.assert_array_equal(loaded.score(summary), model.score(summary))
        np.testing.assert_array_equal(loaded.is_none_of_these(summary), model.score(summary) > model.threshold)
    assert model.score(far).min() > model.score(known).max()


@pytest.mark.parametrize("name", ("open_set.json", "open_set.npz"))
def test_a_score_without_one_of_its_files_is_refused(tmp_path, name):
    fitted().save(tmp_path / "open_set.json")
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="run stage decide"):
        OpenSet.load(tmp_path / "open_set.json")


def test_one_class_has_no_gap():
    train, labels = summaries(1, 50)
    one = np.array(labels) == "en"
    alone = train.rows(one)._replace(best=train.best[one][:, :1])
    model = OpenSet.fit(alone, ["en"] * 50, alone, ["en"], OpenSetSettings("combined", 0.05))
    assert model.score_names == ["combined", "density", "typicality", "distance"]
    assert all(np.isfinite(model.score(alone, name)).all() for name in model.score_names)
    with pytest.raises(ValueError, match="no gap"):
        model.score(alone, "gap")
    with pytest.raises(ValueError, match="no gap"):
        OpenSet.fit(alone, ["en"] * 50, alone, ["en"], OpenSetSettings("gap", 0.05))


def test_scales_follow_the_frames():
    rng, frames = np.random.default_rng(0), np.random.default_rng(1).integers(5, 500, 4000)
    values = 3 + rng.standard_normal(4000) * np.sqrt(0.04 + 9 / frames)
    scale = Scale.fit(values, frames)
    assert (scale.mean, scale.base, scale.per_frame) == pytest.approx((3, 0.04, 9), rel=0.3)
    assert scale(values, frames)[frames < 20].std() == pytest.approx(1, abs=0.15)
    assert against_frames(np.zeros(10), np.arange(1, 11))[0] > 0


def test_the_distance_by_hand():
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    z, means = np.array([[1.0, 1.0], [-3.0, 0.0]]), np.array([[0.0, 0.0], [-3.0, 1.0]])
    assert nearest(z, means, precision) == pytest.approx([2 + 2 * 0.5 + 1, 1.0])


def test_figures_do_not_depend_on_how_mean_latents_are_read(monkeypatch):
    train, labels = summaries(1, 40)
    labels, one = np.array(labels), fitted().figures(train)
    means = [mean_of(train.z_mean, np.flatnonzero(labels == name)) for name in MEANS]
    monkeypatch.setattr("dnf.decisions.open_set.CHUNK", 7)
    for name, values in fitted().figures(train).items():
        np.testing.assert_allclose(values, one[name], rtol=1e-9)
    for mean, name in zip(means, MEANS):
        np.testing.assert_allclose(mean, train.z_mean[labels == name].mean(0), rtol=1e-12)
        np.testing.assert_allclose(mean_of(train.z_mean, np.flatnonzero(labels == name)), mean, rtol=1e-12)


def test_too_little_to_fit_on_is_an_error():
    train, labels = summaries(1, 10)
    with pytest.raises(ValueError, match="class en"):
        OpenSet.fit(train, ["ce"] * 20, train, ["ce", "en"], OpenSetSettings("combined", 0.05))
    with pytest.raises(ValueError, match="3 dev utterances"):
        OpenSet.fit(train, labels, train.rows(np.arange(3)), ["ce", "en"], OpenSetSettings("combined", 0.05))


@pytest.mark.parametrize("word", ["open_set.false_alarm=0", "open_set.false_alarm=1", "open_set.score=best"])
def test_bad_settings_are_refused(word):
    with pytest.raises(ValueError, match="open_set"):
        resolve([word])


# ---- an experiment ------------------------------------------------------------------------------


def write_set(directory, seed: int, found: dict[str, float], speakers: int, utterances: int = 5) -> None:
    """``latents/<set>`` as stage 4 leaves it; ``found`` are the centres of the classes."""
    rng, utts, parts, means = np.random.default_rng(seed), [], [], []
    for name, centre in sorted(found.items()):
        for n in range(speakers * utterances):
            rows = int(rng.integers(40, 200))
            z, logp, logdet = frames_of(rng, centre, rows, shift=0.0 if name in MEANS else 1.2)
            speaker = f"{directory.name}{name}{n // utterances}"
            utts.append((f"{speaker}-{n}", speaker, name, directory.name, "", sum(len(p[0]) for p in parts), rows))
            parts.append((logp, logdet))
            means.append(z.mean(0))
    directory.mkdir(parents=True)
    np.save(directory / "logp.npy", np.concatenate([p[0] for p in parts]).astype(np.float32))
    np.save(directory / "logdet.npy", np.concatenate([p[1] for p in parts]).astype(np.float32))
    np.save(directory / "z_mean.npy", np.array(means, dtype=np.float32))
    meta = {"classes": list(MEANS), "dim": DIM, "cond_dim": DIM, "var_c": 1.0, "var_r": 1.0, "frames": len(utts)}
    (directory / "meta.json").write_text(json.dumps(meta))
    header = ("utt", "speaker", "class", "set", "score", "first", "rows")
    (directory / "utts.tsv").write_text("\n".join("\t".join(map(str, row)) for row in (header, *utts)) + "\n")


@pytest.fixture
def experiment(tmp_path) -> SimpleNamespace:
    exp, config = tmp_path / "exp", resolve(["report.bootstrap=100", "data.classes=[en, ce]"])
    config.save(exp / "config.yaml")
    everyone = MEANS | {"je": 0.0}
    for seed, (name, found) in enumerate(
        {"train": everyone, "dev": everyone, "test": everyone, "other": {"en": 0.5}}.items()
    ):
        write_set(exp / "latents" / name, seed, found, speakers=8)
    return SimpleNamespace(exp=exp, config=config)


def rows_of(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_an_experiment_gets_its_rows_column_and_file(experiment):
    assert decide.main([str(experiment.exp)]) == 0
    rows = rows_of(experiment.exp / "accuracy.tsv")
    found = {(r["metric"], r["set"], r["class"], r["decided"]): r for r in rows if r["metric"].startswith("open_set")}
    assert {key[1:] for key in found if key[0] == "open_set_auc"} == {
        *((name, "je", "known") for name in ("train", "dev", "test")),
        ("test", "je", "test"),
    }
    everyone = found["open_set_auc", "test", "je", "known"]
    assert float(everyone["value"]) > 0.9 and (everyone["count"], everyone["total"]) == ("40", "160")
    assert float(everyone["low"]) <= float(everyone["value"]) <= float(everyone["high"])
    assert everyone["speakers"] == str(8 + 24)
    assert float(found["open_set_detected", "test", "je", ""]["value"]) > 0.5
    assert float(found["open_set_false", "dev", "en", ""]["value"]) <= 0.1
    decisions = rows_of(experiment.exp / "decisions" / "test.txt")
    flags = [row["open_set"] for row in decisions if row["class"] == "je"]
    assert flags.count("yes") == int(found["open_set_detected", "test", "je", ""]["count"])
    model = OpenSet.load(experiment.exp / "open_set.json")
    latents, summary = read(experiment.exp / "latents" / "test")
    assert isinstance(latents, Latents) and model.is_none_of_these(summary).sum() == sum(
        row["open_set"] == "yes" for row in decisions
    )
    lines = open_set_lines(rows)
    assert len(lines) == len(found)
    start = "open_set_auc test je (unseen) against known classes of all test sets "
    start += f"{float(everyone['value']):.4f} [ 40 against 120, 95%"
    assert sum(line.startswith(start) for line in lines) == 1


def test_unseen_classes_have_no_part_in_the_fit(experiment):
    """With the unseen class moved far away in train and dev, score and threshold stay, bit for bit."""
    before = open_set_rows.fit(experiment.exp, experiment.config, open_set_rows.read_sets(experiment.exp))
    for name in ("train", "dev"):
        folder = experiment.exp / "latents" / name
        unseen = [n for n, row in enumerate(rows_of(folder / "utts.tsv")) if row["class"] == "je"]
        z_mean = np.load(folder / "z_mean.npy")
        z_mean[unseen] += 100
        np.save(folder / "z_mean.npy", z_mean)
    after = open_set_rows.fit(experiment.exp, experiment.config, open_set_rows.read_sets(experiment.exp))
    assert (after.threshold, after.scales) == (before.threshold, before.scales)
    np.testing.assert_array_equal(after.precision, before.precision)


def test_without_mean_latents_there_is_no_score_and_none_is_left_behind(experiment):
    open_set_rows.open_set_rows(experiment.exp, experiment.config)
    assert len(list(experiment.exp.glob("open_set.*"))) == 3
    (experiment.exp / "latents" / "dev" / "z_mean.npy").unlink()
    assert open_set_rows.open_set_rows(experiment.exp, experiment.config) == []
    assert not list(experiment.exp.glob("open_set.*"))


def test_the_section_takes_its_rows(experiment):
    from dnf.report.cells import Rows

    rows = [
        {column: str(row.get(column, "")) for column in figure_rows.COLUMNS}
        for row in open_set_rows.open_set_rows(experiment.exp, experiment.config)
    ]
    taken = Rows(rows)
    html = html_breakdowns.open_set(taken).html
    assert not taken.left and html.count("<tr>") == len(rows) + 1 and "all test sets" in html


def test_known_utterances_of_training_are_in_no_pool():
    data = resolve(["data.train=[a, b]", "data.dev=[c]", "data.test=[a, t]"]).data
    sets = {name: Trials([name], [name], ["en"], {}, ["en", "ce"]) for name in ("train", "c", "a", "t")}
    pools = open_set_rows.known_pools(sets, data)
    found = {name: {pool: known.utts.tolist() for pool, known in of_set.items()} for name, of_set in pools.items()}
    everyone = {open_set_rows.KNOWN: ["t"]}
    assert found == {"train": everyone, "c": everyone, "a": everyone, "t": everyone | {"t": ["t"]}}
