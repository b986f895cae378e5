"""What the data preparation of every recipe shares: corpora and their options, labels, headers, writing."""

import gzip

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from dnf.data import recipe
from dnf.data.kaldi_files import read_table
from dnf.data.manifests import Utterance
from dnf.data.recipe import Corpus, Manifests, combine, given, label, make, of_speakers, of_utterances, seconds_by
from dnf.data.validate import validate

# ---- manifests -----------------------------------------------------------------------------------


def recording(name: str, seconds: float = 2.0) -> Recording:
    return Recording(name, [AudioSource("file", [0], f"/{name}.wav")], 16000, round(16000 * seconds), seconds)


def supervision(
    utt: str, of: str, speaker: str, start: float = 0.0, seconds: float = 2.0, **more
) -> SupervisionSegment:
    return SupervisionSegment(utt, of, start, seconds, speaker=speaker, **more)


@pytest.fixture
def lhotse_made() -> Manifests:
    """As a Lhotse recipe makes them: one recording an utterance, and one recording with two."""
    return Manifests(
        RecordingSet.from_recordings([recording("84-1"), recording("84-2", 3.0), recording("long", 9.0)]),
        SupervisionSet.from_segments(
            [
                supervision("84-1", "84-1", "84", gender="f", text="hi", custom={"score": 3.0, "other": 1}),
                supervision("84-2", "84-2", "84", seconds=3.0, custom={"other": 1}),
                supervision("9 a_x", "long", "9 a", 1.0),
                supervision("9 a_y", "long", "9 a", 4.0),
            ]
        ),
    )


def test_labels_are_ids_of_the_corpus_with_class_and_score(lhotse_made):
    made = label(lhotse_made, "en", "libri")
    assert [(s.id, s.speaker, s.custom) for s in made.supervisions] == [
        ("libri_84-1", "libri_84", {"class": "en", "score": 3.0}),
        ("libri_84-2", "libri_84", {"class": "en"}),
        ("libri_9_a-x", "libri_9_a", {"class": "en"}),
        ("libri_9_a-y", "libri_9_a", {"class": "en"}),
    ]
    assert [(s.gender, s.text) for s in made.supervisions][:2] == [("f", "hi"), (None, None)]
    assert [(s.start, s.duration) for s in made.supervisions][2:] == [(1.0, 2.0), (4.0, 2.0)]


def test_labelled_recordings_are_named_like_their_only_utterance(lhotse_made):
    """Then wav.scp alone says all; a recording of several utterances needs segments and keeps its name."""
    made = label(lhotse_made, "en", "libri")
    assert [r.id for r in made.recordings] == ["libri_84-1", "libri_84-2", "libri_long"]
    assert [s.recording_id for s in made.supervisions] == ["libri_84-1", "libri_84-2", "libri_long", "libri_long"]
    assert [r.sources[0].source for r in made.recordings] == ["/84-1.wav", "/84-2.wav", "/long.wav"]
    assert [r.id for r in lhotse_made.recordings] == ["84-1", "84-2", "long"]  # what came in is left alone
    assert lhotse_made.supervisions["84-1"].custom == {"score": 3.0, "other": 1}


def test_labels_of_two_corpora_never_clash(lhotse_made):
    both = combine([label(lhotse_made, "en", "one"), label(lhotse_made, "ce", "two")])
    assert len(both.recordings) == 6 and len({s.id for s in both.supervisions}) == len(both.supervisions) == 8
    assert not {s.speaker for s in both.supervisions if s.custom["class"] == "en"} & {
        s.speaker for s in both.supervisions if s.custom["class"] == "ce"
    }


def test_parts_have_their_utterances_and_the_recordings_of_those(lhotse_made):
    one = of_utterances(lhotse_made, iter(["9 a_y", "84-2", "not there"]))
    assert [s.id for s in one.supervisions] == ["84-2", "9 a_y"] and [r.id for r in one.recordings] == ["84-2", "long"]
    of = of_speakers(lhotse_made, ["9 a", "nobody"])
    assert [s.id for s in of.supervisions] == ["9 a_x", "9 a_y"] and [r.id for r in of.recordings] == ["long"]
    assert combine([of_speakers(lhotse_made, ["84"]), of]) == lhotse_made
    assert len(combine([]).recordings) == 0


