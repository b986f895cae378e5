"""The script behind the pictures of docs/vectors.md: its subsets have the speakers that were drawn, and its pictures are drawn."""

import importlib.util

import numpy as np
import pytest
from experiment_files import check_picture
from recipe_runs import ROOT

from dnf.data.kaldi_files import read_table
from dnf.plots.style import write_figures
from dnf.verification.verify import VectorSet


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("speakers", ROOT / "docs" / "speakers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sets():
    rng, made = np.random.default_rng(1), {}
    for name, speakers in (("train", "abcd"), ("dev", "abcd"), ("test", "xyz")):
        names = [f"{speaker}-{name}-{n}" for speaker in speakers for n in range(3)]
        made[name] = VectorSet(names, [utt[0] for utt in names], rng.normal(size=(len(names), 5)).astype(np.float32))
    return made


def test_a_subset_has_some_training_speakers_and_all_test_speakers(script, sets, tmp_path):
    script.write_subset(sets, {"a", "d"}, tmp_path)
    for name in ("train", "dev"):
        assert set(read_table(tmp_path / name / "utt2class").values()) == {"a", "d"}
    table = read_table(tmp_path / "test" / "utt2class")
    assert len(table) == 9 and set(table.values()) == {"unlabelled"}


def test_the_pictures_are_drawn(script, sets, tmp_path):
    eers = [dict.fromkeys(script.SHOWN, value) for value in (0.04, 0.06)]
    figures = {"eer": script.eer_figure({20: eers, 40: eers}), "tsne": script.tsne_figure([("a", sets["test"])] * 2)}
    write_figures(iter(figures.items()), tmp_path, 40)
    for name in figures:
        check_picture(tmp_path / f"{name}.png", 40)
    lines = figures["eer"].axes[0].get_lines()
    assert lines[0].get_ydata().tolist() == pytest.approx([5, 5]) and len(lines) == 3 * len(script.SHOWN)
