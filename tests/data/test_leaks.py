"""Sets share neither speakers nor recordings, however they are spelt or stored, and shared words are said."""

import logging
import re
import shutil
import unicodedata

import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from dnf.data import leaks, splits
from dnf.data.kaldi_files import write_table
from dnf.data.validate import validate
from dnf.data.write_set import write_set

COMPOSED, APART = (unicodedata.normalize(form, "renée") for form in ("NFC", "NFD"))


@pytest.fixture
def corpus(tmp_path, speech_like):
    """Write sets of ``(utterance, speaker, class, file[, start, end])`` and check their splits."""

    class Corpus:
        wavs, data = tmp_path / "wav", tmp_path / "data"

        def wav(self, name: str, seed: int, seconds: float = 1.0):
            self.wavs.mkdir(exist_ok=True)
            soundfile.write(self.wavs / name, speech_like(seconds, seed), 16000, subtype="PCM_16")
            return self.wavs / name

        def check(self, config, texts=(), **sets) -> int:
            config.save(self.data / "config.yaml")
            names = set()
            for name, rows in sets.items():
                recordings, supervisions = {}, []
                for utt, speaker, of_class, file, *times in rows:
                    recording = Recording.from_file(file, recording_id=utt)
                    recordings[utt] = recording
                    start, end = times or (0.0, recording.duration)
                    supervisions.append(
                        SupervisionSegment(
                            utt, utt, start, end - start, speaker=speaker, custom={"class": of_class},
                            text=dict(texts).get(utt),
                        )
                    )  # fmt: skip
                    names.add(of_class)
                made = RecordingSet.from_recordings(recordings.values()), SupervisionSet.from_segments(supervisions)
                write_set(*made, self.data / name)
            (self.data / "classes.txt").write_text("".join(f"{name}\n" for name in sorted(names)))
            return splits.main([str(self.data)])

    return Corpus()


def test_sets_that_share_nothing_pass_and_hashes_are_kept(corpus, small_config, monkeypatch):
    one, other, third = (corpus.wav(f"{n}.wav", n) for n in (1, 2, 3))
    sets = {
        "train": [("a-1", "a", "en", one), ("b-1", "b", "zh", other)],
        "dev": [("c-1", "c", "en", third)],
        "test": [("d-1", "d", "en", corpus.wav("4.wav", 4))],
    }
    assert corpus.check(small_config(), **sets) == 0
    before = (corpus.data / "hashes.jsonl").read_bytes()
    monkeypatch.setattr(leaks, "digest", lambda *_: pytest.fail("an unchanged file was hashed again"))
    assert splits.main([str(corpus.data)]) == 0
    assert (corpus.data / "hashes.jsonl").read_bytes() == before
    monkeypatch.undo()
    (corpus.data / "hashes.jsonl").write_text("damaged")
    assert splits.main([str(corpus.data)]) == 0 and (corpus.data / "hashes.jsonl").read_bytes() == before


def as_it_is(path):
    return path


def linked(path):
    path.with_name("link.wav").symlink_to(path)
    return path.with_name("link.wav")


def copied(path):
    return shutil.copy(path, path.with_name("copy.wav"))


def converted(path):
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path.with_suffix(".flac"), samples, rate)
    return path.with_suffix(".flac")


def with_other_header(path):
    path.with_name("tagged.wav").write_bytes(path.read_bytes() + b"LIST\4\0\0\0INFO")
    return path.with_name("tagged.wav")


@pytest.mark.parametrize("again", (as_it_is, linked, copied, converted, with_other_header))
@pytest.mark.parametrize("where", ("dev", "test"))
def test_a_recording_of_train_in_another_set_is_refused(corpus, small_config, again, where):
    wav = corpus.wav("a.wav", 1)
    rows = [("b-1", "b", "en", again(wav)), ("b-2", "b", "en", corpus.wav("other.wav", 2))]
    with pytest.raises(ValueError, match=f"a.wav.*utterance .-1 of {where}.*remove it from one of the two") as caught:
        corpus.check(small_config(), train=[("a-1", "a", "en", wav)], **{where: rows})
    assert "a-1 of train" in str(caught.value) and "\n" not in str(caught.value)


def test_a_shared_recording_is_said_where_speakers_may_be_shared(corpus, small_config, caplog):
    wav = corpus.wav("a.wav", 1)
    sets = {"train": [("a-1", "a", "en", wav)], "test": [("a-2", "a", "en", copied(wav))]}
    with caplog.at_level(logging.WARNING):
        assert corpus.check(small_config("data.shared_speakers=true"), **sets) == 0
    assert "has the same samples as" in caplog.text and "and 0 more like it" in caplog.text


@pytest.mark.parametrize("again", (as_it_is, copied, converted))
@pytest.mark.parametrize("where", ("train", "test"))
def test_a_recording_of_two_classes_is_refused(corpus, small_config, again, where):
    wav = corpus.wav("a.wav", 1)
    rows = {"train": [("x-1", "x", "en", corpus.wav("other.wav", 2))], "test": [("a-1", "a", "en", wav)]}
    rows[where] = [*rows[where], ("b-1", "b", "zh", again(wav))]
    if where == "train":
        rows["train"], rows["test"] = [*rows["test"], rows["train"][-1]], rows["train"][:1]
    with pytest.raises(ValueError, match="class en and .*class zh; correct its class|class zh and .*class en; correct"):
        corpus.check(small_config(), **rows)


