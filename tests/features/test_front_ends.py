"""Front-ends: what each measures against its definition, and vectors from recordings through stages 1 and 2."""

import dataclasses
import hashlib
import importlib.util
import logging
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from lhotse import Mfcc, MfccConfig
from scipy.stats import norm, rankdata

from dnf.data.audio_blocks import Source
from dnf.data.kaldi_files import read_table
from dnf.experiment.config import resolve
from dnf.features import collect, extract, frames, ubm
from dnf.features.frame_store import FrameStore
from dnf.features.front_ends import FRONT_ENDS, encoder, make_front_end
from dnf.features.front_ends.rates import RATES
from dnf.features.mfcc import mfcc
from dnf.features.recording_frames import RecordingFrames
from dnf.features.warping import warp, with_deltas
from dnf.inference.recording_vector import VectorMaker
from dnf.models import checkpoint
from dnf.models.dnf import DNF

pytestmark = pytest.mark.filterwarnings("ignore:.*snip_edges", "ignore:.*__array_wrap__")
WORDS = ("features.kind=vectors", "prior.cond_dim=null", "data.train=[train]", "data.dev=[dev]")
SMALL = ("vectors.ubm_components=4", "vectors.ubm_ceps=5", "vectors.project=pca", "vectors.project_to=3")
SETS = {"train": [f"t{n}_{('en', 'zh')[n % 2]}" for n in range(6)], "dev": ["d0_en", "d1_zh"]}


def settings(*words: str):
    return resolve([*WORDS, *SMALL, *words])


def test_each_value_is_warped_to_the_quantile_of_its_rank_in_the_window():
    x = np.random.default_rng(1).normal(size=(40, 3))
    warped = warp(x, 10)
    for t in (0, 2, 17, 39):
        window = x[max(0, t - 5) : t + 6]
        ranks = rankdata(window, axis=0)[min(t, 5)]
        np.testing.assert_allclose(warped[t], norm.ppf((ranks - 0.5) / len(window)), atol=1e-6)


def test_a_pause_is_ranked_among_the_speech_about_it():
    """Against a plain loop: the ordinal rank of a frame among the speech frames of its window, and itself."""
    rng = np.random.default_rng(3)
    x, speech = rng.normal(9, 2, (60, 3)).astype(np.float16), rng.random(60) < 0.6
    x[7:30] = x[7]  # equal values
    speech[40:] = False
    got = warp(x, 10, speech)
    assert got.dtype == x.dtype and not got[46:].any()
    for t in range(len(x)):
        among = [i for i in range(max(0, t - 5), min(len(x), t + 6)) if speech[i] or i == t]
        ranks = rankdata(x[among].astype(float), "ordinal", axis=0)[among.index(t)]
        np.testing.assert_allclose(got[t], norm.ppf((ranks - 0.5) / len(among)), atol=1e-3)


def test_warped_frames_do_not_change_with_gain_and_slow_drift():
    x = np.random.default_rng(2).normal(size=(500, 2))
    np.testing.assert_array_equal(warp(x, 300), warp(3 * x + 7, 300))
    assert abs(warp(x, 300).std() - 1) < 0.05
    assert warp(x[:1], 300).tolist() == [[0, 0]]


def test_differences_are_slopes():
    line = 2.0 * np.arange(9)[:, None] + 1
    assert with_deltas(line)[4].tolist() == [9, 2, 0]
    square = np.arange(9.0)[:, None] ** 2
    np.testing.assert_allclose(with_deltas(square)[4], [16, 8, 2])


def test_coefficients_are_those_of_lhotse(speech_like):
    config, samples = settings(), speech_like(1.0, 1)
    expected = Mfcc(
        MfccConfig(energy_floor=1.0, num_filters=40, num_ceps=5, cepstral_lifter=22, high_freq=-400.0)
    ).extract(samples * 32768, 16000)
    np.testing.assert_allclose(mfcc(samples, config)[0], expected, rtol=1e-4, atol=2e-3)