def test_seconds_are_of_the_utterances(lhotse_made):
    assert seconds_by(lhotse_made, "speaker") == {"84": 5.0, "9 a": 4.0}
    assert seconds_by(lhotse_made, "id") == {"84-1": 2.0, "84-2": 3.0, "9 a_x": 2.0, "9 a_y": 2.0}


# ---- reading headers -----------------------------------------------------------------------------


@pytest.fixture
def spoken(tmp_path) -> list[Utterance]:
    """Ten utterances of 0.1, 0.2, ... s; the files are in tmp_path."""
    made = []
    for n in range(10):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, np.zeros(1600 * (n + 1), np.float32), 16000)
        made.append(
            Utterance(f"c_s{n % 2}-{n}", f"c_s{n % 2}-{n}", str(path), f"c_s{n % 2}", "en", score=n / 2, gender="m")
        )
    return made


def test_headers_become_manifests(spoken, tmp_path):
    made = make("corpus", spoken, tmp_path / "data", 0.0)
    assert [(r.id, r.num_samples, r.sampling_rate) for r in made.recordings] == [
        (u.id, 1600 * (n + 1), 16000) for n, u in enumerate(spoken)
    ]
    assert [(s.id, s.speaker, s.custom, s.gender) for s in made.supervisions] == [
        (u.id, u.speaker, {"class": "en", "score": n / 2}, "m") for n, u in enumerate(spoken)
    ]
    assert not (tmp_path / "data" / "lists").exists()


def test_unreadable_recordings_are_listed_with_their_reason(spoken, tmp_path, caplog):
    (tmp_path / "3.wav").unlink()
    (tmp_path / "6.wav").write_bytes(b"no sound")
    made = make("corpus", spoken, tmp_path / "data", 0.2)
    assert len(made.recordings) == len(made.supervisions) == 8
    listed = read_table(tmp_path / "data" / "lists" / "corpus_rejected.txt")
    assert list(listed) == ["c_s0-6", "c_s1-3"] and "3.wav: no such file" in listed["c_s1-3"]
    assert "6.wav: cannot be read" in listed["c_s0-6"]
    assert "corpus corpus: 2 of 10 utterances rejected" in caplog.text
    soundfile.write(tmp_path / "3.wav", np.zeros(1600), 16000)
    soundfile.write(tmp_path / "6.wav", np.zeros(1600), 16000)
    assert len(make("corpus", spoken, tmp_path / "data", 0.2).recordings) == 10
    assert not (tmp_path / "data" / "lists" / "corpus_rejected.txt").exists()


def test_more_unreadable_recordings_than_allowed_are_an_error(spoken, tmp_path):
    for n in (3, 6):
        (tmp_path / f"{n}.wav").unlink()
    with pytest.raises(
        ValueError, match="corpus big: 2 of 10 utterances rejected.*; utterance c_s0-6: .*6.wav: no such file"
    ) as caught:
        make("big", spoken, tmp_path / "data", 0.19)
    assert "\n" not in str(caught.value) and not (tmp_path / "data").exists()


def test_a_corpus_without_recordings_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="^corpus empty: no recording found$"):
        make("empty", [], tmp_path, 1.0)


# ---- options -------------------------------------------------------------------------------------


CORPORA = (
    Corpus("one", "LDC93, a folder with speakers", ("one_train", "one_test")),
    Corpus("two", "wav files", ("two",)),
)


def test_options_of_a_recipe_are_its_corpora():
    parsed = recipe.parser("Makes data.", CORPORA).parse_args(
        ["out", "--two", "/x", "--seed", "3", "--max-rejected", "0.5"]
    )
    assert (str(parsed.output_dir), parsed.one, str(parsed.two)) == ("out", None, "/x")
    assert (parsed.seed, parsed.nj, parsed.max_rejected) == (3, 1, 0.5)
    assert "LDC93, a folder with speakers" in recipe.parser("Makes data.", CORPORA).format_help()


