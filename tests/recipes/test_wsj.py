"""The wsj recipe: its reader on miniature trees of every layout, its sets, and one whole run."""

import dataclasses
import logging
import os
import re
import shutil

import lhotse
import numpy as np
import pytest
import soundfile
import tree_wsj
from experiment_files import check_picture
from recipe_runs import ROOT, results, run_here, run_recipe

from dnf.data import recipe
from dnf.data.recipe import Manifests
from dnf.experiment.config import resolve
from egs.corpora import wsj
from egs.wsj.local import prepare_data


@pytest.fixture(autouse=True)
def same_backend():
    before = lhotse.get_current_audio_backend()
    yield
    lhotse.set_current_audio_backend(before)


@pytest.fixture(scope="module")
def discs(tmp_path_factory, voices):
    """The corpus on discs, and the samples of its utterances."""
    root = tmp_path_factory.mktemp("discs")
    return root, tree_wsj.make(root, voices)


def spoken(folder, output) -> Manifests:
    return recipe.make("wsj", wsj.read(folder), output, 0.0)


def check_samples(manifests: Manifests, listed: dict) -> None:
    """Every utterance of the index is there, sounds as it should, and no other is."""
    assert {s.id.split("-")[1] for s in manifests.supervisions} == set(listed)
    for recording in manifests.recordings:
        samples = recording.load_audio()[0] * 32768
        assert np.array_equal(samples, listed[recording.id.split("-")[1]]), recording.id


@pytest.mark.parametrize("coding", ["pcm", "wav", "flac"])
@pytest.mark.parametrize("layout", ["discs", "merged"])
def test_layouts_and_codings_give_the_same_utterances(tmp_path, voices, layout, coding):
    listed = tree_wsj.make(tmp_path / "wsj", voices, layout, coding)
    manifests = spoken(tmp_path / "wsj", tmp_path / "out")
    check_samples(manifests, listed)
    genders = {s.speaker: s.gender for s in manifests.supervisions}
    speakers = [f"wsj_{speaker}" for speaker in tree_wsj.WSJ0 + tree_wsj.WSJ1]
    assert genders == dict(zip(speakers, [gender for _, gender, _ in voices["en"]]))
    assert all(s.id.startswith(f"{s.speaker}-{s.speaker[4:]}c02") for s in manifests.supervisions)
    assert {s.custom["class"] for s in manifests.supervisions} == {"en"}


def test_names_in_upper_case(tmp_path, discs):
    shutil.copytree(discs[0], tmp_path / "wsj")
    for path in sorted((tmp_path / "wsj").rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.upper()))
    check_samples(spoken(tmp_path / "wsj", tmp_path / "out"), discs[1])


def test_discs_by_other_names_in_folders_of_their_own(tmp_path, discs):
    for number, disc in enumerate(sorted(discs[0].iterdir())):
        shutil.copytree(
            disc, tmp_path / "wsj" / ("LDC93S6A" if disc.name.startswith("11") else "wsj1") / f"disk{number}"
        )
    check_samples(spoken(tmp_path / "wsj", tmp_path / "out"), discs[1])


def test_files_converted_beside_the_originals_come_first(tmp_path, voices):
    listed = tree_wsj.make(tmp_path, voices, "merged", "shorten-header")
    for name, samples in listed.items():
        path = next(tmp_path.rglob(f"{name}.wv1"))
        soundfile.write(path.with_name(f"{name}.wv1.wav"), samples, 16000)
    check_samples(spoken(tmp_path, tmp_path / "out"), listed)


def test_without_index_and_speaker_files(tmp_path, discs, caplog):
    shutil.copytree(discs[0], tmp_path / "wsj", ignore=shutil.ignore_patterns("*.ndx", "spkrinfo.txt"))
    manifests = spoken(tmp_path / "wsj", tmp_path / "out")
    check_samples(manifests, discs[1])
    assert {s.gender for s in manifests.supervisions} == {None}
    assert "wsj0: no index tr_s_wv1.ndx" in caplog.text and "wsj1: no index si_tr_s.ndx" in caplog.text


def test_speaker_file_beside_the_discs(tmp_path, discs):
    shutil.copytree(discs[0], tmp_path / "wsj", ignore=shutil.ignore_patterns("spkrinfo.txt"))
    (tmp_path / "wsj" / "wsj0-train-spkrinfo.txt").write_text(";; Spkr Gender\n------\n01I   M    ?     TI\n011   F\n")
    genders = {utterance.speaker: utterance.gender for utterance in wsj.read(tmp_path / "wsj")}
    assert (genders["wsj_01i"], genders["wsj_011"], genders["wsj_02a"]) == ("m", "f", None)


