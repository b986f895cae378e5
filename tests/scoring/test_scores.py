"""Scores, decisions and intervals, against the model itself and counts by hand."""

import csv
import json
import math
from types import SimpleNamespace

import kaldiio
import numpy as np
import pytest
import torch
from recipe_runs import run_stages

from dnf.decisions import decide, decision_rows
from dnf.decisions.accuracy_rows import Tally, accuracy_rows
from dnf.features.frame_store import FrameStore
from dnf.features.windows import Windows
from dnf.metrics.bootstrap import LEAST
from dnf.metrics.figure_rows import share_row
from dnf.models import checkpoint
from dnf.scoring import score
from dnf.scoring.latent_store import Latents, UtteranceRows, utterance_loglik
from dnf.scoring.latent_writer import SegmentMeans
from dnf.scoring.score import mean_densities, write_scores

# ---- a trained model and its latents -------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(write_store, two_classes, small_config, tmp_path_factory):
    """An experiment on classes en and zh through stages 3, 4, 6 and 7; set other has class ja, unknown to the model."""
    root = tmp_path_factory.mktemp("scored")
    rows = two_classes(4, utterances=6, frames=40)
    rng = np.random.default_rng(0)
    part = {u: (s, c, x, (rng.random(len(x)) < 0.7).astype(np.float32)) for u, (s, c, x, _) in rows.items()}
    unseen = {f"j{n}-u": (f"j{n}", "ja", row[2] + 1, row[3]) for n, row in enumerate(part.values()) if n < 3}
    for name, utterances in (("train", two_classes(1)), ("dev", two_classes(2, 4)), ("test", part), ("other", unseen)):
        write_store(root / "frames" / name, utterances)
    (root / "classes.txt").write_text("en\nja\nzh\n")
    config = small_config("data.classes=[en, zh]", "train.lr=0.01", "latents.save_frames=50", "report.bootstrap=200")
    config.save(root / "exp" / "config.yaml")
    run_stages(root)
    return SimpleNamespace(root=root, exp=root / "exp", config=config)


SETS = ("train", "dev", "test", "other")
every_set = pytest.mark.parametrize("name", SETS)


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def direct(scored, name: str):
    """Store and utterance of each vector, z, logdet and log p(x | k) ``(S, K)`` of a set, computed here."""
    trained = checkpoint.load_model(scored.exp / "best.pt")
    store, config = FrameStore(scored.root / "frames" / name), scored.config
    windows = Windows([store], config.splice, config.cmvn, ["en", "zh"], keep_unseen=True, device=torch.device("cpu"))
    x = windows.gather(torch.arange(len(windows)))
    made = SimpleNamespace(store=store, utterance=windows.segment(torch.arange(len(windows))))
    with torch.no_grad():
        z, logdet = trained.model(x)
        return made, z.numpy(), logdet.numpy(), trained.model.log_prob(x).double().numpy()


