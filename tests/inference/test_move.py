"""Speech moved from one class to another: exact without a move, and seen by a perceptron that knows no flow."""

import shutil

import numpy as np
import pytest
import recipe_runs
import soundfile
import torch

from dnf.experiment.layout import Layout
from dnf.experiment.tables import read_tsv
from dnf.features.windows import Windows
from dnf.inference import move, moving
from dnf.inference.move_judge import has_moved
from dnf.models.checkpoint import Trained, config_tree, load_model, save
from dnf.models.dnf import DNF

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exp(tmp_path_factory, small_config, write_store, two_classes):
    """An experiment whose flow bends nothing: its class means are those of the standardized frames."""
    folder = tmp_path_factory.mktemp("move")
    config = small_config("cmvn.scope=none", "frames.dtype=float32", "prior.cond_dim=12", "splice.hop=2")
    stores = [
        write_store(folder / "frames" / name, two_classes(seed, 12))
        for seed, name in enumerate(("train", "dev", "test"))
    ]
    windows = Windows(stores[:1], config.splice, config.cmvn, ["en", "zh"], keep_unseen=False, device=CPU)
    model = DNF.from_config(config, 2)
    model.first.set(*windows.global_normalization())
    model.init_means(windows.gather(torch.arange(len(windows))), windows.labels(torch.arange(len(windows))))
    (folder / "exp").mkdir()
    config.save(folder / "exp" / "config.yaml")
    save(
        folder / "exp" / "best.pt",
        {"config": config_tree(config), "classes": ["en", "zh"], "model": model.state_dict()},
    )
    return folder / "exp"


@pytest.mark.parametrize("by, suffix", [("means", ""), ("latents", "_by_latents")])
def test_a_perceptron_sees_the_class_change(exp, capsys, by, suffix):
    assert move.main([str(exp), "test", "--from", "en", "--to", "zh", "--plot", "--by", by]) == 0
    table = {row["figure"]: row for row in read_tsv(exp / "move" / f"test_en_to_zh{suffix}.tsv")}
    last = capsys.readouterr().out.splitlines()[-1]
    assert table["moved"]["value"] == "yes"
    assert last.startswith("moved: yes; share of frames that the perceptron takes for zh")
    for name in ("before", "respliced", "dev_zh"):
        row = table[f"mlp_share_zh_{name}"]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"]) and int(row["speakers"]) == 6
    assert float(table["reconstruction_max_error"]["value"]) < 1e-9
    share = {name[10:]: float(row["value"]) for name, row in table.items() if name.startswith("mlp_share")}
    assert share["zh_before"] < 0.1 and share["zh_dev_en"] < 0.1 < 0.9 < share["zh_dev_zh"]
    assert share["zh_moved"] > 0.9 and share["zh_respliced"] > 0.9
    assert table["mlp_share_zh_before"]["frames"] == "300"  # every speech frame of the six utterances, whatever the hop
    assert (exp / "move" / f"test_en_to_zh{suffix}.png").read_bytes().startswith(b"\x89PNG")


def test_frames_are_those_the_experiment_was_made_from(exp, tmp_path, capsys):
    layout = Layout.make(tmp_path / "exp", "nf", "my_corpus")
    shutil.copytree(exp.parent / "frames", layout.frames)
    shutil.copytree(exp, layout.exp)
    layout.save()
    assert move.main([str(layout.exp), "test", "--from", "en", "--to", "zh"]) == 0
    (layout.exp / "layout.json").unlink()
    with pytest.raises(ValueError, match=f"test: no such file, and no set with a frame store in {tmp_path}/exp/frames"):
        move.main([str(layout.exp), "test", "--from", "en", "--to", "zh"])


def test_half_a_move_changes_less_and_none_nothing(exp):
    trained = load_model(exp / "best.pt")
    trained.model.double()
    frames = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    utterance = moving.Utterance("u", "s", "en", frames, torch.arange(60) % 3 > 0)
    shift = moving.shift_between(trained, ("en", "zh"))
    none, half, whole = (moving.move(utterance, trained, scale * shift) for scale in (0.0, 0.5, 1.0))
    assert none.error < 1e-12
    torch.testing.assert_close(none.after, frames, atol=1e-6, rtol=0)
    torch.testing.assert_close(none.before, none.respliced, atol=1e-6, rtol=0)
    assert torch.equal(whole.after[~utterance.speech], frames[~utterance.speech])  # what is no speech stays
    torch.testing.assert_close(half.after - frames, (whole.after - frames) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.windows[:, 4:8], whole.after[utterance.speech])  # the central frames