@pytest.fixture(scope="module")
def mixture():
    """A mixture of three Gaussians in two dims, and 6000 frames of it."""
    truth = ubm.Ubm(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 8.0]]),
        torch.tensor([[1.0, 0.5], [0.5, 2.0], [1.0, 1.0]]),
    )
    generator = torch.Generator().manual_seed(1)
    chosen = torch.multinomial(truth.weights, 6000, True, generator=generator)
    noise = torch.randn(6000, 2, generator=generator)
    return truth, truth.means[chosen] + noise * truth.variances[chosen].sqrt()


def test_em_finds_the_mixture_that_frames_were_drawn_from(mixture):
    truth, x = mixture
    found = ubm.fit(x, 3, 40, seed=3)
    order = [int((found.means - mean).square().sum(1).argmin()) for mean in truth.means]
    assert sorted(order) == [0, 1, 2]
    torch.testing.assert_close(found.weights[order], truth.weights, atol=0.03, rtol=0)
    torch.testing.assert_close(found.means[order], truth.means, atol=0.15, rtol=0)
    torch.testing.assert_close(found.variances[order], truth.variances, atol=0.15, rtol=0)


def test_each_step_of_em_raises_the_likelihood(mixture):
    model = ubm.fit(mixture[1], 5, 0, seed=1)
    likelihoods = []
    for _ in range(6):
        model, likelihood = ubm.em_step(model, mixture[1], torch.tensor([1e-6, 1e-6]))
        likelihoods.append(likelihood)
    assert likelihoods == sorted(likelihoods) and likelihoods[-1] > likelihoods[0] + 0.5


def test_joint_densities_are_those_of_gaussians(mixture):
    truth, x = mixture
    normal = torch.distributions.Normal(truth.means, truth.variances.sqrt())
    expected = truth.weights.log() + normal.log_prob(x[:9, None]).sum(2)
    torch.testing.assert_close(truth.joint(x[:9]), expected, atol=1e-4, rtol=1e-4)


def test_map_means_are_between_those_of_the_model_and_of_the_frames(mixture):
    truth, x = mixture
    frames = x[:200] + torch.tensor([0.5, 0.0])
    statistics = truth.statistics(frames)
    posteriors = truth.joint(frames).softmax(1)
    torch.testing.assert_close(statistics[:, 0], posteriors.sum(0))
    alpha = statistics[:, :1] / (statistics[:, :1] + 16)
    adapted = alpha * statistics[:, 1:] / statistics[:, :1] + (1 - alpha) * truth.means
    expected = truth.weights[:, None].sqrt() * (adapted - truth.means) / truth.variances.sqrt()
    torch.testing.assert_close(truth.supervector(statistics, 16.0), expected.flatten(), atol=1e-5, rtol=1e-4)
    assert truth.supervector(torch.zeros(3, 3), 16.0).abs().sum() == 0


def test_too_few_frames_for_the_model_are_an_error():
    with pytest.raises(
        ValueError, match="3 speech frames of training for 4 Gaussians; set vectors.ubm_components lower"
    ):
        ubm.fit(torch.zeros(3, 2), 4, 1, 1)


def test_more_coefficients_than_filters_are_refused():
    with pytest.raises(ValueError, match="vectors.ubm_ceps 41 is more than features.num_filters 40"):
        settings("vectors.front_end=ubm", "vectors.ubm_ceps=41")


def make(root, config) -> None:
    """Stages 1 and 2 of ``root/data``."""
    for folder in ("feats", "frames"):
        config.save(root / folder / "config.yaml")
    folders = [str(root / "data"), str(root / "feats")]
    for verb in ("fit", "compute"):
        assert extract.main([verb, *folders, "--device", "cpu"]) == 0
    assert collect.main(folders) == 0
    build(root)


def build(root) -> None:
    words = [str(root / "data"), str(root / "frames"), "--feats", str(root / "feats")]
    assert frames.main(words) == 0