def test_what_was_not_given_is_said_in_a_line(tmp_path, caplog):
    caplog.set_level("INFO")
    assert given(CORPORA, {"one": None, "two": tmp_path, "seed": 1}) == {"two": tmp_path}
    assert [r.getMessage() for r in caplog.records] == [
        "no --one (LDC93, a folder with speakers): sets one_train one_test are left out"
    ]


@pytest.mark.parametrize("paths", [{}, {"one": None, "two": None}])
def test_no_corpus_at_all_is_an_error_that_names_the_options(paths):
    with pytest.raises(ValueError) as caught:
        given(CORPORA, paths)
    assert str(caught.value).endswith("--one (LDC93, a folder with speakers); --two (wav files)")
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"^--two {tmp_path}/away: does not exist; expected wav files$"):
        given(CORPORA, {"one": tmp_path, "two": tmp_path / "away"})


# ---- writing -------------------------------------------------------------------------------------


@pytest.fixture
def two_sets(spoken, tmp_path) -> dict[str, Manifests]:
    other = [
        u._replace(
            id=u.id.replace("c_", "d_"),
            recording=u.id.replace("c_", "d_"),
            speaker=u.speaker.replace("c_", "d_"),
            name="ce",
        )
        for u in spoken[:4]
    ]
    return {"two": make("c", spoken, tmp_path, 0.0), "one_train": make("d", other, tmp_path, 0.0)}


def test_sets_are_written_with_their_classes_and_what_is_missing(two_sets, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "data"
    recipe.write(two_sets, out, CORPORA, ["two"])
    assert sorted(path.name for path in out.iterdir()) == ["classes.txt", "missing.txt", "one_train", "two"]
    assert (out / "classes.txt").read_text() == "ce\nen\n"
    assert (
        out / "missing.txt"
    ).read_text() == "one_test --one PATH (LDC93, a folder with speakers)\n"  # one_train is there
    for name in two_sets:
        validate(out / name, classes=out / "classes.txt")
    assert read_table(out / "two" / "utt2class").keys() == {s.id for s in two_sets["two"].supervisions}
    assert "one_train: class ce, 2 speakers, 4 utterances, 0.00 h" in caplog.text
    recipe.write(two_sets, out, CORPORA, ["one", "two"])
    assert not (out / "missing.txt").exists()


def test_sets_of_an_earlier_run_are_removed_and_nothing_else(two_sets, tmp_path):
    out = tmp_path / "data"
    recipe.write(two_sets, out)
    for name in ("lists", "wav", "notes"):
        (out / name).mkdir()
        (out / name / "kept.txt").write_text("x")
    recipe.write({"two": two_sets["two"]}, out, CORPORA, [])
    assert sorted(path.name for path in out.iterdir()) == ["classes.txt", "lists", "missing.txt", "notes", "two", "wav"]
    assert (out / "classes.txt").read_text() == "en\n"
    assert list(read_table(out / "missing.txt")) == ["one_test", "one_train"]


def test_the_same_sets_give_the_same_bytes(two_sets, tmp_path):
    def everything(out) -> dict:
        recipe.write(dict(reversed(two_sets.items())) if out.name == "b" else two_sets, out, CORPORA, ["two"])
        files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return {path: gzip.decompress(content) if path.suffix == ".gz" else content for path, content in files.items()}

    first = everything(tmp_path / "a")
    assert len(first) > 15 and everything(tmp_path / "b") == first == everything(tmp_path / "a")


def test_lists_are_sorted_ids(tmp_path):
    recipe.write_list(tmp_path / "data", "train", ("b", "a", "c"))
    assert (tmp_path / "data" / "lists" / "train.txt").read_text() == "a\nb\nc\n"


def test_counts_that_differ_from_the_published_ones_are_a_warning(lhotse_made, caplog):
    found = recipe.counts(lhotse_made)
    assert found == {"utterances": 4, "speakers": 2}
    recipe.expect("corpus", found, {"utterances": 4})
    assert not caplog.text
    recipe.expect("corpus", found, {"utterances": 7, "speakers": 2, "sessions": 1})
    assert [r.getMessage() for r in caplog.records] == [
        "corpus: 4 utterances, 7 in the published corpus; 0 sessions, 1 in the published corpus"
    ]
