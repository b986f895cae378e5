"""results.txt: the answer in its first lines, then sections, of which one can be printed; dev and train come last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from result_rows import WORDS, row, two_class_rows

from dnf.experiment import entry
from dnf.experiment.config import resolve
from dnf.report.cells import Rows
from dnf.report.html_tables import assessment, gaussianity
from dnf.report.lines import speaker_lines
from dnf.report.result_rows import autocorrelation_rows
from dnf.report.results import main, text


def full_rows() -> list[dict]:
    """Rows of results.tsv that text needs."""
    rows = [found | {"count": found["count"] or "81", "total": found["total"] or "90"} for found in two_class_rows()]
    return rows + [row(f"training_{name}", value=-100.0, system="", total=500) for name in ("nll", "logp", "logdet")]


@pytest.fixture
def exp(tmp_path) -> Path:
    """An experiment with a results.txt of made-up figures."""
    folder = tmp_path / "exp" / "a"
    folder.mkdir(parents=True)
    environment = {"device": "cpu", "device_name": "CPU", "threads": 2, "git": "1a2b", "torch": "2", "lhotse": "1"}
    (folder / "env.json").write_text(json.dumps(environment))
    (folder / "left_out.tsv").write_text("set\treason\nje\tno set je: give --je PATH\n")
    (folder / "gaussianity.tsv").write_text(
        "set\tclasses\tpart\tdim\tskew\tkurt\tskew_within\tkurt_within\tmardia_kurt_z\n"
    )
    config = resolve(WORDS)
    config.save(folder / "config.yaml")
    (folder / "results.txt").write_text(text(folder, full_rows(), config))
    return folder


def test_the_answer_comes_first_then_all_figures_in_sections_with_dev_and_train_last(exp):
    lines = (exp / "results.txt").read_text().splitlines()
    start = lines.index("# details")
    head = " ".join(line.removeprefix("# ") for line in lines[:2])
    assert start <= 26 and "; tested on test; mic, control of test; wild; left out: je; dnf is the flow" in head
    assert max(map(len, lines[:start])) <= 100
    heads = [line.removeprefix("## ").partition(":")[0] for line in lines[start:] if line.startswith("## ")]
    assert heads == ["accuracy", "systems", "detection", "unseen", "confusion", "density", "training", "run"]
    for metric in ("utt_accuracy", "density"):
        sets = [line.split()[1] for line in lines[start:] if line.startswith(f"{metric} ")]
        tests = [name not in ("dev", "train") for name in sets]
        assert tests == sorted(tests, reverse=True) and {"test", "mic", "dev", "train"} <= set(sets)
    assert "# left out: je: no set je: give --je PATH" in lines


def test_a_section_is_printed_alone(exp, capsys):
    before = (exp / "results.txt").read_bytes()
    assert main([str(exp), "--details", "unseen"]) == 0
    head, *shares = capsys.readouterr().out.splitlines()
    assert (
        head
        == "## unseen: shares decided for classes that the model has not seen; AUC of the ratio of each known class against them"
    )
    assert len(shares) == 2 and all(line.startswith("utt_share test je (unseen) decided ") for line in shares)
    assert (exp / "results.txt").read_bytes() == before


def test_autocorrelation_stands_beside_gaussianity(exp, capsys):
    """All lags in results.txt, the first one in results.tsv and on the page; an earlier experiment has none."""
    assert autocorrelation_rows(exp) == []
    (exp / "autocorrelation.tsv").write_text(
        "set\tclasses\tpart\tdim\tlag\tseconds\tautocorrelation\tpairs\n"
        "test\tce+en\tc\t100\t1\t0.01\t0.0123\t990\ntest\tce+en\tc\t100\t5\t0.05\t-0.004\t950\n"
    )
    (found,) = autocorrelation_rows(exp)
    assert (found["metric"], found["set"], found["class"], found["value"]) == (
        "autocorrelation_c", "test", "ce+en", "0.0123"
    )  # fmt: skip
    rows = [row for row in two_class_rows() if row["metric"] == "kurt_c"]
    page = gaussianity(Rows([*rows, row("", total="") | found])).html
    assert '<td class="long" data-head="autocorrelation">0.0123</td>' in page and "mardia" not in page
    (exp / "results.txt").write_text(text(exp, full_rows(), resolve(WORDS)))
    assert main([str(exp), "--details", "gaussianity"]) == 0
    line = "autocorrelation test ce+en c100 lag 1 0.0123 lag 5 -0.0040 [ 990 pairs at lag 1 ]"
    assert line in capsys.readouterr().out.splitlines()


def test_further_scores_have_rows_of_their_own_on_the_page():
    names = {"fused": "assess_utt_pearson", "latents": "assess_partial"}
    values = {"fused": "0.811", "latents": "0.378", "fluency.fused": "0.862", "fluency.latents": "0.274"}
    rows = Rows([row(names[by.split(".")[-1]], "test", "ce", float(v), decided=by) for by, v in values.items()])
    page = assessment(rows).html
    assert not rows.left and all(f'">{value}' in page for value in values.values())
    assert "fluency.fused" in page and ">fluency<" in page and ">main<" in page


@pytest.mark.parametrize(
    "content, message",
    [
        (None, r"results.txt: does not exist; run stage report \(--stage 8\)"),
        (
            "# as it was before\n\n# accuracy: share\n",
            r"has no sections, an earlier version wrote it; run stage report again",
        ),
        ("# details\n\n## accuracy: share\n\n## run: what\n", r"has no section fish; name one of accuracy, run$"),
    ],
)
def test_a_section_that_is_not_there_is_one_line_with_a_remedy(exp, content, message):
    (exp / "results.txt").unlink()
    if content:
        (exp / "results.txt").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        main([str(exp), "--details", "fish"])
    assert "\n" not in entry.describe(caught.value)


def test_speakers_of_the_same_accuracy_are_one_figure():
    def speaker(name: str, value: str) -> dict:
        return {"set": "test", "class": "en", "speaker": name, "accuracy": value, "llr_mean": "1.5"}

    assert speaker_lines([speaker("a", "1.000000"), speaker("b", "1.000000")], []) == [
        "speakers test en all 2 speakers 1.0000"
    ]
    (line,) = speaker_lines([speaker("a", "1.000000"), speaker("b", "0.500000")], [])
    assert line.startswith("speakers test en lowest 0.5000 (b, llr 1.500) | ") and line.endswith("[ 2 speakers ]")