def test_a_missing_disc_is_named(tmp_path, discs, caplog):
    shutil.copytree(discs[0], tmp_path / "wsj", ignore=shutil.ignore_patterns("11-2.1"))
    read = wsj.read(tmp_path / "wsj")
    assert {utterance.speaker for utterance in read} == {
        f"wsj_{s}" for s in (*tree_wsj.WSJ0, *tree_wsj.WSJ1) if s != "02a"
    }
    assert "3 of the 3 utterances that tr_s_wv1.ndx lists on disc 11-2.1 are missing" in caplog.text
    assert "disc 11-1.1" not in caplog.text and "401" not in caplog.text


def test_counts_are_warned_of(discs, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        wsj.read(discs[0])
    assert f"{discs[0]}: SI-84: 12 utterances, 7138 in the published corpus" in caplog.text
    assert f"{discs[0]}: SI-284: 24 utterances, 37416 in the published corpus" in caplog.text
    caplog.clear()
    monkeypatch.setattr(wsj, "MATERIAL", {"wsj0": ("SI-84", 12), "wsj1": ("SI-284", 24)})
    wsj.read(discs[0])
    assert not caplog.text


def test_only_wsj0(discs, tmp_path):
    shutil.copytree(discs[0], tmp_path / "wsj", ignore=shutil.ignore_patterns("13-*"))
    assert {utterance.speaker[4:] for utterance in wsj.read(tmp_path / "wsj")} == set(tree_wsj.WSJ0)
    sets = wsj.divide(spoken(tmp_path / "wsj", tmp_path / "out"), tmp_path / "out", 1)
    assert [recipe.counts(sets[name])["speakers"] for name in wsj.SETS] == [2, 1, 1]


def test_another_folder(tmp_path):
    (tmp_path / "wsj0" / "si_dt_05").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=rf"{tmp_path}: no recording in a folder wsj0/si_tr_s or wsj1/si_tr_s; expected"
    ):
        wsj.read(tmp_path)


def test_damaged_index(tmp_path, discs):
    shutil.copytree(discs[0], tmp_path / "wsj")
    path = tmp_path / "wsj" / "11-13.1" / "wsj0" / "doc" / "indices" / "train" / "tr_s_wv1.ndx"
    path.write_text(path.read_text() + "<html>\n")
    with pytest.raises(ValueError, match=r"tr_s_wv1\.ndx: line 18: '<html>' is not '<disc>:<path>'"):
        wsj.read(tmp_path / "wsj")


@pytest.mark.parametrize(
    "content",
    [b"", b"not found\n" * 200, b"NIST_1A\n   1024\nsample_count -i 16000\n"],
    ids=["empty", "text", "half a header"],
)
def test_unreadable_recording(tmp_path, discs, content):
    shutil.copytree(discs[0], tmp_path / "wsj")
    path = next((tmp_path / "wsj").rglob("02ac0202.wv1"))
    path.write_bytes(content)
    output = tmp_path / "out"
    with pytest.raises(
        ValueError, match=r"corpus wsj: 1 of 24 utterances rejected.*wsj_02a-02ac0202: .*02ac0202\.wv1: cannot be read"
    ):
        recipe.make("wsj", wsj.read(tmp_path / "wsj"), output, 0.01)
    manifests = recipe.make("wsj", wsj.read(tmp_path / "wsj"), output, 0.1)
    assert len(manifests.supervisions) == 23
    assert (output / "lists" / "wsj_rejected.txt").read_text().startswith("wsj_02a-02ac0202 ")


def test_shorten_with_sph2pipe(tmp_path, voices, monkeypatch):
    listed = tree_wsj.make(tmp_path / "wsj", voices, "merged", "shorten-header")
    (tmp_path / "bin").mkdir()
    tree_wsj.fake_sph2pipe(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    check_samples(spoken(tmp_path / "wsj", tmp_path / "out"), listed)


def test_shorten_without_sph2pipe(tmp_path, voices, monkeypatch):
    tree_wsj.make(tmp_path / "wsj", voices, "merged", "shorten-header")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError) as error:
        wsj.read(tmp_path / "wsj")
    assert str(error.value) == (
        f"{tmp_path}/wsj/wsj0/si_tr_s/011/011c0201.wv1: its samples are compressed (pcm,embedded-shorten-v1.1) and "
        f"sph2pipe, which decodes them, is not installed; run 'lhotse install-sph2pipe', or convert the corpus to wav "
        f"or flac"
    )


def made_up(speakers: int, utterances: int, seconds: float) -> Manifests:
    """Manifests of a corpus that is not there."""
    recordings, supervisions = [], []
    for s in range(speakers):
        for u in range(utterances):
            speaker, utt = f"wsj_{s:03d}", f"wsj_{s:03d}-{s:03d}c{u:04d}"
            samples = round(16000 * seconds * (0.6 + 0.8 * ((7 * s + 3 * u) % 11) / 10))
            recordings.append(lhotse.Recording(utt, [], 16000, samples, samples / 16000))
            supervisions.append(
                lhotse.SupervisionSegment(utt, utt, 0.0, samples / 16000, speaker=speaker, custom={"class": "en"})
            )
    return Manifests(lhotse.RecordingSet.from_recordings(recordings), lhotse.SupervisionSet.from_segments(supervisions))


