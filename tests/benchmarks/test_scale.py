"""The scale benchmark: what it takes for stage 1's work is what stage 2 reads, and its table has a row a stage."""

import importlib.util

from recipe_runs import ROOT

from dnf.features.frame_store import FrameStore


def load_scale():
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    return scale


def test_simulated_features_are_taken_by_stage_2(tmp_path, capsys):
    work = tmp_path / "work"
    load_scale().main(["--frames", "24000", "1e5", "--seconds", "1", "--stop-stage", "2", "--work", str(work)])
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows] == [["29600", "frames"], ["100000", "frames"]]
    assert float(rows[0][head.index("relative")]) == 1 and float(rows[1][head.index("relative")]) < 1
    store = FrameStore(work / "100000" / "exp" / "frames" / "own" / "corpus" / "train")
    assert store.frames.shape == (90000, 40) and len(store.centres) == 900 * 80
    assert len(store.utterances) == 900 and len(set(store.speakers)) == 46 and set(store.classes) == {"high", "low"}
    assert (store.frames[:100] == store.frames[8400:8500]).all()  # copies of the same source


def test_simulated_vectors_are_taken_by_stage_2(tmp_path, capsys):
    work = tmp_path / "work"
    words = ["--vectors", "600", "--classes", "40", "--dim", "8", "--stop-stage", "2", "--work", str(work)]
    load_scale().main(words)
    _, row = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert row[:2] == ["720", "frames"]  # two vectors of each class in dev and in test
    store = FrameStore(work / "600" / "exp" / "corpus_scale" / "frames" / "train")
    assert store.frames.shape == (560, 8) and len(set(store.classes)) == 40
