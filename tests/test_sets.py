"""Which sets an experiment trains on and is scored on, those made of others among them."""

import csv
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnf import checkpoint, entry, latents, sets, train
from dnf.config import View, resolve
from dnf.datadir import write_table
from dnf.score import Latents
from dnf.sets import Scored, lacking, name_of, reasons, scored_sets
from dnf.splits import check_shared

# ---- names ---------------------------------------------------------------------------------------


def data(*words: str):
    return resolve([f"data.{word}" for word in words]).data


def names(found: list[Scored]) -> list[str]:
    return [one.name for one in found]


def test_training_and_dev_sets_come_first_and_all_others_follow():
    found, left_out = scored_sets(data(), {"train", "dev", "b", "a"})
    assert found == [(name, View([name])) for name in ("train", "dev", "a", "b")] and not left_out


def test_several_training_sets_are_scored_together_and_not_alone():
    settings = data("train=[a_train, b_train]", "dev=[b_dev, a_dev]")
    found, _ = scored_sets(settings, {"a_train", "b_train", "a_dev", "b_dev", "test"})
    assert found == [("train", View(["a_train", "b_train"])), ("dev", View(["b_dev", "a_dev"])), ("test", View(["test"]))]
    assert (name_of(settings, "train"), name_of(settings, "dev")) == ("train", "dev")
    one = data("train=a_train", "dev=b_dev")
    assert (name_of(one, "train"), name_of(one, "dev")) == ("a_train", "b_dev")


def test_test_sets_can_be_chosen():
    found, left_out = scored_sets(data("test=[b, dev]"), {"train", "dev", "a", "b"})
    assert names(found) == ["train", "dev", "b"] and not left_out


def test_views_follow_the_sets_in_their_order():
    settings = data("views={z+a: {sets: [z, a]}, low: {sets: [a], scores: [1, 2]}, on_train: {sets: [train], seconds: 1}}")
    found, left_out = scored_sets(settings, {"train", "dev", "a", "z"})
    assert names(found) == ["train", "dev", "a", "z", "z+a", "low", "on_train"] and not left_out
    assert dict(found)["low"] == View(["a"], [1.0, 2.0]) and dict(found)["z+a"].sets == ["z", "a"]


@pytest.mark.parametrize("present", [set(c) for n in range(4) for c in itertools.combinations("abc", n)], ids="".join)
def test_a_view_is_scored_when_all_its_sets_are_there_and_left_out_otherwise(present):
    settings = data("test=[a, b]", "views={ab: {sets: [a, b]}, cb: {sets: [c, b]}, c1: {sets: [c], seconds: 1}}")
    made_of = {"a": "a", "b": "b", "ab": "ab", "cb": "cb", "c1": "c"}
    found, left_out = scored_sets(settings, present | {"train", "dev"})
    assert names(found) == ["train", "dev", *(name for name, of in made_of.items() if set(of) <= present)]
    assert left_out == {name: next(s for s in of if s not in present) for name, of in made_of.items() if set(of) - present}


def test_a_control_that_is_not_there_is_left_out_too():
    settings = data("views={v: {sets: [a]}}", "controls={a: b, v: w, train: v}")
    assert scored_sets(settings, {"train", "dev", "a", "b"})[1] == {"w": "w"}
    assert scored_sets(settings, {"train", "dev"})[1] == {"v": "a", "b": "b", "w": "w"}


@pytest.mark.parametrize("name", ("a", "b", "train", "dev", "absent"))
def test_a_view_named_like_a_set_is_an_error(name):
    settings = data(f"views={{{name}: {{sets: [a]}}}}", "test=[a, absent]")
    with pytest.raises(ValueError, match=f"^data.views: {name} is the name of a set already; call the view something else$"):
        scored_sets(settings, {"train", "dev", "a", "b"})


def test_a_view_named_like_the_training_sets_together_is_an_error():
    settings = data("views={train: {sets: [c]}}", "train=[a, b]")
    with pytest.raises(ValueError, match="data.views: train is the name of a set already"):
        scored_sets(settings, {"a", "b", "c", "dev"})


