"""The experiments of a run, as run.sh is told of them."""

import json
import subprocess
from pathlib import Path

import pytest

from dnf.experiment import packages
from dnf.experiment.config import resolve
from dnf.experiment.layout import Layout
from dnf.experiment.plan import assignments, experiments, main
from dnf.experiment.stage import begin, finish


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with an experiment ``y.yaml``."""
    monkeypatch.chdir(tmp_path)
    Path("y.yaml").write_text("train:\n  lr: 0.5\n")
    return tmp_path


def shown(capsys, *argv: str) -> list[str]:
    capsys.readouterr()
    assert main(list(map(str, argv))) == 0
    return capsys.readouterr().out.splitlines()


def in_bash(line: str, words: str) -> list[str]:
    """What bash makes of ``words`` after it has run the assignments of a line."""
    script = f'eval "$1"; printf "%s\\0" {words}'
    done = subprocess.run(["bash", "-c", script, "-", line], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def test_the_shell_gets_folders_and_settings(folder, capsys):
    words = ("--weaker", "train.lr=0.1", "--set", "train.num_gpus=2", "--set", "seed=7", "y.yaml")
    (line,) = shown(capsys, *words)
    names = (
        "name",
        "data_dir",
        "feats_dir",
        "frames_dir",
        "exp_dir",
        "spliced_dir",
        "data_seed",
        "num_gpus",
        "num_nodes",
    )
    assert in_bash(line, " ".join(f'"${name}"' for name in names)) == [
        *("y", "data", "exp/feats", "exp/frames", "exp/y", "exp/y/spliced", "7", "2", "1")
    ]
    assert in_bash(line, '"${config[@]}"') == [
        *("--set", "train.lr=0.1", "--config", "y.yaml", "--set", "train.num_gpus=2", "--set", "seed=7")
    ]
    assert in_bash(line, '"${folders[@]}"')[:4] == ["--data", "data", "--feats", "exp/feats"]


def test_a_job_of_baselines_is_for_those_to_make_or_to_remove(folder, capsys):
    def asked(*words: str) -> list[str]:
        (line,) = shown(capsys, *(option for word in words for option in ("--set", word)), "y.yaml")
        return in_bash(line, '"$baselines"')

    assert asked() == ["true"]
    assert asked("baselines.enabled=false") == asked("baselines.systems=[]") == ["false"]
    Path("exp/y/baselines").mkdir(parents=True)
    assert asked("baselines.enabled=false") == ["true"]


def test_a_missing_package_is_known_before_any_stage(folder, capsys, monkeypatch):
    def lacking(*words: str) -> list[str]:
        (line,) = shown(capsys, *(option for word in words for option in ("--set", word)), "y.yaml")
        return in_bash(line, '"$lacking"')

    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == "silero_vad" else True)
    why = "the package silero-vad is not installed: python3 -m pip install --no-deps silero-vad==6.2.3"
    assert lacking() == lacking("vad.kind=silero", "features.kind=vectors") == [""]
    assert lacking("vad.kind=silero") == [f"vad.kind silero: {why}"]
    assert lacking("features.kind=vectors", "vectors.front_end=ubm", "vad.kind=silero") == [f"vad.kind silero: {why}"]


def test_any_text_reaches_the_shell_as_it_is(small_config):
    layers = ["plots.colours={en: 'tab:blue',\n  ce: \"$HOME `x` \\\\\"}", "data.test=[a b]\n"]
    line = assignments("a'b\nc", layers, small_config(), Layout.make(Path("exp"), "y"))
    assert "\n" not in line
    assert in_bash(line, '"$name" "${config[@]}"') == ["a'b\nc", "--set", layers[0], "--set", layers[1]]


def test_sweeps_over_settings_of_one_name_have_folders_of_their_own():
    names = []
    for key in ("baselines.enabled", "calibrate.enabled"):
        planned = experiments([Path("conf/y.yaml")], [], ["seed=3"], f"{key}=true,false")
        assert [e.layers[-1] for e in planned] == [f"{key}=true", f"{key}=false"]
        assert all(resolve(e.layers[1:]).seed == 3 for e in planned)
        names += [e.name for e in planned]
    assert names[0] == "y_baselines.enabled=true" and len(set(names)) == 4


def test_every_experiment_is_checked_before_the_first_runs(folder):
    with pytest.raises(ValueError, match="flow.hidden: 'wide' is not int"):
        main(["y.yaml", "--sweep", "flow.hidden=8,wide"])


def test_two_folders_of_data_do_not_share_an_experiment(folder, capsys):
    """An experiment x_y of the recipe, and y on the user's recordings x: whichever comes first keeps the folder."""
    Path("x_y.yaml").write_text("")
    recipes = ["x_y.yaml"]
    own = ["y.yaml", "--own-data", "x", "--source", "own data x"]
    for first, second, there, wanted in (
        (recipes, own, "data", "data/own/x"),
        (own, recipes, "data/own/x", "data"),
    ):
        layout = Layout.make(Path("exp"), "x_y") if first is recipes else Layout.make(Path("exp"), "y", "x")
        resolve([]).save(layout.exp / "config.yaml")
        layout.save()
        assert len(shown(capsys, *first)) == 1
        with pytest.raises(ValueError, match=f"exp/x_y: has an experiment on {there}, not on {wanted}; rename"):
            main(second)


