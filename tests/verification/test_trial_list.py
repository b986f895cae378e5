"""Trials: read in each order, made from sets and sessions, and what is wrong with them."""

import itertools
import logging

import numpy as np
import pytest

from dnf.verification import trial_list
from dnf.verification.trial_list import Enrolments, Utterances, all_trials, drawn_pairs, read_trials, warn_of_single

NAMES = [f"{speaker}{n}" for speaker in "abc" for n in range(4)]
SPEAKERS = [name[0] for name in NAMES]
SESSIONS = {name: f"{name[0]}-{int(name[1]) // 2}" for name in NAMES}


@pytest.fixture
def utterances():
    return Utterances.of("test", NAMES, SPEAKERS, {})


def read(path, utterances, text):
    path.write_text(text)
    return read_trials(path, Enrolments.each(utterances), utterances)


@pytest.mark.parametrize(
    "text",
    (
        "a0 a1 target\na0 b1 nontarget\n\nc3 c1 target\n",
        "1 a0 a1\n0 a0 b1\n1 c3 c1\n",
        "a0 a1 1\na0 b1 0\nc3 c1 1\n",
    ),
)
def test_each_order_of_a_file_is_read(tmp_path, utterances, text):
    trials = read(tmp_path / "trials", utterances, text)
    assert [NAMES[n] for n in trials.enrolled] == ["a0", "a0", "c3"]
    assert [NAMES[n] for n in trials.tested] == ["a1", "b1", "c1"]
    np.testing.assert_array_equal(trials.target, [True, False, True])


