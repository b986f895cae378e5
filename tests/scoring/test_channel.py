"""Correction of latents: centring takes shifts and leaves classes, and what stage 4 writes with them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from recipe_runs import stage_arguments

from dnf.experiment.config import resolve
from dnf.experiment.layout import CORRECTION_NPZ, SHIFTED_NPZ
from dnf.features.segments import Segment
from dnf.scoring import channel_compensation, latents, shifted_copies
from dnf.scoring.channel_compensation import Correction, class_span, segment_sums, unit_means
from dnf.scoring.latent_store import Latents
from dnf.scoring.shifted_evidence import Shifted
from dnf.training import train

DIM = 6
MEANS = np.array([[1.0, 0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0, 0]])
MIXING = np.array([2.0, 1.5, 1.0, 0, 0, 0])  # a channel moves the class dim and two others together


def units(seed: int, speakers: int = 200, moved: float = 1.0):
    """Mean latents of utterances, two a speaker, whose speakers have channels along MIXING: sums, counts, segments, labels."""
    rng = np.random.default_rng(seed)
    sums, segments, labels = [], [], []
    for s in range(speakers):
        k, shift = s % 2, moved * rng.standard_normal() * MIXING
        for u in range(2):
            sums.append(10 * (MEANS[k] + shift + 0.1 * rng.standard_normal(DIM)))
            segments.append(Segment(f"s{s}-{u}", f"s{s}", "ab"[k], f"set{k}", None, 10 * len(segments), 10))
            labels.append(k)
    return np.array(sums), np.full(len(sums), 10.0), segments, np.array(labels)


def fitted(*words: str) -> Correction:
    return Correction.fit(resolve([*words]).channel, MEANS, *units(1))


def separation(x: np.ndarray, labels: np.ndarray) -> float:
    a, b = x[labels == 0], x[labels == 1]
    return abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2)


@pytest.mark.parametrize("unit", ("utterance", "speaker"))
def test_centring_takes_the_channel_and_leaves_the_classes(unit):
    correction = fitted(f"channel.centre={unit}")
    sums, counts, segments, labels = units(2)
    means, of = unit_means(sums, counts, channel_compensation.unit_names(segments, unit))
    c = sums / 10 - correction.shift(means).numpy()[of]
    before, after = separation(sums[:, 0] / 10, labels), separation(c[:, 0], labels)
    assert before < 1.3 and after > 8
    apart = c[labels == 0].mean(0) - c[labels == 1].mean(0)
    assert apart[0] == pytest.approx(2.0, abs=0.15)
    np.testing.assert_array_equal(c[:, 1:], (sums / 10)[:, 1:])  # outside the classes' span nothing moves


def test_a_move_between_the_classes_is_no_shift():
    correction = fitted("channel.centre=utterance")
    means = np.random.default_rng(3).standard_normal((5, DIM))
    moved = correction.shift(means + 3 * (MEANS[0] - MEANS[1]))
    torch.testing.assert_close(moved, correction.shift(means), atol=1e-5, rtol=0)


def test_decisions_are_balanced_where_the_model_has_its_middle_elsewhere():
    settings = resolve(["channel.centre=utterance"]).channel
    sums, counts, segments, labels = units(1)
    one = Correction.fit(settings, MEANS, sums, counts, segments, labels)
    other = Correction.fit(settings, MEANS, sums + 10 * 3 * (MEANS[0] - MEANS[1]), counts, segments, labels)
    means = sums / 10
    torch.testing.assert_close(
        other.shift(means + 3 * (MEANS[0] - MEANS[1])),
        one.shift(means) + torch.tensor(3 * (MEANS[0] - MEANS[1])).float(),
        atol=1e-4,
        rtol=0,
    )


def test_a_set_recorded_elsewhere_is_brought_back():
    correction = fitted("channel.centre=set")
    sums, counts, segments, labels = units(4)
    elsewhere = sums + 10 * 2.5 * MIXING
    means, of = unit_means(elsewhere, counts, channel_compensation.unit_names(segments, "set"))
    assert len(means) == 2  # a set of each class
    c = elsewhere / 10 - correction.shift(means).numpy()[of]
    for k in range(2):
        assert c[labels == k, 0].mean() == pytest.approx(MEANS[k, 0], abs=0.35)


def test_the_span_of_the_classes_is_that_of_their_differences():
    means = np.random.default_rng(1).standard_normal((3, 5)) + 10
    inside, outside = class_span(means)
    assert inside.shape == (5, 2) and outside.shape == (5, 3)
    np.testing.assert_allclose(outside.T @ (means[0] - means[1:]).T, 0, atol=1e-12)
    assert class_span(np.ones((2, 4)))[0].shape == (4, 0)  # classes that do not differ


def test_too_few_speakers_are_named():
    with pytest.raises(ValueError, match="2 training speakers are too few"):
        Correction.fit(resolve(["channel.centre=speaker"]).channel, MEANS, *units(1, speakers=2))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["channel.centre=utterance", "prior.cond_dim=0"], "leaves no direction"),
        (["channel.centre=corpus"], "not one of"),
        (["channel.centre=utterance", "prior.cond_dim=40", "prior.cond_r=true"], "prior.cond_r"),
    ],
)
def test_settings_that_cannot_be_are_named(words, text):
    with pytest.raises(ValueError, match=text):
        resolve(words)


# ---- stage 4 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exp(write_store, two_classes, small_config, tmp_path_factory):
    """A trained experiment below a folder with frames/ and classes.txt."""
    folder = tmp_path_factory.mktemp("channel")
    write_store(folder / "frames" / "train", two_classes(1))
    write_store(folder / "frames" / "dev", two_classes(2, utterances=4))
    write_store(folder / "frames" / "far", two_classes(3, utterances=4, offset=2.0))
    (folder / "classes.txt").write_text("en\nzh\n")
    small_config().save(folder / "exp" / "config.yaml")
    assert train.main(stage_arguments(folder)) == 0
    return folder


def stage_4(folder, *words: str) -> tuple[dict[str, Latents], dict[str, np.ndarray]]:
    from dnf.experiment.config import Config

    path = folder / "exp" / "config.yaml"
    plain = Config.load(path)
    resolve([path, *words]).save(path)
    try:
        assert latents.main(stage_arguments(folder)) == 0
    finally:
        plain.save(path)
    found = {p.name: p for p in (folder / "exp" / "latents").iterdir()}
    opened = {}
    for name, p in found.items():
        got = Latents.open(p)
        opened[name] = got._replace(logp=np.array(got.logp), logdet=np.array(got.logdet))
    return opened, {name: np.load(p / "z.npy") for name, p in found.items()}


def test_off_leaves_no_trace_and_on_changes_the_latents(exp):
    plain, z = stage_4(exp)
    assert not (exp / "exp" / CORRECTION_NPZ).exists()
    corrected, moved = stage_4(exp, "channel.centre=utterance")
    assert (exp / "exp" / CORRECTION_NPZ).is_file()
    for name in plain:
        assert np.array_equal(plain[name].logdet, corrected[name].logdet)
        assert not np.array_equal(plain[name].logp, corrected[name].logp) and not np.array_equal(z[name], moved[name])
    again, z_again = stage_4(exp)
    assert not (exp / "exp" / CORRECTION_NPZ).exists()
    for name in plain:
        assert np.array_equal(plain[name].logp, again[name].logp) and np.array_equal(z[name], z_again[name])


def test_a_correction_is_read_back_as_it_was_written(exp):
    stage_4(exp, "channel.centre=speaker")
    path = exp / "exp" / CORRECTION_NPZ
    one = Correction.load(path)
    assert one.centre == "speaker" and one.predict.any()
    one.save(path)
    two = Correction.load(path)
    for name in ("reference", "offset", "predict"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert json.loads((exp / "exp" / "latents" / "dev" / "meta.json").read_text())["cond_dim"] == 6


def test_an_utterance_is_centred_by_itself_whatever_else_is_in_the_set(exp):
    """Shifts of the same utterances from a set of some of them and from one of all."""
    from dnf.experiment.config import Config
    from dnf.features.frame_store import FrameStore
    from dnf.features.windows import Windows
    from dnf.models.checkpoint import load_model

    stage_4(exp, "channel.centre=utterance")
    correction = Correction.load(exp / "exp" / CORRECTION_NPZ)
    config = Config.load(exp / "exp" / "config.yaml")
    model = load_model(exp / "exp" / "best.pt", torch.device("cpu"), ["en", "zh"]).model
    stores = [FrameStore(exp / "frames" / name) for name in ("dev", "far")]
    both, one = (
        Windows(of, config.splice, config.cmvn, ["en", "zh"], keep_unseen=True, device=torch.device("cpu"))
        for of in (stores, stores[1:])
    )
    torch.testing.assert_close(correction.shifts(model, both)[4:], correction.shifts(model, one), atol=1e-5, rtol=0)
    sums, counts = segment_sums(model, one)
    assert counts.tolist() == [50.0] * 4 and sums.shape == (4, 6)


def test_copies_of_dev_are_warped_as_their_set_is(exp):
    """Without a shift the evidence is that of the warped vectors, and its model's normalization does not matter."""
    from dnf.features.frame_store import FrameStore
    from dnf.features.windows import Windows
    from dnf.models.checkpoint import load_model

    trained, cpu = load_model(exp / "exp" / "best.pt", torch.device("cpu"), ["en", "zh"]), torch.device("cpu")
    config = resolve([exp / "exp" / "config.yaml", "cmvn.scope=window", "cmvn.window=20"])
    trained, store = replace(trained, config=config), FrameStore(exp / "frames" / "dev")
    trained.model.eval()
    windows = Windows([store], config.splice, config.cmvn, trained.classes, keep_unseen=False, device=cpu)
    for u, segment in enumerate(windows.segments()):
        first, last = store.offsets[u : u + 2].tolist()
        found = shifted_copies.evidence(trained, None, store.frames[first:last].float(), store.marks(first, last), cpu)
        with torch.no_grad():
            z, logdet = trained.model(windows.gather(torch.arange(segment.first, segment.first + segment.rows)))
            wanted = (trained.model.prior.of_all(z) + logdet[:, None]).double().mean(0)
        np.testing.assert_allclose(found[0], wanted, rtol=1e-4)