@pytest.mark.parametrize(("words", "name"), [(["train=[a, b]"], "train"), (["dev=[a, b]", "train=c"], "dev")])
def test_training_sets_together_do_not_hide_a_set_of_that_name(words, name):
    with pytest.raises(ValueError, match=f"data.{name}: its sets are scored together as {name}, but another set has that name"):
        scored_sets(data(*words), {"a", "b", "c", "train", "dev"})
    found, _ = scored_sets(data(*words, f"{name}=[a, {name}]"), {"a", "b", "c", "train", "dev"})
    assert dict(found)[name] == View(["a", name])


# ---- why something is left out -------------------------------------------------------------------


def test_reasons_name_the_option_that_gives_the_set(tmp_path):
    assert reasons({"v": "x"}, tmp_path) == {"v": f"no set x in {tmp_path}"}
    write_table(tmp_path / "missing.txt", {"x": "--corpus PATH (wav files of x)"})
    assert reasons({"v": "x", "w": "y"}, tmp_path) == {
        "v": "no set x: give --corpus PATH (wav files of x)",
        "w": f"no set y in {tmp_path}",
    }


@pytest.fixture
def folder(tmp_path):
    """A folder of the sets train, dev and a, and of what two corpora that were not given would add."""
    for name in ("train", "dev", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "utt2spk").write_text("s-1 s\n")
    (tmp_path / "empty").mkdir()
    write_table(tmp_path / "missing.txt", {"b": "--two PATH (b)", "c": "--two PATH (b)", "d": "--three PATH (d)"})
    return tmp_path


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], None),
        (["test=[b]", "views={v: {sets: [c]}}"], None),  # only what is trained on has to be there
        (["train=[train, a]"], None),
        (["train=[train, b]"], "no set b: give --two PATH (b)"),
        (["train=b", "dev=d"], "no set b: give --two PATH (b); no set d: give --three PATH (d)"),
        (["dev=empty"], "no set empty in {}"),
        (["train=[x, dev]", "dev=[x]"], "no set x in {}"),
    ],
)
def test_check_says_whether_an_experiment_can_run(folder, capsys, words, reason):
    wanted = reason and reason.format(folder)
    assert lacking(data(*words), folder) == wanted
    argv = ["check", str(folder), *(word for setting in words for word in ("--set", f"data.{setting}"))]
    assert sets.main(argv) == (4 if reason else 0)
    assert capsys.readouterr().out == (f"{wanted}\n" if reason else "")


def test_check_leaves_bad_settings_to_status_1(folder):
    """Not 4, at which --exp all goes on with other experiments."""
    with pytest.raises(SystemExit) as caught:
        entry.run(lambda: sets.main(["check", str(folder), "--set", "data.trian=a"]))
    assert caught.value.code != 4 and "nearest known one is data.train" in str(caught.value.code)


# ---- speakers of training in other sets ----------------------------------------------------------


@pytest.mark.parametrize(
    ("speakers", "named"),
    [
        ({"a": "st", "b": "u", "dev": "v", "x": "wy"}, None),
        ({"a": "st", "b": "su", "dev": "v", "x": "w"}, None),  # two sets of one role
        ({"a": "st", "b": "u", "dev": "v", "x": "w", "y": "w"}, None),  # two test sets
        ({"a": "st", "b": "u", "dev": "uv", "x": "w"}, ("u", "b", "dev")),
        ({"a": "st", "b": "u", "dev": "v", "x": "wt"}, ("t", "a", "x")),
        ({"a": "st", "b": "u", "dev": "v", "x": "wv"}, ("v", "dev", "x")),
    ],
)
def test_a_speaker_of_training_or_dev_is_in_no_set_of_another_role(speakers, named):
    settings = data("train=[a, b]", "dev=dev")
    check_shared(speakers, data("train=[a, b]", "dev=dev", "shared_speakers=true"))
    if named is None:
        check_shared(speakers, settings)
        return
    with pytest.raises(ValueError, match="speaker {} and 0 more are in both {} and {}: .*data.shared_speakers".format(*named)):
        check_shared(speakers, settings)


