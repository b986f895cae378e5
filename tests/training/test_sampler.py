"""Batches of training vectors, and the permutation they are drawn by."""

from collections import Counter

import numpy as np
import pytest
import torch

from dnf.experiment.settings import Cmvn, Splice
from dnf.features.draws import permute
from dnf.features.windows import Windows
from dnf.training.sampler import OfCorpora, Sampler

# ---- the permutation -----------------------------------------------------------------------------


def image(n: int, seed: int = 1) -> np.ndarray:
    return permute(torch.arange(n), n, seed).numpy()


@pytest.mark.parametrize("seed", (0, 1, 2, 10**6))
def test_it_is_a_bijection_of_every_size(seed):
    for n in [*range(1, 140), 255, 256, 257, 1023, 1024, 1025, 4095, 4097, 65536, 65537, 99991]:
        assert np.array_equal(np.sort(image(n, seed)), np.arange(n)), n


def test_any_part_of_it_is_that_part_of_the_whole():
    whole, some = image(5000, 7), torch.tensor([4999, 0, 17, 17, 2500])
    assert permute(some, 5000, 7).tolist() == whole[some].tolist()
    assert permute(torch.tensor([], dtype=torch.int64), 5000, 7).tolist() == []
    assert some.tolist() == [4999, 0, 17, 17, 2500]  # its input is left alone


