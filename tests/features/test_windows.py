"""Spliced vectors of one set or several, whole utterances or pieces of them, against a plain loop over numpy arrays."""

import gc
import math
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dnf.experiment.settings import Cmvn, Splice
from dnf.features.frame_store import FrameStore
from dnf.features.segments import Segment, concatenate
from dnf.features.warping import warp
from dnf.features.windows import Windows

CPU = torch.device("cpu")
NO_CMVN = Cmvn("none", False)
EVERY_CMVN = [Cmvn(scope, variance) for scope in ("none", "utterance", "speaker") for variance in (False, True)]
EVERY_CMVN.append(Cmvn("window", False, window=8))
every_cmvn = pytest.mark.parametrize("cmvn", EVERY_CMVN, ids=lambda c: f"{c.scope}-{c.variance}")
PIECE = 7


class Row(NamedTuple):
    """An utterance: frames ``(N, F)``, which of them are speech ``(N,)``, expert score."""

    speaker: str
    name: str
    x: np.ndarray
    speech: np.ndarray
    score: float | None = None


def random_rows(seed: int, scored: bool) -> dict[str, Row]:
    """Utterances of 1 to 30 frames by four speakers of three classes; one of them has no speech, one no score."""
    rng, made = np.random.default_rng(seed), {}
    for speaker, name in (("d", "zh"), ("a", "en"), ("b", "zh"), (f"c{seed}", "ja")):
        for n in range(4):
            count = int(rng.integers(1, 31)) if n else 21
            speech = rng.random(count) < 0.6
            speech[rng.integers(count)] = True
            if (speaker, n) == ("a", 3):
                speech[:] = False
            x = rng.normal(rng.normal(8, 3, 4), rng.uniform(0.5, 3, 4), (count, 4))
            score = float(n) / 2 if scored and (speaker, n) != ("d", 2) else None
            made[f"{speaker}-{n}"] = Row(
                speaker, name, x.astype(np.float32).astype(float), speech.astype(np.float32), score
            )
    return made


SETS = {"one": random_rows(3, scored=False), "two": random_rows(4, scored=True), "three": random_rows(5, scored=False)}


@pytest.fixture(scope="module")
def stores(write_store, tmp_path_factory) -> dict[str, FrameStore]:
    root = tmp_path_factory.mktemp("stores")
    return {name: write_store(root / name, rows) for name, rows in SETS.items()}


def open_windows(
    stores, left=0, right=0, hop=1, cmvn=NO_CMVN, classes=("en", "zh"), keep_unseen=True, **more
) -> Windows:
    stores = [stores] if isinstance(stores, FrameStore) else stores
    return Windows(stores, Splice(left, right, hop), cmvn, list(classes), keep_unseen=keep_unseen, device=CPU, **more)


def gathered(of: Windows) -> np.ndarray:
    return of.gather(torch.arange(len(of))).numpy()


def labels(of: Windows) -> list[int]:
    return of.labels(torch.arange(len(of))).tolist()


def normalized(of: Row, begin: int, end: int, rows: dict[str, Row], cmvn: Cmvn) -> np.ndarray:
    """Frames of an utterance after CMVN of its segment ``begin:end``."""
    if cmvn.scope == "none":
        return of.x
    if cmvn.scope == "window":
        x = of.x.copy()
        x[begin:end] = warp(of.x[begin:end].astype(np.float32), cmvn.window, of.speech[begin:end] > 0)
        return x
    spoken = of.x[begin:end][of.speech[begin:end] > 0]
    if cmvn.scope == "speaker":
        spoken = np.concatenate([mate.x[mate.speech > 0] for mate in rows.values() if mate.speaker == of.speaker])
    scale = np.sqrt(np.maximum(spoken.var(0), 1e-8)) if cmvn.variance else 1.0
    return (of.x - spoken.mean(0)) / scale


def slow(
    names, splice, cmvn, classes, keep_unseen=True, scores=(), piece_frames=None, most_frames=None
) -> list[tuple[Segment, np.ndarray]]:
    """Every segment of some of SETS and its vectors, frame by frame."""
    found, first = [], 0
    for name in names:
        scored = any(of.score is not None for of in SETS[name].values())
        for utt, of in sorted(SETS[name].items()):
            if of.name not in classes and not keep_unseen:
                continue
            if scores and scored and (of.score is None or not scores[0] <= of.score <= scores[1]):
                continue
            size = piece_frames or len(of.x) / math.ceil(len(of.x) / (most_frames or len(of.x)))
            for n in range(int(len(of.x) / size + 1e-9)):
                begin, end = int(n * size + 1e-9), int((n + 1) * size + 1e-9)
                centres = [t for t in range(begin, end) if of.speech[t]]
                if not centres:
                    continue
                x = normalized(of, begin, end, SETS[name], cmvn)
                window = range(-splice.left, splice.right + 1)
                vectors = [
                    np.concatenate([x[min(max(t + d, begin), end - 1)] for d in window]) for t in centres[:: splice.hop]
                ]
                segment = f"{utt}-{n:04d}" if piece_frames or most_frames else utt
                found.append(
                    (Segment(segment, of.speaker, of.name, name, of.score, first, len(vectors)), np.array(vectors))
                )
                first += len(vectors)
    return found