# ---- stages 3 and 4 on several sets --------------------------------------------------------------


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
        argv = [str(stores / "frames"), str(exp), "--classes", str(stores / "classes.txt"), "--device", "cpu"]
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
        "none": "no utterance of it is left",
    }


def test_training_sets_are_trained_on_together(done):
    of_train = done.latents["train"]
    assert [(u["set"], u["class"]) for u in of_train.utts] == [("one", "en")] * 4 + [("two", "zh")] * 4
    assert len(of_train.logp) == 200 and checkpoint.load(done.exp / "best.pt")["classes"] == ["en", "zh"]
    assert len(checkpoint.load(done.exp / "last.pt")["frames"][0]) == 2


def test_a_union_has_the_latents_of_its_sets_one_after_the_other(done):
    union, of_test, of_far = (done.latents[name] for name in ("both", "test", "far"))
    keep = ("utt", "speaker", "class", "set", "score", "rows")
    assert [[u[k] for k in keep] for u in union.utts] == [[u[k] for k in keep] for u in of_test.utts + of_far.utts]
    assert [u["first"] for u in union.utts] == np.cumsum([0, *(u["rows"] for u in union.utts)])[:-1].tolist()
    assert {u["set"] for u in of_test.utts} == {"test"} and [u["score"] for u in of_test.utts] == [f"{n}.0" for n in range(8)]
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
    again = run_stages(tmp_path, "data.test=[far]", "data.views={low: {sets: [test], scores: [1, 2]}, far_low: {sets: [far], scores: [1, 2]}}")
    assert list(again.latents) == ["dev", "far", "low", "train"]
    assert again.left_out == {"far_low": "its sets have no expert scores"}


@pytest.mark.parametrize("other", ("dev", "far"))
def test_shared_speakers_are_an_error_in_stages_3_and_4(stores, small_config, write_store, two_classes, tmp_path, other):
    """Training looks at dev alone; the other sets are looked at when they are scored."""
    for n, name in enumerate(("train", "dev", "far")):
        write_store(tmp_path / "frames" / name, two_classes(0 if name == other else n))
    argv = [str(tmp_path / "frames"), str(tmp_path / "exp"), "--classes", str(stores / "classes.txt"), "--device", "cpu"]
    small_config("train.steps=3").save(tmp_path / "exp" / "config.yaml")
    stage = train if other == "dev" else latents
    if other == "far":
        train.main(argv)
    with pytest.raises(ValueError, match=f"speaker s00en and 5 more are in both train and {other}: .*data.shared_speakers=true"):
        stage.main(argv)
    assert (tmp_path / "exp" / "best.pt").exists() == (other == "far") and not (tmp_path / "exp" / "latents").exists()
    small_config("train.steps=3", "data.shared_speakers=true").save(tmp_path / "exp" / "config.yaml")
    assert train.main(argv) == 0 and latents.main(argv) == 0


def test_training_sets_in_another_order_are_other_frames(run_stages, stores, small_config, tmp_path, caplog):
    caplog.set_level("INFO")
    run_stages(tmp_path)
    run_stages(tmp_path)
    assert "going on from" in caplog.text and "training from scratch" not in caplog.text
    run_stages(tmp_path, "data.train=[two, one]")
    assert "training from scratch" in caplog.text


def test_balanced_batches_are_drawn_from_all_training_sets(stores, small_config, tmp_path):
    config = small_config("data.train=[one, dev, two]", "data.dev=[test, far]", "train.sampling=balanced", "train.batch_size=80")
    trainer = train.make_trainer(stores / "frames", tmp_path, config, ["en", "zh"], torch.device("cpu"))
    rows = torch.cat([trainer.sampler.batch(step) for step in range(trainer.sampler.steps_per_epoch)])
    assert len(trainer.train) == len(trainer.dev) == 400 and len(rows) == 400 == len(set(rows.tolist()))
    assert trainer.train.labels(rows).sum() == 200
