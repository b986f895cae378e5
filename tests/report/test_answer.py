"""The answer of an experiment: its tables hold test sets alone, and its sentences say no more than intervals allow."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from result_rows import WORDS, row, two_class_rows

from dnf.experiment.classes import UNLABELLED
from dnf.experiment.config import resolve
from dnf.report.answer import Answer, answer
from dnf.report.answer_text import text
from dnf.report.doubt_sentence import foreign
from dnf.report.figure_index import CALIBRATED
from dnf.report.wording import Sentence


def made(rows: list[dict], *words: str) -> Answer:
    return answer(Path("exp/a"), rows, resolve([*WORDS, *words]))


def the(got: Answer, lead: str) -> str:
    (found,) = [sentence.text for sentence in got.sentences if sentence.lead == lead]
    return found


def test_tables_hold_test_sets_with_the_control_behind_its_set_and_the_best_other_system_on_dev():
    got = made(two_class_rows())
    assert [(line.set, line.label, line.control_of) for line in got.accuracy] == [
        ("test", "all", ""), ("mic", "en", "test"), ("test", "en", ""), ("test", "ce", ""), ("wild", "en", ""),
    ]  # fmt: skip
    assert [(line.set, line.cells["auc", "dnf"]["value"]) for line in got.detection] == [
        ("test", "0.99"),
        ("mic", "0.9"),
    ]
    assert got.systems == ["dnf", "mlp"]
    assert {line.set for table in (got.density, got.gaussianity) for line in table} == {"test", "mic", "wild"}
    assert [line.part for line in got.gaussianity] == ["c100"] * 3 and len(got.trained) == 2


def test_sets_unlike_training_are_named_with_their_two_largest_differences_and_the_factors():
    at_home = {"set": "test", "verdict": "home", "factor": "0.95", "unlike": ""}
    phone = {"set": "phone", "verdict": "foreign", "factor": "0.5000", "unlike": "band limited, quieter, flatter"}
    loud = {"set": "loud", "verdict": "foreign", "factor": "1.0000", "unlike": "louder"}
    assert not list(foreign([at_home]))
    assert [sentence.text for sentence in foreign([at_home, phone])] == [
        "phone is unlike training: band limited, quieter. Log-likelihood ratios there are multiplied by 0.50."
    ]
    assert [sentence.text for sentence in foreign([phone, loud, phone])] == [
        "phone is unlike training: band limited, quieter; loud: louder; 1 more. "
        "Log-likelihood ratios of phone are multiplied by 0.50; others are kept."
    ]
    assert next(foreign([phone | {"towards": "ce"}, loud | {"towards": ""}])).text.endswith(
        ". Log-likelihood ratios of phone lose the bias of their channel (towards ce) and are multiplied by 0.50; "
        "others are kept."
    )
    assert next(foreign([loud])).text.endswith(
        ". Log-likelihood ratios there are kept, since normalization removes the difference."
    )


def test_a_doubted_control_is_compared_without_doubt():
    rows = [row("cllr", "test", "en+ce", 0.08, (0.05, 0.09)), row("cllr_control", "test", "en+ce", 0.123, (0.1, 0.2))]
    values = {"": 0.079, "_control": 0.085, "_control_gap": -0.006}
    rows += [
        row(f"cllr_without_doubt{ending}", "test", "en+ce", value, (value - 0.01, value + 0.01))
        for ending, value in values.items()
    ]
    assert "Cllr without doubt 0.079 -> 0.085, difference -0.006 (-0.016 to 0.004): undecided" in the(
        made(two_class_rows(gap=(-0.1, 0.1)) + rows), "Control"
    )


def test_the_headline_says_how_many_are_right():
    first = made(two_class_rows()).sentences[0]
    assert first == (
        "Accuracy",
        "82 of 90 utterances of test are right, 0.930 (0.870-0.990, 6 speakers); calibrated 0.920 (0.800-0.990); "
        "frames 0.660 (0.600-0.700).",
    )
    right = next(
        r["value"] for r in two_class_rows() if (r["metric"], r["set"], r["class"]) == ("utt_accuracy", "test", "all")
    )
    same = [found | ({"value": right} if found["metric"] == CALIBRATED else {}) for found in two_class_rows()]
    assert "calibrated" not in the(made(same), "Accuracy")


@pytest.mark.parametrize(
    "difference, p, words",
    [
        ((-0.09, -0.01), 0.01, "dnf loses to mlp (p 0.0100)"),
        ((-0.09, -0.01), 0.125, "dnf undecided against mlp (p 0.1250)"),
        ((-0.09, 0.02), 0.01, "dnf undecided against mlp (p 0.0100)"),
        ((), "", "dnf cannot be judged against mlp"),
        ((0.01, 0.09), 0.01, "dnf beats mlp (p 0.0100)"),
    ],
)
def test_all_systems_are_ranked_and_one_is_better_where_interval_and_p_value_say_so(difference, p, words):
    rows = two_class_rows(difference=difference, p=p)
    for found in rows:
        if found["metric"].endswith("accuracy_calibrated_difference") and difference and difference[0] > 0:
            found["value"] = "0.04"
    clause, ranked = words.removeprefix("dnf "), "mlp 0.960, gmm 0.950, dnf 0.920. dnf "
    sentence = the(made(rows), "Best")
    assert sentence.startswith(f"by calibrated utterance accuracy on test: {ranked}")
    assert clause in sentence and (clause.startswith("cannot") or "cannot be judged against gmm" in sentence)


def test_systems_are_ranked_by_cllr_where_there_is_one_and_chance_is_named():
    costs = {"dnf": (0.07, 0.09), "gmm": (0.09, 0.12), "lda": (1.0, 1.0)}
    rows = [row("cllr", "test", "en+ce", value, (0.05, high), system=of) for of, (value, high) in costs.items()]
    tests = {"gmm": (-0.02, (-0.04, -0.01), 0.004), "lda": (-0.93, (-0.95, -0.9), 0.002)}
    rows += [
        row("cllr_difference", "test", "en+ce", value, ends, system=of, p=p, fewest=6)
        for of, (value, ends, p) in tests.items()
    ]
    assert the(made(two_class_rows() + rows), "Best") == (
        "by Cllr on test: dnf 0.070, gmm 0.090, lda 1.000 (chance). dnf beats gmm (p 0.0040), lda (p 0.0020), "
        "only 6 speakers per class."
    )


def test_figures_are_marked_as_better_where_a_paired_test_says_so():
    assert {line.set: line.better for line in made(two_class_rows()).accuracy if line.better} == {
        "test": frozenset({(CALIBRATED, "mlp")})
    }
    assert not any(line.better for line in made(two_class_rows(p=0.2)).accuracy)


@pytest.mark.parametrize(
    "gap, words",
    [
        ((0.01, 0.2), "does not hold"),
        ((-0.05, 0.2), "neither shows nor excludes a loss"),
        ((), "cannot be judged"),
    ],
)
def test_the_control_holds_unless_its_loss_leaves_0_out(gap, words):
    sentence = the(made(two_class_rows(gap=gap)), "Control")
    assert sentence.startswith(f"mic {words}: utterance accuracy of en 0.940 -> 0.950, difference 0.100 (")
    assert ("The channel may explain it" in sentence) == (words == "does not hold")


def test_a_control_shows_no_loss_where_it_is_better_beyond_chance():
    rows = [
        found | ({"value": "-0.1"} if found["metric"] == "utt_accuracy_control_gap" else {})
        for found in two_class_rows(gap=(-0.2, -0.05))
    ]
    sentence = the(made(rows), "Control")
    assert sentence.startswith("mic shows no loss: ") and sentence.endswith("better beyond chance.")


def test_the_page_explains_figures_without_doubt_where_there_are_some():
    explained = "without doubt: before ratios are shrunk in data unlike training"
    cost = row("cllr_without_doubt", "test", "en+ce", 0.07, (0.05, 0.09))
    assert explained in made([*two_class_rows(), cost]).glossary and explained not in made(two_class_rows()).glossary


def test_a_control_at_the_ceiling_cannot_show_a_loss_and_the_loss_of_another_system_is_said():
    rows = [
        found | ({"value": "1.0", "count": "90"} if found["metric"] == "utt_accuracy" else {})
        for found in two_class_rows(gap=(0.0, 0.0))
    ]
    rows += [row("cllr", "test", "en+ce", 0.07, (0.05, 0.09)), row("cllr_control", "test", "en+ce", 0.09, (0.06, 0.12))]
    rows.append(row("cllr_control_gap", "test", "en+ce", -0.02, (-0.05, 0.01)))
    rows.append(row("cllr_control_gap", "test", "en+ce", -0.06, (-0.11, -0.002), system="gmm"))
    assert the(made(rows), "Control") == (
        "mic: 90 of 90 are right, as on test: both are at the ceiling with 6 speakers, which cannot show a loss. "
        "Cllr 0.070 -> 0.090, difference -0.020 (-0.050 to 0.010): undecided. gmm (by Cllr) gets worse beyond chance."
    )


def test_predicted_scores_are_said_beside_those_of_timing():
    ends = {"fused": (0.7, 0.85), "timing": (0.68, 0.84)}
    rows = [row("assess_utt_pearson", "test", "ce", 0.8, ends[by], decided=by) for by in ends]
    rows.append(row("assess_partial", "test", "ce", 0.2, (0.01, 0.39), decided="latents"))
    rows += [r | {"decided": f"fluency.{r['decided']}", "value": "0.9"} for r in rows]  # which the answer leaves out
    assert the(made(two_class_rows() + rows), "Scores") == (
        "predicted expert scores of test: correlation 0.800 (0.700-0.850), timing alone 0.800 (0.680-0.840); partial "
        "correlation of latents given timing 0.200 (0.010-0.390)."
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
    two = [found for found in two_class_rows() if found["metric"] != "open_set_false"]  # so that nothing is odd
    got = made([found for found in two if not found["metric"].endswith("_share")] + rows)
    sentence = the(got, "Ratio")
    assert sentence.startswith("AUC on test for en against ce 0.990 (0.970-1.000), je 0.950")
    assert "; for ce against je 0.550" in sentence and sentence.endswith(clause)
    assert ("it separates" in sentence) == ("it separates" in clause)


def test_there_are_five_sentences_at_most_and_the_ratio_goes_first():
    rows = [row("auc_unseen", "test", "je", 0.95, (0.9, 0.99), decided=known) for known in ("en", "ce")]
    leads = [lead for lead, _ in made(two_class_rows() + rows).sentences]
    assert len(leads) == 5 and "Ratio" not in leads and {"Accuracy", "Best", "Control"} <= set(leads)


def test_without_a_test_set_nothing_is_said_of_one():
    got = made([found for found in two_class_rows() if found["set"] in ("train", "dev", "")])
    assert the(got, "Accuracy").startswith("no test set was scored") and got.trained[1].startswith("tested on nothing")
    assert not got.accuracy and not got.density and [lead for lead, _ in got.sentences] == ["Accuracy", "Odd"]


def test_a_control_that_may_be_at_chance_itself_is_not_said_to_hold():
    rows = [found | ({"low": "0.4"} if found["metric"] == "auc_control" else {}) for found in two_class_rows()]
    rows.append(row("auc_control_gap", "test", "en+ce", 0.09, (-0.05, 0.3)))
    sentence = the(made(rows), "Control")
    assert sentence.startswith("mic cannot be judged: ")
    assert "AUC 0.990 -> 0.900 (0.400-0.950), which may be chance" in sentence


def test_without_a_control_the_channel_may_explain_everything():
    rows = [r for r in two_class_rows() if r["set"] != "mic" and "control" not in r["metric"]]
    assert the(made(rows), "Control").endswith("the channel may explain all figures.")


def test_what_an_unseen_class_was_taken_for_and_whether_that_is_more_than_an_even_split():
    sentence = the(made(two_class_rows()), "Unseen")
    assert sentence == "je was taken for en in 72 of 90 utterances of test, 0.800 (0.650-0.950)."
    rows = two_class_rows()
    for found in rows:
        found["low"] = "0.4" if found["metric"] == "utt_share" else found["low"]
    assert "not beyond an even split" in the(made(rows), "Unseen")


def test_the_auc_of_flagging_names_what_it_is_against():
    rows = [row("open_set_auc", "test", "je", value, decided=pool) for pool, value in (("known", 0.7), ("test", 0.8))]
    sentence = the(made(two_class_rows() + rows), "Unseen")
    assert sentence.endswith(". AUC of flagging it against known classes of test 0.800, of all test sets 0.700.")
    sentence = the(made([*two_class_rows(), rows[0]]), "Unseen")
    assert sentence.endswith(". AUC of flagging it against known classes of all test sets 0.700.")
    rows[0]["value"] = rows[1]["value"]
    sentence = the(made(two_class_rows() + rows), "Unseen")
    assert sentence.endswith(". AUC of flagging it against known classes of test 0.800.")


def test_a_set_without_known_classes_says_nothing_of_systems_and_controls():
    rows = [row("utt_share", "calls", UNLABELLED, 0.9, decided="en")]
    rows += [of_fit for of_fit in two_class_rows() if of_fit["set"] in ("train", "dev")]
    said = made(rows).sentences
    assert said[0].text == "no utterance of calls has a class, so nothing shows the accuracy on new speakers."
    assert {"Best", "Control"}.isdisjoint(sentence.lead for sentence in said)


def test_what_was_odd_alone():
    assert the(made(two_class_rows()), "Odd") == "nothing (no spikes of the loss, no restores)."
    odd = {"spikes": "3", "restores": "2", "best_step": "400", "train_eval_difference": "0.25"}
    rows = [found | {"value": odd.get(found["metric"], found["value"])} for found in two_class_rows()]
    for found in rows:
        found["value"] = "98" if found["metric"] == "nll" and found["set"] == "dev" else found["value"]
        found["value"] = "99" if found["metric"] == "nll" and found["set"] == "train" else found["value"]
    rows.append(row("open_set_false", "wild", "en", 0.6, (0.06, 0.9), count=54, total=90))
    rows.append(row("open_set_false", "test", "en", 0.1, (0.04, 0.2), count=9, total=90))
    assert the(made(rows), "Odd") == (
        "54 of 90 known utterances of wild (en) are flagged as unseen; 3 spikes of the loss in training; 2 restores after "
        "a loss that was not finite; nll on dev (train.select) was best already at step 400 of 2000; training and "
        "evaluation differ by 0.250 nats per frame; dev is more likely than train: NLL 98.00 against 99.00."
    )


def test_a_flow_that_may_be_no_better_than_chance_is_said_to_be():
    rows = [
        found | ({"low": "0.45", "value": "0.55"} if found["metric"] == "auc" else {}) for found in two_class_rows()
    ]
    weak = "This is not shown to be better than chance: AUC 0.550 (0.450-1.000), chance 0.5."
    assert the(made(rows), "Accuracy").endswith(weak)
    assert the(made(rows), "Control").startswith("mic says nothing")


def test_densities_are_of_the_known_classes_first():
    first = made(two_class_rows()).density[0]
    assert (first.set, first.label, first.cells["loglik", "dnf"]["value"]) == ("test", "ce+en", "-100.5")


def test_a_flow_without_classes_has_densities_alone():
    got = made([r for r in two_class_rows() if r["metric"] in ("loglik", "logp", "logdet", "nll", "kurt_c")])
    assert not got.accuracy and not got.detection and got.density
    sentence = the(got, "Density")
    assert sentence.startswith("this flow has no classes") and "test je" in sentence


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
        ([row("loglik", f"t{n}", "en", n, total=9) for n in range(60)], ()),
        ([], ()),
    ],
    ids=("usual", "no interval", "long names", "many classes", "many sets", "no figures"),
)
def test_the_answer_has_25_lines_of_100_columns_at_most(rows, words):
    lines = text(made(rows, *words))
    assert 3 <= len(lines) <= 25 and max(map(len, lines)) <= 100
    written = " ".join("\n".join(lines).split())
    assert all(f"- {lead}: {said}" in written for lead, said in made(rows, *words).sentences)
    if rows:
        assert sum(line.startswith("set ") for line in lines) >= 1


@pytest.mark.parametrize("said", range(1, 20))
def test_no_table_has_a_head_and_no_line(said):
    rows = two_class_rows() + [row("loglik", "test", label, -100) for label in ("en", "ce")]
    lines = text(dataclasses.replace(made(rows), sentences=[Sentence("Odd", "x" * 90)] * said))
    below = [after.split()[:1] for line, after in zip(lines, lines[1:]) if line.startswith("set ")]
    assert below and all(first in (["test"], ["mic"], ["control"]) for first in below)


def test_ten_seconds_are_enough_to_find_accuracy_control_systems_and_unseen_class():
    lines = text(made(two_class_rows()))
    head = next(n for n, line in enumerate(lines) if line.startswith("set "))
    assert lines[head - 1].split() == ["mlp:", "best", "on", "dev", "utterance", "calibrated", "frame"]
    assert lines[head].split() == ["set", "class", "dnf", "mlp", "dnf", "mlp", "dnf", "mlp"]
    assert lines[head + 1].split()[:5] == ["test", "all", "0.930", "(0.870-0.990)", "82/90"]
    for words in (
        "control mic ",
        "- Accuracy: 82 of 90 utterances of test are right",
        "- Control: mic neither shows nor excludes a loss",
        "- Best: by calibrated utterance accuracy on test: mlp 0.960",
        "- Unseen: je was taken for en",
    ):
        assert any(line.startswith(words) for line in lines)


def test_the_calibrated_column_is_left_out_where_it_says_the_same():
    rows = [found for found in two_class_rows() if found["metric"] != CALIBRATED]
    rows += [
        row(CALIBRATED, **{"name": found["set"], "label": found["class"], "value": float(found["value"])})
        for found in rows
        if found["metric"] == "utt_accuracy"
    ]
    lines = text(made(rows))
    head = next(line for line in lines if "utterance" in line and "frame" in line)
    assert "utterance (also calibrated)" in head and head.count("calibrated") == 1


@pytest.mark.parametrize(("value", "words"), [(0.97, "0.970 (0.960-0.980)"), (0.02, "0.980 (0.970-0.990)"), (0.6, "")])
def test_a_trivial_system_that_comes_close_is_named_beside_the_control(value, words):
    def of(metric: str, value: float) -> dict:
        return row(metric, "test", "en+ce", value, (value - 0.01, value + 0.01))

    rows = two_class_rows() + [of("auc_level", 0.5), of("auc_bands", value), of("auc_bands_control", 0.8)]
    said = the(made(rows), "Control").removeprefix(the(made(two_class_rows()), "Control"))
    close = f" Bands alone has AUC {words} on test and with the control 0.800 (0.790-0.810): close to the flow."
    assert said == (close if words else "")