def test_a_move_the_other_way_is_no_move(exp, capsys):
    assert move.main([str(exp), "test", "--from", "en", "--to", "zh", "--scale", "-1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("moved: no;")


@pytest.mark.parametrize("after, answer", [(0.1, False), (0.49, False), (0.51, True), (1.0, True)])
def test_half_way_is_moved(after, answer):
    assert has_moved(0.1, after, 0.9) is answer
    assert not has_moved(0.9, after, 0.1)  # a perceptron that has it the other way says nothing


def test_r_moves_where_it_has_class_means(small_config):
    config = small_config("prior.cond_dim=4", "prior.cond_r=true")
    model = DNF.from_config(config, 2)
    torch.nn.init.normal_(model.prior.means)
    torch.nn.init.normal_(model.prior.means_r)
    trained = Trained(model, config, ["en", "zh"], {})
    prior = model.prior
    expected = torch.cat([prior.means[1] - prior.means[0], prior.means_r[1] - prior.means_r[0]])
    torch.testing.assert_close(moving.shift_between(trained, ("en", "zh")), expected.detach())
    x = [torch.randn(20, config.dim, generator=torch.Generator().manual_seed(k)) + k for k in (0, 1)]
    with torch.no_grad():
        difference = model(x[1])[0].mean(0) - model(x[0])[0].mean(0)
    torch.testing.assert_close(moving.shift_between(trained, ("en", "zh"), x), difference, atol=1e-5, rtol=1e-5)
    prior.means_r = None
    kept = moving.shift_between(trained, ("en", "zh"), x)
    torch.testing.assert_close(kept[:4], difference[:4], atol=1e-5, rtol=1e-5)
    assert not kept[4:].any()


def test_a_recording_can_be_moved(exp, tmp_path, speech_like):
    soundfile.write(tmp_path / "talk.wav", speech_like(1.0, 1), 16000)
    assert move.main([str(exp), str(tmp_path / "talk.wav"), "--from", "zh", "--to", "en"]) == 0
    assert (exp / "move" / "talk_zh_to_en.tsv").is_file()


def test_a_recording_that_is_cut_is_said_to_be(exp, tmp_path, speech_like, monkeypatch, caplog):
    monkeypatch.setattr(moving, "LONGEST", 60)
    soundfile.write(tmp_path / "talk.wav", speech_like(1.0, 1), 16000)
    assert move.main([str(exp), str(tmp_path / "talk.wav"), "--from", "zh", "--to", "en"]) == 0
    assert "talk.wav: only the first 60 of its" in caplog.text and "frames are moved" in caplog.text


@pytest.mark.parametrize(
    "words, message",
    [
        (("test", "--from", "en", "--to", "ja"), "class ja is not one of the model's"),
        (("test", "--from", "en", "--to", "en"), "name two classes"),
        (("none", "--from", "en", "--to", "zh"), "no such file"),
    ],
)
def test_what_cannot_be_moved_is_said(exp, words, message):
    with pytest.raises(ValueError, match=message):
        move.main([str(exp), *words])


@pytest.mark.parametrize("error", [0.01, float("nan")])
def test_an_inexact_reconstruction_is_an_error_before_any_verdict(exp, monkeypatch, capsys, error):
    inverse = DNF.inverse
    monkeypatch.setattr(DNF, "inverse", lambda self, z: (inverse(self, z)[0] + error, inverse(self, z)[1]))
    with pytest.raises(ValueError, match="without a move"):
        move.main([str(exp), "test", "--from", "en", "--to", "zh", "--scale", "2", "--plot"])
    assert not capsys.readouterr().out and not list(exp.glob("move/*_x2*"))


def test_utterances_are_normalized_as_in_training(exp, small_config):
    from dnf.features.frame_store import FrameStore

    store = FrameStore(exp.parent / "frames" / "test")
    config = small_config("cmvn.scope=utterance", "cmvn.variance=true")
    (first, *_) = moving.utterances_of_store(store, config, "zh", 50)
    assert (
        first.label == "zh"
        and np.allclose(first.frames.mean(0), 0, atol=1e-4)
        and np.allclose(first.frames.std(0, correction=0), 1, atol=1e-3)
    )


def test_a_recording_is_warped_as_its_utterance(tmp_path, write_corpus, small_config, monkeypatch):
    """Also where only its first frames are moved, whose windows reach beyond them."""
    from dnf.features.frame_store import FrameStore

    monkeypatch.setattr(moving, "LONGEST", 40)
    config = small_config("cmvn.scope=window", "cmvn.window=30")
    write_corpus(tmp_path / "data" / "test", ["x0_en", "x1_zh"], seconds=0.8)
    (tmp_path / "classes.txt").write_text("en\nzh\n")
    recipe_runs.make_frames(tmp_path, config)
    (stored, *_) = moving.utterances_of_store(FrameStore(tmp_path / "frames" / "test"), config, "en", 1)
    wav = tmp_path / "data" / "wav" / "test" / f"{stored.name}.wav"
    read = moving.utterance_of_recording(str(wav), config, "en")
    assert len(read.frames) == 40 and torch.equal(read.speech, stored.speech)
    torch.testing.assert_close(read.frames, stored.frames, rtol=0, atol=0)
