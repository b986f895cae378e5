"""Other data scored with a trained model: the figures are those of the experiment, and nothing of it changes."""

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import recipe_runs
import soundfile
import torch
import yaml
from recipe_runs import ROOT, environment, make_frames, run_stages, stage_arguments

from dnf.data import data_to_score
from dnf.decisions import decide, utterance_summary
from dnf.decisions.doubt import Doubt
from dnf.decisions.doubt_sets import set_doubts
from dnf.experiment import stage
from dnf.experiment.config import Config
from dnf.experiment.layout import Layout
from dnf.experiment.plan import check_out
from dnf.experiment.sets import fitted_sets
from dnf.experiment.tables import read_tsv
from dnf.inference import classify, export, move, score_data, taken_model
from dnf.inference.fused_system import FusedSystem
from dnf.report import fuse
from dnf.scoring import baselines
from dnf.scoring.channel_model import ChannelModel

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]
SETS = {
    "train": [f"t{n}_{('en', 'zh')[n % 2]}" for n in range(8)],
    "dev": [f"d{n}_{('en', 'zh')[n % 2]}" for n in range(6)],
    "test": [f"x{n}_{('en', 'zh')[n % 2]}" for n in range(10)],
    "other": [f"o{n}_{('en', 'zh', 'ja')[n % 3]}" for n in range(6)],
}
WORDS = (
    *("data.classes=[en, zh]", "data.controls={test: other}", "frames.dtype=float32", "report.bootstrap=50"),
    *("baselines.systems=[mlp, gmm]", "baselines.mlp_epochs=1", "baselines.mlp_hidden=8", "baselines.gmm_components=1"),
    *("latents.durations=[]", "plots.enabled=false"),
)
STAGES = {  # what run.sh starts
    "data": ("dnf.data.data_to_score {source} {data}", "dnf.data.splits {data}"),
    "features": tuple(
        f"dnf.features.{name} {{data}} {{feats}}" for name in ("extract fit", "extract compute", "collect")
    ),
    "frames": ("dnf.features.frames {data} {frames} --feats {feats}",),
    "train": ("dnf.inference.taken_model take {model} {exp}",),
    "latents": (
        "dnf.scoring.latents {frames} {exp} --classes {data}/classes.txt --device cpu",
        "dnf.scoring.baselines {frames} {exp} --classes {data}/classes.txt --device cpu",
    ),
    "score": ("dnf.scoring.score {exp}",),
    "decide": ("dnf.decisions.decide {exp}",),
    "report": ("dnf.report.results {exp}", "dnf.report.html {exp}"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_corpus, small_config):
    """An experiment with two baselines, made from recordings."""
    root, config = tmp_path_factory.mktemp("made"), small_config(*WORDS)
    for n, (name, speakers) in enumerate(SETS.items()):
        write_corpus(root / "data" / name, speakers, seconds=0.8 + 0.01 * n)  # no two recordings are the same
        recipe_runs.write_scores(root / "data" / name)
    (root / "data" / "classes.txt").write_text("en\nja\nzh\n")
    (root / "classes.txt").write_text("en\nja\nzh\n")
    make_frames(root, config)
    with pytest.MonkeyPatch.context() as patch:
        from dnf.scoring import latents

        def both(argv):
            assert of_flow(argv) == 0
            return baselines.main(stage_arguments(root))

        of_flow = latents.main
        patch.setattr(latents, "main", both)
        run_stages(root)
    return root


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """When each file and folder was last written to, in nanoseconds, and its size."""
    paths = (folder, *folder.rglob("*"))
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def score(model: Path, source: Path, out: Path, *words: str) -> list[str]:
    """Names of the stages that ran, as run.sh runs them, but in this process."""
    layers = taken_model.layers_of(taken_model.find_model(model), words)
    layout = Layout(out / "data", out / "feats", out / "frames", out)
    places = {name: str(getattr(layout, name)) for name in ("data", "feats", "frames", "exp")}
    given = [word for layer in layers for word in ("--config" if isinstance(layer, Path) else "--set", str(layer))]
    given += [word for name, folder in places.items() for word in (f"--{name}", folder)]
    given += ["--source", f"own data {source}", "--source-tables", str(source)]
    assert taken_model.main(["note", str(model), str(out)]) == 0
    ran = []
    for name, lines in STAGES.items():
        stage.hash_tables.cache_clear()
        if stage.main(["begin", name, *given]) == stage.UP_TO_DATE:
            continue
        for line in lines:
            module, *options = line.split()
            options = [option.format(**places, model=model, source=source) for option in options]
            assert importlib.import_module(module).main(options) == 0
        assert stage.main(["finish", name, *given]) == 0
        ran.append(name)
    return ran


ASKED = ("data.test=[test, other]", "data.controls={test: other}")


@pytest.fixture(scope="module")
def scored(made, tmp_path_factory):
    """The test sets of the experiment, scored anew."""
    out = tmp_path_factory.mktemp("scored") / "out"
    before = state_of(made)
    assert score(made / "exp", made / "data", out, *ASKED) == list(STAGES)
    assert state_of(made) == before, "something was written into the experiment, its data or its frames"
    return out


def test_a_set_scored_anew_has_the_figures_and_decisions_of_the_experiment(made, scored):
    mine, theirs = (sorted((path / "accuracy.tsv").read_text().splitlines()) for path in (scored, made / "exp"))
    assert mine == theirs and any("cllr" in line and "\ttest\t" in line for line in mine)
    for folder in (".", "baselines/mlp", "baselines/gmm"):
        for name in ("test", "other"):
            mine, theirs = (path / folder / "decisions" / f"{name}.txt" for path in (scored, made / "exp"))
            assert mine.read_bytes() == theirs.read_bytes()
    for name in ("test", "other"):
        mine, theirs = (path / "assess" / f"{name}.tsv" for path in (scored, made / "exp"))
        assert mine.read_bytes() == theirs.read_bytes() and len(read_tsv(mine)) > 1
    mine, theirs = (read_tsv(path / "doubt.tsv") for path in (scored, made / "exp"))
    assert mine == theirs and {row["set"] for row in mine} == {"test", "other"}
    assert {row["doubt"] for row in read_tsv(scored / "decisions" / "test.txt")} <= {"sure", "unsure", "foreign"}


def test_an_exported_folder_is_scored_with_as_its_experiment(made, scored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # the file of it takes long
    assert export.main([str(made / "exp"), "--out", str(tmp_path / "model")]) == 0
    assert score(tmp_path / "model", made / "data", tmp_path / "out", *ASKED) == list(STAGES)
    for name in ("test", "other"):
        mine, theirs = (path / "decisions" / f"{name}.txt" for path in (tmp_path / "out", scored))
        assert mine.read_bytes() == theirs.read_bytes()
    mine, theirs = (read_tsv(path / "accuracy.tsv") for path in (tmp_path / "out", scored))
    assert {row["system"] for row in mine} == {"dnf"}
    of_flow = [row for row in theirs if row["system"] == "dnf" and "difference" not in row["metric"]]
    assert sorted(map(str, mine)) == sorted(map(str, of_flow))


def test_results_and_page_are_those_of_an_experiment_and_say_which_model(made, scored):
    said = (scored / "results.txt").read_text()
    assert f"# scored with {made / 'exp'}" in said and "# left out" not in said and "; left out" not in said
    assert "trained on train (8 speakers" in said and "- Scores: predicted expert scores of test" in said
    assert (scored / "report.html").read_text().endswith("</html>\n")


def test_a_second_run_does_nothing_and_one_with_another_model_makes_all_scores_anew(made, scored, tmp_path):
    exp, out = tmp_path / "exp", tmp_path / "out"
    shutil.copytree(scored, out)
    shutil.copytree(made / "exp", exp)
    stages = score(exp, made / "data", out, *ASKED)
    assert stages[0] == "train"  # of another place, and its figures are the same
    assert score(exp, made / "data", out, *ASKED) == []
    content = json.loads((exp / "calibration.json").read_text())
    (exp / "calibration.json").write_text(json.dumps(content | {"slope": 0.5 * content["slope"] + 0.01}))
    assert score(exp, made / "data", out, *ASKED) == ["train", "latents", "score", "decide", "report"]
    assert (out / "calibration.json").read_bytes() == (exp / "calibration.json").read_bytes()
    mine, before = (read_tsv(folder / "decisions/test.txt") for folder in (out, scored))
    assert all(a["llr"] == b["llr"] and a["llr_calibrated"] != b["llr_calibrated"] for a, b in zip(mine, before))


def test_other_sets_are_read_anew_though_the_folder_is_the_same(made, scored, tmp_path):
    shutil.copytree(scored, tmp_path / "out")
    assert "data" in score(made / "exp", made / "data", tmp_path / "out", "data.test=[test]")
    assert not (tmp_path / "out/decisions/other.txt").exists()


def test_a_baseline_is_scored_beside_the_flow_alone(made, tmp_path):
    assert "decide" in score(made / "exp/baselines/mlp", made / "data/test", tmp_path / "out")
    systems = {row["system"] for row in read_tsv(tmp_path / "out/results.tsv")}
    assert {"dnf", "mlp"} <= systems and "gmm" not in systems


def test_recordings_without_classes_have_decisions_and_posteriors_and_no_accuracy(made, tmp_path):
    table = tmp_path / "calls.tsv"
    wavs = sorted((made / "data/wav/test").glob("*.wav"))[:6]
    lines = [f"{path}\tspeaker{n}" for n, path in enumerate(wavs)]
    table.write_text("\n".join(["recording\tspeaker", *lines]) + "\n")
    score(made / "exp", table, tmp_path / "out")
    rows = read_tsv(tmp_path / "out/decisions/calls.txt")
    known = {row["utt"]: row for row in read_tsv(made / "exp/decisions/test.txt")}
    assert len(rows) == 6 and {row["class"] for row in rows} == {"unlabelled"}
    for row, path in zip(rows, wavs):
        assert row["posterior_en"] == known[path.stem]["posterior_en"] and row["open_set"] in ("yes", "no")
    said = " ".join((tmp_path / "out/results.txt").read_text().split())
    assert "recordings without a class were taken for" in said
    metrics = {row["metric"] for row in read_tsv(tmp_path / "out/accuracy.tsv") if row["set"] == "calls"}
    assert "utt_share" in metrics and not [name for name in metrics if "accuracy" in name or "auc" in name]


@pytest.mark.slow
def test_the_command_line_does_the_same_and_nothing_again(made, scored, tmp_path):
    def run(*words):
        command = [ROOT / "utils/score.sh", made / "exp", made / "data/test", "--nj", "2", "--device", "cpu", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    run()
    out = tmp_path / "score/exp_test"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["score"]
    assert (out / "decisions/test.txt").read_bytes() == (scored / "decisions/test.txt").read_bytes()
    assert (out / "report.html").is_file()
    said = run("--dry-run")
    assert said.count("up to date") == len(said.splitlines()) == 8, "there are no plots"


# ---- what is asked for ---------------------------------------------------------------------------


def read_asked(made, path: Path, tmp_path: Path, *words: str) -> dict:
    """The sets that stage data would write."""
    config = taken_model.resolve(taken_model.layers_of(taken_model.find_model(made / "exp"), words))
    return data_to_score.choose_sets(data_to_score.read_sets(path, allow_pipes=False), config.data, path)


def test_relative_recordings_of_a_recipe_are_found_from_anywhere(made, tmp_path):
    folder = tmp_path / "recipe/data/calls"
    folder.mkdir(parents=True)
    (tmp_path / "recipe/wav").mkdir()
    soundfile.write(tmp_path / "recipe/wav/a.wav", [0.0, 0.1], 16000)
    (folder / "wav.scp").write_text("a wav/a.wav\n")
    (folder / "utt2spk").write_text("a a\n")
    (utterance,) = read_asked(made, folder, tmp_path)["calls"]
    assert (utterance.path, utterance.name) == (str(tmp_path / "recipe/wav/a.wav"), "unlabelled")


def test_a_set_with_the_name_of_a_training_set_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="set dev has the name of a set that the model was trained or chosen on"):
        read_asked(made, made / "data", tmp_path)
    assert list(read_asked(made, made / "data", tmp_path, "data.test=[test]")) == ["test"]
    words = ("data.test=[test]", "data.views={calls: {sets: [other]}}")
    assert set(read_asked(made, made / "data", tmp_path, *words)) == {"test", "other"}
    with pytest.raises(ValueError, match="there is no set tset; it has dev, other, test, train"):
        read_asked(made, made / "data", tmp_path, "data.test=[tset]")


def test_a_set_is_named_after_its_table_and_two_sources_are_ambiguous(tmp_path):
    table = tmp_path / "my calls (1).tsv"
    table.write_text("recording\tspeaker\na.wav\tann\n")
    assert list(data_to_score.read_sets(table, allow_pipes=False)) == ["my_calls__1_"]
    folder = tmp_path / "both"
    (folder / "calls").mkdir(parents=True)
    (folder / "calls/utt2spk").write_text("a a\n")
    shutil.copy(table, folder / "recordings.tsv")
    with pytest.raises(ValueError, match="has .*recordings.tsv and .*calls, which is ambiguous; name one of them"):
        data_to_score.read_sets(folder, allow_pipes=False)
    assert list(data_to_score.read_sets(folder / "recordings.tsv", allow_pipes=False)) == ["both"]
    (folder / "recordings.tsv").rename(folder / "utt2spk")
    with pytest.raises(ValueError, match="has .*both and .*calls, which is ambiguous"):
        data_to_score.read_sets(folder, allow_pipes=False)


def test_vectors_are_no_recordings(made, tmp_path):
    (tmp_path / "vectors.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="has vectors .*, and the model scores frames of recordings"):
        read_asked(made, tmp_path, tmp_path)


def test_classes_that_the_model_or_the_data_lack_are_said(made, tmp_path, caplog):
    utterances = [SimpleNamespace(name=name) for name in ("en", "ja")]
    data_to_score.say_classes({"a": utterances}, ["en", "zh"])
    assert [record.getMessage() for record in caplog.records] == [
        "class ja: the model does not know it; it is scored as unseen",
        "class zh of the model: no recording has it, so no figure separates it from others",
    ]


def test_recordings_at_another_rate_are_one_line_with_both(made, tmp_path, write_corpus):
    write_corpus(tmp_path / "calls", ("a_en", "b_zh"), rate=8000)
    with pytest.raises(ValueError, match="all there are; .*8000 Hz, not features.sampling_rate 16000"):
        score(made / "exp", tmp_path / "calls", tmp_path / "out")
    assert "report" in score(
        made / "exp", tmp_path / "calls", tmp_path / "out", "features.resample=true", "data.controls={}"
    )


def test_a_setting_that_the_model_was_not_made_with_is_refused(made):
    model = taken_model.find_model(made / "exp")
    with pytest.raises(ValueError, match="was trained with features.num_filters=4, which cannot change to 5"):
        taken_model.layers_of(model, ["features.num_filters=5"])
    config = taken_model.resolve(taken_model.layers_of(model, ["calibrate.priors={en: 0.9, zh: 0.1}"]))
    assert config.data.classes == ["en", "zh"] and not config.data.controls
    assert fitted_sets(config.data) == fitted_sets(Config.load(made / "exp/config.yaml").data)


def test_an_experiment_from_before_a_setting_was_there_is_scored(made, tmp_path):
    shutil.copytree(made / "exp", tmp_path / "exp")
    tree = yaml.safe_load((tmp_path / "exp/config.yaml").read_text())
    del tree["open_set"]
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump(tree))
    model = taken_model.find_model(tmp_path / "exp")
    assert taken_model.resolve(taken_model.layers_of(model, [])).data.classes == ["en", "zh"]


def test_what_is_no_model_and_what_is_no_folder_for_scores_is_said(made, scored, tmp_path):
    with pytest.raises(ValueError, match="no model; name an experiment that has best.pt"):
        taken_model.find_model(tmp_path)
    check_out(scored, "score", is_own=taken_model.is_taken(scored))
    check_out(tmp_path / "new", "score", is_own=False)
    (tmp_path / "notes.txt").write_text("mine")
    for out, reason in (
        (tmp_path, "has other files"),
        (made / "exp", "has other files"),
        (made / "exp/new", "is inside"),
        (scored / "new", "is inside"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_out(out, "score", is_own=taken_model.is_taken(out))


def test_channels_of_an_earlier_version_are_refused(made, tmp_path):
    shutil.copytree(made / "exp", tmp_path / "exp")
    (tmp_path / "exp/channel.json").write_text('{"frequencies": [100.0]}')
    with pytest.raises(ValueError, match="channel.json: not the channels .*; run stage latents again"):
        taken_model.find_model(tmp_path / "exp")


def test_a_model_that_changes_while_it_is_copied_is_refused(made, tmp_path):
    taken_model.main(["note", str(made / "exp"), str(tmp_path)])
    noted = json.loads((tmp_path / "model.json").read_text())
    noted["files"]["best.pt"] = "0"
    (tmp_path / "model.json").write_text(json.dumps(noted))
    with pytest.raises(ValueError, match="the model changed during the copy; start again"):
        taken_model.main(["take", str(made / "exp"), str(tmp_path)])


def test_scores_lie_below_the_working_folder_unless_it_is_said(made, tmp_path):
    (tmp_path / "recordings.tsv").write_text("")
    exp = made / "exp"
    assert taken_model.out_of(exp, tmp_path / "recordings.tsv") == Path(f"score/exp_{tmp_path.name}")
    assert taken_model.out_of(exp / "baselines/mlp", made / "data/test") == Path("score/exp_mlp_test")


def test_the_verb_starts_run_sh(monkeypatch):
    started = []
    monkeypatch.setattr(score_data.os, "execv", lambda program, words: started.append(words[1:]))
    score_data.main(["exp/a", "my data", "--nj", "2", "--set", "seed=1", "--set", "plots.dpi=40", "--dry-run"])
    assert started == [
        ["--model", "exp/a", "--data", "my data", "--nj", "2"]
        + ["--set", "seed=1", "--set", "plots.dpi=40", "--dry-run", "true"]
    ]


@pytest.fixture(scope="module")
def made_of_vectors(tmp_path_factory, write_corpus, small_config):
    """An experiment on supervectors, made from recordings."""
    from dnf.decisions import decide
    from dnf.features import collect, extract, frames
    from dnf.scoring import latents
    from dnf.scoring import score as scoring
    from dnf.training import train

    words = ("features.kind=vectors", "vectors.front_end=ubm", "vectors.ubm_components=4", "vectors.ubm_ceps=4")
    words += (
        "vectors.project=pca",
        "vectors.project_to=3",
        "vectors.dim=3",
        "prior.cond_dim=null",
        "train.batch_size=8",
    )
    root, config = tmp_path_factory.mktemp("vectors"), small_config(*WORDS, *words)
    for n, (name, speakers) in enumerate(SETS.items()):
        write_corpus(root / "data" / name, speakers, seconds=0.8 + 0.01 * n)
    (root / "data" / "classes.txt").write_text("en\nja\nzh\n")
    layout = Layout.make(root / "exp", "ubm", has_vectors=True)
    data, feats, stores, exp = map(str, (layout.data, layout.feats, layout.frames, layout.exp))
    for folder in (feats, stores, exp):
        config.save(Path(folder) / "config.yaml")
    layout.save()
    of_frames = [stores, exp, "--classes", f"{data}/classes.txt", "--device", "cpu"]
    for verb in ("fit", "compute"):
        assert extract.main([verb, data, feats]) == 0
    assert collect.main([data, feats]) == 0
    assert frames.main([data, stores, "--feats", feats]) == 0
    for main in (train.main, latents.main, baselines.main):
        assert main(of_frames) == 0
    for main in (scoring.main, decide.main):
        assert main([exp]) == 0
    return layout


def test_a_model_of_vectors_makes_the_vectors_of_other_recordings(made_of_vectors, tmp_path):
    exp, out = made_of_vectors.exp, tmp_path / "out"
    before = state_of(exp)
    assert score(exp, made_of_vectors.data, out, *ASKED) == list(STAGES)
    assert state_of(exp) == before
    for folder in (".", "baselines/gmm"):
        mine, theirs = (read_tsv(path / folder / "decisions/test.txt") for path in (out, exp))
        assert len(mine) == 20
        for one, other in zip(mine, theirs):
            assert one.keys() == other.keys() and one["decision"] == other["decision"]
            assert one["doubt"] == other["doubt"] != ""
            assert float(one["llr_calibrated"]) == pytest.approx(float(other["llr_calibrated"]), abs=1e-4)
    assert score(exp, made_of_vectors.data, out, *ASKED) == []


def test_a_changed_background_model_makes_vectors_anew(made_of_vectors, tmp_path):
    exp, out = tmp_path / "ubm", tmp_path / "out"
    shutil.copytree(made_of_vectors.exp, exp)
    score(exp, made_of_vectors.data, out, *ASKED)
    with np.load(exp / "feats/ubm.npz") as arrays:
        np.savez(exp / "feats/ubm.npz", **{name: arrays[name] * np.float32(1.1) for name in arrays.files})
    assert score(exp, made_of_vectors.data, out, *ASKED)[0] == "features"
    (exp / "feats/ubm.npz").unlink()
    (out / "feats/ubm.npz").unlink()
    with pytest.raises(ValueError, match="ubm.npz: does not exist; run stage features again"):
        score(exp, made_of_vectors.data, out, *ASKED)


def test_classify_decides_recordings_by_their_vectors_as_the_experiment_does(made_of_vectors, capsys, tmp_path):
    wavs = [str(path) for path in sorted((made_of_vectors.data / "wav/test").glob("*.wav"))[:3]]
    assert classify.main([str(made_of_vectors.exp), "--json", "--device", "cpu", *wavs]) == 0
    said = {Path(record["recording"]).stem: record for record in map(json.loads, capsys.readouterr().out.splitlines())}
    decided = [row for row in read_tsv(made_of_vectors.exp / "decisions/test.txt") if row["utt"] in said]
    assert len(decided) == 3
    for row in decided:
        record = said[row["utt"]]
        assert record["vectors"] == 1 and "only 0." in record["warning"] and record["channel"]["distance"] > 0
        assert record["doubt"] == row["doubt"] != "", "the test set is home as a set"
        assert record["posteriors"]["en"] == pytest.approx(float(row["posterior_en"]), abs=1e-4)
    with pytest.raises(ValueError, match="takes one vector of a recording, which has no timeline"):
        classify.main([str(made_of_vectors.exp), "--plot", str(tmp_path), wavs[0]])
    with pytest.raises(ValueError, match="has one vector an utterance, and only frames can be moved"):
        move.load_flow(made_of_vectors.exp, "en", "zh")
    out = tmp_path / "model"
    assert export.main([str(made_of_vectors.exp), "--out", str(out)]) == 0 and not (out / "model.onnx").exists()
    assert classify.main([str(out), "--json", "--device", "cpu", *wavs]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == list(said.values())


# ---- baselines and fused systems -----------------------------------------------------------------

MEMBERS = (".", "baselines/gmm", "baselines/mlp")


@pytest.fixture(scope="module")
def fused(made):
    """The flow and both baselines, fused."""
    out, marker = made / "fused", {"key": "", "run": "1", "source": "", "settings": {}, "seconds": 1.0}
    (made / "exp/.done.latents").write_text(json.dumps(marker))
    assert fuse.main([*(str(made / "exp" / name) for name in MEMBERS), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def plain(made, fused, tmp_path_factory):
    """Baselines with calibrations whose log-likelihood ratio is the mean one: a poor system has no ratio to calibrate."""
    root = tmp_path_factory.mktemp("plain") / "root"
    shutil.copytree(made, root)
    for name in MEMBERS[1:]:
        path = root / "exp" / name / "calibration.json"
        fit = {"slope": 1.0, "half": None, "middle": [0.0, 0.0], "offsets": [0.0, 0.0]}
        path.write_text(json.dumps(json.loads(path.read_text()) | fit))
    return root


@pytest.mark.parametrize("system", ["exp/baselines/mlp", "exp/baselines/gmm", "fused"])
def test_a_recording_has_the_log_likelihood_ratio_of_the_stages(made, plain, system, capsys):
    wanted = {row["utt"]: float(row["llr"]) for row in read_tsv(made / system / "decisions/test.txt")}
    folder = made if system == "fused" else plain
    assert classify.main([str(folder / system), "--json", "--data-dir", str(made / "data/test")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["recording"] for record in records} == wanted.keys() and max(map(abs, wanted.values())) > 1e-3
    for record in records:
        ratio = np.log(record["posteriors"]["en"] / record["posteriors"]["zh"])
        assert ratio == pytest.approx(record["factor"] * wanted[record["recording"]], abs=2e-5)
        assert record["class"] == ("en" if ratio > 0 else "zh") and record["calibrated"]
        assert (record["open_set"] is None) == (system != "fused")


def test_members_that_take_the_same_frames_read_a_recording_once(made, fused, monkeypatch, capsys):
    read, module = [], sys.modules["dnf.features.recording_frames"]
    whole = module.read_blocks
    monkeypatch.setattr(module, "read_blocks", lambda source, seconds: read.append(source) or whole(source, seconds))
    assert classify.main([str(fused), "--data-dir", str(made / "data/test")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(read) == 1 + len(set(read))


@pytest.fixture(scope="module")
def doubted(plain, bias_of, tmp_path_factory):
    """The same, with a limit that half of the recordings of the test set exceed; as a set they are home."""
    root = tmp_path_factory.mktemp("doubted") / "root"
    shutil.copytree(plain, root)
    exp, channels = root / "exp", ChannelModel.load(root / "exp/channel.json")
    replace(channels, set_limit=1e9).save(exp / "channel.json")
    _, summary = utterance_summary.read(exp / "latents/test")
    doubt, distances = Doubt.load(exp / "doubt.json"), channels.distances(np.load(exp / "latents/test/channel.npy"))
    scores = doubt.score(distances, summary.mixture + summary.logdet, summary.frames)
    replace(doubt, limit=float(np.median(scores)), foreign=0.5, bias=bias_of(channels)).save(exp / "doubt.json")
    decide.main([str(root / "fused")])
    (exp / "model.json").write_text("{}")  # so that stage decide applies the fits, as to other data
    (exp / "fitted.tsv").write_text("set\tsystem\n")
    for path in [*exp.glob("**/latents/dev"), *exp.glob("**/latents/train")]:
        shutil.rmtree(path)
    decide.main([str(exp)])
    return root


@pytest.mark.parametrize("system", ["exp", "exp/baselines/mlp", "exp/baselines/gmm", "fused"])
def test_a_recording_is_doubted_as_in_stage_decide(doubted, system, capsys):
    wanted = {row["utt"]: row for row in read_tsv(doubted / system / "decisions/test.txt")}
    assert classify.main([str(doubted / system), "--json", "--data-dir", str(doubted / "data/test")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["doubt"] for record in records] == [wanted[record["recording"]]["doubt"] for record in records]
    assert sum(record["doubt"] == "foreign" for record in records) == len(records) / 2
    assert all("unlike training" in record["warning"] for record in records if record["doubt"] == "foreign")
    for record in records:
        ratio = np.log(record["posteriors"]["en"] / record["posteriors"]["zh"])
        assert ratio == pytest.approx(float(wanted[record["recording"]]["llr_calibrated"]), abs=2e-5)


@pytest.mark.parametrize("system", ["exp", "exp/baselines/gmm", "fused"])
def test_without_a_doubt_no_stage_says_how_sure_it_is(plain, tmp_path, system, capsys):
    shutil.copytree(plain, tmp_path / "root")
    for name in ("doubt.json", "shifted.npz"):
        (tmp_path / "root/exp" / name).unlink()
    decide.main([str(tmp_path / "root" / ("fused" if system == "fused" else "exp"))])
    assert {row["doubt"] for row in read_tsv(tmp_path / "root" / system / "decisions/test.txt")} == {""}
    classify.main([str(tmp_path / "root" / system), "--json", "--data-dir", str(plain / "data/test")])
    assert not any(json.loads(line)["doubt"] for line in capsys.readouterr().out.splitlines())


def test_the_doubt_about_a_fused_system_is_of_the_first_member_that_has_one(plain, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(plain, root)
    shutil.copytree(root / "exp", root / "none")
    for name in ("doubt.json", "shifted.npz"):
        (root / "none" / name).unlink()
    (root / "fused/members.json").write_text(json.dumps(["../none/baselines/gmm", "../exp/baselines/mlp", "../exp"]))
    config = Config.load(root / "fused/config.yaml")
    doubts = set_doubts(root / "fused", config, None, ["test", "other"])
    assert doubts.keys() == {"test", "other"}
    assert FusedSystem.load(root / "fused", torch.device("cpu")).doubting == 1


def test_other_data_scored_with_a_fused_system_have_its_figures(made, fused, tmp_path, monkeypatch):
    """``dnf score`` scores each experiment once, with the stages of run.sh, and fuses with the weights that are there."""
    out, ran = tmp_path / "out", []

    def run(words):
        if words[0].endswith("run.sh"):
            options = dict(zip(words[1::2], words[2::2]))
            score(Path(options["--model"]), made / "data", Path(options["--out"]), *ASKED)
        else:
            assert words[1:4] == ["-m", "dnf", "fuse"] and fuse.main(words[4:]) == 0
        ran.append(words)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(score_data, "subprocess", SimpleNamespace(run=run))
    asked = [word for setting in ASKED for word in ("--set", setting)]
    assert score_data.main([str(fused), str(made / "data"), "--out", str(out), *asked]) == 0
    assert [words[0].endswith("run.sh") for words in ran] == [True, False]
    for name in ("test", "other"):
        mine, theirs = (folder / "decisions" / f"{name}.txt" for folder in (out, fused))
        assert mine.read_bytes() == theirs.read_bytes()
    mine, theirs = ({tuple(row.values()) for row in read_tsv(folder / "accuracy.tsv")} for folder in (out, fused))
    assert mine == theirs
    said = " ".join((out / "results.txt").read_text().replace("\n# ", " ").split())
    assert f"scored with {fused}, trained on fusion of {made}/exp" in said
    before = (out / "results.txt").stat().st_mtime_ns
    again = ran[-1][4:]
    fuse.main(again)
    assert (out / "results.txt").stat().st_mtime_ns == before
    changed, decided = made / "changed", (out / "decisions/test.txt").read_bytes()
    shutil.copytree(fused, changed)
    fit = json.loads((changed / "fusion.json").read_text())
    (changed / "fusion.json").write_text(json.dumps(fit | {"weights": [2.0, 1.0, 0.0]}))
    stage.hash_tables.cache_clear()
    fuse.main([str(changed) if word == str(fused) else word for word in again])
    assert (out / "fusion.json").read_bytes() == (changed / "fusion.json").read_bytes()
    assert (out / "decisions/test.txt").read_bytes() != decided


def test_a_fused_system_without_its_members_is_refused(fused, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(fused, alone)
    for run in (
        lambda: classify.main([str(alone), "a.wav"]),
        lambda: score_data.main([str(alone), str(tmp_path), "--out", str(tmp_path / "out")]),
    ):
        with pytest.raises(ValueError, match="members.json: member .*exp does not exist; move a fused system with its"):
            run()


def test_options_that_a_fused_system_has_not_are_refused(made, fused):
    for words in (("--plot", "pictures"), ("--every", "2")):
        with pytest.raises(ValueError, match="is a fused system; give these options with one of its members"):
            classify.main([str(fused), *words, "--data-dir", str(made / "data/test")])
