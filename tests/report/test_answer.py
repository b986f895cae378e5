"""The answer of an experiment: its tables hold test sets alone, and its sentences say no more than intervals allow."""

from __future__ import annotations

from pathlib import Path

import pytest
from result_rows import WORDS, row, two_class_rows

from dnf.experiment.config import resolve
from dnf.report.answer import Answer, answer
from dnf.report.answer_text import text


def made(rows: list[dict], *words: str) -> Answer:
    return answer(Path("exp/a"), rows, resolve([*WORDS, *words]))


def the(sentences: list[str], start: str) -> str:
    (found,) = [sentence for sentence in sentences if sentence.startswith(start)]
    return found


def test_tables_hold_test_sets_with_the_control_behind_its_set_and_the_best_other_system_on_dev():
    got = made(two_class_rows())
    assert [(line.set, line.label, line.control_of) for line in got.accuracy] == [
        ("test", "all", ""), ("test", "en", ""), ("test", "ce", ""), ("mic", "en", "test"), ("wild", "en", ""),
    ]  # fmt: skip
    assert [(line.set, line.cells["auc", "dnf"]["value"]) for line in got.detection] == [
        ("test", "0.99"),
        ("mic", "0.9"),
    ]
    assert got.systems == ["dnf", "mlp"]
    assert {line.set for table in (got.density, got.gaussianity) for line in table} == {"test", "mic", "wild"}
    assert [line.part for line in got.gaussianity] == ["c100"] * 3 and len(got.trained) == 2


@pytest.mark.parametrize(
    "difference, p, words",
    [
        ((-0.09, -0.01), 0.01, "The flow loses to mlp on test by calibrated utterance accuracy: 0.9200 against 0.9600"),
        ((-0.09, -0.01), 0.125, "The flow does not differ significantly from mlp on test"),
        ((-0.09, 0.02), 0.01, "The flow does not differ significantly from mlp on test"),
        ((), "", "The flow cannot be judged against mlp on test"),
        ((0.01, 0.09), 0.01, "The flow is better than mlp on test"),
    ],
)
def test_a_system_is_better_where_interval_and_p_value_say_so(difference, p, words):
    rows = two_class_rows(difference=difference, p=p)
    for found in rows:
        if found["metric"].endswith("accuracy_calibrated_difference") and difference and difference[0] > 0:
            found["value"] = "0.04"
    sentence = made(rows).sentences[0]
    assert sentence.startswith(words) and ("no interval" in sentence) == (not difference)


@pytest.mark.parametrize(
    "gap, words",
    [((0.01, 0.2), "does not hold"), ((-0.05, 0.2), "shows no significant loss"), ((), "cannot be judged")],
)
def test_the_control_holds_unless_its_loss_leaves_0_out(gap, words):
    sentence = the(made(two_class_rows(gap=gap)).sentences, "Control mic")
    assert sentence.startswith(f"Control mic {words}: utterance accuracy of en ")
    assert ("the channel may explain it" in sentence) == (words == "does not hold")


def test_predicted_scores_are_said_beside_those_of_timing():
    ends = {"fused": (0.7, 0.85), "timing": (0.68, 0.84)}
    rows = [row("assess_utt_pearson", "test", "ce", 0.8, ends[by], decided=by) for by in ends]
    rows.append(row("assess_partial", "test", "ce", 0.2, (0.01, 0.39), decided="latents"))
    sentence = the(made(two_class_rows() + rows).sentences, "Predicted")
    assert sentence == (
        "Predicted expert scores of test: correlation 0.8000 (0.700-0.850), timing alone 0.8000 (0.680-0.840); partial "
        "correlation of latents given timing 0.2000 (0.010-0.390)."
    )


@pytest.mark.parametrize(
    ("against_en", "against_ce", "clause"),
    [
        ((0.9, 0.99), (0.4, 0.6), ": it separates en from all others."),
        ((0.4, 0.6), (0.9, 0.99), ": it separates ce from all others."),
        ((0.9, 0.99), (0.6, 0.8), "."),
        ((), (), "."),
    ],
)
def test_what_the_ratio_detects_is_said_where_intervals_show_it(against_en, against_ce, clause):
    rows = [
        row("auc_unseen", "test", "je", 0.95, against_en, decided="en"),
        row("auc_unseen", "test", "je", 0.55, against_ce, decided="ce"),
    ]
    sentence = the(made(two_class_rows() + rows).sentences, "AUC of the ratio")
    assert sentence.startswith("AUC of the ratio on test for en against ce 0.9900 (0.970-1.000), je 0.9500")
    assert "; for ce against je 0.5500" in sentence and sentence.endswith(clause)
    assert ("it separates" in sentence) == ("it separates" in clause)


def test_without_a_test_set_nothing_is_said_of_one():
    got = made([found for found in two_class_rows() if found["set"] in ("train", "dev", "")])
    assert got.sentences[0].startswith("No test set was scored") and got.trained[1].startswith("tested on nothing")
    assert not got.accuracy and not got.density and len(got.sentences) == 2


