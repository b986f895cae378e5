"""The table of left-out corpora, by which settings are chosen."""

import pytest

from dnf.experiment.tables import read_tsv, write_tsv
from dnf.report.left_out import main

ROW = ("system", "metric", "set", "class", "value", "low", "high")


@pytest.fixture
def experiment(small_config, tmp_path):
    """Write figures of an experiment without a corpus: on dev, and AUC and Cllr of the corpus against dev."""

    def make(name: str, corpus: str, dev: float, auc: float, cllr: float, pairs=("en+zh",), metric="cllr_control"):
        exp = tmp_path / name
        small_config("data.controls={dev: out}", "data.test=[out]").save(exp / "config.yaml")
        rows = [
            ("dnf", "cllr_left_out", "dev", "en+zh", dev, "", ""),
            ("lda", "auc_control", "dev", "en+zh", 0.1, "", ""),
        ]
        for n, pair in enumerate(pairs):
            rows += [("dnf", "auc_control", "dev", pair, auc + n / 10, auc - 0.1, auc + 0.1)]
            rows += [
                ("dnf", metric, "dev", pair, cllr, cllr - 0.1, cllr + 0.1),
                ("dnf", "cllr", "out", pair, 9, "", ""),
            ]
        write_tsv(exp / "results.tsv", (dict(zip(ROW, row)) for row in rows))
        of_sets = [{"set": "out", "corpus": corpus}, {"set": "dev", "corpus": "studio"}]
        write_tsv(exp / "by_corpus.tsv", of_sets)

    return make


def test_settings_are_compared_by_the_mean_over_the_corpora(experiment, tmp_path, capsys):
    experiment("a_without_phone", "phone", 0.1, 0.7, 0.8)
    experiment("a_without_tv", "tv", 0.1, 0.9, 0.6)
    experiment("a_without_phone_train.lr=1", "phone", 0.3, 0.8, 0.4, metric="cllr_without_doubt_control")
    experiment("a_without_tv_train.lr=1", "tv", 0.3, 0.8, 0.6)
    experiment("b_without_phone", "phone", 0.1, 0.9, 0.1)  # without fewer corpora, so not compared
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("  ")[0] == "experiment" and len(out) == 1 + 3 + 3 + 2 + 1
    assert out[1].split() == ["a", "phone", "0.100", "0.700", "(0.600-0.800)", "0.800", "(0.700-0.900)"]
    assert out[-1] == "lowest mean Cllr without phone, tv: a_train.lr=1, 0.500 (on dev: a, 0.100)"
    means = [row for row in read_tsv(tmp_path / "left_out_corpora.tsv") if row["left_out"] == "mean"]
    assert [(row["experiment"], row["auc"], row["cllr"], row["cllr_low"]) for row in means] == [
        ("a", "0.800000", "0.700000", ""), ("a_train.lr=1", "0.800000", "0.500000", ""), ("b", "0.900000", "0.100000", "")
    ]  # fmt: skip


def test_several_pairs_of_classes_have_their_mean_and_a_missing_figure_a_dash(experiment, tmp_path, capsys):
    experiment("a_without_phone", "phone", 0.1, 0.7, 0.8, pairs=("en+zh", "en+ja"), metric="other")
    assert main([str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [["a", "phone", "0.100", "0.750", "-"], ["a", "mean", "0.100", "0.750", "-"]]


def test_experiments_without_figures_of_a_left_out_corpus_are_none(small_config, experiment, tmp_path):
    experiment("plain", "phone", 0.1, 0.7, 0.8)
    small_config().save(tmp_path / "house_without_garden" / "config.yaml")
    write_tsv(tmp_path / "house_without_garden" / "results.tsv", [], ROW)
    with pytest.raises(ValueError, match=r"no experiment \*_without_\* has figures.*run ./run.sh --leave-corpora-out"):
        main([str(tmp_path)])
