"""Spliced vectors by hand: splicing, hop, labels, pieces of utterances, ranges of expert scores."""

import numpy as np
import pytest
import torch

from dnf.experiment.settings import Cmvn, Splice
from dnf.features.frame_store import FrameStore
from dnf.features.windows import Windows

NO_CMVN = Cmvn("none", False)


def row(speaker: str, name: str, values, speech, score=None) -> tuple:
    return speaker, name, np.array(values, dtype=float)[:, None], np.array(speech, dtype=float), score


def open_windows(
    *stores, left=0, right=0, hop=1, cmvn=NO_CMVN, classes=("en", "zh"), keep_unseen=True, **more
) -> Windows:
    return Windows(
        stores,
        Splice(left, right, hop),
        cmvn,
        list(classes),
        keep_unseen=keep_unseen,
        device=torch.device("cpu"),
        **more,
    )


def gathered(of: Windows) -> np.ndarray:
    return of.gather(torch.arange(len(of))).numpy()


def labels(of: Windows) -> list[int]:
    return of.labels(torch.arange(len(of))).tolist()


@pytest.fixture
def toy(write_store, tmp_path) -> FrameStore:
    """Frames of one dim that say where they are: 10..15 and 20..23 of speaker a, 30..34 of b and 40 of c."""
    return write_store(
        tmp_path / "toy",
        {
            "a-1": row("a", "en", range(10, 16), (0, 1, 0, 1, 1, 0), 1.0),
            "a-2": row("a", "en", range(20, 24), (1, 1, 1, 1), 2.5),
            "b-1": row("b", "zh", range(30, 35), (1, 0, 0, 0, 1), 2.0),
            "c-1": row("c", "ja", (40,), (1,)),
        },
    )


def test_splice_repeats_edges_and_takes_context_that_the_vad_removed(toy):
    got = gathered(open_windows(toy, left=2, right=1))
    assert got.dtype == np.float32
    assert got.tolist() == [
        [10, 10, 11, 12],
        [11, 12, 13, 14],
        [12, 13, 14, 15],
        [20, 20, 20, 21],
        [20, 20, 21, 22],
        [20, 21, 22, 23],
        [21, 22, 23, 23],
        [30, 30, 30, 31],
        [32, 33, 34, 34],
        [40, 40, 40, 40],
    ]


def test_a_window_wider_than_the_utterance_stays_in_it(toy):
    assert gathered(open_windows(toy, left=0, right=9))[3].tolist() == [20, 21, 22, 23, 23, 23, 23, 23, 23, 23]


@pytest.mark.parametrize(
    ("hop", "centres"),
    [(1, [11, 13, 14, 20, 21, 22, 23, 30, 34, 40]), (2, [11, 14, 20, 22, 30, 40]), (3, [11, 20, 23, 30, 40])],
)
def test_hop_counts_the_speech_frames_of_each_utterance(toy, hop, centres):
    assert gathered(open_windows(toy, hop=hop))[:, 0].tolist() == centres


def test_labels_are_places_in_the_list_of_classes(toy):
    assert labels(open_windows(toy)) == [0] * 7 + [1, 1, -1]
    assert open_windows(toy, classes=("ja", "zh")).labels(torch.tensor([9, 0, 8])).tolist() == [0, -1, 1]
    assert open_windows(toy).class_counts(["en", "zh"]) == {"en": 7, "zh": 2}


def test_utterances_of_unseen_classes_can_be_left_out(toy):
    of = open_windows(toy, left=1, classes=("zh",), keep_unseen=False)
    assert gathered(of).tolist() == [[30, 30], [33, 34]] and labels(of) == [0, 0]
    assert of.class_counts(["zh"]) == {"zh": 2} and [segment.utt for segment in of.segments()] == ["b-1"]


