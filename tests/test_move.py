"""Speech moved from one class to another: exact without a move, and seen by a perceptron that knows no flow."""

import numpy as np
import pytest
import soundfile
import torch

from dnf import move
from dnf.checkpoint import config_tree, load_model, save
from dnf.model import DNF
from dnf.tables import read_tsv
from dnf.windows import Windows

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
    model.standardize.set(*windows.global_normalization())
    model.init_means(windows.gather(torch.arange(len(windows))), windows.labels(torch.arange(len(windows))))
    (folder / "exp").mkdir()
    config.save(folder / "exp" / "config.yaml")
    save(
        folder / "exp" / "best.pt",
        {"config": config_tree(config), "classes": ["en", "zh"], "model": model.state_dict()},
    )
    return folder / "exp"


def test_a_perceptron_sees_the_class_change(exp, capsys):
    assert move.main([str(exp), "test", "--from", "en", "--to", "zh", "--plot"]) == 0
    table = {row["figure"]: row for row in read_tsv(exp / "move" / "test_en_to_zh.tsv")}
    assert float(table["reconstruction_max_error"]["value"]) < 1e-9
    share = {name[10:]: float(row["value"]) for name, row in table.items() if name.startswith("mlp_share")}
    assert share["zh_before"] < 0.1 and share["zh_dev_en"] < 0.1 < 0.9 < share["zh_dev_zh"]
    assert share["zh_moved"] > 0.9 and share["zh_respliced"] > 0.9
    assert table["mlp_share_zh_before"]["frames"] == "300"  # every speech frame of the six utterances, whatever the hop
    assert (exp / "move" / "test_en_to_zh.png").read_bytes().startswith(b"\x89PNG")


def test_half_a_move_changes_less_and_none_nothing(exp):
    trained = load_model(exp / "best.pt")
    trained.model.double()
    frames = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    utterance = move.Utterance("u", "en", frames, torch.arange(60) % 3 > 0)
    none, half, whole = (move.move(utterance, trained, "en", "zh", scale) for scale in (0.0, 0.5, 1.0))
    assert none.error < 1e-12
    torch.testing.assert_close(none.after, frames, atol=1e-6, rtol=0)
    torch.testing.assert_close(none.before, none.respliced, atol=1e-6, rtol=0)
    assert torch.equal(whole.after[~utterance.speech], frames[~utterance.speech])  # what is no speech stays
    torch.testing.assert_close(half.after - frames, (whole.after - frames) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.windows[:, 4:8], whole.after[utterance.speech])  # the central frames


def test_a_recording_can_be_moved(exp, tmp_path, speech_like):
    soundfile.write(tmp_path / "talk.wav", speech_like(1.0, 1), 16000)
    assert move.main([str(exp), str(tmp_path / "talk.wav"), "--from", "zh", "--to", "en"]) == 0
    assert (exp / "move" / "talk_zh_to_en.tsv").is_file()


@pytest.mark.parametrize(
    "words, message",
    [
        (("test", "--from", "en", "--to", "ja"), "class ja is not one of the model's"),
        (("test", "--from", "en", "--to", "en"), "name two classes"),
        (("none", "--from", "en", "--to", "zh"), "neither a set"),
    ],
)
def test_what_cannot_be_moved_is_said(exp, words, message):
    with pytest.raises(ValueError, match=message):
        move.main([str(exp), *words])


def test_an_inexact_reconstruction_is_an_error(exp, monkeypatch):
    inverse = DNF.inverse
    monkeypatch.setattr(DNF, "inverse", lambda self, z: (inverse(self, z)[0] + 0.01, inverse(self, z)[1]))
    with pytest.raises(ValueError, match="without a move"):
        move.main([str(exp), "test", "--from", "en", "--to", "zh"])


def test_utterances_are_normalized_as_in_training(exp, small_config):
    from dnf.frames import FrameStore

    store = FrameStore(exp.parent / "frames" / "test")
    config = small_config("cmvn.scope=utterance", "cmvn.variance=true")
    (first, *_) = move.of_store(store, config, "zh", 50)
    assert (
        first.label == "zh"
        and np.allclose(first.frames.mean(0), 0, atol=1e-4)
        and np.allclose(first.frames.std(0, correction=0), 1, atol=1e-3)
    )
