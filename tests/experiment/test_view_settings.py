"""Settings of which sets are trained on and scored, and of those made of others."""

import dataclasses

import pytest

from dnf.experiment.config import Config, from_saved, from_tree, resolve
from dnf.experiment.settings import View


def with_yaml(tmp_path, text: str) -> Config:
    (tmp_path / "exp.yaml").write_text(text)
    return resolve([tmp_path / "exp.yaml"])


@pytest.mark.parametrize("role", ("train", "dev", "test"))
def test_one_set_is_a_list_of_one(tmp_path, role):
    for value in ("some", "[some]"):
        assert getattr(resolve([f"data.{role}={value}"]).data, role) == ["some"]
        assert getattr(with_yaml(tmp_path, f"data:\n  {role}: {value}\n").data, role) == ["some"]
    assert getattr(resolve([f"data.{role}=[a, b]"]).data, role) == ["a", "b"]


@pytest.mark.parametrize("role", ("train", "dev"))
def test_training_and_dev_need_a_set(role):
    with pytest.raises(ValueError, match=f"^data.{role}: give at least one set, and no set twice"):
        resolve([f"data.{role}=[]"])


def test_views_are_read_with_their_defaults_and_saved(tmp_path):
    views = ("a+b: {sets: [a, b]}", "low: {sets: a, scores: [1, 2.5]}", "a_1s: {sets: [a], seconds: 1}")
    config = with_yaml(tmp_path, "data:\n  views:\n" + "".join(f"    {view}\n" for view in views))
    assert config.data.views == {
        "a+b": View(["a", "b"]),
        "low": View(["a"], [1.0, 2.5]),
        "a_1s": View(["a"], [], 1.0),
    }
    assert isinstance(config.data.views["low"].scores[0], float) and isinstance(
        config.data.views["a_1s"].seconds, float
    )
    config.save(tmp_path / "saved.yaml")
    assert Config.load(tmp_path / "saved.yaml") == config
    assert from_saved(dataclasses.asdict(config)) == from_tree(dataclasses.asdict(config)) == config
    assert resolve([tmp_path / "exp.yaml", "data.views={c: {sets: [x]}}"]).data.views == {"c": View(["x"])}


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("{v: {set: [a]}}", "data.views.v: .* is not a view such as {sets: \\[a, b\\]}"),
        ("{v: [a, b]}", "data.views.v: .* is not a view such as {sets: \\[a, b\\]}"),
        ("{v: a}", "data.views.v: 'a' is not a view"),
        ("{v: null}", "data.views.v: None is not a view"),
        (
            "{v: {sets: [a], score: [1, 2]}}",
            "data.views.v: unknown setting .*score; the nearest known one is .*scores$",
        ),
        ("{v: {sets: [a], second: 1}}", "data.views.v: unknown setting .*second; the nearest known one is .*seconds$"),
        ("{v: {sets: [a], 3: 1}}", "data.views.v: unknown setting .*3"),
        ("{v: {sets: []}}", "data.views.v: sets must be a list of different sets"),
        ("{v: {sets: [1]}}", "data.views.v.sets: \\[1\\] is not a list such as"),
        ("{v: {sets: null}}", "data.views.v.sets: None is not a list"),
        ("{v: {sets: [a, b, a]}}", "data.views.v: sets must be a list of different sets"),
        ("{v: {sets: [a], scores: [1]}}", "data.views.v: scores must be \\[lowest, highest\\], not \\[1.0\\]"),
        ("{v: {sets: [a], scores: [3, 1]}}", "data.views.v: scores must be \\[lowest, highest\\], not \\[3.0, 1.0\\]"),
        ("{v: {sets: [a], scores: [1, 2, 3]}}", "data.views.v: scores must be"),
        ("{v: {sets: [a], scores: 2}}", "data.views.v.scores: 2 is not a list"),
        ("{v: {sets: [a], scores: [low, high]}}", "data.views.v.scores: 'low' is not float"),
        ("{v: {sets: [a], seconds: 0}}", "data.views.v: seconds must be above 0"),
        ("{v: {sets: [a], seconds: -1}}", "data.views.v: seconds must be above 0"),
        ("{v: {sets: [a], seconds: one}}", "data.views.v.seconds: 'one' is not float"),
        ("{../v: {sets: [a]}}", "data.views: '../v' cannot be the name of a folder"),
        ("{'a b': {sets: [a]}}", "data.views: 'a b' cannot be the name of a folder"),
        ("{'': {sets: [a]}}", "data.views: '' cannot be the name of a folder"),
        ("{1: {sets: [a]}}", "data.views: .* is not a map"),
        ("[a]", "data.views: .* is not a map"),
    ],
)
def test_a_view_of_another_form_is_named(view, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve([f"data.views={view}"])
    assert "\n" not in str(caught.value)