def test_two_test_sets_may_share_recordings(corpus, small_config):
    train, wav = corpus.wav("a.wav", 1), corpus.wav("b.wav", 2)
    one, other = [("b-1", "b", "en", wav)], [("c-1", "c", "en", copied(wav))]
    assert corpus.check(small_config(), train=[("a-1", "a", "en", train)], test=one, other=other) == 0


@pytest.mark.parametrize(("start", "refused"), [(0.5, True), (0.9, False), (1.0, False)])
def test_parts_of_one_recording_may_be_of_two_sets_if_they_are_not_the_same(corpus, small_config, start, refused):
    wav = corpus.wav("talk.wav", 1, 2.0)
    sets = {"train": [("a-1", "a", "en", wav, 0.0, 1.0)], "test": [("b-1", "b", "en", wav, start, start + 0.5)]}
    if refused:
        with pytest.raises(ValueError, match="talk.wav: it is utterance a-1 of train.*utterance b-1 of test"):
            corpus.check(small_config(), **sets)
    else:
        assert corpus.check(small_config(), **sets) == 0


# ---- speakers in two Unicode forms ---------------------------------------------------------------


def test_a_speaker_in_two_unicode_forms_is_in_both_sets(corpus, small_config):
    rows = {
        "train": [(f"{COMPOSED}-1", COMPOSED, "en", corpus.wav("a.wav", 1))],
        "test": [(f"{APART}-1", APART, "en", corpus.wav("b.wav", 2))],
    }
    with pytest.raises(ValueError, match="are in both train and test"):
        corpus.check(small_config(), **rows)


def test_a_speaker_in_two_unicode_forms_of_two_classes(corpus, small_config):
    rows = {
        "train": [("a-1", "a", "en", corpus.wav("a.wav", 1))],
        "test": [(f"{COMPOSED}-1", COMPOSED, "en", corpus.wav("b.wav", 2))],
        "more": [(f"{APART}-1", APART, "zh", corpus.wav("c.wav", 3))],
    }
    with pytest.raises(ValueError, match="is of class zh in more and of class en in test"):
        corpus.check(small_config(), **rows)


def test_a_table_with_an_id_or_speaker_in_two_unicode_forms_names_both_lines(tmp_path):
    directory = tmp_path / "set"
    directory.mkdir()
    write_table(directory / "wav.scp", {f"{APART}-1": "a.wav", f"{COMPOSED}-1": "b.wav"})
    write_table(directory / "utt2spk", {f"{APART}-1": APART, f"{COMPOSED}-1": COMPOSED})
    with pytest.raises(ValueError, match=r"line 2: id .* has other Unicode characters than in line 1"):
        validate(directory, need_spk2utt=False)
    write_table(directory / "utt2spk", {"r1": APART, "r2": COMPOSED})
    write_table(directory / "wav.scp", {"r1": "a.wav", "r2": "b.wav"})
    with pytest.raises(ValueError, match=r"utt2spk line 2: speaker .* has .* than in line 1.*u0301"):
        validate(directory, need_spk2utt=False, spk_sort=False)


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            {"a-1": "One two.", "b-1": "one  TWO", "b-2": "three two"},
            "50 % of its utterances have .*, 75 % of its words",
        ),
        ({"a-1": "one", "b-1": "four", "b-2": "five"}, None),
        ({"a-1": "one two", "b-1": "one one", "b-2": "five six"}, "no utterance of training, but 50 % of its words"),
        ({"a-1": "one"}, None),
        ({}, None),
    ],
)
def test_words_that_train_and_test_share_are_said(corpus, small_config, caplog, texts, said):
    rows = {
        "train": [("a-1", "a", "en", corpus.wav("a.wav", 1))],
        "test": [("b-1", "b", "en", corpus.wav("b.wav", 2)), ("b-2", "b", "en", corpus.wav("c.wav", 3))],
    }
    with caplog.at_level(logging.INFO):
        corpus.check(small_config(), texts, **rows)
    lines = [record.getMessage() for record in caplog.records if "text: " in record.getMessage()]
    assert len(lines) == (said is not None)
    if said:
        assert re.match(f"test: text: {said}", lines[0])


# ---- rates ---------------------------------------------------------------------------------------


def test_recordings_below_the_rate_of_the_features_are_said(corpus, small_config, caplog, speech_like):
    slow = corpus.wav("slow.wav", 1)
    soundfile.write(slow, speech_like(1.0, 1, 8000), 8000)
    rows = {"train": [("a-1", "a", "en", slow), ("a-2", "a", "en", corpus.wav("b.wav", 2))]}
    with caplog.at_level(logging.WARNING):
        corpus.check(small_config(), **rows)
        assert "sampled at" not in caplog.text  # they are rejected
        corpus.check(small_config("features.resample=true"), **rows)
    assert "train: 1 of 2 recordings are sampled at 8000 Hz, below features.sampling_rate 16000 Hz" in caplog.text
    assert "above 4000 Hz" in caplog.text
