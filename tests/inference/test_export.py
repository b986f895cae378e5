"""A model that is passed on: the folder and the ONNX file give the numbers of classify, elsewhere and without PyTorch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import recipe_runs
import soundfile
import torch
from recipe_runs import environment, make_frames, run_stages

import dnf
from dnf.decisions.calibration import Calibration
from dnf.decisions.open_set import OpenSet, Scale
from dnf.experiment.config import Config
from dnf.experiment.tables import write_tsv
from dnf.inference import classify, export, taken_model
from dnf.inference.model_card import figures
from dnf.inference.onnx_graph import RecordingGraph
from dnf.inference.system import Model
from dnf.metrics.figure_rows import COLUMNS
from dnf.models import load_model
from dnf.models.checkpoint import Trained, config_tree, load, save
from dnf.models.dnf import DNF
from dnf.report.results import taken_line

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]
WORDS = (
    *(
        "data.classes=[en, zh]",
        "frames.dtype=float32",
        "cmvn.scope=utterance",
        "splice.hop=2",
        "channel.centre=utterance",
    ),
    *("assess.predictors=[timing, tempo, latents]", "assess.regression=svr"),
    *("flow.mix=lu", "flow.mask=evenodd", "report.bootstrap=50", "latents.durations=[]", "plots.enabled=false"),
)
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["dnf"] = None  # as where they are not installed
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
names = [output.name for output in session.get_outputs()]
for path in sys.argv[2:]:
    numpy.savez(path + ".npz", **dict(zip(names, session.run(None, {"samples": numpy.load(path)}))))
"""


@pytest.fixture(scope="module")
def exp(tmp_path_factory, write_corpus, small_config):
    """A decided experiment."""
    root = tmp_path_factory.mktemp("made")
    for n, name in enumerate(("train", "dev", "test")):
        speakers = [f"{name}{k}_{('en', 'zh')[k % 2]}" for k in range(8)]
        write_corpus(root / "data" / name, speakers, seconds=0.8 + 0.01 * n)  # no two recordings are the same
        recipe_runs.write_scores(root / "data" / name)
    for folder in (root, root / "data"):
        (folder / "classes.txt").write_text("en\nzh\n")
    make_frames(root, small_config(*WORDS))
    run_stages(root)
    return root / "exp"


@pytest.fixture(scope="module")
def folder(exp, tmp_path_factory):
    """The experiment as a folder without the ONNX file, which takes long."""
    out = tmp_path_factory.mktemp("exported") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)  # not installed
        assert export.main([str(exp), "--out", str(out), "--licence", "CC BY 4.0", "--training-data", "bursts"]) == 0
    return out


@pytest.fixture(scope="module")
def sounds(tmp_path_factory, speech_like):
    """Recordings of several lengths: path to samples."""
    place, made = tmp_path_factory.mktemp("sounds"), {}
    for n, seconds in enumerate((0.3, 1.0, 2.345)):
        path = place / f"{n}.wav"
        made[str(path)] = speech_like(seconds, 50 + n)
        soundfile.write(path, made[str(path)], 16000, subtype="FLOAT")
    return made