@pytest.mark.parametrize("n", (5 * 10**9, 2**40 + 1, 10**15))
def test_it_reaches_sizes_beyond_any_corpus_without_memory(n):
    index = torch.tensor([0, 1, 2, n // 2, n - 2, n - 1])
    got = permute(index, n, 3)
    assert len(set(got.tolist())) == 6 and (got >= 0).all() and (got < n).all()
    assert got.double().std() > n / 20


@pytest.mark.parametrize("n", (1000, 4096, 100_000))
def test_seeds_have_permutations_of_their_own(n):
    """Two random permutations agree at one place on average; a shifted or shared one would agree at many or at none."""
    images = [image(n, seed) for seed in (*range(10), 10**6, 10**12)]
    agree = [(a == b).sum() for i, a in enumerate(images) for b in images[:i]]
    assert max(agree) <= 8 and 0.6 < np.mean(agree) < 1.5


@pytest.mark.parametrize("n", (4096, 5000, 100_000))
@pytest.mark.parametrize("seed", (1, 2, 3))
def test_where_a_number_goes_says_nothing_about_its_neighbours(n, seed):
    got = image(n, seed).astype(float)
    for lag, most in ((1, 5), (2, 5), (3, 5), (64, 8), (128, 8), (n // 2, 8)):
        assert abs(np.corrcoef(got[:-lag], got[lag:])[0, 1]) < most / np.sqrt(n - lag), lag
    assert abs(np.corrcoef(got, np.arange(n))[0, 1]) < 5 / np.sqrt(n)
    steps = Counter(np.diff(image(n, seed)).tolist())
    assert max(steps.values()) <= 12  # of two random permutations about one step is n - k, so each is rare


@pytest.mark.parametrize("n", (5000, 65536))
def test_batches_are_spread_evenly(n):
    """How many of the first n / 10 fall into each tenth: the variance is that of a draw without replacement."""
    counts = np.array([np.bincount(image(n, seed)[: n // 10] * 10 // n, minlength=10) for seed in range(40)])
    expected = n / 100
    variance = expected * 0.9 * 0.9 * n / (n - 1)  # hypergeometric
    assert 0.75 < ((counts - expected) ** 2).mean() / variance < 1.3


def test_the_first_number_goes_everywhere():
    n, seeds = 64, 3000
    counts = np.bincount(
        [permute(torch.zeros(1, dtype=torch.int64), n, seed).item() for seed in range(seeds)], minlength=n
    )
    assert ((counts - seeds / n) ** 2).sum() / (seeds / n) < 130  # chi-square of 63 degrees of freedom


@pytest.mark.parametrize("seed", (20_260_714, 2**31, 2**40, 2**63 - 1, 2**80))
def test_a_large_seed_is_a_seed(seed):
    """Seeds are multiplied on the way here: a date as --seed must not overflow."""
    got = image(1000, seed)
    assert np.array_equal(np.sort(got), np.arange(1000)) and (got != image(1000, seed + 1)).mean() > 0.9


# ---- batches -------------------------------------------------------------------------------------


def sampler(counts=(30, 70), batch_size=10, balanced=False, seed=1) -> Sampler:
    """Of vectors whose classes are shuffled over the rows by ``labels_of``."""
    labels = labels_of(counts)
    rows = {k: torch.from_numpy(np.flatnonzero(labels == k)) for k in range(len(counts))}
    return Sampler(counts, lambda k, nth: rows[k][nth], batch_size, seed, balanced=balanced)


def labels_of(counts) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def epoch_of(of: Sampler, epoch: int) -> list[int]:
    first = epoch * of.steps_per_epoch
    return torch.cat([of.batch(step) for step in range(first, first + of.steps_per_epoch)]).tolist()


def test_an_epoch_takes_each_vector_once():
    of = sampler()
    assert of.steps_per_epoch == 10 and all(len(of.batch(step)) == 10 for step in range(20))
    for epoch in range(3):
        assert sorted(epoch_of(of, epoch)) == list(range(100))


def test_what_does_not_fill_a_batch_is_left_out_of_its_epoch():
    of = sampler((33, 74))
    assert of.steps_per_epoch == 10 and len(set(epoch_of(of, 0))) == 100
    assert set(epoch_of(of, 0)) != set(epoch_of(of, 1))


@pytest.mark.parametrize("balanced", (False, True))
def test_epochs_and_seeds_have_orders_of_their_own(balanced):
    orders = [tuple(epoch_of(sampler(seed=seed, balanced=balanced), epoch)) for seed in (1, 2) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6 and tuple(range(100)) not in orders


@pytest.mark.parametrize("seed", (1, 20_260_714, 2**40))
@pytest.mark.parametrize("balanced", (False, True))
def test_a_batch_is_a_function_of_the_step_alone(balanced, seed):
    of = sampler(balanced=balanced, seed=seed)
    wanted = {step: of.batch(step).tolist() for step in range(35)}
    shuffled = sampler(balanced=balanced, seed=seed)
    for step in (34, 3, 20, 3, 0, 12):
        assert shuffled.batch(step).tolist() == wanted[step]
        assert sampler(balanced=balanced, seed=seed).batch(step).tolist() == wanted[step]


def test_batches_are_mixed():
    """Each batch of a natural epoch has each class about as often as the set has."""
    of, labels = sampler((300, 700), batch_size=100), labels_of((300, 700))
    shares = [(labels[of.batch(step)] == 0).mean() for step in range(50)]
    assert 0.15 < min(shares) < 0.25 and 0.35 < max(shares) < 0.45


def test_balanced_epochs_give_each_class_the_same_share():
    counts = (20, 30, 70)
    of, labels = sampler(counts, batch_size=40, balanced=True), labels_of(counts)
    for epoch in range(2):
        times = Counter(epoch_of(of, epoch))
        by_class = [[times[row] for row in np.flatnonzero(labels == k)] for k in range(3)]
        assert [sum(of_class) for of_class in by_class] == [40, 40, 40]
        assert set(by_class[0]) == {2} and set(by_class[1]) == {1, 2} and set(by_class[2]) == {0, 1}
    assert set(epoch_of(of, 0)) != set(epoch_of(of, 1))  # other vectors of the large class
    assert all(len(set(labels[of.batch(step)])) == 3 for step in range(3))  # mixed, not class by class


@pytest.mark.parametrize("counts", [(1, 499), (5, 0, 1000, 95), (2, 3), (1, 1, 1), (7, 7)], ids=str)
@pytest.mark.parametrize("seed", (1, 2))
def test_balance_of_classes_of_very_unequal_size(counts, seed):
    """Over whole epochs each class fills its share, and within a class no vector comes twice more than another."""
    of = sampler(counts, batch_size=sum(counts), balanced=True, seed=seed)
    labels, present = labels_of(counts), [k for k, count in enumerate(counts) if count]
    share = -(-sum(counts) // len(present))
    for epoch in range(3):
        rows = np.array(epoch_of(of, epoch))
        assert len(rows) == sum(counts)
        times = np.bincount(rows, minlength=sum(counts))
        for k in present:
            of_class, drawn = times[labels == k], (labels[rows] == k).sum()
            assert share - (share * len(present) - sum(counts)) <= drawn <= share
            assert of_class.max() <= -(-share // counts[k]) and of_class.min() >= share // counts[k] - len(present)
        assert set(labels[rows]) == set(present)


def test_repeats_of_a_rare_class_are_spread_over_the_epoch():
    counts = (10, 990)
    of, labels = sampler(counts, batch_size=100, balanced=True), labels_of(counts)
    for step in range(10):
        rows = of.batch(step)
        assert 30 <= (labels[rows] == 0).sum() <= 70
        assert len(set(rows[labels[rows] == 0].tolist())) >= 9


def test_a_large_class_gives_other_vectors_each_epoch():
    counts = (100, 900)
    labels, epochs = labels_of(counts), []
    for epoch in range(4):
        rows = np.array(epoch_of(sampler(counts, batch_size=100, balanced=True), epoch))
        epochs.append(set(rows[labels[rows] == 1].tolist()))
    assert all(len(rows) == 500 for rows in epochs)
    shared = [len(a & b) for i, a in enumerate(epochs) for b in epochs[:i]]
    assert 220 < min(shared) and max(shared) < 340  # about 500 * 500 / 900


def test_balance_ignores_classes_without_vectors_and_survives_rare_ones():
    labels = labels_of((99, 0, 1))
    times = Counter(labels[epoch_of(sampler((99, 0, 1), 10, True), 0)].tolist())
    assert times == {0: 50, 2: 50}


@pytest.mark.parametrize("balanced", (False, True))
def test_a_batch_larger_than_the_set_is_the_set(balanced):
    of = sampler((3, 3), batch_size=1000, balanced=balanced)
    assert of.batch_size == 6 and of.steps_per_epoch == 1 and sorted(of.batch(5).tolist()) == list(range(6))


def test_each_corpus_of_a_class_comes_equally_often(write_store, tmp_path):
    frames = {"a": 30, "b": 10, "c": 20}  # speakers, each of a corpus; the class en has two corpora
    stores = {
        f"{name}-u": (name, "zh" if name == "c" else "en", np.arange(4 * n).reshape(n, 4), np.ones(n))
        for name, n in frames.items()
    }
    directory = tmp_path / "train_data"
    directory.mkdir()
    (directory / "utt2corpus").write_text("a-u big\nb-u small\nc-u big\n")
    store = write_store(tmp_path / "train", stores)
    assert store.corpora == ["big", "small", "big"]
    splice, cmvn = Splice(0, 0, 1), Cmvn("none", variance=False)
    train = Windows([store], splice, cmvn, ["en", "zh"], keep_unseen=False, device=torch.device("cpu"))
    corpora = OfCorpora(train, 2)
    assert corpora.counts == [60, 20]
    sampler = Sampler(corpora.counts, corpora.rows_of_class, 60, 1, balanced=True, total=len(train))
    drawn = np.concatenate([sampler.batch(step).numpy() for step in range(40)])
    shares = [np.mean(train.segment(torch.from_numpy(drawn)).numpy() == u) for u in range(3)]
    np.testing.assert_allclose(shares, (0.25, 0.25, 0.5), atol=0.02)
    assert set(drawn.tolist()) == set(range(60))