@pytest.fixture
def corpus(tmp_path, write_corpus):
    for n, (name, speakers) in enumerate(SETS.items()):
        write_corpus(tmp_path / "data" / name, speakers, seconds=1.0 + 0.01 * n)
    (tmp_path / "data" / "classes.txt").write_text("en\nzh\n")
    return tmp_path


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A package resemblyzer with random weights, whose checksum is the expected one; the path of the weights."""
    path = tmp_path / "packages/resemblyzer/pretrained.pt"
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").write_text("raise ImportError('this package must not be imported')\n")
    torch.manual_seed(1)
    lstm, linear = torch.nn.LSTM(40, 256, 3), torch.nn.Linear(256, 256)
    state = {
        f"{name}.{key}": value
        for name, net in (("lstm", lstm), ("linear", linear))
        for key, value in net.state_dict().items()
    }
    torch.save({"model_state": {**state, "similarity_weight": torch.ones(1)}, "step": 7}, path)
    monkeypatch.syspath_prepend(path.parents[1])
    monkeypatch.setattr(encoder.Resemblyzer, "sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    encoder.make_encoder.cache_clear()
    return path


every_front_end = pytest.mark.parametrize("name", FRONT_ENDS)


@every_front_end
def test_stages_make_the_vector_that_the_front_end_makes_of_the_samples(corpus, name, speech_like):
    config = settings(f"vectors.front_end={name}", "vectors.project=none")
    make(corpus, config)
    store, front_end = FrameStore(corpus / "frames" / "dev"), make_front_end(config, corpus / "feats")
    assert store.utterances == list(read_table(corpus / "data/dev/utt2spk"))
    kept = kaldiio.load_scp(str(corpus / f"feats/dev/{front_end.kind}.scp"))
    samples = extract.load_samples(*next(extract.task_utterances(corpus / "data/dev", 1, 1)[1]), config.features)
    measured = front_end.measure(samples)
    np.testing.assert_allclose(kept[store.utterances[0]], measured, rtol=1e-5, atol=1e-5)
    assert front_end.vector(measured).dtype == np.float32 and front_end.vector(measured).ndim == 1
    assert not (corpus / "data/dev/feats.scp").exists() and not (corpus / "data/dev/vector.scp").exists()


@every_front_end
def test_an_utterance_without_a_vector_is_rejected_and_left_out(corpus, name, caplog):
    config = settings(f"vectors.front_end={name}", "features.max_rejected=0.2")
    path = corpus / "data/wav/train/t0_en-0.wav"
    path.write_bytes(path.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        make(corpus, config)
    assert "utterance t0_en-0 rejected" in caplog.text
    assert "t0_en-0" not in FrameStore(corpus / "frames/train").utterances
    assert list(read_table(corpus / "feats/train/rejected.txt")) == ["t0_en-0"]


def test_another_relevance_factor_needs_no_recordings(corpus):
    make(corpus, settings("vectors.front_end=ubm"))
    before = FrameStore(corpus / "frames/dev").frames.clone()
    for path in corpus.rglob("*.wav"):
        path.unlink()
    settings("vectors.front_end=ubm", "vectors.ubm_relevance=1").save(corpus / "frames/config.yaml")
    build(corpus)
    assert not torch.allclose(FrameStore(corpus / "frames/dev").frames, before)


def test_statistics_of_another_model_are_an_error(corpus):
    config = settings("vectors.front_end=ubm")
    make(corpus, config)
    front_end = make_front_end(config, corpus / "feats")
    with pytest.raises(ValueError, match=r"statistics of shape \(3, 16\) are not of .*ubm.npz"):
        front_end.vector(np.zeros((3, 16), np.float32))
    intact = (corpus / "feats/ubm.npz").read_bytes()
    for damaged in (b"", b"no", intact[:500]):
        (corpus / "feats/ubm.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"ubm.npz: is damaged .*; run stage features again"):
            build(corpus)


def test_a_damaged_file_of_the_front_end_stops_the_task_and_rejects_no_utterance(corpus, flow):
    config = settings("vectors.front_end=ubm", f"vectors.ubm_of={flow[0]}")
    make(corpus, config)
    for name in make_front_end(config, corpus / "feats").fitted:
        intact = (corpus / "feats" / name).read_bytes()
        for damage in (lambda path: path.write_bytes(b"no"), Path.unlink):
            damage(corpus / "feats" / name)
            with pytest.raises(ValueError, match=f"^{corpus / 'feats' / name}: .*run stage features"):
                extract.compute(corpus / "data", corpus / "feats", config, 1, 1)
        (corpus / "feats" / name).write_bytes(intact)


def test_training_sound_is_equal_for_each_class(corpus):
    config = settings("vectors.front_end=ubm")
    chosen = list(extract.training_sound(corpus / "data", config, 6.0, allow_pipes=False))
    names = [utterance.custom["class"] for _, utterance in chosen]
    assert names.count("en") == names.count("zh") == 2
    everything = list(extract.training_sound(corpus / "data", config, 1e6, allow_pipes=False))
    assert len(everything) == 12


def test_weights_of_the_encoder_are_checked(corpus, weights, monkeypatch):
    config = settings("vectors.front_end=encoder")
    weights.write_bytes(weights.read_bytes() + b"x")
    command = "python3 -m pip install --no-deps resemblyzer==0.1.4"
    with pytest.raises(
        ValueError, match=rf"^{weights}: has a wrong checksum; install the package again: {command} --force-rein"
    ):
        make(corpus, config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"the package resemblyzer is not installed: {command}$"):
        make(corpus, config)
    with pytest.raises(ValueError, match=f"the package resemblyzer is not installed: {command}$"):
        VectorMaker.load(corpus / "exp", config)
    with pytest.raises(ValueError, match="resemblyzer needs features.sampling_rate 16000, not 8000"):
        make(corpus, settings("vectors.front_end=encoder", "features.sampling_rate=8000", "features.high_freq=-200"))


def test_mel_filters_have_the_area_and_the_places_of_their_scale():
    filters = encoder.slaney_filters(40, 4000, 16000).double()
    np.testing.assert_allclose(filters.sum(1) * 4, 1, rtol=2e-3)  # bins of 4 Hz
    peaks = filters.argmax(1) * 4
    below = peaks[peaks < 990]
    assert len(below) > 5 and np.ptp(np.diff(below)) <= 4  # linear below 1000 Hz
    above = peaks[peaks > 1100].double()
    np.testing.assert_allclose(above[1:] / above[:-1], float(above[-1] / above[-2]), rtol=6e-3)  # and then logarithmic


def test_an_embedding_is_that_of_a_spectrogram_by_definition(speech_like):
    model, samples = encoder.make_encoder("resemblyzer"), speech_like(1.6, 3)
    padded = np.concatenate([np.zeros(200), samples, np.zeros(200)])
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([np.abs(np.fft.rfft(taper * padded[160 * t : 160 * t + 400])) ** 2 for t in range(160)])
    mel = torch.from_numpy(frames).float() @ model.filters.T
    expected = model.linear(model.lstm(mel[None])[0][:, -1]).relu()
    made = model.embed(torch.from_numpy(samples)[None])
    torch.testing.assert_close(made, expected / expected.norm(), atol=1e-4, rtol=1e-3)


def test_silence_around_an_utterance_changes_its_embedding_little(speech_like):
    config = settings("vectors.front_end=encoder")
    front_end, samples = make_front_end(config, None), speech_like(4.0, 5)
    silence = 1e-4 * np.random.default_rng(1).standard_normal(5 * 16000).astype(np.float32)
    alone, padded = (front_end.measure(x) for x in (samples, np.concatenate([samples, silence])))
    assert alone @ padded / np.linalg.norm(alone) / np.linalg.norm(padded) > 0.99


def test_an_utterance_whose_last_frame_alone_is_speech_has_an_embedding(speech_like, monkeypatch):
    def last(samples, energies, config):
        return np.arange(len(energies)) == len(energies) - 1

    monkeypatch.setattr(encoder, "speech_marks", last)
    front_end = make_front_end(settings("vectors.front_end=encoder", "vectors.encoder_hop=0.805"), None)
    assert np.isfinite(
        front_end.measure(speech_like(2.405, 5))
    ).all()  # 240.5 frames, the last window ends with half of one


def test_dims_that_are_always_zero_are_left_out_with_a_message(corpus, caplog):
    with caplog.at_level(logging.WARNING):
        make(corpus, settings("vectors.front_end=encoder"))
    assert "of 256 dims never change in training and are left out" in caplog.text
    assert torch.isfinite(FrameStore(corpus / "frames/dev").frames).all()


@pytest.fixture
def flow(tmp_path):
    """The folder of an experiment whose flow is not trained, and its settings."""
    config = resolve(["flow.blocks=2", "flow.hidden=8", "prior.cond_dim=40", "splice.left=1", "splice.hop=2"])
    config = dataclasses.replace(config, cmvn=dataclasses.replace(config.cmvn, scope="utterance", variance=True))
    torch.manual_seed(2)
    model = DNF.from_config(config, 2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    (tmp_path / "exp").mkdir()
    content = {"model": model.state_dict(), "config": checkpoint.config_tree(config), "classes": ["en", "zh"]}
    checkpoint.save(tmp_path / "exp/best.pt", content)
    return tmp_path / "exp", config, model.eval()


def test_pooled_latents_are_those_of_the_flow(corpus, flow, tmp_path):
    exp, of_flow, model = flow
    config = settings("vectors.front_end=pool", f"vectors.pool_of={exp}", "vectors.project=none")
    make(corpus, config)
    (exp / "best.pt").unlink()  # the experiment on vectors has its copy
    read = RecordingFrames(Source(str(corpus / "data/wav/dev/d0_en-0.wav")), of_flow, tmp_path / "recording")
    with torch.no_grad():
        z = torch.cat([model(x)[0] for _, x in read.inputs(read.stats, 2, torch.device("cpu"))])
    kept = kaldiio.load_scp(str(corpus / "feats/dev/vector.scp"))["d0_en-0"]
    np.testing.assert_allclose(kept, torch.cat([z.mean(0), z.std(0, correction=0)]), atol=2e-4)


def test_a_background_model_of_latents(corpus, flow):
    config = settings("vectors.front_end=ubm", f"vectors.ubm_of={flow[0]}")
    make(corpus, config)
    assert make_front_end(config, corpus / "feats").ubm.means.shape == (4, flow[1].dim)
    for front_end in ("ubm", "pool"):
        with pytest.raises(
            ValueError, match=r"exp/none/best.pt: no model whose latents could be pooled; run this exper"
        ):
            make(corpus, settings(f"vectors.front_end={front_end}", f"vectors.{front_end}_of=exp/none"))


def test_rates_are_those_of_speech_without_its_ends():
    t = np.arange(6 * 16000) / 16000
    syllables = np.sin(np.pi * 4 * t) ** 2  # four a second
    spoken = (t > 1) & (t < 2) | (t > 3) & (t < 5)
    noise = np.random.default_rng(1).standard_normal(len(t))
    samples = (noise * np.where(spoken, 0.1 * syllables + 0.005, 1e-5)).astype(np.float32)
    front_end = make_front_end(settings("vectors.front_end=rates"), None)
    rates = dict(zip(RATES, front_end.measure(samples)))
    assert rates["share of speech"] == pytest.approx(0.75, abs=0.04)
    assert rates["pauses a second"] == pytest.approx(0.25, abs=0.02)
    assert rates["mean length of pauses, s"] == pytest.approx(1.0, abs=0.1)
    assert rates["peaks a second of speech"] == pytest.approx(4, abs=0.7)
    longer = np.concatenate([samples, 1e-5 * noise[:32000]]).astype(np.float32)
    np.testing.assert_allclose(front_end.measure(longer)[:3], [*rates.values()][:3], atol=0.1)
