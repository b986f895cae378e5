"""Where an experiment has its data, features and frames, as its folder says."""

import shutil
from pathlib import Path

import pytest

from dnf.experiment.layout import LAYOUT_JSON, Layout, experiment_of


@pytest.mark.parametrize("corpus", ("", "my_corpus"))
@pytest.mark.parametrize("exp", ("exp", "egs/mini/exp", "/somewhere/exp"))
def test_what_is_noted_is_read_again(tmp_path, monkeypatch, exp, corpus):
    monkeypatch.chdir(tmp_path)
    layout = Layout.make(Path(exp if exp[0] != "/" else f"{tmp_path}{exp}"), "nf", corpus)
    layout.exp.mkdir(parents=True)
    layout.save()
    assert Layout.read(layout.exp) == layout
    monkeypatch.chdir(layout.exp)
    assert Layout.read(Path()).frames.resolve() == (tmp_path / layout.frames).resolve()


def test_the_folders_of_a_tree_that_was_moved_are_those_in_it(tmp_path):
    layout = Layout.make(tmp_path / "old/exp", "nf", "my_corpus")
    layout.exp.mkdir(parents=True)
    layout.save()
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = Layout.make(tmp_path / "new/exp", "nf", "my_corpus")
    assert Layout.read(moved.exp) == moved and moved.frames == tmp_path / "new/exp/frames/own/my_corpus"


def test_without_a_note_they_are_those_of_a_recipe(tmp_path):
    assert Layout.read(tmp_path / "exp/nf") == Layout.make(tmp_path / "exp", "nf")


@pytest.mark.parametrize("text", ("", "[]", "{}", '{"data": "x"}'))
def test_a_note_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / LAYOUT_JSON).write_text(text)
    with pytest.raises(ValueError, match=r"layout\.json: does not name data, feats, frames; restore it, or remove "):
        Layout.read(tmp_path)


@pytest.mark.parametrize("name", ("feats", "frames", "sweeps"))
def test_names_of_other_folders_are_no_experiments(name):
    with pytest.raises(ValueError, match=f"experiment {name}: exp/{name} has other contents; rename the experiment"):
        Layout.make(Path("exp"), name)
    assert Layout.make(Path("exp"), name, "my_corpus").exp == Path(f"exp/my_corpus_{name}")


def test_the_experiment_of_a_baseline_is_found_from_every_place(tmp_path, monkeypatch):
    exp = tmp_path / "exp/nf"
    (exp / "baselines/mlp").mkdir(parents=True)
    (exp / "baselines/gmm").mkdir()
    for place, system in (
        (tmp_path, "exp/nf/baselines/mlp"),
        (exp, "baselines/mlp"),
        (exp / "baselines", "mlp"),
        (exp / "baselines/mlp", "."),
        (exp / "baselines/gmm", "../mlp"),
        (tmp_path, exp / "baselines/mlp"),
    ):
        monkeypatch.chdir(place)
        assert experiment_of(Path(system)).resolve() == exp
    for place, system in ((tmp_path, "exp/nf"), (exp, "."), (exp / "baselines", "..")):
        monkeypatch.chdir(place)
        assert experiment_of(Path(system)) == Path(system)
