"""Systems side by side, and two of them utterance by utterance, against figures by hand."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from dnf.experiment.tables import write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.trials import Trials
from dnf.report import compare
from dnf.report.compare import paired_rows, read_decided, two_systems
from dnf.report.side_by_side import system_lines


def row(metric: str, name: str, true: str, value: float, system: str = "dnf", ends=(None, None)) -> dict:
    low, high = ("" if end is None else f"{end:.6f}" for end in ends)
    made = {
        "system": system,
        "metric": metric,
        "set": name,
        "class": true,
        "value": f"{value:.6f}",
        "low": low,
        "high": high,
    }
    return dict.fromkeys(COLUMNS, "") | made


ROWS = [
    row("utt_accuracy", "test", "en", 0.5),
    row("utt_accuracy", "test", "all", 0.75, ends=(0.7, 0.8)),
    row("auc", "test", "en+ce", 0.9, ends=(0.8, 0.95)),
    row("auc_control", "test", "en+ce", 0.6),
    row("auc", "train", "en+ce", 0.99),
    row("nll", "dev", "all", 12.345),
    row("utt_accuracy", "test", "en", 0.6, "mlp"),
    row("utt_accuracy", "test", "all", 0.85, "mlp"),
    row("auc", "test", "en+ce", 0.97, "mlp"),
    row("utt_accuracy", "test", "all", 0.65, "gmm"),
    row("parameters", "", "", 7) | {"system": "", "value": "7"},
]


def test_the_systems_of_an_experiment_stand_side_by_side_the_flow_first():
    assert [line.split("  ") for line in (" ".join(line.split()) for line in system_lines(ROWS))] == [
        ["systems set metric class dnf gmm mlp"],
        ["systems test utt_accuracy all 0.7500 (0.7000-0.8000) 0.6500 0.8500"],
        ["systems test auc en+ce 0.9000 (0.8000-0.9500) - 0.9700"],
    ]


def test_one_system_alone_needs_no_table():
    assert system_lines([r for r in ROWS if r["system"] in ("dnf", "")]) == []


def test_a_set_of_one_class_has_the_accuracy_of_that():
    rows = [row("utt_accuracy", "other", "en", 0.5), row("utt_accuracy", "other", "en", 0.6, "lda")]
    assert "systems other utt_accuracy en 0.5000 0.6000" in [" ".join(line.split()) for line in system_lines(rows)]


def test_calibrated_accuracy_of_one_class_says_nothing_where_a_system_decides_always_the_same():
    metric = "utt_accuracy_calibrated"
    places = (("other", "en"), ("other", "all"), ("test", "ce"), ("test", "en"), ("test", "all"))
    rows = [row(metric, name, true, 1.0, system) for name, true in places for system in ("dnf", "lda")]
    assert [" ".join(line.split()) for line in system_lines(rows, ["lda"])][1:] == [
        f"systems other {metric} all 1.0000 says nothing: one class",
        f"systems test {metric} all 1.0000 1.0000",
    ]


# ---- two systems ---------------------------------------------------------------------------------


def decided(shift: float, noise: float, speakers: int = 20, utterances: int = 4, seed: int = 1) -> Trials:
    """A system whose ratios of class en are ``shift`` higher than those of ce, with noise of each speaker and utterance."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(0)
    n = speakers * utterances
    label = np.arange(n) // utterances % 2
    own = common.standard_normal(speakers).repeat(utterances)  # what makes a speaker hard is hard for both
    llr = shift * (0.5 - label) + own + noise * rng.standard_normal(n)
    labels = [("en", "ce")[k] for k in label]
    hits = (llr > 0) == (label == 0)
    names = [f"s{i // utterances}" for i in range(n)]
    scores = {"utt_accuracy": hits.astype(float), "mean": llr, "calibrated": 2 * llr}
    return Trials([f"{s}-{i}" for i, s in enumerate(names)], names, labels, scores, ["ce", "en"])


def test_figures_and_differences_are_those_of_each_system():
    a, b = decided(3.0, 0.3), decided(1.0, 0.3, seed=2)
    rows = {r[0]: r[1:] for r in paired_rows(a, b, "en", 300, 1)}
    assert list(rows) == ["utt_accuracy", "auc", "cllr"]
    target = [label == "en" for label in a.labels]
    for metric, wanted in (
        ("utt_accuracy", [s.scores["utt_accuracy"].mean() for s in (a, b)]),
        ("auc", [roc_auc_score(target, s.scores["mean"]) for s in (a, b)]),
    ):
        one, two, (difference, low, high, p), speakers = rows[metric]
        assert [one, two] == pytest.approx(wanted) and difference == pytest.approx(wanted[0] - wanted[1])
        assert 0 < low < difference < high and p < 0.05 and speakers == 20


def test_a_system_is_no_better_than_itself_and_chance_is_not_significant():
    a, b = decided(1.0, 0.5), decided(1.0, 0.5, seed=2)
    for _, one, two, (difference, low, high, p), _ in paired_rows(a, a, "en", 200, 1):
        assert one == two and difference == low == high == 0 and p == 1
    for metric, _, _, (_, low, high, p), _ in paired_rows(a, b, "en", 200, 1):
        assert low < 0 < high and p > 0.05, metric


def test_utterances_are_matched_by_name_and_others_are_an_error():
    a, b = decided(3.0, 0.3), decided(1.0, 0.3, seed=2)
    backwards = b.only(np.arange(len(b))[::-1])
    assert list(paired_rows(a, backwards, "en", 50, 1)) == list(paired_rows(a, b, "en", 50, 1))
    with pytest.raises(ValueError, match="different utterances"):
        list(paired_rows(a, b.only(np.arange(5)), "en", 50, 1))