def records(capsys, model, paths) -> list[dict]:
    assert classify.main([str(model), "--json", *paths]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_file_computes_what_classify_does_where_torch_is_not_installed(exp, sounds, tmp_path, capsys):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")
    path = tmp_path / "model.onnx"
    assert export.main([str(exp), "--out", str(path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.card.json", "model.onnx"]
    card = json.loads((tmp_path / "model.card.json").read_text())
    assert card["classes"] == ["en", "zh"] and card["sampling_rate"] == 16000
    arrays = {f"{tmp_path / str(n)}.npy": samples for n, samples in enumerate((*sounds.values(), np.zeros(300, "f4")))}
    for place, samples in arrays.items():
        np.save(place, samples)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, path, *arrays], check=True, env=environment())
    *outputs, silent = (np.load(f"{place}.npz") for place in arrays)
    for record, output in zip(records(capsys, exp, sounds), outputs, strict=True):
        assert set(card["outputs"]) == set(output)
        assert output["loglik"] == pytest.approx(list(record["loglik"].values()), abs=1e-4)
        assert output["posteriors"] == pytest.approx(list(record["posteriors"].values()), abs=1e-4)
        assert output["none_of_these"] == record["open_set"]
        assert (output["foreign"], record["doubt"]) in ((True, "foreign"), (False, "sure"), (False, "unsure"))
        assert output["factor"] == pytest.approx(record["factor"], abs=1e-4)
        assert output["open_set_score"] > card["open_set_threshold"] or not output["none_of_these"]
        assert card["scores"] == ["score"] and output["scores"] == pytest.approx([record["predicted_score"]], abs=6e-4)
        ends = [record["score_low"], record["score_high"]]
        assert output["score_intervals"].tolist() == [pytest.approx(ends, abs=6e-4)]
        assert output["score_parts"] == pytest.approx(list(record["score_parts"].values()), abs=6e-4)
        assert output["frame_loglik"].shape == (record["vectors"], 2)
        assert output["frame_loglik"].mean(0) == pytest.approx(output["loglik"], abs=1e-3)
        assert len(output["centres"]) == record["vectors"]
        assert output["speech_frames"] * 0.01 == pytest.approx(record["speech_seconds"])
    assert silent["speech_frames"] == 0 and np.isnan(silent["posteriors"]).all()


@pytest.mark.parametrize(("limit", "has_bias"), [(-1e9, True), (-1e9, False), (1e9, True)])
def test_the_graph_doubts_recordings_as_classify_does(folder, sounds, bias_of, limit, has_bias):
    """Recordings as they are, softer, and in noise: all foreign, or none."""
    system = dnf.Classifier.load(folder).model
    assert system.channel is not None and system.doubt is not None
    bias = bias_of(system.channel) if has_bias else None
    system = system._replace(doubt=replace(system.doubt, limit=limit, foreign=0.6, bias=bias))
    classifier, graph, biases = dnf.Classifier(system), RecordingGraph(system).eval(), []
    for samples in sounds.values():
        noise = np.random.default_rng(0).normal(0, 0.02, len(samples)).astype("f4")
        for changed in (samples, 0.05 * samples, samples + noise):
            record = classifier(changed, 16000)
            with torch.no_grad():
                output = dict(zip(graph.outputs, graph(torch.from_numpy(changed)), strict=True))
            assert bool(output["foreign"]) == (record["doubt"] == "foreign") == (limit < 0)
            assert output["factor"] == pytest.approx(record["factor"], abs=1e-4)
            assert output["posteriors"].numpy() == pytest.approx(list(record["posteriors"].values()), abs=1e-4)
            assert record["factor"] == (0.6 if limit < 0 else 1.0)
            assert output["bias"].numpy() == pytest.approx(list(record["bias"].values()), abs=1e-4)
            biases += record["bias"].values()
    assert (np.ptp(biases) > 0.1) == (limit < 0 and has_bias)


def random_model(config, classes: int = 3) -> Model:
    """A model, calibration and open-set score of random values."""
    rng, names = np.random.default_rng(0), ["a", "b", "c"][:classes]
    torch.manual_seed(0)
    model, scale = DNF.from_config(config, classes).eval(), Scale(0.0, 1.0, 2.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    calibration = Calibration(names, 2.0, [0.1, 0.0, -0.1], [0.2, -0.1, -0.1], 20.0, [1.0, 0.5], {}, {})
    means, precision = rng.normal(size=(classes, config.latent_dim)), np.eye(config.latent_dim)
    scales = {"inner": dict.fromkeys(("density", "norm"), scale), "scales": {"typicality": scale, "distance": scale}}
    open_set = OpenSet(
        names, means, precision, (1.0, 2.0), **scales, score_name="combined", threshold=1.0, false_alarm=0.05
    )
    return Model(Trained(model, config, names, {}), config, calibration, open_set, None, None, torch.device("cpu"))


@pytest.mark.parametrize(
    "words",
    [
        ("flow.kind=maf", "prior.cond_r=true", "prior.variances=free"),
        ("flow.kind=spline", "features.snip_edges=true", "cmvn.scope=speaker", "cmvn.variance=true"),
        ("flow.kind=conditional", "splice.left=2", "splice.right=0", "prior.cond_dim=4"),
    ],
    ids=lambda words: words[0],
)
def test_every_kind_of_flow_can_be_exported(words, small_config, tmp_path):
    """``write_onnx`` compares the file's outputs with PyTorch's."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")
    from dnf.inference.onnx_file import write_onnx

    write_onnx(random_model(small_config("frames.dtype=float32", *words)), tmp_path / "m.onnx", 18)
    assert (tmp_path / "m.onnx").stat().st_size > 10_000


def test_a_file_that_computes_other_values_is_refused(small_config, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
    import onnxruntime

    from dnf.inference.onnx_file import compare

    class Session:
        def __init__(self, path):
            pass

        def run(self, names, inputs):
            return [np.zeros(2)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    compare(tmp_path / "m", np.zeros(1), {"loglik": np.zeros(2)})
    with pytest.raises(ValueError, match="loglik differs from what PyTorch computes"):
        compare(tmp_path / "m", np.zeros(1), {"loglik": np.array([0.0, 0.01])})


def test_an_opset_that_the_exporter_lacks_is_refused(small_config, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install '.[onnx]'")
    from dnf.inference.onnx_file import write_onnx

    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    made = SimpleNamespace(model=SimpleNamespace(opset_imports={"": 18}))
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: made)  # which takes what it can write
    with pytest.raises(ValueError, match="--opset 99: PyTorch's exporter cannot write it, but 18; give 18"):
        write_onnx(random_model(small_config()), tmp_path / "m.onnx", 99)
    assert not any(tmp_path.iterdir())


def test_a_folder_is_classified_with_as_its_experiment_and_has_no_paths(exp, folder, sounds, capsys):
    assert records(capsys, folder, sounds) == records(capsys, exp, sounds)
    assert load_model(folder / "best.pt").classes == ["en", "zh"]
    for path in folder.iterdir():
        assert str(exp.parent).encode() not in path.read_bytes(), path
    assert (folder / "best.pt").stat().st_size < 0.7 * (exp / "best.pt").stat().st_size
    card = (folder / "card.md").read_text()
    assert "CC BY 4.0" in card and "Data: bursts." in card and "must not be used" in card and "| Cllr | test |" in card
    assert "There is no model.onnx" in card
    assert 0 < card.index("utterance accuracy | test |") < card.index("utterance accuracy | dev |")


def test_scores_with_the_folder_say_what_it_was_trained_on(folder, tmp_path):
    taken_model.main(["note", str(folder), str(tmp_path / "out")])
    assert taken_line(tmp_path / "out")[0].startswith(f"# scored with {folder}, trained on bursts; ")


def test_the_folder_names_the_model_that_training_started_at_and_not_its_place(exp, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    copy, out = tmp_path / "exp", tmp_path / "model"
    shutil.copytree(exp, copy)
    config = Config.load(copy / "config.yaml")
    config = replace(config, train=replace(config.train, from_model=str(tmp_path / "first")))
    config.save(copy / "config.yaml")
    save(copy / "best.pt", load(copy / "best.pt") | {"config": config_tree(config)})
    assert export.main([str(copy), "--out", str(out)]) == 0
    assert "- Started from the flow of first.\n" in (out / "card.md").read_text()
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in out.iterdir())
    assert load_model(out / "best.pt").config == Config.load(out / "config.yaml")


def test_the_card_has_the_figures_of_predicted_scores(tmp_path):
    row = dict.fromkeys(COLUMNS, "") | {"system": "dnf", "metric": "assess_utt_pearson", "set": "test", "speakers": 40}
    row |= {"value": 0.82, "low": 0.75, "high": 0.88, "class": "ce"}
    write_tsv(
        tmp_path / "accuracy.tsv", [row | {"decided": name} for name in ("duration", "fused", "fluency.fused")], COLUMNS
    )
    *_, line = figures(tmp_path, ["train"], [])
    assert line == "| Pearson of predicted scores over utterances | test | ce | 0.820 | 0.750 to 0.880 | 40 |"
    assert len(figures(tmp_path, ["train"], [])) == 3 and len(figures(tmp_path, ["test"], [])) == 2


def test_an_earlier_folder_is_replaced_and_others_are_not(exp, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "best.pt").write_bytes(b"of an earlier model")
    assert export.main([str(exp), "--out", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "best.pt").read_bytes() == (folder / "best.pt").read_bytes()
    (tmp_path / "model" / "mine").mkdir()
    (tmp_path / "model" / "mine" / "LICENSE").touch()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").touch()
    for out, reason in (
        ("model", "has mine/LICENSE, which export did not write; move it away, or name a new folder"),
        ("work", "has other files; name a new folder, or that of an earlier export"),
        ("work/notes.txt", "is a file; name a folder, or a file whose name ends in .onnx"),
        ("model/new", "is inside .*model, which has a model; name a folder outside it"),
    ):
        with pytest.raises(ValueError, match=f"--out .*{out}: .*{reason}"):
            export.main([str(exp), "--out", str(tmp_path / out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "work"]
    assert (tmp_path / "model" / "mine" / "LICENSE").is_file()


def test_what_cannot_be_exported_is_refused_in_a_line(exp, tmp_path, monkeypatch, small_config):
    copy, out = tmp_path / "exp", ["--out", str(tmp_path / "m.onnx")]
    shutil.copytree(exp, copy)
    with pytest.raises(ValueError, match="--opset 11: is too old for PyTorch's exporter; give 18 or later"):
        export.main([str(copy), *out, "--opset", "11"])
    with pytest.raises(ValueError, match="no model; name an experiment"):
        export.main([str(tmp_path), *out])
    (tmp_path / "fused").mkdir()
    (tmp_path / "fused" / "members.json").touch()
    with pytest.raises(ValueError, match="fused: is several systems fused, and only a flow is exported"):
        export.main([str(tmp_path / "fused"), *out])
    (copy / "baselines" / "mlp").mkdir(parents=True)
    (copy / "baselines" / "mlp" / "model.pt").touch()
    with pytest.raises(ValueError, match="is a baseline, and only a flow is exported"):
        export.main([str(copy / "baselines" / "mlp"), *out])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ValueError, match="onnx is not installed: python3 -m pip install"):
            export.main([str(copy), *out])
    (copy / "calibration.json").unlink()
    with pytest.raises(ValueError, match="calibration.json: does not exist; run stage decide"):
        export.main([str(copy), *out])
    (copy / "accuracy.tsv").unlink()
    with pytest.raises(ValueError, match="accuracy.tsv: does not exist; run stage decide"):
        export.main([str(copy), *out])
    from dnf.inference.onnx_file import check_exportable, write_onnx

    with pytest.raises(ValueError, match="features.dither: an ONNX file adds no random noise"):
        check_exportable(random_model(small_config("features.dither=1.0")))
    with pytest.raises(ValueError, match="cmvn.scope: window has no ONNX graph; export a folder"):
        check_exportable(random_model(small_config("cmvn.scope=window")))
    for kind in ("relative", "silero"):
        with pytest.raises(ValueError, match=f"^vad.kind: {kind} has no ONNX graph; export a folder, or train a model"):
            write_onnx(random_model(small_config(f"vad.kind={kind}")), tmp_path / "m.onnx", 18)
    assert not (tmp_path / "m.onnx").exists()


def test_a_classifier_gives_the_numbers_of_classify(folder, sounds, capsys):
    classifier = dnf.Classifier.load(folder)
    for (path, samples), record in zip(sounds.items(), records(capsys, folder, sounds)):
        assert record.pop("recording") == path
        assert classifier(samples, 16000) == record
    both = np.stack([samples, 0 * samples], 1)
    assert classifier(both, 16000)["seconds"] == record["seconds"]
    assert classifier(samples, 8000)["sampling_rate"] == 8000  # resampled, with a warning, as by classify


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (np.zeros(0), 16000, "samples: has no samples"),
        (np.zeros(16000), 16000, "samples: digital silence"),
        (np.full(16000, np.nan), 16000, "samples: has NaN or infinite samples"),
        (np.ones(100), 16000, "samples: 0.006 s is shorter than one frame"),
        (np.ones(100, np.int16), 16000, "samples are int16 of shape .100,.; give floats"),
        (np.ones(()), 16000, "give floats"),
        (np.ones(16000), 0, "rate 0 is not a number of samples a second"),
        (np.ones(16000), "16k", "rate '16k' is not"),
    ],
)
def test_a_classifier_refuses_what_is_no_recording(folder, samples, rate, reason):
    with pytest.raises(ValueError, match=reason):
        dnf.Classifier.load(folder)(samples, rate)


def test_a_folder_without_a_model_is_no_classifier(tmp_path):
    with pytest.raises(ValueError, match="best.pt: no checkpoint"):
        dnf.Classifier.load(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'Classifer'"):
        dnf.Classifer  # noqa: B018