@pytest.mark.parametrize(
    "text, message",
    (
        ("a0 a1 target\nx9 b1 nontarget\n", "line 2: enrolment x9 is not an enrolment of set test; correct the line"),
        ("a0 a1 target\na0 x9 nontarget\n", "line 2: test x9 is not an utterance of set test"),
        ("a0 a1 target\n", "1 target and 0 nontarget trials; the figures need both kinds"),
        ("a0 b1 nontarget\nb0 c1 nontarget\n", "0 target and 2 nontarget trials"),
        ("", "0 target and 0 nontarget trials"),
        ("a0 a1\n", "first line 'a0 a1': expected '<enrolment> <test> target|nontarget'"),
        ("a0 a1 target\na0 b1 other\n", "line 2: 'a0 b1 other' is not a trial like the first line"),
        ("a0 a1 target\na0 b1\n", "line 2: 'a0 b1' is not a trial like the first line"),
        ("a0 a1 target\na0 b1 nontarget\na0 a1 target\n", "trial a0 a1 and 0 more are more than once"),
        (
            "a0 b1 target\na0 a1 target\na0 c1 nontarget\n",
            "trial a0 b1 and 0 more are against the speakers of set test",
        ),
        (
            "a0 a0 target\na0 c1 nontarget\n",
            "trial a0 a0 and 0 more are with a test utterance that is part of the enrol",
        ),
    ),
)
def test_what_is_wrong_with_trials_is_said_in_a_line(tmp_path, utterances, text, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as error:
        read(tmp_path / "trials", utterances, text)
    assert str(error.value).startswith(str(tmp_path / "trials")) and "\n" not in str(error.value)


def test_an_enrolment_may_have_several_utterances(tmp_path, utterances):
    (tmp_path / "map").write_text("A a0 a1\nB b2\n")
    enrolments = Enrolments.read(tmp_path / "map", utterances)
    (tmp_path / "trials").write_text("A a2 target\nB a2 nontarget\n")
    trials = read_trials(tmp_path / "trials", enrolments, utterances)
    assert [enrolments.names[n] for n in trials.enrolled] == ["A", "B"]
    np.testing.assert_array_equal(enrolments.of, [0, 0, 1])
    assert [NAMES[n] for n in enrolments.members] == ["a0", "a1", "b2"]
    made = all_trials(enrolments, utterances, pairs=False)
    assert len(made.target) == 12 - 2 + 12 - 1 and made.target.sum() == 2 + 3


@pytest.mark.parametrize(
    "text, message",
    (
        ("A a0 a1\nA a2\n", "line 2: enrolment A a second time"),
        ("A a0 x9\n", "line 1: x9 is not an utterance of set test"),
        ("A a0 a0\n", "line 1: enrolment A has an utterance twice"),
        ("A a0 b0\n", "line 1: enrolment A has utterances of several speakers"),
        ("A\n", "line 1: no utterances"),
        ("", "has no enrolment"),
    ),
)
def test_what_is_wrong_with_enrolments_is_said(tmp_path, utterances, text, message):
    (tmp_path / "map").write_text(text)
    with pytest.raises(ValueError, match=message):
        Enrolments.read(tmp_path / "map", utterances)


@pytest.mark.parametrize("sessions", ({}, SESSIONS))
def test_all_pairs_are_of_different_sessions(sessions):
    utterances = Utterances.of("test", NAMES, SPEAKERS, sessions)
    trials = all_trials(Enrolments.each(utterances), utterances, pairs=True)
    found = {(NAMES[a], NAMES[b]) for a, b in zip(trials.enrolled, trials.tested)}
    pairs = itertools.combinations(NAMES, 2)
    assert found == {(a, b) for a, b in pairs if not sessions or sessions[a] != sessions[b]}
    assert len(found) == len(trials.target)


@pytest.mark.parametrize("sessions", ({}, SESSIONS))
def test_so_many_pairs_of_a_speaker_are_drawn(sessions):
    utterances = Utterances.of("test", NAMES, SPEAKERS, sessions)
    trials = drawn_pairs(utterances, 3, seed=1)
    pairs = [(NAMES[a], NAMES[b]) for a, b in zip(trials.enrolled, trials.tested)]
    assert len(set(pairs)) == len(pairs)
    assert [sum(a[0] == b[0] == speaker for a, b in pairs) for speaker in "abc"] == [3, 3, 3]
    assert not sessions or all(sessions[a] != sessions[b] for a, b in pairs)
    again = drawn_pairs(utterances, 3, seed=1)
    np.testing.assert_array_equal(trials.enrolled, again.enrolled)


@pytest.mark.parametrize("sizes", ([1] * 7, [4, 2, 1], [7], [6, 1]))
def test_pairs_are_drawn_from_all_pairs_of_different_sessions(sizes):
    mine, session = np.arange(20, 27), np.zeros(27, int)
    session[mine] = np.repeat(np.arange(len(sizes)), sizes)[[3, 0, 6, 1, 5, 2, 4]]
    every = {(a, b) for a, b in itertools.combinations(mine.tolist(), 2) if session[a] != session[b]}
    rng = np.random.default_rng(1)
    sessions = None if len(sizes) == 7 else session
    assert sorted(map(tuple, trial_list.target_pairs(rng, mine, sessions, 99).tolist())) == sorted(every)
    some = [tuple(pair) for _ in range(300) for pair in trial_list.target_pairs(rng, mine, sessions, 2).tolist()]
    assert len(some) == 300 * min(2, len(every)) and set(some) == every


def test_drawing_pairs_of_a_speaker_of_many_utterances_makes_few_of_them():
    many = 1_000_000  # 5e11 pairs
    utterances = Utterances("test", range(many + 1), np.repeat([0, 1], [many, 1]), np.arange(many + 1) // 3)
    trials = drawn_pairs(utterances, 1000, seed=1)
    assert trials.target.sum() == 1000 and 1000 <= (~trials.target).sum() <= 2000


def test_trials_of_rejected_utterances_are_left_out_with_a_count(tmp_path, utterances, caplog):
    utterances = utterances._replace(rejected=["a7", "b7"])
    with caplog.at_level(logging.WARNING):
        trials = read(tmp_path / "trials", utterances, "a7 a1 target\na0 a1 target\na0 b7 nontarget\na0 b1 nontarget\n")
    assert trials.enrolled.tolist() == [0, 0] and trials.tested.tolist() == [1, 5]
    assert "2 of 4 trials are left out: their utterances were rejected" in caplog.text
    with pytest.raises(ValueError, match="line 1: enrolment a8 is not an enrolment"):
        read(tmp_path / "trials", utterances, "a8 a1 target\n")
    (tmp_path / "map").write_text("A a0 a7\nB b7\n")
    enrolments = Enrolments.read(tmp_path / "map", utterances)
    assert enrolments.names == ["A"] and enrolments.members.tolist() == [0]
    (tmp_path / "trials").write_text("A a2 target\nB a2 nontarget\nA b2 nontarget\n")
    trials = read_trials(tmp_path / "trials", enrolments, utterances)
    assert trials.tested.tolist() == [2, 6] and trials.target.tolist() == [True, False]


def test_speakers_with_one_utterance_are_named(caplog):
    utterances = Utterances.of("test", ["a0", "a1", "b0", "c0"], ["a", "a", "b", "c"], {})
    with caplog.at_level(logging.WARNING):
        warn_of_single(utterances, ["a", "b", "c"])
    assert "set test: 2 of 3 speakers have one utterance and no target trial: b c" in caplog.text
    single = Utterances.of("test", ["a0", "b0"], ["a", "b"], {})
    with pytest.raises(ValueError, match="set test: 0 target and 1 nontarget trials"):
        all_trials(Enrolments.each(single), single, pairs=True)


def test_an_utterance_without_a_session_is_an_error():
    with pytest.raises(ValueError, match="utt2sess: no session of a0 and 11 more of set test"):
        Utterances.of("test", NAMES, SPEAKERS, {"x": "1"})


def test_too_many_trials_are_refused(monkeypatch, utterances):
    monkeypatch.setattr(trial_list, "MOST", 60)
    with pytest.raises(ValueError, match="set test: 72 trials are more than 60; draw some with --per-speaker"):
        all_trials(Enrolments.each(utterances), utterances, pairs=True)