def hours(manifests: Manifests) -> float:
    return sum(s.duration for s in manifests.supervisions) / 3600


def speakers_of(manifests: Manifests) -> set[str]:
    return {s.speaker for s in manifests.supervisions}


@pytest.fixture(scope="module")
def large():
    """As large as SI-284 in hours and speakers."""
    return made_up(283, 10, 103)


def test_hours_and_shares(tmp_path, large):
    sets = wsj.divide(large, tmp_path, 1)
    train, dev, test = (hours(sets[name]) for name in wsj.SETS)
    assert train + test == pytest.approx(50, abs=0.3)
    assert test == pytest.approx(5, abs=0.3)
    assert dev == pytest.approx(2.5, abs=0.3)
    smaller = wsj.divide(large, tmp_path, 1, hours=20)
    assert [hours(smaller[name]) for name in wsj.SETS] == pytest.approx([18, 1, 2], abs=0.3)


def test_speakers_are_apart(tmp_path, large):
    sets = wsj.divide(large, tmp_path, 1)
    train, dev, test = (speakers_of(sets[name]) for name in wsj.SETS)
    assert not train & dev and not train & test and not dev & test
    for name, speakers in (("train", train), ("dev", dev), ("test", test), ("subset", train | test)):
        assert (tmp_path / "lists" / f"wsj_{name}.txt").read_text().split() == sorted(speakers)


def test_split_by_utterance_divides_the_same_subset(tmp_path, large):
    by_speaker = wsj.divide(large, tmp_path / "speaker", 1)
    sets = wsj.divide(large, tmp_path / "utterance", 1, split="utterance")
    train, dev, test = (sets[name] for name in wsj.SETS)
    assert speakers_of(train) | speakers_of(test) == speakers_of(by_speaker["wsj_train"]) | speakers_of(
        by_speaker["wsj_test"]
    )
    assert speakers_of(dev) == speakers_of(by_speaker["wsj_dev"])
    assert len(speakers_of(train) & speakers_of(test)) > 0.5 * len(speakers_of(train))
    assert hours(test) == pytest.approx(0.1 * (hours(train) + hours(test)), abs=0.05)
    ids = {s.id for s in test.supervisions}
    assert not ids & {s.id for s in train.supervisions}
    assert set((tmp_path / "utterance" / "lists" / "wsj_test.txt").read_text().split()) == ids


def lists(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "lists").iterdir())}


@pytest.mark.parametrize("split", ["speaker", "utterance"])
def test_lists_follow_from_ids_and_seed(tmp_path, large, split):
    turned = Manifests(large.recordings, lhotse.SupervisionSet.from_segments(reversed(list(large.supervisions))))
    wsj.divide(large, tmp_path / "a", 1, split=split)
    wsj.divide(turned, tmp_path / "b", 1, split=split)
    wsj.divide(large, tmp_path / "c", 2, split=split)
    assert lists(tmp_path / "a") == lists(tmp_path / "b")
    assert all(lists(tmp_path / "a")[name] != text for name, text in lists(tmp_path / "c").items())


@pytest.mark.parametrize("split", ["speaker", "utterance"])
def test_another_seed_holds_out_others(tmp_path, split):
    """Also when the subset is nearly all there is, and so nearly the same."""
    little = made_up(63, 4, 60)
    one, two = (wsj.divide(little, tmp_path, seed, split=split)["wsj_test"] for seed in (1, 2))
    ids, others = ({s.id for s in part.supervisions} for part in (one, two))
    assert len(ids & others) < 0.5 * len(ids)


def test_too_little_speech_shrinks_subset_and_dev_alike(tmp_path, caplog):
    little = made_up(63, 4, 60)
    sets = wsj.divide(little, tmp_path, 1)
    assert sum(hours(of_set) for of_set in sets.values()) == pytest.approx(hours(little))
    assert hours(sets["wsj_dev"]) == pytest.approx(hours(little) / 21, rel=0.3)
    assert "4.20 h of speech: the subset has 4.00 h, not 50" in caplog.text


def test_too_few_speakers(tmp_path):
    with pytest.raises(ValueError, match="cannot be divided"):
        wsj.divide(made_up(1, 4, 2), tmp_path, 1)


@pytest.mark.parametrize(
    "options, reason", [(["--hours", "0"], "--hours 0: must be above 0"), ([], "no corpus; give at least one of")]
)
def test_bad_options(tmp_path, discs, options, reason):
    with pytest.raises(ValueError, match=reason):
        prepare_data.main([str(tmp_path), *options, *(["--wsj", str(discs[0])] if options else [])])


