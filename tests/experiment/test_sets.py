"""Which sets an experiment trains on and is scored on, those made of others among them."""

import itertools

import pytest

from dnf.data import check_sets
from dnf.data.check_sets import lacking, reasons
from dnf.data.kaldi_files import write_table
from dnf.experiment import entry
from dnf.experiment.config import resolve
from dnf.experiment.sets import Scored, check_shared, name_of, scored_sets
from dnf.experiment.settings import View

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
    assert found == [
        ("train", View(["a_train", "b_train"])),
        ("dev", View(["b_dev", "a_dev"])),
        ("test", View(["test"])),
    ]
    assert (name_of(settings, "train"), name_of(settings, "dev")) == ("train", "dev")
    one = data("train=a_train", "dev=b_dev")
    assert (name_of(one, "train"), name_of(one, "dev")) == ("a_train", "b_dev")


def test_test_sets_can_be_chosen():
    found, left_out = scored_sets(data("test=[b, dev]"), {"train", "dev", "a", "b"})
    assert names(found) == ["train", "dev", "b"] and not left_out


def test_views_follow_the_sets_in_their_order():
    settings = data(
        "views={z+a: {sets: [z, a]}, low: {sets: [a], scores: [1, 2]}, on_train: {sets: [train], seconds: 1}}"
    )
    found, left_out = scored_sets(settings, {"train", "dev", "a", "z"})
    assert names(found) == ["train", "dev", "a", "z", "z+a", "low", "on_train"] and not left_out
    assert dict(found)["low"] == View(["a"], [1.0, 2.0]) and dict(found)["z+a"].sets == ["z", "a"]


@pytest.mark.parametrize(
    "present",
    [set(c) for n in range(4) for c in itertools.combinations("abc", n)],
    ids=lambda present: "".join(sorted(present)),
)
def test_a_view_is_scored_when_all_its_sets_are_there_and_left_out_otherwise(present):
    settings = data("test=[a, b]", "views={ab: {sets: [a, b]}, cb: {sets: [c, b]}, c1: {sets: [c], seconds: 1}}")
    made_of = {"a": "a", "b": "b", "ab": "ab", "cb": "cb", "c1": "c"}
    found, left_out = scored_sets(settings, present | {"train", "dev"})
    assert names(found) == ["train", "dev", *(name for name, of in made_of.items() if set(of) <= present)]
    assert left_out == {
        name: next(s for s in of if s not in present) for name, of in made_of.items() if set(of) - present
    }


def test_a_control_that_is_not_there_is_left_out_too():
    settings = data("views={v: {sets: [a]}}", "controls={a: b, v: w, train: v}")
    assert scored_sets(settings, {"train", "dev", "a", "b"})[1] == {"w": "w"}
    assert scored_sets(settings, {"train", "dev"})[1] == {"v": "a", "a": "a", "b": "b", "w": "w"}


def test_a_control_that_is_there_and_not_scored_is_an_error():
    with pytest.raises(ValueError, match="^data.controls: far, the control of a, is not scored; add it to data.test$"):
        scored_sets(data("test=[a]", "controls={a: far}"), {"train", "dev", "a", "far"})
    assert scored_sets(data("test=[b]", "controls={a: far}"), {"train", "dev", "a", "b", "far"})[1] == {}


@pytest.mark.parametrize("name", ("a", "b", "train", "dev", "absent"))
def test_a_view_named_like_a_set_is_an_error(name):
    with pytest.raises(ValueError, match=f"data.views: {name} is the name of a set; rename the view$"):
        scored_sets(data(f"views={{{name}: {{sets: [a]}}}}", "test=[a, absent]"), {"train", "dev", "a", "b"})


def test_a_view_named_like_the_training_sets_together_is_an_error():
    settings = data("views={train: {sets: [c]}}", "train=[a, b]")
    with pytest.raises(ValueError, match="data.views: train is the name of a set"):
        scored_sets(settings, {"a", "b", "c", "dev"})