def test_ratios_without_calibration_have_no_cllr_and_one_class_has_no_auc():
    a = decided(1.0, 0.3)
    plain = replace(a, scores={"utt_accuracy": a.scores["utt_accuracy"], "mean": a.scores["mean"]})
    assert [r[0] for r in paired_rows(a, plain, "en", 50, 1)] == ["utt_accuracy", "auc"]
    english = a.only(a.labels == "en")
    assert [r[0] for r in paired_rows(english, english, "en", 50, 1)] == ["utt_accuracy"]


def table(decided: Trials, calibrated: bool = True) -> list[dict]:
    """Rows of ``decisions/<set>.txt``; one utterance is of a class the model does not know."""
    rows = []
    for utt, speaker, label, hit, llr in zip(
        decided.utts, decided.speakers, decided.labels, decided.scores["utt_accuracy"], decided.scores["mean"]
    ):
        other = "ce" if label == "en" else "en"
        made = {
            "utt": utt,
            "speaker": speaker,
            "class": label,
            "decision": label if hit else other,
            "llr": f"{llr}",
        }
        rows.append(
            made | {"logp_ce": 0, "logp_en": 0, "logdet": 0, "llr_calibrated": f"{2 * llr}" if calibrated else ""}
        )
    return rows + [rows[0] | {"utt": "x-1", "speaker": "x", "class": "je"}]


@pytest.mark.parametrize("calibrated", (True, False))
def test_decisions_are_read_without_utterances_of_unknown_classes(tmp_path, calibrated):
    a = decided(1.0, 0.3)
    write_tsv(tmp_path / "test.txt", table(a, calibrated))
    found = read_decided(tmp_path / "test.txt")
    assert found.classes == ["ce", "en"] and found.calibrated == calibrated
    for name in ("utts", "speakers", "labels"):
        assert getattr(found, name).tolist() == getattr(a, name).tolist()
    assert found.scores.keys() == a.scores.keys() - (set() if calibrated else {"calibrated"})
    for name, values in found.scores.items():
        np.testing.assert_allclose(values, a.scores[name])


@pytest.fixture
def exp(small_config, tmp_path):
    """An experiment whose flow and mlp decided test and its control, of class en alone, and only the flow dev."""
    config = small_config("data.classes=[en, ce]", "data.controls={test: far}", "report.bootstrap=100")
    config.save(tmp_path / "config.yaml")
    for place, shift, seed in ((tmp_path, 1.0, 1), (tmp_path / "baselines" / "mlp", 3.0, 2)):
        (place / "decisions").mkdir(parents=True)
        whole = decided(shift, 0.3, seed=seed)
        write_tsv(place / "decisions" / "test.txt", table(whole))
        english = whole.only(whole.labels == "en")
        scores = english.scores | {"mean": english.scores["mean"] - 1, "calibrated": english.scores["calibrated"] - 2}
        far = replace(english, utts=[f"far-{utt}" for utt in english.utts], scores=scores)
        write_tsv(place / "decisions" / "far.txt", table(far))
    write_tsv(tmp_path / "decisions" / "dev.txt", table(decided(1.0, 0.3)))
    return tmp_path


def test_two_systems_are_compared_on_the_sets_both_decided_and_on_controls(exp, capsys):
    assert compare.main([str(exp), str(exp / "baselines" / "mlp")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["a:", str(exp)], ["b:", str(exp / "baselines" / "mlp")]]
    places = [(line[0], line[1]) for line in lines[3:]]
    both = ["utt_accuracy", "auc", "cllr"]
    assert places == [("far", "utt_accuracy"), *(("test", m) for m in both), *(("test|far", m) for m in both)]
    flow = read_decided(exp / "decisions" / "test.txt")
    far = read_decided(exp / "decisions" / "far.txt")
    ce = flow.scores["mean"][flow.labels == "ce"]
    wanted = roc_auc_score([True] * len(far) + [False] * len(ce), [*far.scores["mean"], *ce])
    (line,) = (line for line in lines if line[:2] == ["test|far", "auc"])
    assert float(line[2]) == pytest.approx(wanted, abs=1e-4) and float(line[4]) < 0 and line[-2:] == ["80", "20"]


def test_systems_with_other_reference_classes_are_an_error(exp, small_config, tmp_path):
    other = tmp_path / "other"
    (other / "decisions").mkdir(parents=True)
    write_tsv(other / "decisions" / "test.txt", table(decided(1.0, 0.3)))
    small_config("data.classes=[ce, en]").save(other / "config.yaml")
    with pytest.raises(
        ValueError, match="test: the log-likelihood ratios of .* are of en, those of .* of ce; give both"
    ):
        two_systems(exp, other)


def test_an_experiment_of_an_earlier_version_is_compared(exp, tmp_path):
    before, path = two_systems(exp, exp / "baselines" / "mlp"), exp / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    del tree["assess"], tree["splice"]["hop"]
    path.write_text(yaml.safe_dump(tree))
    assert two_systems(exp, exp / "baselines" / "mlp") == before
    del tree["data"]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match="config.yaml: does not exist, or has no section data; restore it, or run the"):
        two_systems(exp, exp / "baselines" / "mlp")


def test_systems_of_other_classes_or_without_common_sets_are_errors(exp, tmp_path):
    with pytest.raises(ValueError, match="none: no such folder; name the folder of an experiment"):
        two_systems(exp, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no set has decisions of both"):
        two_systems(exp, tmp_path / "empty")
    path = exp / "baselines" / "mlp" / "decisions" / "test.txt"
    path.write_text(path.read_text().replace("logp_ce", "logp_je", 1))
    with pytest.raises(ValueError, match="test: .* decides between ce, en, but .* between en, je|between je, en"):
        two_systems(exp, exp / "baselines" / "mlp")
