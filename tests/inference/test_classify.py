"""Recordings classified by a trained model: the table, JSON, pictures, warnings, and the channels of training."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import recipe_runs
import soundfile
import torch
from recipe_runs import ROOT, environment

from dnf.data.kaldi_files import read_table, write_table
from dnf.decisions.assess import Assessment, save_fits
from dnf.experiment.config import Config
from dnf.experiment.layout import Layout
from dnf.experiment.tables import read_tsv
from dnf.features.extractor import extract_whole, make_extractor
from dnf.inference import classify, move, predicted_score, score_recording, system
from dnf.inference.predicted_score import part_of
from dnf.inference.recordings import read_items
from dnf.inference.timeline import MOST, Timeline
from dnf.inference.timeline_figure import draw
from dnf.metrics.effective_frames import effective_frames
from dnf.models.checkpoint import config_tree, save
from dnf.models.dnf import DNF
from dnf.scoring.channel_model import ChannelModel
from dnf.scoring.channel_statistics import statistics

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]
WORDS = ("cmvn.scope=utterance", "frames.dtype=float32", "data.classes=[en, zh]")


@pytest.fixture(scope="module")
def make_exp(tmp_path_factory, small_config):
    """An experiment's folder with a model that is not trained, but whose means are apart."""

    def make(*words, means=((0.5,) * 6, (-0.5,) * 6), classes=("en", "zh")):
        exp, config = tmp_path_factory.mktemp("exp"), small_config(*WORDS, *words)
        torch.manual_seed(0)
        model = DNF.from_config(config, len(classes))
        with torch.no_grad():
            model.prior.means.copy_(torch.tensor(means))
            model.first.set(torch.zeros(4), torch.full((4,), 3.0))
        config.save(exp / "config.yaml")
        save(exp / "best.pt", {"config": config_tree(config), "classes": list(classes), "model": model.state_dict()})
        return exp

    return make


@pytest.fixture(scope="module")
def wavs(tmp_path_factory, speech_like):
    """The same sound as it is, at another rate in stereo, and as flac."""
    folder = tmp_path_factory.mktemp("wavs")
    sound = speech_like(2.0, 7)
    soundfile.write(folder / "plain.wav", sound, 16000, subtype="FLOAT")
    other = speech_like(2.0, 7, 44100)
    soundfile.write(folder / "stereo.wav", np.stack([other, 0 * other], 1), 44100)
    soundfile.write(folder / "plain.flac", sound, 16000)
    return folder


def run(capsys, *words) -> tuple[int, str]:
    status = classify.main([str(word) for word in words])
    return status, capsys.readouterr().out


def test_a_table_has_a_line_for_each_recording(make_exp, wavs, capsys):
    paths = [str(wavs / name) for name in ("plain.wav", "stereo.wav", "plain.flac")]
    status, out = run(capsys, make_exp(), *paths)
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert status == 0 and [row["recording"] for row in rows] == paths
    for row in rows:
        posteriors = [float(row[f"posterior_{name}"]) for name in ("en", "zh")]
        assert sum(posteriors) == pytest.approx(1, abs=1e-5)
        assert row["class"] == ("en", "zh")[int(np.argmax(posteriors))]
        assert row["calibrated"] == "no" and row["open_set"] == ""
        assert float(row["seconds"]) == pytest.approx(2.0) and 0 < float(row["speech_seconds"]) <= 2.0
    assert rows[0]["class"] == rows[2]["class"]


def test_json_says_the_same_and_more(make_exp, wavs, capsys):
    exp = make_exp()
    (row,) = csv.DictReader(io.StringIO(run(capsys, exp, wavs / "plain.wav")[1]), delimiter="\t")
    record = json.loads(run(capsys, exp, "--json", wavs / "plain.wav")[1])
    assert record["class"] == row["class"] and record["posteriors"]["en"] == pytest.approx(
        float(row["posterior_en"]), abs=1e-6
    )
    assert record["normalized_over"] == "recording" and record["open_set"] is None and record["calibrated"] is False
    assert record["sampling_rate"] == 16000