def write_table(path, voices: dict, name: str, scores=()) -> None:
    """A table of recordings of the speakers of class ``name``, each speaker with one score."""
    lines = ["recording,speaker,class,score"]
    for number, (speaker, _, recordings) in enumerate(voices[name]):
        for u, samples in enumerate(recordings):
            soundfile.write(path.parent / f"{speaker}_{u}.wav", samples, 16000)
            lines.append(f"{speaker}_{u}.wav,{speaker},{name},{scores[number % len(scores)] if scores else ''}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, voices):
    """Options that give the recipe all three corpora."""
    folder = tmp_path_factory.mktemp("corpora")
    tree_wsj.make(folder / "wsj", voices)
    write_table(folder / "ce.csv", voices, "ce")
    write_table(folder / "je.csv", voices, "je", scores=(1, 2.5, 2, 4))
    return {"--wsj": folder / "wsj", "--ce": folder / "ce.csv", "--je": folder / "je.csv"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpora):
    """The folder of a run of all stages, and what it said."""
    folder = tmp_path_factory.mktemp("run")
    return folder, run_recipe(folder, "wsj", *(word for option in corpora.items() for word in option))


ROW_8 = ("wsj_train (in training mode)", "wsj_train en", "wsj_test en", "ce ce", "je je", "je_12 je")

README = ROOT / "egs" / "wsj" / "README.md"


@pytest.mark.parametrize("name", ROW_8)
def test_readme_names_every_figure(name):
    assert f"`density {name}`" in README.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ROW_8)
def test_every_figure_of_row_8(whole, name):
    """One line each, as the README names it."""
    text = (whole[0] / "exp" / "nf" / "results.txt").read_text()
    number = r"(-?\d+\.\d+)"
    figures = f"LogLL {number} LogP {number} LogDet {number} NLL {number}"
    line = re.findall(rf"^density {re.escape(name)} {figures} \[ (\d+) frames", text, re.MULTILINE)
    assert len(line) == 1, text
    loglik, logp, logdet, nll, frames = map(float, line[0])
    assert loglik == pytest.approx(logp + logdet, abs=0.002) and nll == -loglik
    assert frames > 100


@pytest.mark.slow
def test_the_view_has_the_frames_of_scores_1_and_2(whole):
    frames = {row["set"]: int(row["total"]) for row in results(whole[0], "nf") if row["metric"] == "loglik"}
    assert 0.3 < frames["je_12"] / frames["je"] < 0.7
    assert frames["wsj_train"] > frames["wsj_test"]


@pytest.mark.slow
def test_scatter_of_native_and_accented_frames(whole):
    check_picture(whole[0] / "exp" / "nf" / "plots" / "scatter_wsj_test+ce+je_12.png", 40)


@pytest.mark.slow
def test_second_file_starts_at_white_vectors(whole, corpora):
    """nf_whiten is nf with another first layer: without training the latents of the training vectors are white."""
    given = [word for option in corpora.items() for word in option]
    run_here(whole[0], "wsj", "nf_whiten", given, "train.steps=1", "train.lr=1.0e-12", last="latents")
    z = np.load(whole[0] / "exp/nf_whiten/latents/wsj_train/z.npy").astype(np.float64)
    assert np.abs(np.cov(z.T) - np.eye(z.shape[1])).max() < 0.2
    configs = [resolve([ROOT / f"egs/wsj/conf/{name}.yaml"]) for name in ("nf", "nf_whiten")]
    assert configs[1] == dataclasses.replace(configs[0], flow=dataclasses.replace(configs[0].flow, first="whiten"))


@pytest.mark.slow
def test_without_accented_corpora(whole, corpora):
    """nf runs with what it has; what is left out is said, with the option that gives it."""
    alone, shared = ("--wsj", corpora["--wsj"], "--split", "utterance"), "data.shared_speakers=true"
    text = run_recipe(whole[0] / "alone", "wsj", *alone, "--set", shared, "--stop-stage", "2")
    run_here(whole[0] / "alone", "wsj", "nf", alone, shared)
    lines = (whole[0] / "alone" / "exp" / "nf" / "results.txt").read_text()
    assert re.search(r"^density wsj_test ", lines, re.MULTILINE)
    assert "--je PATH" in lines
    assert "no --ce" in text + (whole[0] / "alone" / "data" / "log" / "prepare.log").read_text()


@pytest.mark.slow
def test_without_wsj(tmp_path, corpora):
    text = run_recipe(tmp_path, "wsj", "--ce", corpora["--ce"], status=1)
    assert "experiment nf cannot run: no set wsj_train: give --wsj PATH" in text
