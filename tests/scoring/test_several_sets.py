"""Stages 3 and 4 with several training sets, and with sets made of others when scoring."""

import csv
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipe_runs import stage_arguments

from dnf.data.kaldi_files import write_table
from dnf.models import checkpoint
from dnf.scoring import latents
from dnf.scoring.latent_store import Latents
from dnf.training import train
from dnf.training.ranks import ALONE

VIEWS = "{both: {sets: [test, far]}, low: {sets: [test], scores: [1, 2]}, cut: {sets: [far, test], seconds: 0.1}, \
gone: {sets: [test, more]}, none: {sets: [test], scores: [8, 9]}}"


@pytest.fixture(scope="module")
def stores(write_store, two_classes, tmp_path_factory):
    """Sets of one class each to train on, dev, test with scores, far without; frame stores and classes.txt."""
    root = tmp_path_factory.mktemp("several")
    for n, name in enumerate(("one", "two", "dev", "test", "far")):
        rows = two_classes(n, utterances=8, frames=25)
        if name in ("one", "two"):
            rows = {utt: row for utt, row in rows.items() if row[1] == {"one": "en", "two": "zh"}[name]}
        if name == "test":
            rows = {utt: (*row, float(i)) for i, (utt, row) in enumerate(sorted(rows.items()))}
        write_store(root / "frames" / name, rows)
    (root / "classes.txt").write_text("en\nzh\n")
    write_table(root / "missing.txt", {"more": "--more PATH (more of it)"})
    return root


@pytest.fixture(scope="module")
def run_stages(stores, small_config):
    def run(exp, *words: str) -> SimpleNamespace:
        config = small_config("data.train=[one, two]", "data.dev=dev", "latents.save_frames=0", *words)
        config.save(exp / "config.yaml")
        argv = stage_arguments(stores, exp)
        assert train.main(argv) == 0 and latents.main(argv) == 0
        opened = {path.name: Latents.open(path) for path in sorted((exp / "latents").iterdir())}
        with (exp / "left_out.tsv").open(newline="") as file:
            left_out = {row["set"]: row["reason"] for row in csv.DictReader(file, delimiter="\t")}
        return SimpleNamespace(exp=exp, latents=opened, left_out=left_out)

    return run


@pytest.fixture(scope="module")
def done(run_stages, tmp_path_factory):
    return run_stages(tmp_path_factory.mktemp("done"), f"data.views={VIEWS}", "data.controls={test: far, low: lost}")


def test_each_set_and_view_has_its_latents_and_what_has_none_its_reason(done, stores):
    assert list(done.latents) == ["both", "cut", "dev", "far", "low", "test", "train"]
    assert done.left_out == {
        "gone": "no set more: give --more PATH (more of it)",
        "lost": f"no set lost in {stores}",
        "none": "it has no utterances",
    }


def test_training_sets_are_trained_on_together(done):
    of_train = done.latents["train"]
    assert [(u["set"], u["class"]) for u in of_train.utts] == [("one", "en")] * 4 + [("two", "zh")] * 4
    assert len(of_train.logp) == 200 and checkpoint.load(done.exp / "best.pt")["classes"] == ["en", "zh"]
    assert len(checkpoint.load(done.exp / "last.pt")["frames"][0]) == 2


def test_a_union_has_the_latents_of_its_sets_one_after_the_other(done):
    union, of_test, of_far = (done.latents[name] for name in ("both", "test", "far"))
    keep = ("utt", "speaker", "class", "set", "score", "rows")
    assert [[u[k] for k in keep] for u in union.utts] == [[u[k] for k in keep] for u in (*of_test.utts, *of_far.utts)]
    assert [u["first"] for u in union.utts] == np.cumsum([0, *(u["rows"] for u in union.utts)])[:-1].tolist()
    assert {u["set"] for u in of_test.utts} == {"test"} and [u["score"] for u in of_test.utts] == [
        f"{n}.0" for n in range(8)
    ]
    for name in ("logp", "logdet"):
        wanted = np.concatenate([getattr(of_test, name), getattr(of_far, name)])
        np.testing.assert_allclose(getattr(union, name), wanted, rtol=1e-5, atol=1e-4)