def test_every_third_vector_is_what_a_hop_of_three_takes_and_weighs_as_all(make_exp, wavs, capsys):
    def record(exp, *words):
        return json.loads(run(capsys, exp, "--json", *words, wavs / "plain.wav")[1])

    exp = make_exp()
    some, hop, whole = record(exp, "--every", 3), record(make_exp("splice.hop=3")), record(exp)
    assert some["loglik"] == hop["loglik"] != whole["loglik"]
    assert some["vectors"] == hop["vectors"] == -(-whole["vectors"] // 3)
    splice = Config.load(exp / "config.yaml").splice
    width = splice.left + 1 + splice.right
    gap = whole["vectors"] / width * (some["loglik"]["en"] - some["loglik"]["zh"])
    assert some["posteriors"]["en"] == pytest.approx(1 / (1 + np.exp(-gap)), rel=1e-6)
    with pytest.raises(SystemExit):
        run(capsys, exp, "--every", 0, wavs / "plain.wav")
    assert "--every 0: give 1 or more" in capsys.readouterr().err


def test_the_class_is_that_of_the_higher_density_whatever_comes_first(make_exp, wavs, capsys):
    for means, wanted in ((((9.0,) * 6, (0.0,) * 6), "zh"), (((0.0,) * 6, (9.0,) * 6), "en")):
        assert json.loads(run(capsys, make_exp(means=means), "--json", wavs / "plain.wav")[1])["class"] == wanted


def test_without_calibration_frames_weigh_by_their_correlation_on_dev():
    """The posteriors are those of as many frames as dev says, or of windows side by side where dev is not there."""
    splice = SimpleNamespace(left=5, right=4, hop=1)
    trained, means = SimpleNamespace(config=SimpleNamespace(splice=splice)), np.array([0.05, 0.0])
    covariance = 0.9 ** np.arange(30)
    for known, worth in ((covariance, effective_frames(np.array([100]), covariance)[0]), (np.zeros(0), 10.0)):
        model = system.Model(trained, None, None, None, None, None, None, known)
        found = system.judge(model, system.Means(means, 0.0, 0.0, np.zeros(2), 100))
        np.testing.assert_allclose(found.posteriors[0], 1 / (1 + np.exp(-0.05 * worth)))
        assert not found.calibrated


def test_what_cannot_be_used_gets_a_line_and_a_status(make_exp, wavs, tmp_path, capsys):
    (tmp_path / "bad.wav").write_text("no sound")
    status, out = run(capsys, make_exp(), tmp_path / "bad.wav", wavs / "plain.wav")
    bad, good = csv.DictReader(io.StringIO(out), delimiter="\t")
    assert status == 1 and bad["class"] == "" and bad["warning"].startswith("error: ") and good["class"]
    status, out = run(capsys, make_exp(), "--json", tmp_path / "bad.wav")
    assert status == 1 and "bad.wav" in json.loads(out)["error"]


def test_a_recording_without_a_finite_density_does_not_end_the_others(make_exp, wavs, capsys, monkeypatch):
    def score(frames, *rest):
        if frames.rate == 44100:
            raise ValueError("a log density is not finite")
        return score_recording.score(frames, *rest)

    monkeypatch.setattr(classify, "score", score)
    status, out = run(capsys, make_exp(), wavs / "stereo.wav", wavs / "plain.wav")
    bad, good = csv.DictReader(io.StringIO(out), delimiter="\t")
    assert (
        status == 1 and good["class"] and bad["warning"] == f"error: {wavs / 'stereo.wav'}: a log density is not finite"
    )


def test_a_data_directory_and_its_speakers(make_exp, tmp_path, write_corpus, capsys):
    write_corpus(tmp_path / "test")
    exp = make_exp("cmvn.scope=speaker")
    together = [
        json.loads(line) for line in run(capsys, exp, "--json", "--data-dir", tmp_path / "test")[1].splitlines()
    ]
    assert [r["recording"] for r in together] == ["anna_en-0", "anna_en-1", "bert_zh-0", "bert_zh-1"]
    assert {r["normalized_over"] for r in together} == {"speaker"}
    wavs = sorted((tmp_path / "wav" / "test").glob("*.wav"))
    alone = [json.loads(line) for line in run(capsys, exp, "--json", *wavs)[1].splitlines()]
    assert {r["normalized_over"] for r in alone} == {"recording"}
    assert all(abs(a["loglik"]["en"] - b["loglik"]["en"]) > 1e-6 for a, b in zip(together, alone))


def test_segments_of_a_data_directory(make_exp, tmp_path, wavs, capsys):
    (tmp_path / "wav.scp").write_text(f"rec {wavs / 'plain.wav'}\n")
    (tmp_path / "segments").write_text("a-1 rec 0 1.2\na-2 rec 0.5 2.0\n")
    first, second = map(json.loads, run(capsys, make_exp(), "--json", "--data-dir", tmp_path)[1].splitlines())
    assert (first["recording"], first["seconds"]) == ("a-1", 1.2) and (second["recording"], second["seconds"]) == (
        "a-2",
        1.5,
    )


def test_a_segment_that_cannot_be_cut_is_an_error_of_its_own(make_exp, tmp_path, wavs, capsys):
    (tmp_path / "wav.scp").write_text(f"rec {wavs / 'plain.wav'}\n")
    times = {
        "a-1": "1.5 0.5",
        "a-2": "1 1",
        "a-3": "0 0",
        "a-4": "0.5 99",
        "a-5": "98 99",
        "a-6": "-1 1",
        "a-7": "0 1.2",
    }
    (tmp_path / "segments").write_text("".join(f"{utt} rec {value}\n" for utt, value in times.items()))
    status, out = run(capsys, make_exp(), "--json", "--data-dir", tmp_path)[:2]
    *bad, good = map(json.loads, out.splitlines())
    assert status == 1 and len(bad) == 6 and (good["recording"], good["seconds"]) == ("a-7", 1.2)
    for record in bad:
        assert "its segment" in record["error"] and "is outside the recording of" in record["error"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    (
        ("segments", "a-1 rec 0\n", "give utterance, recording, start and end"),
        ("segments", "a-1 rec 0 x\n", "a-1: 'x' is not a number"),
        ("segments", "a-1 other 0 1\n", "recording other of a-1 is not in wav.scp"),
        ("wav.scp", "rec cat a.wav |\n", "rec is a command"),
        ("wav.scp", "", "has no utterances"),
        ("segments", "", "has no utterances"),
    ),
)
def test_a_data_directory_that_cannot_be_read_is_refused(tmp_path, name, text, said):
    (tmp_path / "wav.scp").write_text("rec a.wav\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_items([], tmp_path, None)
    with pytest.raises(ValueError, match="no wav.scp"):
        read_items([], tmp_path / "nowhere", None)


@pytest.mark.parametrize("classes", (("en", "zh"), ("en", "ja", "zh")))
def test_pictures_are_drawn(make_exp, wavs, tmp_path, capsys, classes):
    exp = make_exp(means=[[0.3 * k] * 6 for k in range(len(classes))], classes=classes)
    run(capsys, exp, "--plot", tmp_path / "new", wavs / "plain.wav", wavs / "plain.flac", wavs / "stereo.wav")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert len(names) == 3 and "stereo.png" in names  # the others would have one name
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "new").iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(make_exp, tmp_path, speech_like):
    """Twenty minutes more are 77 MB of samples, and 245 MB of spectrum if it is made at once."""
    exp, peak = make_exp(), {}
    for minutes in (1, 21):
        wav = tmp_path / f"{minutes}.wav"
        soundfile.write(wav, np.tile(speech_like(2.0, 7), 30 * minutes), 16000)
        code = f"from dnf.inference import classify; classify.main({[str(exp), str(wav)]})"
        code += "; print(open('/proc/self/status').read())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
        peak[minutes] = int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) / 1024  # not that of the process before it
    assert peak[21] < peak[1] + 40, peak