# ---- against the plain loop ----------------------------------------------------------------------


@every_cmvn
@pytest.mark.parametrize(
    "cut",
    ({}, {"piece_frames": PIECE}, {"piece_frames": 1}, {"most_frames": PIECE}),
    ids=("whole", f"pieces of {PIECE}", "pieces of 1", f"at most {PIECE}"),
)
@pytest.mark.parametrize("splice", [Splice(0, 0, 1), Splice(2, 1, 1), Splice(5, 5, 3)], ids=str)
def test_vectors_equal_a_plain_loop(stores, monkeypatch, cmvn, splice, cut):
    """Sets alone and together, all classes or the model's, all scores or some."""
    monkeypatch.setattr("dnf.features.cmvn.BLOCK_FRAMES", 5)
    for names, keep_unseen, scores, classes in (
        (("one",), True, (), ("en", "zh")),
        (("two", "one"), False, (), ("zh", "en")),
        (("one", "two", "three"), True, (0.5, 1.0), ("ja",)),
        (("two",), False, (1.0, 1.0), ("zh",)),
        (("three", "two"), True, (7.0, 9.0), ("en",)),
    ):
        of = Windows(
            [stores[n] for n in names],
            splice,
            cmvn,
            classes,
            keep_unseen=keep_unseen,
            device=CPU,
            scores=scores,
            **cut,
        )
        wanted = slow(names, splice, cmvn, classes, keep_unseen, scores, **cut)
        vectors = np.concatenate([x for _, x in wanted])
        assert list(of.segments()) == [segment for segment, _ in wanted]
        assert (len(of), of.dim) == vectors.shape
        np.testing.assert_allclose(gathered(of), vectors, rtol=1e-4, atol=1e-4)
        number = [n for n, (segment, _) in enumerate(wanted) for _ in range(segment.rows)]
        assert of.segment(torch.arange(len(of))).tolist() == number
        true = [classes.index(wanted[n][0].name) if wanted[n][0].name in classes else -1 for n in number]
        assert labels(of) == true
        assert of.class_counts(classes) == {name: true.count(k) for k, name in enumerate(classes)}


@pytest.mark.parametrize("piece_frames", (None, PIECE))
@every_cmvn
def test_stores_joined_in_memory_give_what_they_give_on_disk(stores, cmvn, piece_frames):
    options = {"left": 1, "right": 2, "hop": 2, "cmvn": cmvn, "piece_frames": piece_frames}
    of = open_windows(list(stores.values()), **options)
    assert len(of._sources) == len(stores) > 1
    wanted, rows = gathered(of), torch.randperm(len(of))
    of._sources, of._segments = [concatenate([part.source for part in of.parts], CPU)], [0, of._segments[-1]]
    np.testing.assert_array_equal(gathered(of), wanted)
    np.testing.assert_array_equal(of.gather(rows).numpy(), wanted[rows])


@pytest.mark.parametrize("piece_frames", (None, PIECE))
@every_cmvn
def test_sets_together_are_the_sets_one_after_the_other(stores, cmvn, piece_frames):
    chosen = [stores[name] for name in ("two", "three", "one")]
    options = {"left": 1, "right": 2, "hop": 2, "cmvn": cmvn, "piece_frames": piece_frames}
    together, alone = open_windows(chosen, **options), [open_windows(store, **options) for store in chosen]
    assert np.array_equal(gathered(together), np.concatenate([gathered(of) for of in alone]))
    assert labels(together) == [label for of in alone for label in labels(of)]
    assert together.class_counts(["en", "zh"]) == sum(
        (Counter(of.class_counts(["en", "zh"])) for of in alone), Counter()
    )
    first = 0
    segments, rows = [], {0: [], 1: []}
    for of in alone:
        segments += [segment._replace(first=segment.first + first) for segment in of.segments()]
        for k, name in enumerate(("en", "zh")):
            rows[k] += (of.rows_of_class(k, torch.arange(of.class_counts(["en", "zh"])[name])) + first).tolist()
        first += len(of)
    assert list(together.segments()) == segments
    for k in (0, 1):
        assert together.rows_of_class(k, torch.arange(len(rows[k]))).tolist() == rows[k]