def test_pieces_begin_anew_and_leave_out_what_is_shorter(toy):
    """Pieces of three: 10-12 and 13-15, 20-22, 30-32; 23, 33, 34 and 40 are tails. Context stays within the piece."""
    of = open_windows(toy, left=2, right=1, piece_frames=3)
    assert gathered(of).tolist() == [
        [10, 10, 11, 12],
        [13, 13, 13, 14],
        [13, 13, 14, 15],
        [20, 20, 20, 21],
        [20, 20, 21, 22],
        [20, 21, 22, 22],
        [30, 30, 30, 31],
    ]
    assert [(s.utt, s.speaker, s.name, s.score, s.first, s.rows) for s in of.segments()] == [
        ("a-1-0000", "a", "en", 1.0, 0, 1),
        ("a-1-0001", "a", "en", 1.0, 1, 2),
        ("a-2-0000", "a", "en", 2.5, 3, 3),
        ("b-1-0000", "b", "zh", 2.0, 6, 1),
    ]


def test_pieces_of_at_most_so_many_frames_divide_an_utterance_evenly(toy):
    """Of at most four: 10-12 and 13-15, 20-23, 30-31 and 32-34, 40; each has its own mean."""
    of = open_windows(toy, right=1, most_frames=4)
    assert gathered(of)[:, 0].tolist() == [11, 13, 14, 20, 21, 22, 23, 30, 34, 40]
    assert gathered(of)[7:].tolist() == [[30, 31], [34, 34], [40, 40]]
    assert [s.utt for s in of.segments()] == [
        "a-1-0000",
        "a-1-0001",
        "a-2-0000",
        "b-1-0000",
        "b-1-0001",
        "c-1-0000",
    ]
    normalized = open_windows(toy, cmvn=Cmvn("utterance", False), most_frames=4)
    got = gathered(normalized)[:, 0]
    assert got.tolist() == [0, -0.5, 0.5, -1.5, -0.5, 0.5, 1.5, 0, 0, 0]
    mean, std = normalized.global_normalization()
    np.testing.assert_allclose([mean.item(), std.item()], [got.mean(), got.std()], atol=1e-6)


def test_a_piece_without_speech_is_left_out_and_the_next_keeps_its_number(toy):
    segments = list(open_windows(toy, piece_frames=1).segments())
    assert [s.utt for s in segments if s.speaker in "bc"] == ["b-1-0000", "b-1-0004", "c-1-0000"]
    assert [s.utt for s in segments if s.utt.startswith("a-1")] == ["a-1-0001", "a-1-0003", "a-1-0004"]


def test_a_piece_as_an_utterance_has_its_own_mean(toy):
    got = gathered(open_windows(toy, cmvn=Cmvn("utterance", False), piece_frames=3))[:, 0]
    assert got.tolist() == [0, -0.5, 0.5, -1, 0, 1, 0]  # of the speech frames 11 | 13 14 | 20 21 22 | 30
    of_speaker = gathered(open_windows(toy, cmvn=Cmvn("speaker", False), piece_frames=3))[:, 0]
    np.testing.assert_allclose(of_speaker[0], 11 - np.mean([11, 13, 14, 20, 21, 22, 23]), rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "utts"),
    [
        ((), ["a-1", "a-2", "b-1", "c-1"]),
        ((1, 2), ["a-1", "b-1"]),
        ((2.0, 2.5), ["a-2", "b-1"]),
        ((1.5, 1.9), []),
        ((0, 9), ["a-1", "a-2", "b-1"]),
    ],
)
def test_scores_are_a_range_with_both_ends(toy, write_store, tmp_path, scores, utts):
    of = open_windows(toy, scores=scores)
    assert [segment.utt for segment in of.segments()] == utts
    assert len(gathered(of)) == len(of) == sum(segment.rows for segment in of.segments())
    plain = write_store(tmp_path / "plain", {f"{s}-1": row(s, "en", (1, 2), (1, 1)) for s in "xy"})
    both = [segment.set for segment in open_windows(toy, plain, scores=scores).segments()]
    assert both == ["toy"] * len(utts) + ["plain"] * 2  # a set without scores stays whole


def test_a_constant_dim_is_not_divided_by_zero(write_store, tmp_path):
    x = np.ones((9, 2))
    x[:, 1] = np.arange(9)
    store = write_store(tmp_path / "flat", {"a-1": ("a", "en", x, np.ones(9))})
    for scope in ("none", "utterance", "speaker"):
        for piece_frames in (None, 4):
            of = open_windows(store, cmvn=Cmvn(scope, True), piece_frames=piece_frames)
            assert np.isfinite(gathered(of)).all() and (of.global_normalization()[1] > 0).all()