@every_set
def test_latents_of_a_set_are_those_of_the_model(scored, name):
    _, z, logdet, loglik = direct(scored, name)
    folder = scored.exp / "latents" / name
    meta = json.loads((folder / "meta.json").read_text())
    assert meta == {
        "classes": ["en", "zh"],
        "cond_dim": 6,
        "frames": len(z),
    }
    logp, saved, rows = (np.load(folder / f"{file}.npy") for file in ("logp", "z", "z_rows"))
    assert logp.dtype == saved.dtype == np.float32 and rows.dtype == np.int64
    np.testing.assert_allclose(np.load(folder / "logdet.npy"), logdet, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(logp + logdet[:, None], loglik, rtol=1e-5, atol=1e-3)
    assert len(rows) == min(50, len(z)) and (np.diff(rows) > 0).all()
    np.testing.assert_allclose(saved, z[rows], rtol=1e-4, atol=1e-4)


@every_set
def test_rows_of_an_utterance_are_its_speech_frames(scored, name):
    made, *_ = direct(scored, name)
    found = read(scored.exp / "latents" / name / "utts.tsv")
    assert [row["utt"] for row in found] == made.store.utterances
    assert [(row["speaker"], row["class"]) for row in found] == list(zip(made.store.speakers, made.store.classes))
    assert {(row["set"], row["score"]) for row in found} == {(name, "")}
    for u, row in enumerate(found):
        mine = np.flatnonzero(made.utterance.numpy() == u)
        assert (int(row["first"]), int(row["rows"])) == (mine[0], len(mine)) and (np.diff(mine) == 1).all()


@every_set
def test_utterance_scores_are_sums_of_the_models_log_prob(scored, name):
    made, _, _, loglik = direct(scored, name)
    found = read(scored.exp / "scores" / name / "utt_scores.txt")
    for u, row in enumerate(found):
        mine = loglik[made.utterance.numpy() == u]
        assert row["utt"] == made.store.utterances[u] and int(row["frames"]) == len(mine)
        for k, of in enumerate(("en", "zh")):
            assert float(row[f"sum_{of}"]) == pytest.approx(mine[:, k].sum(), abs=0.02)
            assert float(row[f"mean_{of}"]) == pytest.approx(mine[:, k].mean(), abs=1e-3)


@every_set
def test_frame_scores_are_readable_arks(scored, name):
    made, _, _, loglik = direct(scored, name)
    ark = kaldiio.load_scp(str(scored.exp / "scores" / name / "frame_scores.scp"))
    assert list(ark) == made.store.utterances
    np.testing.assert_allclose(np.concatenate([ark[u] for u in made.store.utterances]), loglik, rtol=1e-5, atol=1e-3)


@every_set
def test_mean_densities_are_of_the_true_class(scored, name):
    made, _, logdet, loglik = direct(scored, name)
    true = np.array(made.store.classes)[made.utterance.numpy()]
    own = np.array(
        [row[("en", "zh").index(t)] if t != "ja" else np.logaddexp(*row) - math.log(2) for row, t in zip(loglik, true)]
    )
    found = {row["class"]: row for row in read(scored.exp / "scores" / name / "densities.tsv")}
    assert list(found) == [*sorted(set(true)), "all"]
    for of, row in found.items():
        chosen = np.full(len(true), True) if of == "all" else true == of
        assert int(row["frames"]) == chosen.sum()
        assert float(row["loglik"]) == pytest.approx(own[chosen].mean(), abs=1e-3)
        assert float(row["logdet"]) == pytest.approx(logdet[chosen].mean(), abs=1e-3)
        assert float(row["logp"]) == pytest.approx(float(row["loglik"]) - float(row["logdet"]), abs=1e-5)


@every_set
def test_decisions_are_the_classes_of_highest_likelihood(scored, name):
    made, _, _, loglik = direct(scored, name)
    found = read(scored.exp / "decisions" / f"{name}.txt")
    for u, row in enumerate(found):
        mine = loglik[made.utterance.numpy() == u]
        sums = mine.sum(0)
        assert row["decision"] == ("en", "zh")[sums.argmax()]
        assert float(row["margin"]) == pytest.approx((sums.max() - sums.min()) / len(mine), abs=1e-3)
        assert (int(row["frames_en"]), int(row["frames_zh"])) == tuple(np.bincount(mine.argmax(1), minlength=2))


@every_set
def test_accuracy_counts_equal_those_of_the_model(scored, name):
    made, _, _, loglik = direct(scored, name)
    true = np.array(made.store.classes)
    utterance = made.utterance.numpy()
    right = np.array(["en", "zh"])[loglik.argmax(1)] == true[utterance]
    decided = np.array([("en", "zh")[loglik[utterance == u].sum(0).argmax()] for u in range(len(true))])
    found = {
        (r["metric"], r["class"]): r for r in read(scored.exp / "accuracy.tsv") if r["set"] == name and not r["decided"]
    }
    if name == "other":
        assert not found  # no accuracy for a class the model does not know
        return
    for of in ("en", "zh", "all"):
        chosen = np.full(len(true), True) if of == "all" else true == of
        frame, utt = found["frame_accuracy", of], found["utt_accuracy", of]
        assert (int(frame["count"]), int(frame["total"])) == (right[chosen[utterance]].sum(), chosen[utterance].sum())
        assert (int(utt["count"]), int(utt["total"])) == ((decided == true)[chosen].sum(), chosen.sum())
        assert int(frame["speakers"]) == chosen.sum()  # each speaker has one utterance here
        for row in (frame, utt):
            assert float(row["value"]) == pytest.approx(int(row["count"]) / int(row["total"]), abs=1e-6)


@every_set
@pytest.mark.parametrize("metric", ("frame_share", "utt_share"))
def test_shares_of_the_decisions_on_a_class_sum_to_one(scored, name, metric):
    shares = {}
    for row in read(scored.exp / "accuracy.tsv"):
        if row["set"] == name and row["metric"] == metric:
            shares.setdefault(row["class"], []).append(row)
    assert list(shares) == (["ja"] if name == "other" else ["en", "zh"])
    for rows in shares.values():
        assert [row["decided"] for row in rows] == ["en", "zh"]
        assert sum(float(row["value"]) for row in rows) == pytest.approx(1, abs=2e-6)
        assert sum(int(row["count"]) for row in rows) == int(rows[0]["total"]) == int(rows[1]["total"])


def test_intervals_of_the_experiment_contain_their_values(scored):
    rows = read(scored.exp / "accuracy.tsv")
    assert len(rows) > 20
    for row in rows:
        if row["metric"].startswith(("min_cllr", "cllr")):
            continue  # the first has no interval, the second no upper bound
        if not row["low"]:
            assert int(row["fewest"] or row["speakers"]) < LEAST and not row["metric"].endswith(("accuracy", "share"))
            continue
        assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1


def test_the_same_scores_give_the_same_bytes(scored):
    files = [
        scored.exp / "accuracy.tsv",
        *sorted((scored.exp / "scores").rglob("*.t*")),
        *sorted((scored.exp / "decisions").iterdir()),
    ]
    before = [path.read_bytes() for path in files]
    assert len(files) == 1 + 2 * 4 + 4
    for main in (score.main, decide.main):
        main([str(scored.exp)])
    assert [path.read_bytes() for path in files] == before


def test_gaussianity_names_the_classes_it_is_of(scored):
    found = {(row["set"], row["classes"], row["part"]): row for row in read(scored.exp / "gaussianity.tsv")}
    assert set(found) == {
        (s, c, p) for s, c in (("train", "en+zh"), ("dev", "en+zh"), ("test", "en+zh"), ("other", "ja")) for p in "crx"
    }
    _, z, *_ = direct(scored, "dev")
    row = found["dev", "en+zh", "c"]
    assert int(row["frames"]) == len(z) and row["dim"] == "6"
    centred = z[:, :6] - z[:, :6].mean(0)
    kurtosis = (centred**4).mean(0) / (centred**2).mean(0) ** 2 - 3
    assert float(row["kurt"]) == pytest.approx(kurtosis.mean(), abs=1e-3)
    dims = [row for row in read(scored.exp / "gaussianity_dims.tsv") if (row["set"], row["part"]) == ("dev", "c")]
    np.testing.assert_allclose([float(row["kurt"]) for row in dims], kurtosis, atol=1e-3)


def test_a_set_that_is_gone_leaves_no_scores(scored, small_config, write_store, two_classes, tmp_path):
    """Stage 4 run again without a set: scores and decisions are of the sets that are there."""
    for name, seed in (("train", 1), ("dev", 2), ("old", 3)):
        write_store(tmp_path / "frames" / name, two_classes(seed))
    (tmp_path / "classes.txt").write_text("en\nzh\n")

    def run(words=()):
        small_config("report.bootstrap=20", "train.steps=3", *words).save(tmp_path / "exp" / "config.yaml")
        run_stages(tmp_path)
        return {row["set"] for row in read(tmp_path / "exp" / "accuracy.tsv")}

    assert run() == {"train", "dev", "old"}
    assert run(["data.test=[dev]"]) == {"train", "dev"}
    for place, names in (
        ("latents", ("dev", "train")),
        ("scores", ("dev", "train")),
        ("decisions", ("dev.txt", "train.txt")),
    ):
        assert sorted(path.name for path in (tmp_path / "exp" / place).iterdir()) == list(names)


def test_a_plain_flow_has_densities_and_decides_nothing(write_store, two_classes, small_config, tmp_path):
    for name, seed in (("train", 1), ("dev", 2)):
        write_store(tmp_path / "frames" / name, two_classes(seed))
    (tmp_path / "classes.txt").write_text("en\nzh\n")
    small_config("prior.cond_dim=0", "train.steps=3", "data.classes=[en]").save(tmp_path / "exp" / "config.yaml")
    run_stages(tmp_path)
    opened = Latents.open(tmp_path / "exp" / "latents" / "dev")
    assert opened.classes == ["en"] and opened.cond_dim == 0 and opened.logp.shape == (300, 1)
    densities = {row["class"]: row for row in read(tmp_path / "exp" / "scores" / "dev" / "densities.tsv")}
    assert list(densities) == ["en", "zh", "all"] and densities["zh"]["frames"] == "150"
    assert float(densities["zh"]["logp"]) == pytest.approx(opened.logp[50:100].mean(), abs=3)  # its one density
    assert read(tmp_path / "exp" / "accuracy.tsv") == [] and not list((tmp_path / "exp" / "decisions").iterdir())


def test_scores_without_latents_say_which_stage_makes_them(small_config, tmp_path):
    with pytest.raises(ValueError, match="no latents; run stage latents"):
        Latents.open(tmp_path)
    small_config().save(tmp_path / "config.yaml")
    for main in (score.main, decide.main):
        with pytest.raises(ValueError, match="stage 4"):
            main([str(tmp_path)])


# ---- by hand -------------------------------------------------------------------------------------


@pytest.fixture
def toy() -> Latents:
    """Three utterances of three classes; log-likelihoods to be read off."""
    logp = [[-1, -2, -9], [-1, -2, -9], [-8, -2, -9], [-5, -5, -1], [-1, -3, -5], [-4, -3, -5]]
    utts = [
        {"utt": "a-1", "speaker": "a", "class": "de", "set": "s", "score": "2.5", "first": 0, "rows": 3},
        {"utt": "b-1", "speaker": "b", "class": "fr", "set": "s", "score": "", "first": 3, "rows": 1},
        {"utt": "b-2", "speaker": "b", "class": "xx", "set": "t", "score": "", "first": 4, "rows": 2},
    ]
    return Latents(
        ["de", "en", "fr"], 2, utts, np.array(logp, dtype=np.float32), np.array([1, 1, 1, 2, 3, 3], dtype=np.float32)
    )


def test_sums_and_decisions_by_hand(toy):
    assert utterance_loglik(toy).tolist() == [[-7, -3, -24], [-3, -3, 1], [1, 0, -4]]
    made = list(decision_rows.decide(toy, "de", window=1.0, near_tie=2.0))
    columns = ("utt", "speaker", "class", "decision", "margin", "near_tie", "llr", "score", "frames")
    assert [tuple(row[name] for name in columns) for row in made] == [
        ("a-1", "a", "de", "en", "1.333333", "yes", f"{(-7 + 3 + math.log(2)) / 3:.6f}", "2.5", 3),
        ("b-1", "b", "fr", "fr", "4.000000", "yes", f"{-3 - 1 - math.log1p(math.exp(-4)) + math.log(2):.6f}", "", 1),
        ("b-2", "b", "xx", "de", "0.500000", "yes", f"{(1 - math.log1p(math.exp(-4)) + math.log(2)) / 2:.6f}", "", 2),
    ]
    columns = ("frames_de", "frames_en", "frames_fr", "logp_de", "logp_en", "logp_fr", "logdet")
    assert [tuple(row[name] for name in columns) for row in made] == [
        (2, 1, 0, "-3.333333", "-2.000000", "-9.000000", "1.000000"),
        (0, 0, 1, "-5.000000", "-5.000000", "-1.000000", "2.000000"),
        (1, 1, 0, "-2.500000", "-3.000000", "-5.000000", "3.000000"),
    ]


def test_densities_by_hand(toy):
    found = {row["class"]: row for row in mean_densities(toy)}
    assert list(found) == ["de", "fr", "xx", "all"]
    assert (found["de"]["frames"], found["de"]["logp"], found["de"]["logdet"]) == (3, "-3.333333", "1.000000")
    assert found["de"]["loglik"] == "-2.333333"
    mixture = [np.log(np.exp(np.array(row, dtype=float)).mean()) for row in ([-1, -3, -5], [-4, -3, -5])]
    assert float(found["xx"]["logp"]) == pytest.approx(np.mean(mixture), abs=1e-6)
    assert found["all"]["frames"] == 6 and found["all"]["logdet"] == "1.833333"


def test_accuracy_by_hand(toy):
    tally = Tally(toy.classes)
    for row in decision_rows.decide(toy, "de", 1.0, 2.0):
        tally.add(row)
    trials = tally.trials()
    known = trials.only(trials.known)
    columns = known.speakers.tolist(), known.labels.tolist(), known.scores["utt_accuracy"].tolist()
    assert columns == (["a", "b"], ["de", "fr"], [0, 1])
    rows = accuracy_rows("test", tally, 50, 1)
    found = {
        (row["metric"], row["class"], row.get("decided", "")): (row["count"], row["total"], row["speakers"])
        for row in rows
    }
    assert found["frame_accuracy", "de", ""] == (2, 3, 1) and found["utt_accuracy", "de", ""] == (0, 1, 1)
    assert found["frame_accuracy", "all", ""] == (3, 4, 2) and found["utt_accuracy", "all", ""] == (1, 2, 2)
    assert ("frame_accuracy", "xx", "") not in found
    assert found["frame_share", "xx", "de"] == (1, 2, 1) and found["utt_share", "xx", "de"] == (1, 1, 1)
    assert {row["set"] for row in rows} == {"test"}


def test_one_speaker_has_no_interval():
    row = share_row("utt_accuracy", [("a", 1, 1), ("a", 0, 1)], 100, 1, set="test")
    assert (row["value"], row["low"], row["high"], row["speakers"]) == ("0.500000", "", "", 1)


def simulated(speakers: int, seed: int, utterances: int = 10, spread: float = 0.2) -> list[tuple[str, int, int]]:
    """Utterances right or wrong, with an accuracy of each speaker's own around 0.7."""
    rng = np.random.default_rng(seed)
    own = np.clip(0.7 + spread * rng.standard_normal(speakers), 0, 1)
    return [(f"s{s:03}", int(rng.random() < own[s]), 1) for s in range(speakers) for _ in range(utterances)]


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_contains_its_value_and_shrinks_with_more_speakers(seed):
    widths = []
    for speakers in (4, 16, 64, 256):
        row = share_row("m", simulated(speakers, seed), 500, 1)
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        widths.append(float(row["high"]) - float(row["low"]))
    assert widths[1] > 1.3 * widths[2] > 1.3**2 * widths[3]


def test_a_perfect_score_of_few_speakers_is_not_sure():
    row = share_row("m", [(f"s{n}", 3, 3) for n in range(5)], 100, 1)
    assert (row["value"], row["high"]) == ("1.000000", "1.000000")
    assert float(row["low"]) == pytest.approx(0.025 ** (1 / 5), abs=1e-6)  # Clopper & Pearson: 5 of 5


def test_utterances_are_the_rows_of_their_table(tmp_path):
    rows = [
        {"utt": "a-1", "speaker": "a", "class": "de", "set": "s", "score": "2.5", "first": 0, "rows": 3},
        {"utt": 'b "1"', "speaker": "b", "class": "fr", "set": "s", "score": "", "first": 3, "rows": 1},
    ]
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    (tmp_path / "utts.tsv").write_text("\n".join(lines) + "\n")
    utts = UtteranceRows(tmp_path / "utts.tsv")
    assert list(utts) == rows and len(utts) == 2 and utts[-1] == rows[1]


def test_means_of_segments_that_batches_cut(tmp_path):
    g = torch.Generator().manual_seed(0)
    frames = torch.tensor([3, 1, 900, 2, 7])
    segment, z = torch.arange(5).repeat_interleave(frames), torch.randn(913, 4, generator=g) + 100
    means = SegmentMeans(tmp_path / "z_mean.npy", frames, 4)
    for rows in torch.arange(913).split(250):
        means.update(z[rows], segment[rows])
    means.file.flush()
    wanted = torch.stack([part.double().mean(0) for part in z.split(frames.tolist())]).float()
    np.testing.assert_array_equal(np.load(tmp_path / "z_mean.npy"), wanted.numpy())


def test_frame_scores_can_be_left_out(toy, tmp_path):
    write_scores(toy, tmp_path, frame_scores=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["densities.tsv", "utt_scores.txt"]
