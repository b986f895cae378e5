"""Recordings read in blocks give what stages 1, 2 and 4 make of the whole, whatever the size of the block."""

import numpy as np
import pytest
import soundfile
import torch

from dnf.data.audio import load_samples
from dnf.data.audio_blocks import Source, read_blocks, resampled
from dnf.experiment import packages
from dnf.experiment.config import resolve
from dnf.experiment.settings import Features
from dnf.features import collect, extract, frame_store, frames, recording_frames
from dnf.features.extractor import BLOCK_SECONDS, extract_blocks, extract_whole
from dnf.features.fbank import FULL_SCALE, lhotse_fbank
from dnf.features.recording_frames import RecordingFrames
from dnf.features.windows import Windows
from dnf.inference.score_recording import score
from dnf.models.checkpoint import Trained
from dnf.models.dnf import DNF
from dnf.scoring import latents
from dnf.scoring.latent_store import Latents

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]
lacking = packages.absent("silero_vad", "onnxruntime")
silero = pytest.mark.skipif(bool(lacking), reason=str(lacking))
CPU = torch.device("cpu")
WORDS = ("features.resample=true", "frames.dtype=float32")


def by_lhotse(samples: np.ndarray, settings: Features) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel and log-energy of a whole recording, its ends mirrored by Lhotse where they are."""
    both = lhotse_fbank(settings).extract(samples * FULL_SCALE, settings.sampling_rate)
    return both[:, 1:], both[:, 0]


def pieces(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@pytest.mark.parametrize("rate", (8000, 11025, 22050, 44056, 44100, 48000))
@pytest.mark.parametrize("size", (777, 10_000, 10**6))
def test_resampling_in_blocks_is_that_of_the_whole(tmp_path, speech_like, small_config, rate, size):
    from lhotse import Recording, SupervisionSegment

    soundfile.write(tmp_path / "a.wav", speech_like(1.7, 3, rate), rate)
    recording = Recording.from_file(tmp_path / "a.wav")
    whole = load_samples(
        recording, SupervisionSegment("a", "a", 0.0, recording.duration), small_config(*WORDS).features
    )
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    made = np.concatenate(list(resampled(pieces(samples, size), rate, 16000)))
    assert len(made) == len(whole)
    np.testing.assert_allclose(made, whole, atol=1e-6)


@pytest.mark.parametrize("snip_edges", ("true", "false"))
@pytest.mark.parametrize("size", (100, 1601, 5000, 10**6))
@pytest.mark.parametrize("samples", (401, 16000, 16079, 16080, 16081, 24321))
def test_filter_banks_in_blocks_are_those_of_the_whole(speech_like, small_config, snip_edges, size, samples):
    settings = small_config(f"features.snip_edges={snip_edges}").features
    sound = speech_like(2.0, 5)[:samples]
    whole = by_lhotse(sound, settings)
    parts = [np.concatenate(part) for part in zip(*extract_blocks(pieces(sound, size), settings))]
    for made, wanted in zip(parts, whole):
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made, wanted, atol=2e-4)


@pytest.mark.parametrize("snip_edges", ("true", "false"))
@pytest.mark.parametrize(
    "seconds", (0.5, BLOCK_SECONDS - 0.003, BLOCK_SECONDS, BLOCK_SECONDS + 0.02, 2.5 * BLOCK_SECONDS)
)
def test_filter_banks_of_stage_1_are_lhotses_whatever_the_length(speech_like, snip_edges, seconds):
    """Bit for bit up to one block; beyond, matrix products of other sizes round otherwise."""
    settings = resolve([f"features.snip_edges={snip_edges}"]).features
    sound = np.tile(speech_like(1.7, 5), 30)[: round(seconds * 16000)]
    for made, wanted in zip(extract_whole(sound, settings), by_lhotse(sound, settings)):
        np.testing.assert_allclose(made, wanted, rtol=0, atol=0 if seconds <= BLOCK_SECONDS else 1e-4)


def pipeline(tmp_path, write_corpus, config, model, rate: int) -> tuple[Latents, list]:
    """Stages 1, 2 and 4 of a small set, and its recordings."""
    data = tmp_path / "data" / "test"
    wavs = write_corpus(data, ("anna_en", "bert_zh"), 2, 1.5, rate)
    config.save(tmp_path / "feats" / "config.yaml")
    extract.compute(tmp_path / "data", tmp_path / "feats", config, 1, 1)
    collect.collect(tmp_path / "data", tmp_path / "feats", config, 1)
    frames.build(data, tmp_path / "frames" / "test", config.frames.dtype)
    store = frame_store.FrameStore(tmp_path / "frames" / "test")
    windows = Windows([store], config.splice, config.cmvn, ["en", "zh"], keep_unseen=True, device=CPU)
    trained = Trained(model, config, ["en", "zh"], {})
    latents.write_latents(trained, windows, ["en", "zh"], tmp_path / "latents" / "test", 0)
    return Latents.open(tmp_path / "latents" / "test"), sorted(wavs.glob("*.wav"))


def shaken(config) -> DNF:
    """A model whose weights and means are random, so that every frame counts."""
    torch.manual_seed(0)
    model = DNF.from_config(config, 2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.first.set(torch.full((4,), 8.0), torch.full((4,), 3.0))
    return model


@pytest.mark.parametrize(
    "words, rate",
    [
        (("cmvn.scope=utterance",), 16000),
        (("cmvn.scope=utterance", "cmvn.variance=true", "splice.hop=3", "splice.left=2"), 16000),
        (("cmvn.scope=none", "features.snip_edges=true", "splice.right=3"), 16000),
        (("cmvn.scope=speaker", "vad.frames_context=0"), 16000),
        (("cmvn.scope=utterance", "frames.dtype=float16"), 16000),
        (("cmvn.scope=window", "cmvn.window=21", "splice.right=3"), 16000),
        (("cmvn.scope=window", "cmvn.window=300", "frames.dtype=float16"), 16000),
        (("cmvn.scope=utterance", "vad.kind=relative"), 16000),
        pytest.param(("cmvn.scope=utterance", "vad.kind=silero", "vad.silero_threshold=0.02"), 16000, marks=silero),
        pytest.param(("cmvn.scope=utterance", "vad.kind=silero", "vad.silero_threshold=0.02"), 11025, marks=silero),
        (("cmvn.scope=utterance",), 11025),
    ],
    ids=str,
)
def test_scores_in_blocks_are_those_of_the_stages(tmp_path, write_corpus, small_config, monkeypatch, words, rate):
    config = small_config(*WORDS, *words)
    model = shaken(config)
    wanted, wavs = pipeline(tmp_path, write_corpus, config, model, rate)
    trained = Trained(model, config, ["en", "zh"], {})
    for seconds, block_frames in ((0.013, 7), (0.3, 50), (20.0, 4000)):
        monkeypatch.setattr(recording_frames, "BLOCK_FRAMES", block_frames)
        read = [RecordingFrames(Source(str(wav)), config, tmp_path / f"{wav.stem}-{seconds}", seconds) for wav in wavs]
        for utt, of_utt in zip(wanted.utts, read):
            stats = of_utt.stats
            if config.cmvn.scope == "speaker":
                same = [f for f, u in zip(read, wanted.utts) if u["speaker"] == utt["speaker"]]
                stats = sum(f.stats for f in same)
            scored = list(score(of_utt, stats, trained, CPU))
            loglik = torch.cat([s.logp + s.logdet[:, None] for s in scored]).double().mean(0).numpy()
            assert sum(len(s.centres) for s in scored) == utt["rows"]
            np.testing.assert_allclose(loglik, wanted.loglik(utt).mean(0), rtol=0, atol=1e-4)


def test_channels_are_mixed_down_or_chosen_and_segments_cut(tmp_path, speech_like):
    left, right = speech_like(1.0, 1), speech_like(1.0, 2)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    for channel, wanted in ((None, (left + right) / 2), (0, left), (1, right)):
        rate, blocks = read_blocks(Source(str(tmp_path / "two.wav"), channel, 0.25, 0.75), 0.1)
        np.testing.assert_allclose(np.concatenate(list(blocks)), wanted[4000:12000], atol=1e-7)
        assert rate == 16000
    with pytest.raises(ValueError, match="no channel 2"):
        list(read_blocks(Source(str(tmp_path / "two.wav"), 2), 0.1)[1])


def test_what_cannot_be_used_is_said_with_its_name(tmp_path, small_config):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(tmp_path / "short.wav", np.full(200, 0.1), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan, np.float32), 16000, subtype="FLOAT")
    for name, reason in (
        ("text", "cannot be read"), ("silent", "digital silence"), ("short", "shorter than one frame"),
        ("nan", "has NaN or infinite samples"), ("none", "no such file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name}.wav: .*{reason}"):
            RecordingFrames(Source(str(tmp_path / f"{name}.wav")), small_config(), tmp_path / name)
