"""Nothing that is drawn or shown grows faster than the classes or the sets."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drawn_experiment import write_experiment
from PIL import Image
from sklearn.metrics import roc_auc_score

from dnf.decisions import decide
from dnf.decisions.accuracy_rows import decided_most
from dnf.decisions.detection_rows import detection_rows, pair_aucs, summarized
from dnf.experiment.config import resolve
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics import detection
from dnf.metrics.figures import MOST_CLASSES, MOST_DECIDED, class_names
from dnf.metrics.trials import MOST_PAIRS, MOST_ROWS, Trials, most_confused
from dnf.plots import draw
from dnf.plots.drawn_sets import drawn_sets
from dnf.plots.latent_set import MOST_GROUPS, OTHERS, grouped
from dnf.report import answer, answer_text, html_page
from dnf.report.shown_rows import left_out_line, shown_rows

CLASSES = [f"{letter}{n}" for letter in "bdfhjlnp" for n in (0, 1)]


def trials_of_classes(classes: list[str], dev_auc: dict | None = None) -> Trials:
    """Four utterances of two speakers of each class; the nearer two classes, the less their scores tell them apart."""
    rng, labels = np.random.default_rng(1), np.repeat(classes, 4)
    places = np.arange(len(classes)) ** 1.5
    scores = -(((np.repeat(places, 4) + rng.normal(size=len(labels)))[:, None] - places) ** 2)
    names = [f"u{n}" for n in range(len(labels))], [f"{name}{n % 2}" for n, name in enumerate(labels)]
    found = {"mean": scores, "calibrated": scores, "frames": np.full(len(labels), 10)}
    return Trials(*names, labels, found, classes, dev_auc=dev_auc or {})


def test_up_to_eight_pairs_are_all_there_and_of_more_those_of_lowest_auc_on_dev():
    few = [f"a+{n}" for n in range(MOST_PAIRS)]
    assert most_confused(few, {"a+3": 0.5}) == few
    many = [*few, "b+c", "b+d"]
    assert most_confused(many, {"b+c": 0.6, "a+3": 0.5, "a+0": 0.9}, 4) == ["a+3", "b+c", "a+0", "a+1"]
    assert pair_aucs(trials_of_classes(CLASSES[:4])) == {}
    trials = trials_of_classes(CLASSES)
    aucs = pair_aucs(trials)
    assert len(aucs) == 120
    for pair in (trials.pair(*name.split("+")) for name in aucs):
        assert aucs[pair.name] == pytest.approx(roc_auc_score(pair.target, pair.scores["mean"]))
    chosen = trials_of_classes(CLASSES, aucs).pairs()
    assert len(chosen) == MOST_PAIRS
    assert max(aucs["+".join(pair)] for pair in chosen) == sorted(aucs.values())[MOST_PAIRS - 1]


def test_rows_of_pairs_stop_at_their_limit_and_only_the_shown_ones_have_intervals():
    classes = [f"c{n:02d}" for n in range(20)]
    trials = trials_of_classes(classes)
    trials = trials_of_classes(classes, pair_aucs(trials))
    rows = detection_rows(trials, resolve([]).calibrate, 10, 1, set="a")
    assert len([row for row in rows if row["metric"] == "auc"]) == MOST_ROWS
    assert len([row for row in rows if row["metric"] == "cllr" and row["class"].count("+") == 19]) == 1


def test_more_than_a_hundred_classes_have_rows_of_all_together(tmp_path):
    classes = [f"c{n:03d}" for n in range(MOST_CLASSES + 1)]
    trials = trials_of_classes(classes)
    assert trials.pairs() == [] and pair_aucs(trials) == {}
    rows = detection_rows(summarized(trials), resolve([]).calibrate, 10, 1, set="a")
    assert [(row["metric"], row["class"]) for row in rows] == [("rank_auc", "all"), ("cllr", "all")]
    mean, columns = trials.scores["mean"], trials.columns
    others = [np.delete(row, column) for row, column in zip(mean, columns)]
    aucs = [(row[column] > rest).mean() for row, column, rest in zip(mean, columns, others)]
    assert float(rows[0]["value"]) == pytest.approx(np.mean(aucs), abs=1e-6) and 0.5 < np.mean(aucs) < 1
    assert float(rows[1]["value"]) == pytest.approx(detection.cllr(mean, columns), abs=1e-6)
    assert "none are of pairs" in left_out_line(rows, tmp_path)[0]


def test_a_confusion_row_has_the_true_class_and_those_decided_most():
    counts = Counter({("decided", "c1"): 5, ("decided", "c19"): 2, ("frames", "c7"): 30, ("frames", "c1"): 80})
    assert decided_most("c0", counts, ["c0", "c1", "c2"]) == ["c0", "c1", "c2"]
    assert decided_most("c0", counts, [f"c{n}" for n in range(20)]) == ["c0", "c1", "c7", "c19"]
    everywhere = Counter({("frames", f"c{n}"): n for n in range(20)})
    assert decided_most("c0", everywhere, [f"c{n}" for n in range(20)]) == ["c0", *(f"c{n}" for n in range(13, 20))]


def test_many_classes_are_named_by_the_first_and_the_last():
    assert class_names("a+b+c") == "a+b+c"
    assert class_names("+".join(CLASSES)) == "b0+...+p1 (16 classes)"


def test_rows_of_pairs_beyond_the_most_confused_are_not_shown(tmp_path):
    pairs = [f"a+c{n}" for n in range(10)]
    rows = [{"metric": "auc", "set": "t", "class": pair, "value": "1"} for pair in pairs]
    rows.append({"metric": "skew_c", "set": "t", "class": "a+b", "value": "0"})
    write_tsv(tmp_path / "pairs.tsv", [{"class": pair, "auc": 0.9 - n / 100} for n, pair in enumerate(pairs)])
    shown = shown_rows(rows, tmp_path)
    assert [row["class"] for row in shown] == [*pairs[2:], "a+b"]
    assert "lowest AUC of the flow on dev" in left_out_line(rows, tmp_path)[0]
    assert shown_rows(rows[:8], tmp_path) == rows[:8] and left_out_line(rows, tmp_path / "other") == []


def test_of_many_sets_and_groups_some_are_drawn():
    names, config = [f"t{n:02d}" for n in range(40)] + ["dev", "train"], resolve([])
    assert drawn_sets(names[:16], config) == names[:16]
    assert drawn_sets(names, config) == names[:16]
    assert drawn_sets(names, resolve(["plots.sets=[t39, t07]"])) == ["t07", "t39"]
    groups, numbers = grouped([(f"c{n:02d}", "t") for n in range(30)] + [("c29", "t")])
    assert len(groups) == MOST_GROUPS and groups[-1] == OTHERS and ("c29", "t") in groups
    assert (numbers == MOST_GROUPS - 1).sum() == 15


def test_a_long_table_says_where_its_rest_is():
    html = html_page.table(["set"], [[f"t{n}"] for n in range(html_page.MOST_ROWS + 3)], keys=1)
    assert html.count("<tr>") == html_page.MOST_ROWS + 1 and "3 more rows" in html


def test_words_are_broken_in_columns_with_a_long_word_alone():
    rows = [["en_other", "a" * 15, "0.5"], ["test", "a", "0.5"]]
    html = html_page.table(["set", "class", "autocorrelation"], rows, keys=2)
    assert re.findall(r'<th scope="row"[^>]*>|<td[^>]*?data', html)[:3] == [
        '<th scope="row">', '<th scope="row" class="long">', '<td class="long" data'
    ]  # fmt: skip
    assert html.count("long") == 6


def seconds_of_answer(sets: int) -> float:
    """Processor time of the first lines of results.txt for so many test sets of two known classes and an unseen one."""
    rows = []
    for name in (f"t{n:04d}" for n in range(sets)):
        for label in ("a", "b", "all"):
            rows.append({"metric": "utt_accuracy", "class": label} | {"set": name})
            rows += [{"metric": metric, "class": label} | {"set": name} for metric in answer.DENSITIES]
        shares = [("a", "a"), ("b", "b"), ("z", "a"), ("z", "b")]
        rows += [{"metric": "utt_share", "class": true, "decided": other, "set": name} for true, other in shares]
        rows += [{"metric": f"{m}_{part}", "class": "a+b", "set": name} for m in answer.SHAPES for part in "cr"]
    rows = [
        {"system": "dnf", "value": "0.5", "low": "", "high": "", "count": "1", "total": "2", "speakers": "1"} | row
        for row in rows
    ]
    times = []
    for _ in range(3):
        start = time.process_time()
        answer_text.densities(answer.answer(Path("exp"), rows, resolve([])))
        times.append(time.process_time() - start)
    return min(times)


def test_the_time_of_the_answer_grows_as_the_sets():
    assert seconds_of_answer(1200) < 8 * seconds_of_answer(300)


@pytest.mark.slow
def test_pictures_and_rows_of_sixteen_classes_and_forty_sets_are_bounded(tmp_path):
    test = {f"t{n:02d}": dict.fromkeys(CLASSES[n % 4 :: 4] if n else CLASSES, 2) for n in range(40)}
    sets = {"train": dict.fromkeys(CLASSES, 4), "dev": dict.fromkeys(CLASSES, 2), **test}
    exp = write_experiment(tmp_path / "many", CLASSES, 3, sets)
    words = ("plots.max_points=200", "plots.tsne_points=40", "plots.dpi=50", "plots.sets=[dev, t00, t01]")
    resolve([*words, "report.bootstrap=20"]).save(exp / "config.yaml")
    written = draw.make_plots(exp)
    assert decide.main([str(exp)]) == 0
    sizes = {path: Image.open(path).size for path in (exp / "plots").iterdir()}
    assert max(height for _, height in sizes.values()) <= 1200
    assert len([path for path in written if path.name.startswith("llr_hist")]) == 3
    assert len([path for path in sizes if path.name.startswith("detection")]) == 3
    rows = read_tsv(exp / "accuracy.tsv")
    aucs = Counter(row["set"] for row in rows if row["metric"] == "auc")
    assert aucs["dev"] == aucs["t00"] == 120 and aucs["t01"] == 6
    shown = Counter(row["set"] for row in shown_rows(rows, exp) if row["metric"] == "auc")
    assert shown["dev"] == shown["t00"] == MOST_PAIRS and shown["t01"] == 6
    of_class = Counter((row["set"], row["class"]) for row in rows if row["metric"] == "utt_share")
    assert max(of_class.values()) <= MOST_DECIDED
    assert json.loads((exp / "latents/t00/meta.json").read_text())["classes"] == CLASSES