def test_copies_of_dev_are_scored_as_dev_itself_and_have_other_channels(exp):
    """Without a shift the evidence is that of stage latents, corrected too; with one it is not, and every utterance has one."""
    from dnf.features.frame_store import FrameStore
    from dnf.models.checkpoint import load_model

    of_sets, _ = stage_4(exp, "channel.centre=utterance")
    dev, store = of_sets["dev"], FrameStore(exp / "frames" / "dev")
    trained, cpu = load_model(exp / "exp" / "best.pt", torch.device("cpu"), ["en", "zh"]), torch.device("cpu")
    correction = Correction.load(exp / "exp" / CORRECTION_NPZ)
    trained.model.eval()
    copies = Shifted.load(exp / "exp" / SHIFTED_NPZ)
    for u, utt in enumerate(dev.utts):
        first, last = store.offsets[u : u + 2].tolist()
        found = shifted_copies.evidence(
            trained, correction, store.frames[first:last].float(), store.marks(first, last), cpu
        )
        wanted = dev.loglik(utt).mean(0)
        np.testing.assert_allclose(found[0], wanted, rtol=1e-5)
        assert found[1] == utt["rows"]
        of_utt = copies.mean[(copies.speakers == utt["speaker"]) & (copies.labels == utt["class"])]
        assert (np.abs(of_utt - wanted).max(1) > 1e-3).all()
    assert {kind: (copies.kinds == kind).sum() for kind in shifted_copies.KINDS} == dict.fromkeys(
        shifted_copies.KINDS, len(dev.utts)
    )
    assert len(np.unique(copies.mean, axis=0)) == len(copies.mean)
