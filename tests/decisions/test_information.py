"""Accuracy against seconds, by speaker and score, Fisher ratios: by hand, and Gaussians whose ratio is known."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from recipe_runs import run_stages

from dnf.decisions.breakdowns import fisher_summary, score_rows, speaker_rows
from dnf.experiment.config import resolve
from dnf.experiment.tables import write_tsv
from dnf.features.rows import few_of_each
from dnf.metrics.gaussianity import Moments
from dnf.plots import breakdown_figures
from dnf.report import lines
from dnf.report.lines import fisher_lines, seconds_lines
from dnf.scoring.durations import duration_rows


def piece(speaker: str, true: str, decided: str, seconds: str = "1") -> dict:
    return {"set": "s", "seconds": seconds, "speaker": speaker, "class": true, "decision": decided, "frames": "30"}


def test_durations_by_hand():
    """Five speakers of each class at 1 s, four of ce at 2 s: ce has no row there, and so all has none."""
    cut = [piece(f"e{n}", "en", ("en", "ce")[n == 0]) for n in range(5)]
    cut += [piece(f"c{n}", "ce", "ce") for n in range(5)]
    cut += [piece(f"e{n}", "en", "en", "2") for n in range(5)] + [piece(f"c{n % 4}", "ce", "ce", "2") for n in range(9)]
    rows = duration_rows(cut, resolve(["report.bootstrap=20"]))
    found = {(r["seconds"], r["class"]): (r["value"], r["total"], r["speakers"]) for r in rows}
    one = {"en": ("0.800000", 5, 5), "ce": ("1.000000", 5, 5), "all": ("0.900000", 10, 10)}
    assert found == {("1", name): figures for name, figures in one.items()} | {("2", "en"): ("1.000000", 5, 5)}
    texts = seconds_lines([row | {"decided": f"{row['seconds']}s"} for row in rows])
    assert texts[0].startswith("seconds s ce 1 s 1.0000 (") and texts[0].endswith(") [ 5 of 5 speakers ]")


def test_few_of_each_are_spread_over_its_own():
    names = [("a", "en")] * 9 + [("b", "en")] * 2 + [("a", "ce")]
    assert few_of_each(names, 3) == [0, 3, 6, 9, 10, 11]


def decision(speaker: str, true: str, decided: str, llr: float, score: str = "") -> dict:
    return {"speaker": speaker, "class": true, "decision": decided, "llr": f"{llr:.6f}", "score": score, "frames": "10"}


def test_speakers_by_hand():
    decisions = [decision("a", "en", "en", 1.0), decision("a", "en", "ce", -0.5), decision("b", "je", "ce", -2.0)]
    a, b = speaker_rows("test", decisions, ["ce", "en"])
    assert (a["speaker"], a["accuracy"], a["llr_mean"], a["llr_std"]) == ("a", "0.500000", "0.250000", "0.750000")
    assert (a["utterances"], a["frames"]) == (2, 20)
    assert (b["class"], b["accuracy"], b["llr_mean"]) == ("je", "", "-2.000000")


def test_scores_by_hand():
    decisions = [
        *(decision(s, "ce", d, x, "2.4") for s, d, x in (("a", "ce", -1), ("b", "ce", -2), ("b", "en", 3))),
        decision("a", "ce", "en", 1, "2.5"),
        decision("a", "ce", "en", 1),
    ]
    two, three = score_rows("test", decisions, ["ce", "en"], resolve(["report.bootstrap=50"]))
    assert (two["score"], two["utterances"], two["speakers"], two["accuracy"]) == (2, 3, 2, "0.666667")
    assert two["llr_mean"] == "0.000000" and float(two["low"]) <= 2 / 3 <= float(two["high"])
    assert (three["score"], three["accuracy"], three["low"]) == (3, "0.000000", "")


def test_the_fisher_ratio_of_gaussians_is_the_known_one():
    """Classes at +-m with variance v have ratio m^2 / v, however many frames each has."""
    g = torch.Generator().manual_seed(0)
    m, v = torch.tensor([0.0, 1.0, 2.0, 0.5]), torch.tensor([1.0, 1.0, 4.0, 0.25])
    moments = Moments(3, 5)
    for k, (sign, n) in enumerate(((1, 60000), (-1, 20000))):
        z = sign * m + v.sqrt() * torch.randn(n, 4, generator=g)
        moments.update(torch.cat([z, torch.full((n, 1), 3.0)], 1), torch.full((n,), k))
    ratio = moments.fisher([0, 1])
    torch.testing.assert_close(ratio[:4], torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64), atol=0.03, rtol=0)
    assert ratio[4].isnan()


def test_fisher_summary_by_hand(tmp_path):
    values = {"c": [1.0] + [0.1] * 9, "r": [0.0, 0.0]}
    rows = [
        {"set": "test", "classes": "ce+en", "part": part, "dim_index": i, "fisher": value}
        for part, of in values.items()
        for i, value in enumerate(of)
    ]
    write_tsv(tmp_path / "fisher.tsv", rows)
    found = {row["metric"]: row for row in fisher_summary(tmp_path)}
    assert (found["fisher_c"]["value"], found["fisher_c"]["total"]) == ("0.19", 10)
    assert float(found["fisher_top_c"]["value"]) == pytest.approx(1 / 1.9, rel=1e-5)
    assert found["fisher_r"]["value"] == found["fisher_top_r"]["value"] == "0"
    texts = fisher_lines(list(found.values()))
    assert texts[0] == "fisher test ce+en c10 mean 0.19 | top tenth of the dims 0.526 of the sum" and len(texts) == 2
    assert fisher_summary(tmp_path / "nowhere") == []


@pytest.fixture(scope="module")
def experiment(write_store, two_classes, small_config, tmp_path_factory):
    """Stages 3, 4, 6 and 7 on classes en and zh, with dev enough for an open-set threshold."""
    root = tmp_path_factory.mktemp("information")
    unseen = {
        f"j{n}-u": (f"j{n}", "ja", x + 1, speech) for n, (_, _, x, speech) in enumerate(two_classes(5, 4).values())
    }
    stores = {"train": two_classes(1, 8, 130), "dev": two_classes(2, 12, 130), "test": two_classes(3, 8, 130) | unseen}
    for name, utterances in stores.items():
        write_store(root / "frames" / name, utterances)
    (root / "classes.txt").write_text("en\nja\nzh\n")
    config = small_config("data.classes=[en, zh]", "train.lr=0.01", "report.bootstrap=50", "prior.cond_dim=8")
    config.save(root / "exp" / "config.yaml")
    run_stages(root)
    return root, config


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_mean_latents_and_moments_of_the_input_are_those_of_the_frames(experiment):
    from scipy import stats

    from dnf.features.frame_store import FrameStore
    from dnf.features.windows import Windows
    from dnf.models.checkpoint import load_model

    root, config = experiment
    windows = Windows(
        [FrameStore(root / "frames" / "test")],
        config.splice,
        config.cmvn,
        ["en", "zh"],
        keep_unseen=True,
        device=torch.device("cpu"),
    )
    rows = torch.arange(len(windows))
    x, segment = windows.gather(rows), windows.segment(rows)
    with torch.no_grad():
        z = load_model(root / "exp" / "best.pt").model(x)[0]
    mean = np.load(root / "exp" / "latents" / "test" / "z_mean.npy")
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, [z[segment == u].mean(0) for u in range(12)], atol=1e-5)
    found = {(r["set"], r["classes"], r["part"]): r for r in read(root / "exp" / "gaussianity.tsv")}
    true = np.array([s.name for s in windows.segments()])[segment]
    own = [x[true == name].double().numpy() for name in ("en", "zh")]
    kurt = np.average([stats.kurtosis(of) for of in own], axis=0, weights=[len(of) for of in own]).mean()
    assert float(found["test", "en+zh", "x"]["kurt_within"]) == pytest.approx(kurt, rel=1e-4, abs=1e-4)
    assert found["test", "en+zh", "x"]["dim"] == "12" and ("test", "en+ja+zh", "x") in found
    ratios = [
        float(r["fisher"])
        for r in read(root / "exp" / "fisher.tsv")
        if (r["set"], r["classes"], r["part"]) == ("test", "en+zh", "x")
    ]
    a, b = own
    expected = ((a.mean(0) - b.mean(0)) / 2) ** 2 / ((a.var(0) + b.var(0)) / 2)
    np.testing.assert_allclose(ratios, expected, rtol=2e-4)


def test_an_experiment_gets_its_tables_and_rows(experiment):
    root, _ = experiment
    rows = read(root / "exp" / "accuracy.tsv")
    seconds = {(r["set"], r["class"], r["decided"]) for r in rows if r["metric"] == "duration_accuracy"}
    assert (
        seconds == {("dev", c, s) for c in ("all", "en", "zh") for s in ("0.5s", "1s")}
        and len(seconds_lines(rows)) == 3
    )
    pieces = read(root / "exp" / "pieces.tsv")
    assert {r["set"] for r in pieces} == {"dev", "test"}  # nothing of training; test has four speakers of a class
    assert {r["class"] for r in pieces} == {"en", "zh"} and {r["seconds"] for r in pieces} == {"0.5", "1"}
    parts = {r["metric"] for r in fisher_summary(root / "exp")}
    assert parts == {f"fisher_{a}{b}" for a in ("", "top_") for b in "crx"}
    assert len(read(root / "exp" / "speakers.tsv")) == 8 + 12 + 12 and read(root / "exp" / "by_score.tsv") == []
    assert any(
        line.startswith(("speakers test en lowest ", "speakers test en all "))
        for line in lines.speaker_lines(read(root / "exp" / "speakers.tsv"), [])
    )


def test_a_piece_is_decided_as_a_recording_of_that_length_would_be(experiment, small_config):
    """The decision and frames of pieces are those of the piece alone, normalized and spliced by hand."""
    from dnf.features.frame_store import FrameStore
    from dnf.features.rows import evenly_spaced
    from dnf.features.windows import Windows
    from dnf.inference.moving import splice
    from dnf.models.checkpoint import load_model
    from dnf.scoring.pieces import decide_pieces

    root, config = experiment
    store, trained, cpu = FrameStore(root / "frames" / "dev"), load_model(root / "exp" / "best.pt"), torch.device("cpu")
    alone = small_config("cmvn.scope=utterance").cmvn
    windows = Windows(
        [store], config.splice, alone, ["en", "zh"], keep_unseen=False, device=cpu, scores=(), piece_frames=50
    )
    rows = decide_pieces(trained, windows, None, 10**6)
    assert len(rows) == len(list(windows.segments())) == 24  # 12 utterances of 130 frames
    for n, (speaker, true, decision, count) in enumerate(rows):
        u, first = n // 2, store.offsets[n // 2] + 50 * (n % 2)
        frames = store.frames[first : first + 50].float()
        spoken = store.centres[(store.centres >= first) & (store.centres < first + 50)] - first
        frames = frames - frames[spoken].mean(0)
        with torch.no_grad():
            logp = trained.model.log_prob(splice(frames, spoken[:: config.splice.hop], config)).sum(0)
        expected = (store.speakers[u], store.classes[u], trained.classes[int(logp.argmax())])
        assert (speaker, true, decision) == expected and count == len(spoken[:: config.splice.hop])
    few = decide_pieces(trained, windows, None, sum(row[3] for row in rows) // 2)
    assert few == [rows[i] for i in evenly_spaced(24, len(few)).tolist()] and 8 <= len(few) <= 12


def test_pieces_are_normalized_by_themselves_whatever_the_scope(experiment):
    from dnf.models.checkpoint import load_model
    from dnf.scoring.open_sets import open_sets
    from dnf.scoring.pieces import piece_rows

    root, config = experiment
    trained, opened, made = load_model(root / "exp" / "best.pt"), open_sets(root / "frames", config), []
    for scope in ("utterance", "speaker"):
        settings = dataclasses.replace(trained.config, cmvn=dataclasses.replace(trained.config.cmvn, scope=scope))
        made.append(piece_rows(dataclasses.replace(trained, config=settings), opened, config, None))
    assert made[0] == made[1] and len(made[0]) > 20


def test_figures_show_every_set_and_part(experiment):
    root, config = experiment
    made = dict(breakdown_figures.information_figures(root / "exp", config, "exp", ["train", "dev", "test"]))
    assert set(made) == {"durations", "fisher"}
    legend = [text.get_text() for text in made["durations"].legends[0].get_texts()]
    assert legend == ["dev, en+zh"]
    axes = made["fisher"].axes
    assert [a.get_title("left") for a in axes] == ["train, en+zh", "dev, en+zh", "test, en+zh"]
    assert [line.get_label().split(",")[0] for line in axes[0].lines] == ["c", "r", "x"]
    assert (made["durations"].get_figwidth(), made["fisher"].get_figwidth()) == (6, 6)
