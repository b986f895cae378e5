"""Channel augmentation: what each step does to frames, what CMVN makes of it, and that draws follow seed, step and row alone."""

import math

import numpy as np
import pytest
import torch
from one_step import one_step

from dnf.experiment.config import resolve
from dnf.features import augment
from dnf.features.augment import Augmenter
from dnf.features.draws import normal, uniform
from dnf.features.windows import Augmented, Windows, at_step
from dnf.training import train
from dnf.training.loss import backward
from dnf.training.ranks import Ranks
from dnf.training.trainer import Trainer

CPU = torch.device("cpu")
ALL = (
    "augment.probability=0.7",
    "augment.eq=4",
    "augment.tilt=6",
    "augment.band_limit=0.3",
    "augment.reverb=0.2",
    "augment.noise=[0, 20]",
)
KEYS = torch.arange(2000)


@pytest.fixture
def windows(write_store, small_config, tmp_path):
    """Windows of two speech-like utterances of 12 bins, 400 frames each, by settings."""
    rng = np.random.default_rng(5)
    made = {}
    for name in ("en", "zh"):
        loud = np.repeat(rng.uniform(0, 9, 80), 5)[:, None]  # loudness changes every 5 frames
        x = 8 + loud + np.linspace(2, -3, 12) + rng.standard_normal((400, 12))
        made[f"{name}-u"] = (name, name, x, np.ones(400))
    store = write_store(tmp_path / "frames" / "speech", made)

    def make(*words: str):
        config = small_config("features.num_filters=12", *words)
        return Windows([store], config.splice, config.cmvn, ["en", "zh"], keep_unseen=False, device=CPU), config

    return make


def parameters(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


# ---- draws ---------------------------------------------------------------------------------------


def test_draws_are_uniform_and_normal_and_streams_are_not_alike():
    u, n = uniform(KEYS, 3, 50), normal(KEYS, 3, 50)
    assert 0 < u.min() and u.max() < 1 and torch.isfinite(n).all()
    assert u.mean().item() == pytest.approx(0.5, abs=0.005) and u.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert n.mean().item() == pytest.approx(0, abs=0.015) and n.std().item() == pytest.approx(1, abs=0.01)
    other = uniform(KEYS, 4, 50)
    for one, two in ((u, other), (u[1:], u[:-1]), (u[:, 1:], u[:, :-1])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 0.02


def test_windows_differ_by_seed_step_and_row():
    rows = torch.arange(100)
    keys = [augment.window_keys(rows, seed, step) for seed, step in ((1, 0), (1, 1), (2, 0), (2, 2**40))]
    assert len(torch.cat(keys).unique()) == 400


# ---- what each step does -------------------------------------------------------------------------


def test_eq_and_tilt_have_the_deviation_that_is_asked_for():
    eq = augment.eq_curve(normal(KEYS, 1, augment.EQ_ORDERS), 4.0, 40)
    tilt = augment.tilt_curve(normal(KEYS, 2, 1), 6.0, 40)
    assert (eq / augment.NEPERS).square().mean().sqrt().item() == pytest.approx(4, rel=0.05)
    assert ((tilt[:, -1] - tilt[:, 0]) / augment.NEPERS).std().item() == pytest.approx(6, rel=0.05)
    assert eq.mean(1).abs().max() < 1e-4 and tilt.mean(1).abs().max() < 1e-4  # no gain
    assert eq.diff().abs().max() < 0.5 * eq.abs().max()  # smooth
    assert not augment.eq_curve(normal(KEYS, 1, 6), 0.0, 40).any()


def test_a_band_limit_takes_the_ends_and_leaves_the_middle():
    draws = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 1.0]])
    curve = augment.band_curve(draws, 0.25, 40) / augment.NEPERS
    assert curve[:, 12:28].abs().max() == 0 and curve.max() <= 0 and curve.min() >= -augment.STOP_BAND - 1e-3
    assert curve[1, :7].max() == pytest.approx(-augment.STOP_BAND) and curve[1, 30:].abs().max() == 0
    assert curve[2, 33:].max() == pytest.approx(-augment.STOP_BAND) and curve[2, :10].abs().max() == 0
    assert (curve[1].diff() >= 0).all() and not curve[0].any()