def test_recordings_of_two_folders_of_one_name_are_not_mixed(folder):
    layout = Layout.make(Path("exp"), "y", "x")
    layout.data.mkdir(parents=True)
    marker = {"key": "k", "run": "1", "source": "own data /a/x", "settings": {}, "seconds": 1}
    layout.marker("data").write_text(json.dumps(marker))
    assert main(["y.yaml", "--own-data", "/a/x", "--source", "own data /a/x"]) == 0
    with pytest.raises(
        ValueError, match="data/own/x: made from own data /a/x, not from own data /b/x; rename the folder"
    ):
        main(["y.yaml", "--own-data", "/b/x", "--source", "own data /b/x"])


def test_what_other_recordings_of_that_name_left_is_named(folder):
    """Also after stage data stopped, or its folder was removed as the message said."""
    layout = Layout.make(Path("exp"), "y", "corpus")
    own = ("y.yaml", "--own-data", "/b/corpus", "--source", "own data /b/corpus")
    begin("data", resolve([]), layout, "own data /a/corpus", [Path("/a/corpus")], force=False)
    assert main(own) == 0  # nothing came of it
    marker = {"key": "k", "run": "1", "source": "own data /a/corpus", "settings": {}, "seconds": 1}
    for name, at in (("features", "exp/feats/own/corpus"), ("train", "exp/corpus_y")):
        layout.folder(name).mkdir(parents=True)
        layout.marker(name).write_text(json.dumps(marker))
        with pytest.raises(ValueError, match=f"exp/feats/own/corpus: made from own data /a/corpus, .*{at}$"):
            main(own)
    layout.marker("features").unlink()
    with pytest.raises(ValueError, match="exp/corpus_y: made from own data /a/corpus, not from own data /b/corpus"):
        main(own)


def test_a_folder_without_a_name_is_refused(folder):
    with pytest.raises(ValueError, match="--data /: its results have no name"):
        main(["y.yaml", "--own-data", "/", "--source", "own data /"])


def test_recordings_may_move_with_the_working_folder(folder):
    layout = Layout.make(Path("exp"), "y", "x")
    begin("data", resolve([]), layout, "own data /old/x", [Path("x")], force=False)
    finish("data", resolve([]), layout, "own data /old/x", [Path("x")])
    assert main(["y.yaml", "--own-data", "x", "--source", "own data /new/x"]) == 0
    with pytest.raises(ValueError, match="data/own/x: made from own data /old/x, not from own data /new/z/x"):
        main(["y.yaml", "--own-data", "z/x", "--source", "own data /new/z/x"])


def test_a_plan_writes_nothing(folder, capsys):
    shown(capsys, "y.yaml")
    assert [path.name for path in folder.iterdir()] == ["y.yaml"]
