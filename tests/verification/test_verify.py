"""The verb verify on an experiment whose latents are drawn: files, figures, calibration, enrolments, as-norm and its errors."""

import json

import numpy as np
import pytest
from experiment_files import check_picture

from dnf.data.own_vectors import VectorUtterance, write_set
from dnf.experiment.config import resolve
from dnf.experiment.layout import Layout
from dnf.experiment.tables import read_tsv
from dnf.features.vectors import Vectors, write_store
from dnf.metrics import detection
from dnf.models.backends import Groups, Plda
from dnf.verification import scores, verify
from dnf.verification.trial_list import Enrolments, Utterances, all_trials

DIM = 5
TRUE = Plda(np.zeros(DIM), 6 * np.eye(DIM), np.eye(DIM))
SIZES = {"train": (60, 8), "dev": (12, 6), "test": (12, 6)}


def drawn(speakers: int, utterances: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng, speaker = np.random.default_rng(seed), np.repeat(np.arange(speakers), utterances)
    return speaker, 6**0.5 * rng.normal(size=(speakers, DIM))[speaker] + rng.normal(size=(len(speaker), DIM))


@pytest.fixture
def exp(tmp_path):
    """An experiment whose latents are those of ``TRUE`` and whose vectors are bent."""
    folder = tmp_path / "exp" / "known"
    layout = Layout.make(tmp_path / "exp", "known", has_vectors=True)
    layout.exp.mkdir(parents=True)
    layout.save()
    words = ("features.kind=vectors", "prior.cond_dim=5", "vectors.dim=5", "report.bootstrap=40", "plots.dpi=40")
    resolve(list(words)).save(folder / "config.yaml")
    for seed, (name, size) in enumerate(SIZES.items()):
        speaker, z = drawn(*size, seed)
        speakers = [f"{name}{k:02}" for k in speaker]
        utts = [f"{who}-{n:03}" for n, who in enumerate(speakers)]
        x = np.sinh(z / 2).astype(np.float32)
        write_store(Vectors(name, utts, speakers, speakers, [""] * len(utts), z), x, folder / "frames" / name)
        write_set([VectorUtterance(u, s, s, row + 1) for u, s, row in zip(utts, speakers, x)], layout.data / name)
        (folder / "latents" / name).mkdir(parents=True)
        np.save(folder / "latents" / name / "z_mean.npy", z.astype(np.float32))
        (folder / "latents" / name / "meta.json").write_text(json.dumps({"classes": [], "cond_dim": DIM}))
        lines = ["utt\tspeaker\tclass\tset\tscore\tfirst\trows"]
        lines += [f"{u}\t{s}\t{s}\t{name}\t\t{n}\t1" for n, (u, s) in enumerate(zip(utts, speakers))]
        (folder / "latents" / name / "utts.tsv").write_text("\n".join(lines) + "\n")
    return folder


def values(exp, name="test") -> dict[tuple[str, str], float]:
    return {
        (row["system"], row["metric"]): float(row["value"]) for row in read_tsv(exp / "verify" / name / "results.tsv")
    }


def test_all_systems_are_scored_and_plda_of_latents_is_near_the_best(exp, capsys):
    assert verify.main([str(exp), "--write-scores"]) == 0
    found, out = values(exp), exp / "verify" / "test"
    systems = {"raw_uncentred", "raw_cosine", "vectors_cosine", "vectors_lda", "vectors_plda", "vectors_plda_norm"}
    systems |= {"latents_cosine", "latents_plda", "latents_plda_norm", "latents_nl"}
    assert {system for system, _ in found} == systems
    speaker, z = drawn(*SIZES["test"], 2)
    a, b = np.triu_indices(len(z), 1)
    best = TRUE.enrolled(Groups(np.ones(len(z), int), TRUE.prepared(z))) @ TRUE.tested(TRUE.prepared(z)).T
    best = detection.eer(best[a, b], speaker[a] == speaker[b])
    for system in ("latents_plda", "latents_nl"):
        assert found[system, "eer"] == pytest.approx(best, abs=0.02)
        assert found[system, "eer"] < found["vectors_plda", "eer"]
        assert found[system, "cllr"] < 0.9 and found[system, "identification"] > 0.8
    text = (out / "results.txt").read_text()
    assert text == capsys.readouterr().out
    assert "trials: test, set test: 180 target, 2376 nontarget, 12 speakers" in text
    assert "Cllr: scores calibrated on pairs of dev" in text
    check_picture(out / "det.png", 40)
    rows = read_tsv(out / "scores.tsv")
    target = np.array([row["kind"] == "target" for row in rows])
    again = detection.eer(np.array([float(row["latents_plda"]) for row in rows]), target)
    assert again == pytest.approx(found["latents_plda", "eer"], abs=1e-5)


def test_a_file_of_trials_with_enrolments_of_several_utterances(exp, tmp_path):
    names = [f"test{n // 6:02}-{n:03}" for n in range(72)]
    (tmp_path / "map").write_text("".join(f"m{k} {' '.join(names[6 * k : 6 * k + 3])}\n" for k in range(12)))
    lines = (
        f"m{k} {names[n]} {'target' if n // 6 == k else 'nontarget'}\n"
        for k in range(12)
        for n in range(72)
        if n % 6 > 2
    )
    (tmp_path / "three.txt").write_text("".join(lines))
    words = ["--set", "test", "--trials", str(tmp_path / "three.txt"), "--enrolments", str(tmp_path / "map")]
    verify.main([str(exp), *words, "--of", "latents", "--backends", "plda", "cosine"])
    verify.main([str(exp), "--of", "latents", "--backends", "plda", "--calibrate", "none"])
    several, single = values(exp, "test_three"), values(exp)
    assert several["latents_plda", "eer"] < single["latents_plda", "eer"]
    assert ("latents_plda", "cllr") in several and ("latents_plda", "cllr") not in single
    rows = read_tsv(exp / "verify/test_three/results.tsv")
    assert all(row["low"] and row["speakers"] == "12" for row in rows if row["metric"] == "eer")


def test_the_trials_of_a_set_are_scored_without_being_named(exp):
    folder = Layout.read(exp).data / "test"
    (folder / "trials").write_text("test00-000 test00-001 target\ntest00-000 test01-006 nontarget\n")
    words = [str(exp), "--of", "latents", "--backends", "cosine", "--calibrate", "none"]
    verify.main(words)
    assert "1 target, 1 nontarget" in (exp / "verify/test/results.txt").read_text()
    verify.main([*words, "--per-speaker", "2"])
    assert "24 target" in (exp / "verify/test/results.txt").read_text()


def test_trials_of_utterances_that_data_preparation_rejected_are_left_out(exp, caplog):
    data = Layout.read(exp).data
    (data / "lists").mkdir()
    with (data / "test" / "utt2spk").open("a") as file:
        file.write("test99-999 test99\n")
    (data / "lists" / "voices_rejected.txt").write_text("test01-999 file.wav: has no samples\n")
    lines = ["test00-000 test00-001 target", "test00-000 test99-999 nontarget", "test00-000 test01-999 nontarget"]
    (data / "test" / "trials").write_text("\n".join([*lines, "test00-000 test01-006 nontarget"]) + "\n")
    words = [str(exp), "--of", "latents", "--backends", "cosine", "--calibrate", "none"]
    verify.main(words)
    assert "2 of 4 trials are left out" in caplog.text
    assert "1 target, 1 nontarget" in (exp / "verify/test/results.txt").read_text()
    (data / "lists" / "voices_rejected.txt").unlink()
    with pytest.raises(ValueError, match="line 3: test test01-999 is not an utterance of set test"):
        verify.main(words)


def test_as_norm_is_that_of_its_definition(exp):
    speaker, z = drawn(*SIZES["test"], 2)
    utterances = Utterances.of("test", [str(n) for n in range(len(z))], [str(k) for k in speaker], {})
    enrolments = Enrolments.each(utterances)
    trials, cohort = all_trials(enrolments, utterances, pairs=True), drawn(40, 1, 9)[1]
    features = scores.Features(TRUE, z, enrolments)
    plain = scores.trial_scores(features, trials)

    def matrix(a, b):
        return TRUE.enrolled(Groups(np.ones(len(a), int), TRUE.prepared(a))) @ TRUE.tested(TRUE.prepared(b)).T

    np.testing.assert_allclose(plain, matrix(z, z)[trials.enrolled, trials.tested], rtol=1e-4, atol=1e-4)
    against = matrix(z, cohort)
    mean, deviation = against.mean(1), against.std(1)
    expected = [(plain - mean[side]) / deviation[side] for side in (trials.enrolled, trials.tested)]
    found = scores.as_norm(plain, features, trials, cohort)
    np.testing.assert_allclose(found, np.mean(expected, 0), rtol=1e-3, atol=1e-3)


def test_blocks_change_nothing(monkeypatch):
    speaker, z = drawn(12, 6, 3)
    utterances = Utterances.of("test", [str(n) for n in range(len(z))], [str(k) for k in speaker], {})
    enrolments = Enrolments.each(utterances)
    trials = all_trials(enrolments, utterances, pairs=True)
    whole = scores.trial_scores(scores.Features(TRUE, z, enrolments), trials)
    monkeypatch.setattr(scores, "ENROLMENTS", 7)
    monkeypatch.setattr(scores, "TESTS", 11)
    np.testing.assert_allclose(scores.trial_scores(scores.Features(TRUE, z, enrolments), trials), whole, rtol=1e-6)


@pytest.mark.parametrize(
    "words, message",
    (
        (["--set", "other"], "set other has no vectors; there are dev, test, train"),
        (["--set", "test", "--as-norm", "none"], "set none has no vectors"),
        (["--set", "test", "--trials", "nowhere"], "nowhere"),
    ),
)
def test_wrong_names_are_said(exp, words, message):
    with pytest.raises((ValueError, OSError), match=message):
        verify.main([str(exp), *words])


def test_options_that_do_not_go_together_are_refused(exp, capsys):
    with pytest.raises(SystemExit):
        verify.main([str(exp), "--per-speaker", "3", "--trials", "x"])
    assert "--per-speaker draws pairs" in capsys.readouterr().err


def test_no_experiment_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="config.yaml: does not exist; name the folder of an experiment"):
        verify.main([str(tmp_path)])