def test_noise_stands_at_its_ratio_and_leaves_louder_frames_alone():
    frames = torch.full((500, 3, 40), 2.0)
    frames[:, 1] = 30.0
    noisy = augment.add_floor(frames, torch.full((500, 40), 10.0), normal(torch.arange(500), 1, 3, 40))
    assert torch.equal(noisy[:, 1], frames[:, 1])
    quiet = noisy[:, [0, 2]]
    assert quiet.mean().item() == pytest.approx(10, abs=0.02) and (quiet - 10).abs().max() < 4 * 0.93 + 0.1
    assert quiet[..., 0].std().item() == pytest.approx(0.93, rel=0.05) and quiet[..., -1].std().item() > 0.25


def test_the_noise_of_a_window_is_within_the_ratios_that_are_asked_for():
    settings = resolve(["augment.probability=1", "augment.noise=[10, 20]"]).augment
    probes = torch.zeros(300, augment.PROBES, 1, 40)  # level 0
    quiet = torch.full((300, 30, 40), -60.0)
    noise = Augmenter(settings, 1, 0, 0.01)(torch.arange(300), quiet, probes)[0]
    of_window = 10 * torch.log10(noise.exp().mean((1, 2)))
    assert of_window.min() > -20 - 0.5 and of_window.max() < -10 + 3 and of_window.std() > 2
    assert noise.mean(1).std(1).mean() > 1  # coloured


def test_reverberation_is_the_sum_of_decaying_energies():
    frames = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1)) * 3 + 12
    decay, tail = torch.tensor([[0.6], [0.9]]), torch.tensor([[0.5], [0.1]])
    wet = augment.reverberate(frames, decay, tail)
    for n in range(2):
        d, g = decay[n].item(), tail[n].item()
        for t in range(7):
            power = frames[n, t].double().exp()
            for k in range(1, t + 1):
                power = power + g * (1 - d) / d * d**k * frames[n, t - k].double().exp()
            torch.testing.assert_close(wet[n, t], power.log().float())
    steady = augment.reverberate(torch.full((1, 400, 1), 5.0), decay[1:], tail[1:])
    assert steady[0, -1, 0].item() == pytest.approx(5 + math.log(1.1), abs=1e-4)


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ("none", "utterance"))
def test_eq_leaves_differences_between_frames_alone(windows, scope):
    w, config = windows(
        "augment.probability=1", "augment.eq=5", "augment.tilt=5", "augment.renormalize=false", f"cmvn.scope={scope}"
    )
    rows = torch.arange(0, len(w), 7)
    clean, changed = (x.view(len(rows), 3, 12) for x in (w.gather(rows), at_step(w, config, 3).gather(rows)))
    assert (changed - clean).abs().max() > 0.5
    torch.testing.assert_close(changed.diff(dim=1), clean.diff(dim=1), atol=1e-4, rtol=0)


def test_cmvn_takes_eq_away_and_settings_say_so(windows):
    w, config = windows("cmvn.scope=utterance", "augment.probability=1", "augment.eq=5", "augment.renormalize=false")
    rows, settings = torch.arange(50), config.augment
    left_in = at_step(w, config, 0).gather(rows)
    settings = type(settings)(**{**vars(settings), "renormalize": True})
    taken = Augmented(w, Augmenter(settings, 1, 0, 0.01)).gather(rows)
    torch.testing.assert_close(taken, w.gather(rows), atol=2e-4, rtol=0)
    assert (left_in - taken).abs().max() > 0.5
    with pytest.raises(ValueError, match="removes EQ and tilt completely"):
        resolve(["cmvn.scope=utterance", "augment.probability=1", "augment.eq=5"])


@pytest.mark.parametrize("variance", ("false", "true"))
@pytest.mark.parametrize("word", ("noise=[0, 10]", "reverb=0.3", "band_limit=0.3"))
def test_augmented_utterances_are_normalized(windows, word, variance):
    w, config = windows("cmvn.scope=utterance", f"cmvn.variance={variance}", "augment.probability=1", f"augment.{word}")
    x = torch.cat([at_step(w, config, step).gather(torch.arange(len(w))) for step in range(3)]).view(-1, 12)
    raw, bare = windows("augment.probability=1", f"augment.{word}")
    moved = at_step(raw, bare, 0).gather(torch.arange(len(w))) - raw.gather(torch.arange(len(w)))
    left, change = (y.view(-1, 12).mean(0).square().mean().sqrt().item() for y in (x, moved))
    assert change > 0.25 and left < 0.4 * change  # some is left: 20 probes stand for 400 frames
    if variance == "true":
        assert x.std(0).sub(1).abs().max() < 0.25


