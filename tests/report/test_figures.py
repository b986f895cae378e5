"""The table of figures: what it says of endings and parts, who shows them, and that the documentation lists them all."""

from pathlib import Path

import pytest

from dnf.metrics import figures
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import METRICS, Metric, costs_last, is_difference, of_part, shown
from dnf.plots.sweep_figure import panels
from dnf.report.cells import Rows
from dnf.report.detection_lines import measure_lines
from dnf.report.folder import columns_of
from dnf.report.html_tables import is_detection, measures
from dnf.report.side_by_side import system_lines

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
PLACES = {
    *(
        "systems",
        "detection",
        "training",
        "page",
        "trivial",
        "open set",
        "likelihood",
        "gaussianity",
        "folder",
        "sweep",
    ),
}


def test_the_documentation_lists_every_figure():
    """To mend it, replace the table by what ``python3 -m dnf.metrics.figures`` prints."""
    table = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert table == figures.markdown().splitlines()


@pytest.mark.parametrize("name", METRICS)
def test_every_figure_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.title and metric.meaning and metric.better in ("", "higher", "lower", "0")
    assert set(metric.shown) <= PLACES


def test_every_place_shows_figures_in_their_order():
    assert all(shown(place) for place in PLACES)
    assert shown("likelihood") == ["loglik", "logp", "logdet", "nll"]
    assert costs_last(["cllr", "auc", "min_cllr", "eer"]) == ["auc", "eer", "cllr", "min_cllr"]


def test_parts_and_differences_are_told_from_names_that_look_like_them():
    assert of_part("kurt_within_c") == ("kurt_within", "c") and of_part("auc") == ("auc", "")
    assert of_part("unknown_c") == ("unknown_c", "")
    assert is_difference("auc_difference") and is_difference("auc_control_difference")
    assert not is_difference("train_eval_difference") and not is_difference("auc_control_gap")


@pytest.mark.parametrize("name, head", [("cllr", "Cllr, bits"), ("auc", "AUC"), ("utt_accuracy", "utterance accuracy")])
def test_heads_of_columns_have_the_unit_unless_it_is_a_share(name, head):
    assert METRICS[name].head == head


def test_a_row_of_the_table_is_all_that_shows_a_new_figure(monkeypatch):
    places = ("systems", "detection", "page", "folder", "sweep")
    monkeypatch.setitem(METRICS, "dprime", Metric("d prime", "deviations", figures.HIGHER, "how far apart", places))
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"system": system, "metric": "dprime", "set": "test", "class": "en+ce", "value": value}
        for system, value in (("dnf", "2.5119"), ("mlp", "2.7211"))
    ]
    assert system_lines(rows)[1].split()[1:] == ["test", "dprime", "en+ce", "2.5119", "2.7211"]
    assert measure_lines(rows, shown("detection"), {})[0].startswith("dprime test en+ce dnf 2.5119")
    assert is_detection("dprime") and "d prime, deviations" in measures(Rows(rows), {}, "", shown("page")).html
    assert [(column.head, column.text(row)) for column, row in columns_of(rows[:1], "dev")] == [
        ("d prime test", "2.5119")
    ]
    assert panels(rows) == {"dprime": ["dprime"]}
