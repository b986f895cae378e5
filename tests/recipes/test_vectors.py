"""The recipe vectors on a user's own npz files: all stages, and what a DNF makes of vectors whose best decision is known."""

import importlib.util

import kaldiio
import numpy as np
import pytest
from experiment_files import check_experiment
from recipe_runs import ROOT, counts, results, run, run_recipe

from dnf.experiment import packages

QUICK = (
    "report.bootstrap=50",
    "plots.tsne_points=60",
    "plots.tsne_perplexity=5",
    "plots.dpi=40",
    "baselines.systems=[lda]",
)


@pytest.fixture(scope="module")
def world():
    path = ROOT / "egs/vectors/local/prepare_data.py"
    spec = importlib.util.spec_from_file_location("draw_vectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.World(1)


@pytest.mark.slow
def test_a_dnf_on_own_vectors_is_between_lda_and_the_best_decision(tmp_path, world):
    sets = world.sets(60, 20)
    for part, drawn in sets.items():
        (tmp_path / "drawn" / part).mkdir(parents=True)
        columns = {"vector": [u.vector for u in drawn], "utt": [u.id for u in drawn], "spk": [u.speaker for u in drawn]}
        arrays = {name: np.array(values) for name, values in columns.items()}
        np.savez(tmp_path / "drawn" / part / "vectors.npz", **arrays, **{"class": np.array([u.name for u in drawn])})
    settings = [word for setting in QUICK for word in ("--set", setting)]
    said = run_recipe(tmp_path, "vectors", "--data", tmp_path / "drawn", *settings, tiny=False)
    exp = tmp_path / "exp" / "drawn_dnf"
    check_experiment(exp)
    assert "2 of 32 dims never change in training" in (exp / "frames/log/frames.log").read_text()
    assert "results: exp/drawn_dnf/results.txt" in said

    x, true = np.stack([u.vector for u in sets["test"]]), [u.name for u in sets["test"]]
    best = np.mean([list(world.means)[k] == name for k, name in zip(world.posteriors(x).argmax(1), true)])
    rows = results(tmp_path, "drawn_dnf")
    found = {
        row["system"]: float(row["value"])
        for row in rows
        if (row["metric"], row["set"], row["class"]) == ("utt_accuracy", "test", "all")
    }
    assert found["lda"] + 0.1 < found["dnf"] < best + 0.01
    assert not [row for row in rows if row["metric"] == "auc_duration"]

    latents = kaldiio.load_scp(str(exp / "normalized" / "test.scp"))
    assert list(latents) == sorted(u.id for u in sets["test"])
    np.testing.assert_array_equal(latents[sets["test"][0].id], np.load(exp / "latents/test/z.npy")[0])


@pytest.mark.slow
def test_the_mini_recipe_makes_supervectors_of_its_recordings(tmp_path):
    settings = ("vectors.ubm_components=4", "vectors.project_to=4", "train.batch_size=8", "baselines.enabled=true")
    words = [word for setting in (*QUICK, *settings) for word in ("--set", setting)]
    sizes = counts(2, 2, 2, 2, 3)
    said = run(tmp_path, *sizes, "--exp", "vectors_ubm", *words)
    assert "results: exp/vectors_ubm/results.txt" in said
    check_experiment(tmp_path / "exp/vectors_ubm")
    systems = {row["system"] for row in results(tmp_path, "vectors_ubm") if row["metric"] == "utt_accuracy"}
    assert systems == {"dnf", "lda"}
    log = (tmp_path / "exp/vectors_ubm/feats/log/fit.log").read_text()
    assert "EM step 15 of 15" in log
    assert run(tmp_path, *sizes, "--exp", "vectors_ubm", *words).count("up to date") == 9


@pytest.mark.slow
@pytest.mark.skipif(packages.absent("resemblyzer") is None, reason="resemblyzer is installed")
def test_an_encoder_without_its_package_is_named_before_any_work(tmp_path):
    yaml = "features: {kind: vectors}\nvectors: {front_end: encoder}\nprior: {cond_dim: null}\n"
    (tmp_path / "enc.yaml").write_text(yaml)
    said = run(tmp_path, *counts(2, 2, 2, 2, 3), "--exp", tmp_path / "enc.yaml", status=1)
    assert said.splitlines()[-1] == (
        "run.sh: experiment enc cannot run: vectors.front_end encoder: the package resemblyzer is not installed: "
        "python3 -m pip install --no-deps resemblyzer==0.1.4"
    )
    assert not (tmp_path / "data").exists()