def test_a_view_of_scores_has_the_utterances_of_those(done):
    low, of_test = done.latents["low"], done.latents["test"]
    assert [u["score"] for u in low.utts] == ["1.0", "2.0"]
    for utt in low.utts:
        (same,) = (u for u in of_test.utts if u["utt"] == utt["utt"])
        np.testing.assert_allclose(low.loglik(utt), of_test.loglik(same), rtol=1e-5, atol=1e-4)


def test_a_view_of_seconds_has_pieces_of_that_length(done):
    """25 frames at 10 ms are two pieces of 0.1 s; inside a piece the vectors are those of the whole utterance."""
    cut = done.latents["cut"]
    assert [u["utt"][-5:] for u in cut.utts] == ["-0000", "-0001"] * 16 and {u["rows"] for u in cut.utts} == {10}
    assert [u["set"] for u in cut.utts] == ["far"] * 16 + ["test"] * 16
    for utt in cut.utts:
        name, n = re.fullmatch(r"(.*)-(\d{4})", utt["utt"]).groups()
        whole = done.latents[utt["set"]]
        (same,) = (u for u in whole.utts if u["utt"] == name)
        inner = whole.loglik(same)[10 * int(n) + 1 : 10 * int(n) + 9]
        np.testing.assert_allclose(cut.loglik(utt)[1:9], inner, rtol=1e-5, atol=1e-4)


def test_what_is_no_longer_asked_for_is_gone(run_stages, tmp_path):
    run_stages(tmp_path, "data.views={both: {sets: [test, far]}}")
    again = run_stages(
        tmp_path,
        "data.test=[far]",
        "data.views={low: {sets: [test], scores: [1, 2]}, far_low: {sets: [far], scores: [1, 2]}}",
    )
    assert list(again.latents) == ["dev", "far", "low", "train"]
    assert again.left_out == {"far_low": "its sets have no expert scores"}


@pytest.mark.parametrize("other", ("dev", "far"))
def test_shared_speakers_are_an_error_in_stages_3_and_4(
    stores, small_config, write_store, two_classes, tmp_path, other
):
    """Training looks at dev alone; the other sets are looked at when they are scored."""
    for n, name in enumerate(("train", "dev", "far")):
        write_store(tmp_path / "frames" / name, two_classes(0 if name == other else n))
    argv = [
        str(tmp_path / "frames"),
        str(tmp_path / "exp"),
        "--classes",
        str(stores / "classes.txt"),
        "--device",
        "cpu",
    ]
    small_config("train.steps=3").save(tmp_path / "exp" / "config.yaml")
    stage = train if other == "dev" else latents
    if other == "far":
        train.main(argv)
    with pytest.raises(
        ValueError, match=f"speaker s00en and 5 more are in both train and {other}: .*data.shared_speakers=true"
    ):
        stage.main(argv)
    assert (tmp_path / "exp" / "best.pt").exists() == (other == "far") and not (tmp_path / "exp" / "latents").exists()
    small_config("train.steps=3", "data.shared_speakers=true").save(tmp_path / "exp" / "config.yaml")
    assert train.main(argv) == 0 and latents.main(argv) == 0


def test_training_sets_in_another_order_are_other_frames(run_stages, stores, small_config, tmp_path, caplog):
    caplog.set_level("INFO")
    run_stages(tmp_path)
    run_stages(tmp_path)
    assert "continuing from" in caplog.text and "training from scratch" not in caplog.text
    run_stages(tmp_path, "data.train=[two, one]")
    assert "training from scratch" in caplog.text


def test_balanced_batches_are_drawn_from_all_training_sets(stores, small_config, tmp_path):
    config = small_config(
        "data.train=[one, dev, two]", "data.dev=[test, far]", "train.sampling=balanced", "train.batch_size=80"
    )
    trainer = train.make_trainer(stores / "frames", tmp_path, config, ["en", "zh"], ALONE)
    rows = torch.cat([trainer.sampler.batch(step) for step in range(trainer.sampler.steps_per_epoch)])
    assert len(trainer.train) == len(trainer.dev) == 400 and len(rows) == 400 == len(set(rows.tolist()))
    assert trainer.train.labels(rows).sum() == 200
