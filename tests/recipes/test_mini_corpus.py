"""The synthetic mini corpus: reproducible, free of leaks, and an accent in it that can be told."""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Fbank, FbankConfig, RecordingSet, SupervisionSet
from recipe_runs import ROOT
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

LOCAL = ROOT / "egs" / "mini" / "local"
sys.path.insert(0, str(LOCAL))

import accents  # noqa: E402
import channel  # noqa: E402
import espeak  # noqa: E402
import voices  # noqa: E402
from cast import CLASSES, SETS, Settings, Speaker, cast  # noqa: E402

spec = importlib.util.spec_from_file_location("mini_prepare_data", LOCAL / "prepare_data.py")
mini = importlib.util.module_from_spec(spec)  # under a name of its own: every recipe has a prepare_data.py
sys.modules[spec.name] = mini
spec.loader.exec_module(mini)

SENTENCES = mini.SENTENCES.read_text(encoding="utf-8").splitlines()
TINY = Settings(train_speakers=1, dev_speakers=1, test_speakers=1, other_speakers=1, utterances=2)


def audio(directory: Path) -> dict[str, bytes]:
    """Contents of every wav file by its path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*.wav"))}


def of_number(speakers: list[Speaker]) -> list[list[Speaker]]:
    """The speakers of one number, ``ce``, ``en`` and ``je``, who share what does not depend on the class."""
    groups = defaultdict(list)
    for speaker in speakers:
        groups[speaker.key].append(speaker)
    return [group for group in groups.values() if len(group) > 1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    mini.prepare(directory, TINY)
    return directory


def test_same_seed_same_bytes_for_any_number_of_jobs(tiny, tmp_path):
    expected = audio(tiny / "wav")
    assert len(expected) == 11 * 2
    mini.prepare(tmp_path, replace(TINY, nj=1))
    assert audio(tmp_path / "wav") == expected
    mini.prepare(tmp_path, replace(TINY, nj=3))  # again, over the last one
    assert audio(tmp_path / "wav") == expected
    assert not (tmp_path / "wav.partial").exists()


def test_another_seed_is_another_corpus(tiny, tmp_path):
    mini.prepare(tmp_path, replace(TINY, seed=2))
    first, second = audio(tiny / "wav"), audio(tmp_path / "wav")
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


def test_data_directories_are_whole(tiny):
    for name, corpus in SETS.items():
        recordings = RecordingSet.from_file(tiny / name / "recordings.jsonl.gz").to_eager()
        supervisions = SupervisionSet.from_file(tiny / name / "supervisions.jsonl.gz")
        assert {s.custom["class"] for s in supervisions} == set(corpus.prefixes)
        assert len(recordings) == len(supervisions) == 2 * len(corpus.prefixes)
        for utterance in supervisions:
            path = recordings[utterance.recording_id].sources[0].source
            assert path == str(tiny / "wav" / name / utterance.speaker / f"{utterance.id}.wav")
            assert utterance.text in SENTENCES and utterance.language == "English"
            assert utterance.gender == utterance.speaker[-4]
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.duration == pytest.approx(utterance.duration)
        for table in ("wav.scp", "utt2spk", "spk2utt", "utt2class", "utt2dur", "text", "spk2gender"):
            assert (tiny / name / table).is_file()
    assert (tiny / "classes.txt").read_text() == "ce\nen\nje\n"


def test_a_relative_directory_gives_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = mini.prepare(Path("data"), TINY)
    sources = [recording.sources[0].source for recordings, _ in made.values() for recording in recordings]
    assert all(source.startswith("data/wav/") for source in sources)
    assert (tmp_path / "data/dev/wav.scp").read_text().split()[1].startswith("data/wav/dev/")


def test_a_failure_leaves_the_last_corpus_alone(tmp_path, monkeypatch):
    mini.prepare(tmp_path, TINY)
    before = audio(tmp_path)
    perform = mini.perform

    def fails_on_one(speaker, studio):
        if speaker.set == "test" and speaker.label == "en":
            raise ValueError("no voice today")
        return perform(speaker, studio)

    monkeypatch.setattr(mini, "perform", fails_on_one)
    with pytest.raises(ValueError, match="no voice today"):
        mini.prepare(tmp_path, replace(TINY, seed=2))
    assert audio(tmp_path / "wav") == {name.removeprefix("wav/"): wav for name, wav in before.items()}
    monkeypatch.undo()
    mini.prepare(tmp_path, TINY)
    assert audio(tmp_path) == before


def test_a_missing_utterance_is_a_warning(tiny, caplog):
    supervisions = SupervisionSet.from_file(tiny / "dev" / "supervisions.jsonl.gz")
    mini.report("dev", supervisions, TINY)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    mini.report("dev", SupervisionSet.from_segments(list(supervisions)[1:]), TINY)
    assert "1 utterances, 1 and 2 expected" in caplog.text


def test_sets_share_no_speaker_voice_or_training_sentence():
    speakers = cast(Settings(), SENTENCES)
    assert len(SENTENCES) == len(set(SENTENCES)) == 100
    ids = [speaker.id for speaker in speakers]
    assert len(set(ids)) == len(ids) == 3 * (12 + 4 + 6) + 2 * 6
    assert all(re.fullmatch(r"[a-z]+_[mf][0-9]{3}", name) for name in ids)
    builds, texts = defaultdict(set), defaultdict(set)
    for speaker in speakers:
        builds[speaker.set].add(speaker.voice.build)
        texts[speaker.set == "train"] |= set(speaker.texts)
    assert sum(map(len, builds.values())) == len(set.union(*builds.values())) == 22 + 2 * 6
    assert not texts[True] & texts[False]
    utterances = [f"{name}-{number:03d}" for name in ids for number in (1, 15)]
    assert [u.rpartition("-")[0] for u in sorted(utterances)] == sorted(u.rpartition("-")[0] for u in utterances)


def test_other_corpora_have_other_dialects_and_channels():
    assert not set(SETS["en_other"].natives) & set(SETS["train"].natives)
    assert len({id(corpus.family) for corpus in SETS.values()}) == 3
    speakers = cast(Settings(), SENTENCES)
    loudest = max(s.channel.level + s.channel.drift for s in speakers if s.set == "en_other")
    assert loudest < min(s.channel.level - s.channel.drift for s in speakers if s.set == "train")
    assert max(s.channel.snr for s in speakers if s.set == "wild") < 15
    assert all(len(phrases) > 1 for s in speakers if s.set == "wild" for phrases in s.utterances)


def test_only_the_voice_depends_on_the_class():
    voice_free = [field.name for field in fields(Speaker) if field.name not in ("id", "label", "voice")]
    groups = of_number(cast(Settings(), SENTENCES))
    assert len(groups) == 22
    for group in groups:
        assert sorted(speaker.label for speaker in group) == sorted(CLASSES)
        for name in voice_free:
            assert len({repr(getattr(speaker, name)) for speaker in group}) == 1, f"{name} of {group[0].id}"
        assert len({speaker.voice.build for speaker in group}) == 1
        assert len({speaker.voice.shifts for speaker in group}) == 3
    null = cast(Settings(null=True), SENTENCES)
    assert {speaker.voice.accent for speaker in null} == {None}
    assert [s.channel for s in null] == [s.channel for s in cast(Settings(), SENTENCES)]


def test_same_speech_is_recorded_alike_whatever_the_class(monkeypatch):
    rng = np.random.default_rng(0)
    speech = (rng.standard_normal(44100) * 3000).astype("<i2")
    monkeypatch.setattr(mini, "requests", lambda speaker, studio: speaker.utterances)
    reply = {"rate": 22050, "audio": speech}
    monkeypatch.setattr(espeak, "talk", lambda library, data, asked: [reply for phrases in asked for _ in phrases])
    nowhere = mini.Studio(Path(), Path(), {}, {})
    for group in of_number(cast(TINY, SENTENCES)):
        first, *others = (mini.perform(speaker, nowhere) for speaker in group)
        for other in others:
            assert all(np.array_equal(a, b) for a, b in zip(first, other))


def read_speakers(settings: Settings, directory: Path) -> list[tuple[Speaker, list[np.ndarray]]]:
    """The training speakers of a corpus with their recordings, made in ``directory``."""
    speakers = [speaker for speaker in cast(settings, SENTENCES) if speaker.set == "train"]
    mini.record_all(speakers, directory, nj=2)
    made = []
    for speaker in speakers:
        paths = [directory / "train" / speaker.id / f"{name}.wav" for name in mini.utterance_ids(speaker)]
        made.append((speaker, [soundfile.read(path)[0] for path in paths]))
    return made


def test_durations_and_levels_are_close_over_the_classes(tmp_path):
    seconds, levels = defaultdict(list), defaultdict(list)
    for speaker, recordings in read_speakers(replace(TINY, train_speakers=8, utterances=6), tmp_path):
        seconds[speaker.label] += [len(x) / 16000 for x in recordings]
        levels[speaker.key].append([20 * np.log10(x.std()) for x in recordings])
    assert all(np.allclose(one, group[0], atol=0.1) for group in levels.values() for one in group)
    means = [np.mean(seconds[label]) for label in CLASSES]
    assert 2 < min(means) and max(means) < 4
    assert max(means) / min(means) < 1.15


@pytest.fixture(scope="module")
def spelled() -> list[str]:
    """The American phonemes of every sentence."""
    replies = espeak.talk(*espeak.locate(), [{"voice": mini.SPELLER, "spell": text} for text in SENTENCES])
    return [reply["phonemes"] for reply in replies]


@pytest.mark.parametrize("label", sorted(accents.ACCENTS))
def test_voices_know_every_phoneme_of_their_accent(spelled, label):
    accent = accents.ACCENTS[label]
    known = espeak.mnemonics(espeak.locate()[1], accent.voice)
    assert {"a", "'", ",", "s"} <= known and "tS;;" not in known
    for strength in (0.0, 0.4, 0.7, 1.0):
        for seed in range(5):
            rng = random.Random(seed)
            for line in spelled:
                words = accent.pronounce(accents.parse(line), strength, rng)
                assert not {mnemonic for word in words for mnemonic in word} - known
                assert len(words) == len(line.split())
    written = {m for rule in (*accent.rules, *accent.endings) for m in rule.becomes.split()}
    written |= {m for ways in accent.vowels.values() for way in ways for m in way.split()}
    assert not written - known


def test_every_english_vowel_and_rule_is_real():
    for accent in accents.ACCENTS.values():
        assert set(accent.vowels) == accents.VOWELS
        for rule in (*accent.rules, *accent.endings):
            assert set(rule.phones.split()) <= accents.VOWELS | accents.CONSONANTS


@pytest.mark.parametrize(
    "label, english, said",
    [
        ("ce", "T_'I_N_k", "s 'i N k h"),
        ("ce", "v_'E_r_i", "w 'E"),
        ("je", "l_'aI_t", "r` 'a i t o"),
        ("je", "r_'aI_t", "r` 'a i t o"),
        ("je", "D_I_s", "d_z\\ i s u"),
        ("je", "v_'a_n", "b 'a N\\"),
    ],
)
def test_known_marks_of_the_accents(label, english, said):
    accent = accents.ACCENTS[label]
    ways = {" ".join(accent.pronounce(accents.parse(english), 1.0, random.Random(seed))[0]) for seed in range(200)}
    said = said.replace("'", "' ")
    assert any(way.replace(" 51", "").replace(" 55", "").startswith(said.replace("k h", "kh")) for way in ways), ways


def test_a_light_accent_keeps_more_of_the_english_consonants(spelled):
    for accent in accents.ACCENTS.values():
        kept = []
        for strength in (0.0, 0.5, 1.0):
            words = [w for line in spelled for w in accent.pronounce(accents.parse(line), strength, random.Random(1))]
            kept.append(sum(m in ("T", "D", "v") for word in words for m in word))
        assert kept[0] > kept[1] > kept[2] == 0


def test_an_unknown_english_phoneme_is_named():
    with pytest.raises(ValueError, match="'qx' in 'D_qx'"):
        accents.parse("h_aI D_qx")


def test_a_phoneme_the_voice_does_not_know_is_an_error(monkeypatch):
    speaker = next(s for s in cast(TINY, SENTENCES) if s.label == "je")
    spelled = {phrase.text: "l_'aI_t" for phrases in speaker.utterances for phrase in phrases}
    studio = mini.Studio(Path(), Path(), spelled, {"ja": frozenset({"a", "i", "t", "o", "'"})})
    with pytest.raises(ValueError, match=rf"{speaker.id}: voice ja has no phonemes \['r`'\]"):
        mini.requests(speaker, studio)


def test_what_the_synthesizer_would_swallow_is_an_error(tmp_path):
    library, data = espeak.locate()
    say = {"say": "hello", "rate": 170, "pitch": 50, "range": 50, "seed": 1}
    with pytest.raises(ValueError, match="no voice variant nosuch"):
        espeak.talk(library, data, [{"voice": "en-us+nosuch", **say}])
    with pytest.raises(ValueError, match="no voice en-xx"):
        espeak.talk(library, data, [{"voice": "en-xx", **say}])
    with pytest.raises(ValueError, match="it has no phontab"):
        espeak.talk(library, tmp_path, [])
    with pytest.raises(ValueError, match="takes 150"):
        espeak.talk(library, tmp_path / ("x" * 200), [])
    with pytest.raises(ValueError, match="limit of 150 bytes; set TMPDIR to a shorter path"):
        espeak.copy_data(data, tmp_path / ("x" * 200), {})
    with pytest.raises(ValueError, match="no phoneme table zh"):
        espeak.mnemonics(data, "zh")


def test_each_property_of_a_voice_is_heard(tmp_path):
    """espeak-ng skips lines of a variant file that it does not understand."""
    plain = next(s.voice for s in cast(TINY, SENTENCES) if s.id == "en_m001")
    build = replace(plain.build, voicing=80, breath=0, roughness=0, flutter=0, consonants=80)
    changed = {"pitch": (150, 220), "voicing": 130, "breath": 3, "roughness": 3, "flutter": 8, "consonants": 120}
    drawn = {"plain": replace(plain, build=build)}
    drawn |= {name: replace(plain, build=replace(build, **{name: value})) for name, value in changed.items()}
    for number in range(5):
        shifts = tuple(shift * (1.1 if index == number else 1.0) for index, shift in enumerate(plain.shifts))
        drawn[f"shift{number + 1}"] = replace(plain, build=build, shifts=shifts)
    library, source = espeak.locate()
    espeak.copy_data(source, tmp_path / "data", {name: voices.variant(voice, name) for name, voice in drawn.items()})
    say = {"say": "my brother thinks so", "rate": 170, "pitch": 50, "range": 50, "seed": 1}
    heard = {n: espeak.talk(library, tmp_path / "data", [{"voice": f"en-us+{n}", **say}])[0]["audio"] for n in drawn}
    plainly = heard.pop("plain").astype(float)
    for name, other in heard.items():
        count = min(len(plainly), len(other))
        assert np.std(other[:count] - plainly[:count]) > 0.02 * plainly.std(), name


def test_without_the_synthesizer_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ValueError, match="pip install espeakng-loader"):
        espeak.locate()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"utterances": 51}, "51 utterances per speaker are too many: a set has 50 sentences"),
        ({"nj": 0}, "nj is 0"),
        ({"dev_speakers": 0}, "dev_speakers is 0"),
        ({"train_speakers": 998}, "1000 speakers of a class"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        cast(replace(TINY, **change), SENTENCES)


def test_command_line_shows_its_defaults(capsys):
    with pytest.raises(SystemExit):
        mini.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"--{field.name.replace('_', '-')}" in shown for field in fields(Settings))
    assert all(f"(default: {number})" in shown for number in (1, 2, 4, 6, 12, 15))


def test_command_line_errors_are_one_line(tmp_path):
    command = [sys.executable, LOCAL / "prepare_data.py", tmp_path, "--nj", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "prepare_data.py: nj is 0; give 1 or more\n")


@pytest.mark.parametrize("family", [channel.STUDIO, channel.OFFICE, channel.STREET])
def test_channels_do_what_they_say(family):
    drawn = [channel.draw(family, 1, number) for number in range(200)]
    for name in ("snr", "noise_slope", "swell", "tilt", "low", "high", "decay", "wet", "level"):
        low, high = getattr(family, name)
        values = [getattr(one, name) for one in drawn]
        assert low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
    one = replace(drawn[0], snr=10.0, swell=0.0)
    gain = channel.response(one, np.array([0.0, 1000.0, 16000.0]))
    assert gain[0] == pytest.approx(channel.FLOOR) and gain[2] == pytest.approx(channel.FLOOR) and 0.3 < gain[1] < 3
    room = channel.echo(one, np.random.default_rng(0))
    assert room[0] == 1 and len(room) == int(one.decay * 16000)
    assert 10 * np.log10(np.sum(room[1:] ** 2)) == pytest.approx(one.wet)
    click = np.zeros(32000)
    click[:16000] = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    heard = channel.transmit(click, one, np.ones(1), np.random.default_rng(0)).astype(float)
    speech, noise = np.mean(heard[4000:12000] ** 2), np.mean(heard[20000:28000] ** 2)
    assert 10 * np.log10((speech - noise) / 2 / noise) == pytest.approx(10, abs=1.5)  # the tone fills half of the time
    level = 20 * np.log10(heard.std() / channel.FULL_SCALE)
    assert abs(level - one.level) < one.drift + 0.1


FBANK = Fbank(FbankConfig(sampling_rate=16000, num_filters=40, dither=0.0, snip_edges=False))


def utterance_features(recordings: list[np.ndarray]) -> np.ndarray:
    """Mean and standard deviation of the log-mel energies of each recording, ``(N, 80)``: no mean is taken away, so a
    channel that goes with the class is as easy to see as an accent."""
    energies = [FBANK.extract(x.astype(np.float32), 16000) for x in recordings]
    return np.stack([np.concatenate([e.mean(0), e.std(0)]) for e in energies])


def accuracy(made: list[tuple[Speaker, list[np.ndarray]]]) -> float:
    """Utterance accuracy of a linear classifier that never heard the speaker, nor those of the same number."""
    features = [utterance_features(recordings) for _, recordings in made]
    x = np.concatenate(features)
    y = np.repeat([speaker.label for speaker, _ in made], [len(f) for f in features])
    numbers = np.repeat([speaker.key[-1] for speaker, _ in made], [len(f) for f in features])
    right = np.zeros(len(y), dtype=bool)
    for number in np.unique(numbers):
        held = numbers == number
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[~held], y[~held])
        right[held] = model.predict(x[held]) == y[held]
    return float(np.mean(right))


@pytest.fixture
def one_thread():
    """The matrices here are small: on a busy machine threads cost more time than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_nothing_but_the_accent_tells_the_classes_apart(tmp_path, one_thread):
    """The null corpus must be at chance, the accented one far above it, and a channel that goes with the class is seen.

    Each seed is one draw: within a seed the voices of a class differ from those of another by chance, which all of its
    speakers share. So the accuracies are compared with chance by a t-test over seeds.
    """
    small = Settings(train_speakers=12, utterances=3)
    gains = {"ce": [1.0], "en": [1.0, 0.25], "je": [1.0, -0.25]}  # a microphone for each class: 4 dB of tilt
    null, spoiled, accented = [], [], []
    for seed in range(1, 13):
        made = read_speakers(replace(small, seed=seed, null=True), tmp_path / f"null{seed}")
        null.append(accuracy(made))
        if seed <= 3:
            spoiled.append(accuracy([(s, [np.convolve(x, gains[s.label]) for x in waves]) for s, waves in made]))
            accented.append(accuracy(read_speakers(replace(small, seed=seed), tmp_path / f"accented{seed}")))
    figures = {"null": null, "spoiled": spoiled, "accented": accented}
    assert stats.sem(null) < 0.035, figures  # else a leak of ten points could pass
    assert stats.ttest_1samp(null, 1 / 3).pvalue > 0.005, figures
    assert np.mean(spoiled) > 0.5 and np.mean(accented) > 0.75, figures