def test_as_many_windows_are_augmented_as_asked_for(windows):
    w, config = windows("augment.probability=0.3", "augment.eq=3")
    rows = torch.arange(len(w))
    changed = (at_step(w, config, 0).gather(rows) != w.gather(rows)).any(1).float().mean().item()
    assert changed == pytest.approx(0.3, abs=0.06)


def test_a_window_is_augmented_alike_in_any_company(windows):
    w, config = windows(*ALL, "cmvn.scope=utterance")
    rows = torch.randperm(len(w), generator=torch.Generator().manual_seed(2))[:60]
    view = at_step(w, config, 4)
    whole = view.gather(rows)
    torch.testing.assert_close(torch.cat([view.gather(part) for part in rows.split(7)]), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(view.gather(rows.flip(0)).flip(0), whole, atol=1e-5, rtol=0)
    assert not torch.allclose(at_step(w, config, 5).gather(rows), whole)
    assert torch.isfinite(whole).all()


# ---- training ------------------------------------------------------------------------------------


def test_off_is_what_was_there_before(new_trainer):
    trainer = new_trainer("augment.eq=4", "augment.noise=[0, 10]")  # probability 0
    assert at_step(trainer.train, trainer.config, 0) is trainer.train
    plain = new_trainer(out="plain")
    for _ in range(4):
        assert one_step(trainer) == one_step(plain)
    assert torch.equal(parameters(trainer), parameters(plain))


def test_micro_batches_and_shares_of_ranks_give_the_same_gradients(new_trainer):
    trainer = new_trainer(*ALL)
    view = at_step(trainer.train, trainer.config, 3)

    def gradients(rows, micro_batch, count):
        trainer.model.zero_grad()
        backward(trainer.loss, view, rows, micro_batch, count)
        return torch.cat([p.grad.flatten().clone() for p in trainer.model.parameters()])

    rows = trainer.sampler.batch(3)
    whole = gradients(rows, 50, 50)
    torch.testing.assert_close(gradients(rows, 7, 50), whole, atol=1e-5, rtol=1e-4)
    shares = [gradients(trainer.sampler.batch(3, Ranks(rank, 2)), 50, 25) for rank in range(2)]
    torch.testing.assert_close(sum(shares) / 2, whole, atol=1e-5, rtol=1e-4)


def test_a_run_that_goes_on_ends_like_one_that_was_not_interrupted(new_trainer):
    one, two = new_trainer(*ALL), new_trainer(*ALL, out="two")
    for _ in range(3):
        assert one_step(one) == one_step(two)
    later = new_trainer(*ALL, out="later")
    later.load_state(two.state())
    for _ in range(3):
        assert one_step(one) == one_step(later)
    assert torch.equal(parameters(one), parameters(later))


def test_dev_and_the_agreement_sample_are_not_augmented(new_trainer, monkeypatch):
    trainer = new_trainer(*ALL, "train.eval_steps=3")
    used = []
    gather = Windows.gather

    def spy(self, rows, augmenter=None):
        used.append((self is trainer.train, len(rows), augmenter is not None))
        return gather(self, rows, augmenter)

    monkeypatch.setattr(Windows, "gather", spy)
    train.run(trainer)
    assert {x for x in used if x[2]} == {(True, 50, True)}
    assert {(of_train, rows) for of_train, rows, augmented in used if not augmented} == {(True, 300), (False, 100)}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["augment.probability=1.5", "augment.eq=1"], "at most 1"),
        (["augment.probability=0.5"], "no augmentation is set"),
        (["augment.noise=[20, 10]"], "lowest, highest"),
        (["augment.band_limit=0.7"], "at most 0.5"),
        (["augment.probability=0.5", "augment.noise=[0, 9]", "features.use_fft_mag=true"], "use_fft_mag"),
    ],
)
def test_settings_that_cannot_be_are_named(words, text):
    with pytest.raises(ValueError, match=text):
        resolve(words)