@pytest.mark.parametrize("names", [("one",), ("one", "two", "three")], ids=len)
def test_any_rows_in_any_order(stores, names):
    of = open_windows([stores[name] for name in names], left=1, right=2, cmvn=Cmvn("utterance", True))
    everything, draw = gathered(of), random.Random(1)
    for size in (0, 1, 5, 300):
        rows = torch.tensor([draw.randrange(len(of)) for _ in range(size)], dtype=torch.int64)
        assert np.array_equal(of.gather(rows).numpy(), everything[rows.numpy()])
        assert of.labels(rows).tolist() == [labels(of)[n] for n in rows.tolist()]


@pytest.mark.parametrize("names", [("two",), ("two", "one")], ids=len)
def test_rows_of_a_class_are_those_with_its_label(stores, names):
    of = open_windows([stores[name] for name in names], hop=2, classes=("zh", "ja", "en"))
    for k in (2, 0, 1, 2):
        wanted = np.flatnonzero(np.array(labels(of)) == k)
        assert of.rows_of_class(k, torch.arange(len(wanted))).tolist() == wanted.tolist()
        some = torch.tensor([len(wanted) - 1, 0, 3, 3])
        assert of.rows_of_class(k, some).tolist() == wanted[some.numpy()].tolist()


@every_cmvn
@pytest.mark.parametrize("names", [("one",), ("two", "three", "one")], ids=len)
@pytest.mark.parametrize("classes", [("en", "zh"), ("zh",)], ids=len)
def test_global_normalization_equals_numpy(stores, monkeypatch, cmvn, classes, names):
    monkeypatch.setattr("dnf.features.cmvn.CHUNK", 5)
    of = open_windows([stores[name] for name in names], cmvn=cmvn, classes=classes, keep_unseen=False)
    mean, std = of.global_normalization()
    x = gathered(of).astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), x.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(std.numpy(), x.std(0), rtol=1e-4, atol=1e-4)
    assert mean.dtype == std.dtype == torch.float32 and mean.shape == (4,)


@pytest.mark.parametrize("scope", ("utterance", "speaker"))
def test_normalized_speech_has_mean_zero_and_variance_one_in_its_scope(stores, scope):
    of = open_windows(stores["one"], cmvn=Cmvn(scope, True))
    names = np.array([segment.utt if scope == "utterance" else segment.speaker for segment in of.segments()])
    names, x = names[of.segment(torch.arange(len(of))).numpy()], gathered(of)
    for name in set(names):
        if (names == name).sum() > 2:
            np.testing.assert_allclose(x[names == name].mean(0), 0, atol=1e-4)
            np.testing.assert_allclose(x[names == name].std(0), 1, atol=1e-3)


# ---- memory --------------------------------------------------------------------------------------


def held_by(thing, seen: set[int]) -> list:
    """Every tensor, array and container that ``thing`` or what it refers to holds."""
    if id(thing) in seen or isinstance(thing, (type, type(gc))) or callable(thing):
        return []
    seen.add(id(thing))
    others = [] if isinstance(thing, torch.Tensor) else gc.get_referents(thing)
    mine = [thing] if isinstance(thing, (torch.Tensor, np.ndarray, list, dict, tuple, set, bytes)) else []
    return mine + [held for other in others for held in held_by(other, seen)]


def mapped_files() -> list[tuple[int, int, str]]:
    """First and last address of each file that is mapped into this process."""
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    return [(*(int(part, 16) for part in line[0].split("-")), line[5]) for line in lines if len(line) == 6]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="says what is mapped on Linux only")
@pytest.mark.parametrize("piece_frames", (None, 500))
@every_cmvn
def test_memory_does_not_grow_with_the_frames(write_store, tmp_path, cmvn, piece_frames):
    """After everything was asked of them, windows hold nothing as long as the frames but files mapped from disk."""
    count = 6000
    for name in ("one", "two"):
        write_store(tmp_path / name, {f"{s}-1": (s, "en", np.full((count, 2), 3.0), np.ones(count), 1.0) for s in "ab"})
    stores = [FrameStore(tmp_path / name) for name in ("one", "two")]
    of = open_windows(stores, left=1, right=1, cmvn=cmvn, piece_frames=piece_frames, scores=(0, 2))
    rows = torch.arange(5, 400)
    of.gather(rows), of.labels(rows), of.rows_of_class(0, rows)
    of.class_counts(["en", "zh"]), of.global_normalization()
    assert len(list(of.segments())) == (4 if piece_frames is None else 48) and len(of) == 4 * count
    held, mapped = held_by(vars(of), set()), mapped_files()
    assert sum(isinstance(thing, torch.Tensor) for thing in held) > 10
    for thing in held:
        if isinstance(thing, torch.Tensor) and thing.untyped_storage().nbytes() > 4 * count:
            files = [file for first, last, file in mapped if first <= thing.data_ptr() < last]
            assert files and files[0].startswith(str(tmp_path)), thing.shape
        elif not isinstance(thing, torch.Tensor):
            assert len(thing) < count