def test_a_model_without_classes_is_refused(make_exp, wavs, capsys):
    exp = make_exp("prior.cond_dim=0", means=torch.zeros(1, 0).tolist(), classes=("en",))
    with pytest.raises(ValueError, match="the model has no classes"):
        classify.main([str(exp), str(wavs / "plain.wav")])


def test_help_and_no_recordings(tmp_path):
    script = ROOT / "utils" / "classify.sh"
    variables = environment() | {"DNF_PYTHON": sys.executable}
    done = subprocess.run([script, "--help"], capture_output=True, text=True, env=variables)
    assert done.returncode == 0 and "--data-dir" in done.stdout
    done = subprocess.run([script, tmp_path], capture_output=True, text=True, env=variables)
    assert done.returncode == 2 and "name recordings" in done.stderr


# ---- timeline ------------------------------------------------------------------------------------


def test_evidence_over_time_is_the_mean_of_the_window():
    frames, rng = 500, np.random.default_rng(0)
    loglik = rng.standard_normal((frames, 2))
    timeline = Timeline(frames, 4, ["a", "b"], 0.01)
    for first in range(0, frames, 77):
        timeline.add_frames(first, rng.standard_normal((min(77, frames - first), 4)))
        timeline.add_scores(np.arange(first, min(first + 77, frames)), loglik[first : first + 77])
    evidence = timeline.evidence(0.2)
    for place in (0, 5, 250, 499):
        near = loglik[max(0, place - 10) : place + 11].mean(0)
        np.testing.assert_allclose(evidence[place], [near[0] - near[1], near[1] - near[0]], atol=1e-12)