def test_a_control_that_may_be_at_chance_itself_is_not_said_to_hold():
    rows = [found | ({"low": "0.4"} if found["metric"] == "auc_control" else {}) for found in two_class_rows()]
    rows.append(row("auc_control_gap", "test", "en+ce", 0.09, (-0.05, 0.3)))
    sentence = the(made(rows).sentences, "Control mic")
    assert sentence.startswith("Control mic cannot be judged: AUC of en+ce 0.9000 (0.400-0.950) against 0.9900 on test")


def test_without_a_control_the_channel_may_explain_everything():
    rows = [r for r in two_class_rows() if r["set"] != "mic" and "control" not in r["metric"]]
    assert the(made(rows).sentences, "There is no control").endswith("the channel may explain all figures.")


def test_what_an_unseen_class_was_taken_for_and_whether_that_is_more_than_an_even_split():
    sentence = the(made(two_class_rows()).sentences, "je (unseen)")
    assert "taken for en in 72 of 90 utterances of test: 0.8000 (0.650-0.950)" in sentence and "even" not in sentence
    rows = two_class_rows()
    for found in rows:
        found["low"] = "0.4" if found["metric"] == "utt_share" else found["low"]
    assert "not beyond an even split" in the(made(rows).sentences, "je (unseen)")


def test_what_was_odd_in_training():
    assert "Nothing odd in training" in made(two_class_rows()).sentences[-1]
    odd = {"spikes": "3", "restores": "2", "best_step": "400", "train_eval_difference": "0.25"}
    rows = [found | {"value": odd.get(found["metric"], found["value"])} for found in two_class_rows()]
    sentence = the(made(rows).sentences, "Odd in training")
    for words in ("3 spikes", "2 restores", "step 400 of 2000", "train/eval difference 0.250000 nats"):
        assert words in sentence


def test_a_flow_that_may_be_no_better_than_chance_is_said_to_be():
    rows = [
        found | ({"low": "0.45", "value": "0.55"} if found["metric"] == "auc" else {}) for found in two_class_rows()
    ]
    assert (
        made(rows).sentences[0]
        == "The flow is not shown to be better than chance on test: AUC 0.5500 (0.450-1.000), chance 0.5."
    )
    assert the(made(rows).sentences, "Control mic").startswith("Control mic says nothing")


def test_a_flow_without_classes_has_densities_alone():
    got = made([r for r in two_class_rows() if r["metric"] in ("loglik", "logp", "logdet", "nll", "kurt_c")])
    assert not got.accuracy and not got.detection and got.density
    assert got.sentences[0].startswith("This flow has no classes") and "test je" in got.sentences[1]


def test_of_many_classes_the_total_and_the_worst_are_shown():
    labels = [f"c{n:03d}" for n in range(200)]
    rows = [row("utt_accuracy", "test", label, n / 200) for n, label in enumerate(labels)]
    got = made([*rows, row("utt_accuracy", "test", "all", 0.5)], "data.classes=[]")
    assert [line.label for line in got.accuracy] == ["all", "c000", "c001", "c002"]
    assert "c000 ... c199 (200)" in got.trained[0]


# ---- the first lines of results.txt --------------------------------------------------------------


def renamed(rows: list[dict], names: dict[str, str]) -> list[dict]:
    """The same figures of sets and classes of other names."""
    return [
        found | {key: "+".join(names.get(part, part) for part in found[key].split("+")) for key in NAMED}
        for found in rows
    ]


NAMED = ("set", "class", "decided")
LONG = {"test": "test_" + "x" * 90, "mic": "control_" + "y" * 90, "en": "english_" + "z" * 80, "je": "j" * 120}


@pytest.mark.parametrize(
    "rows, words",
    [
        (two_class_rows(), ()),
        (two_class_rows((0.01, 0.2), (), ""), ()),
        (renamed(two_class_rows(), LONG), (f"data.controls={{{LONG['test']}: {LONG['mic']}}}", "data.classes=[]")),
        ([row("utt_accuracy", "test", f"c{n:03d}", n / 200) for n in range(200)], ("data.classes=[]",)),
        ([row("loglik", f"t{n}", "en", n) for n in range(60)], ()),
        ([], ()),
    ],
    ids=("usual", "no interval", "long names", "many classes", "many sets", "no figures"),
)
def test_the_answer_has_25_lines_of_100_columns_at_most(rows, words):
    lines = text(made(rows, *words))
    assert 3 <= len(lines) <= 25 and max(map(len, lines)) <= 100
    written = " ".join("\n".join(lines).split())
    assert all(sentence in written for sentence in made(rows, *words).sentences)
    if rows:
        assert sum(line.startswith("set ") for line in lines) >= 1


def test_ten_seconds_are_enough_to_find_accuracy_control_systems_and_unseen_class():
    lines = text(made(two_class_rows()))
    head = next(n for n, line in enumerate(lines) if "utterance dnf" in line)
    assert "0.9300 (0.870-0.990)" in lines[head + 1] and lines[head + 1].split()[:2] == ["test", "all"]
    for words in (
        "control mic ",
        "- Control mic shows no significant loss",
        "- The flow loses to mlp",
        "- je (unseen) was taken for en",
    ):
        assert any(line.startswith(words) for line in lines)