@pytest.mark.parametrize(("words", "name"), [(["train=[a, b]"], "train"), (["dev=[a, b]", "train=c"], "dev")])
def test_training_sets_together_do_not_hide_a_set_of_that_name(words, name):
    with pytest.raises(
        ValueError, match=f"data.{name}: several sets are scored together as {name}, but another set has this name"
    ):
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
        (tmp_path / name / "utt2spk").write_text(f"s_{name}-1 s_{name}\n")
        (tmp_path / name / "utt2class").write_text(f"s_{name}-1 en\n")
    (tmp_path / "classes.txt").write_text("en\n")
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
        (["train=[x, train]", "dev=[x]"], "no set x in {}"),
    ],
)
def test_check_says_whether_an_experiment_can_run(folder, capsys, words, reason):
    wanted = reason and reason.format(folder)
    assert lacking(data(*words), folder) == wanted
    argv = [str(folder), *(word for setting in words for word in ("--set", f"data.{setting}"))]
    assert check_sets.main(argv) == (4 if reason else 0)
    assert capsys.readouterr().out == (f"{wanted}\n" if reason else "")


def test_check_leaves_bad_settings_to_status_1(folder):
    """Not 4, at which --exp all goes on with other experiments."""
    with pytest.raises(SystemExit) as caught:
        entry.run(lambda: check_sets.main([str(folder), "--set", "data.trian=a"]))
    assert caught.value.code != 4 and "nearest known one is data.train" in str(caught.value.code)


def test_check_refuses_what_stage_4_would_after_training(folder):
    with pytest.raises(ValueError, match="data.views: a is the name of a set"):
        check_sets.main([str(folder), "--set", "data.views={a: {sets: [dev]}}"])
    (folder / "a" / "utt2spk").write_text("s_train-9 s_train\n")
    with pytest.raises(ValueError, match="speaker s_train and 0 more are in both train and a"):
        check_sets.main([str(folder)])
    assert check_sets.main([str(folder), "--set", "data.test=[dev]"]) == 0
    assert check_sets.main([str(folder), "--set", "data.shared_speakers=true"]) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.classes=[en, zz]", "data.classes: 'zz' is not a class of .*, which has ce, en; give existing classes"),
        ("data.views={v: {sets: [a, x]}}", "data.views: v: there is no set x in .*, which has a, dev, train"),
        ("data.test=[a, x]", "data.test: there is no set x in"),
        ("data.controls={a: x}", "data.controls: there is no set x in"),
        ("data.controls={x: a}", "data.controls: there is no set x in"),
        (
            "data.classes=[ce, en]",
            r"class ce has no utterance in dev \(data.dev\); add utterances, or remove the class",
        ),
        ("data.classes=[]", r"class ce has no utterance in dev \(data.dev\)"),
        ("calibrate.priors={ce: 0.5}", "calibrate.priors: no prior for class en; name every class of the model"),
    ],
)
def test_check_refuses_what_later_stages_would(folder, word, message):
    (folder / "classes.txt").write_text("ce\nen\n")
    (folder / "train" / "utt2class").write_text("s_train-0 ce\ns_train-1 en\n")
    classes = ["--set", "data.classes=[en]"]
    assert check_sets.main([str(folder), *classes]) == 0
    with pytest.raises(ValueError, match=message):
        check_sets.main([str(folder), *classes, "--set", word])


def test_what_an_option_would_give_may_be_named(folder):
    words = ("data.views={v: {sets: [b]}, w: {sets: [a]}}", "data.test=[a, c]", "data.controls={a: b, w: a}")
    assert check_sets.main([str(folder), *(f"--set={word}" for word in words)]) == 0


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
    with pytest.raises(
        ValueError, match="speaker {} and 0 more are in both {} and {}: .*data.shared_speakers".format(*named)
    ):
        check_shared(speakers, settings)