def test_sound_over_time_has_the_part_of_the_recording_as_its_mean():
    sound = np.array([1.0, 1.0, -2.0, -2.0, 3.0])
    timeline = Timeline(10, 4, ["a", "b"], 0.01)
    timeline.add_scores(np.arange(2), np.zeros((2, 2)), sound[:2])
    timeline.add_scores(np.arange(2, 5), np.zeros((3, 2)), sound[2:])
    timeline.sound_part = -0.7
    line = timeline.sound_evidence(0.01)
    np.testing.assert_allclose(line[:5], sound - sound.mean() - 0.7)
    assert line[:5].mean() == pytest.approx(-0.7) and np.isnan(line[5:]).all()


def test_a_score_of_frames_is_that_of_their_mean():
    """For a linear regression of the latents, the mean over frames has the distance of two recordings' parts."""
    rng = np.random.default_rng(1)
    who = np.repeat([f"s{n}" for n in range(12)], 4).astype(object)
    x = rng.standard_normal((48, 6))
    fit = Assessment.fit({"latents": x}, 5 + x @ np.arange(6.0), who, "ridge")
    z, squashed = (torch.from_numpy(rng.standard_normal((2, 20, 3))) * 0.1).unbind()
    parts = [
        part_of(fit, "latents", torch.cat([z[k], squashed[k]], 1).mean(0).numpy()) for k in (slice(10), slice(10, 20))
    ]
    points = predicted_score.of_frames(fit, z, squashed)
    assert points[:10].mean() - points[10:].mean() == pytest.approx(parts[0] - parts[1], rel=1e-6)


def test_a_long_recording_gets_no_predicted_score_and_is_told(made_fit, wavs, capsys, monkeypatch):
    status, out = run(capsys, made_fit, "--json", wavs / "plain.wav")
    record = json.loads(out)
    assert status == 0 and record["score_low"] <= record["predicted_score"] <= record["score_high"]
    assert set(record["score_parts"]) == {"timing", "sound"}
    monkeypatch.setattr(classify, "LONGEST", 1.0)
    record = json.loads(run(capsys, made_fit, "--json", wavs / "plain.wav")[1])
    assert "predicted_score" not in record and "longer than 1 s: no predicted score" in record["warning"]


def test_a_fit_that_needs_an_external_score_predicts_nothing_and_a_damaged_one_is_refused(
    make_exp, wavs, capsys, caplog
):
    exp, who = make_exp("seed=12"), np.repeat([f"s{n}" for n in range(12)], 2).astype(object)
    x = np.random.default_rng(0).standard_normal((24, 1))
    save_fits(exp / "assess.npz", {"": Assessment.fit({"external": x}, x[:, 0] + 3, who, "ridge")})
    status, out = run(capsys, exp, wavs / "plain.wav")
    assert status == 0 and "predicted_score" not in out and "they need an external score" in caplog.text
    (exp / "assess.npz").write_bytes(b"no fit")
    with pytest.raises(ValueError, match="assess.npz: is damaged .*; run stage decide again"):
        classify.main([str(exp), str(wavs / "plain.wav")])


def test_the_picture_has_a_panel_of_the_sound(made_fit, wavs, tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("dnf.inference.timeline_figure.draw_sound", lambda axes, timeline, *_: drawn.append(timeline))
    assert run(capsys, made_fit, wavs / "plain.wav", "--plot", tmp_path)[0] == 0
    assert (tmp_path / "plain.png").is_file() and drawn[0].sound_part is not None


@pytest.fixture(scope="module")
def made_fit(make_exp):
    """An experiment with a fit of scores by timing and latents."""
    exp, rng = make_exp("seed=11"), np.random.default_rng(2)
    who = np.repeat([f"s{n:02d}" for n in range(12)], 4).astype(object)
    columns = {"timing": rng.standard_normal((48, 7)), "latents": rng.standard_normal((48, 24))}
    scores = 5 + columns["timing"][:, 0] + columns["latents"][:, 0]
    save_fits(exp / "assess.npz", {"": Assessment.fit(columns, scores, who, "ridge")})
    return exp


def test_a_long_recordings_timeline_is_no_larger():
    timeline = Timeline(10**7, 3, ["a", "b"], 0.01)
    timeline.add_frames(10**7 - 5, np.ones((5, 3)))
    timeline.add_scores(np.array([10**7 - 1]), np.array([[2.0, 1.0]]))
    assert len(timeline.count) <= MOST and timeline.evidence(60)[-1, 0] == 1.0 and np.isnan(timeline.evidence(60)[0, 0])
    timeline.count += 1
    assert draw(timeline, "long", None, [100.0, 1000.0, 4000.0], "b", {}).axes[1].get_xlabel() == "time, minutes"


# ---- channels ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channel(speech_like):
    """Frames of recordings over a channel that ``change`` makes of them, and the channels of forty plain ones."""
    from dnf.experiment.config import resolve
    from dnf.features.vad import vote

    config = resolve([])
    frequencies = make_extractor(config.features).frequencies
    rng = np.random.default_rng(0)

    def vector(seed, change=lambda samples: samples):
        samples = 0.5 * speech_like(3.0, 0) + rng.normal(0, 0.004) * speech_like(3.0, seed)
        samples = samples + 1e-4 * np.random.default_rng(seed).standard_normal(len(samples))
        frames, energy = extract_whole(change(samples).astype(np.float32), config.features)
        speech = vote(energy, config.vad) > 0
        return statistics([(frames[:90], speech[:90]), (frames[90:], speech[90:])], frequencies)

    names = [f"s{n}" for n in range(20)]
    vectors = np.stack([vector(seed) for seed in range(40)])
    return vector, ChannelModel.fit(vectors, ["one"] * 40, names * 2, frequencies)


def low_pass(samples):
    from scipy import signal

    return signal.sosfilt(signal.butter(10, 3400, fs=16000, output="sos"), samples)


def test_channels_unlike_training_are_named(channel):
    vector, model = channel
    assert [o for seed in range(100, 110) for o in model.compare(vector(seed)).unlike] == []
    cases = (
        (low_pass, "band limited to about (3|4)"),
        (lambda x: 0.01 * x, r"level 3\d\.\d dB quieter"),
        (
            lambda x: x + 0.02 * np.random.default_rng(1).standard_normal(len(x)),
            "range from noise floor to speech .* smaller",
        ),
        (lambda x: 0.4 * np.convolve(x, 0.8 ** np.arange(40))[: len(x)], "tilt .* steeper"),
    )
    for change, wanted in cases:
        off = ", ".join(model.compare(vector(100, change)).unlike)
        assert re.search(wanted, off), (wanted, off)


def test_a_nearest_set_that_is_itself_cut_has_no_edge_to_name(channel):
    vector, model = channel
    cut = vector(100, low_pass)
    assert any("band limited" in name for name in model.named(cut, np.array(model.means[0])))
    assert not any("band limited" in name for name in model.named(cut, cut))


def test_statistics_do_not_depend_on_how_the_frames_come(channel):
    rng = np.random.default_rng(0)
    frames, speech, frequencies = rng.normal(10, 3, (200, 8)), rng.random(200) < 0.7, np.geomspace(100, 7000, 8)
    whole = statistics([(frames, speech)], frequencies)
    np.testing.assert_allclose(whole, statistics(zip(np.split(frames, 8), np.split(speech, 8)), frequencies), atol=1e-9)
    np.testing.assert_allclose(whole[:8] - whole[:4].mean(), frames[speech].mean(0) - frames[speech][:, :4].mean())
    assert whole[9] == pytest.approx(np.subtract(*np.quantile(frames.mean(1), (0.95, 0.05))), abs=0.15)


def test_channels_of_training_are_kept_and_held_against(channel, make_exp, wavs, tmp_path, capsys):
    vector, model = channel
    model.save(tmp_path / "channel.json")
    assert ChannelModel.load(tmp_path / "channel.json") == model
    (tmp_path / "channel.json").write_text("{}")
    with pytest.raises(ValueError, match="delete it"):
        ChannelModel.load(tmp_path / "channel.json")


def test_channels_are_made_from_the_stores_at_first_use(make_exp, write_store, wavs, capsys, tmp_path):
    rng = np.random.default_rng(0)
    stores = {f"s{n}-u": (f"s{n}", "en", rng.normal(10, 2, (80, 4)), np.ones(80)) for n in range(12)}
    write_store(tmp_path / "frames" / "train", stores)
    exp = make_exp()
    record = json.loads(run(capsys, exp, "--json", "--frames", tmp_path / "frames", wavs / "plain.wav")[1])
    assert (exp / "channel.json").is_file() and record["channel"]["nearest"] == "train"
    assert record["channel"]["unlike"] and "unlike training" in record["warning"]
    assert "channel" in json.loads(run(capsys, exp, "--json", wavs / "plain.wav")[1])


# ---- as the recipe decides -----------------------------------------------------------------------


def test_a_conditional_flow_decides_on_recordings_as_on_their_frames(tmp_path, small_config, write_corpus, capsys):
    words = ("flow.kind=conditional", "prior.cond_dim=4", "flow.summary=4", "splice.right=0", "report.bootstrap=20")
    for n, (name, speakers) in enumerate({"train": 8, "dev": 8, "test": 2}.items()):
        voices = [f"{name}{k}_{('en', 'zh')[k % 2]}" for k in range(speakers)]
        write_corpus(tmp_path / "data" / name, voices, seconds=0.8 + 0.01 * n)  # no two recordings are the same
        recipe_runs.write_scores(tmp_path / "data" / name)
        scores = read_table(tmp_path / "data" / name / "utt2score")
        write_table(tmp_path / "data" / name / "utt2score_fluency", {u: f"{9 - float(s)}" for u, s in scores.items()})
    (tmp_path / "classes.txt").write_text("en\nzh\n")
    recipe_runs.make_frames(tmp_path, small_config(*WORDS, *words))
    Layout(*(tmp_path / name for name in ("data", "feats", "frames", "exp"))).save()
    recipe_runs.run_stages(tmp_path)
    capsys.readouterr()
    status, said = run(capsys, tmp_path / "exp", "--data-dir", tmp_path / "data/test", "--frames", tmp_path / "frames")
    rows = list(csv.DictReader(said.splitlines(), delimiter="\t"))
    decisions = {row["utt"]: row for row in read_tsv(tmp_path / "exp/decisions/test.txt")}
    assert status == 0 and len(rows) == len(decisions) > 1
    for row in rows:
        wanted = decisions[row["recording"]]
        assert (row["calibrated"], row["open_set"]) == ("yes", wanted["open_set"])
        assert float(row["posterior_en"]) == pytest.approx(float(wanted["posterior_en"]), abs=1e-4)
    assert len({row["posterior_en"] for row in rows}) == len(rows)
    predicted = {row["utt"]: row for row in read_tsv(tmp_path / "exp/assess/test.tsv")}
    names = {"predicted_score": "fused", "score_low": "low", "score_high": "high"}
    names |= {name: name for name in ("predicted_fluency", "fluency_low", "fluency_high")}
    for row in rows:
        wanted = predicted[row["recording"]]
        assert [float(row[name]) for name in names] == pytest.approx(
            [float(wanted[n]) for n in names.values()], abs=2e-3
        )
        assert row["lowered_by"] == wanted["lowered_by"]
    frames = ("--frames", str(tmp_path / "frames"))
    assert move.main([str(tmp_path / "exp"), "test", "--from", "en", "--to", "zh", *frames]) == 0
    assert "reconstruction_max_error" in capsys.readouterr().out


@pytest.mark.slow
def test_a_data_directory_is_decided_as_by_the_recipe(tmp_path, capsys, monkeypatch):
    """Calibration, open set and corrections against the channel are those of stages 4 and 7."""
    words = ("channel.centre=utterance", "cmvn.scope=utterance")
    words += ("baselines.enabled=true", "latents.durations=[0.5, 1]")
    counts = recipe_runs.counts(4, 4, 2, 2, 4)
    recipe_runs.run(tmp_path, *counts, *(word for setting in words for word in ("--set", setting)), "--stop-stage", "2")
    recipe_runs.run_here(tmp_path, "mini", "dnf120", counts, *words)
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, "exp/dnf120", "--data-dir", "data/test")
    assert status == 0
    decisions = {row["utt"]: row for row in read_tsv(Path("exp/dnf120/decisions/test.txt"))}
    rows = list(csv.DictReader(said.splitlines(), delimiter="\t"))
    assert {row["recording"] for row in rows} == decisions.keys()
    for row in rows:
        wanted = decisions[row["recording"]]
        assert (row["calibrated"], row["open_set"]) == ("yes", wanted["open_set"])
        posteriors = [name for name in row if name.startswith("posterior_")]
        assert len(posteriors) > 1
        for name in posteriors:
            assert float(row[name]) == pytest.approx(float(wanted[name]), abs=2e-3)
    results = Path("exp/dnf120/results.txt").read_text()
    assert {row["system"] for row in read_tsv(Path("exp/dnf120/results.tsv"))} >= {"dnf", "gmm", "lda", "mlp", "qda"}
    assert re.search(r"^systems +test +auc +en\+ce ", results, re.MULTILINE)
