"""Division of a corpus into sets by speaker: fixed by ids and seed, in the shares asked for."""

import random

import pytest

from dnf.data.recipe import divide

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def lengths(count: int, seed: int) -> dict[str, float]:
    draw = random.Random(seed)
    return {f"s{seed}_{n:03}": draw.choice((1.0, 60.0)) * draw.uniform(0.5, 2.0) for n in range(count)}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", (3, 4, 10, 57, 400))
def test_division_is_into_parts_that_share_nothing_and_are_sorted(count, seed):
    seconds = lengths(count, seed)
    parts = divide(seconds, SHARES, seed)
    assert list(parts) == list(SHARES)
    assert sorted(one for ids in parts.values() for one in ids) == sorted(seconds)
    assert all(ids and ids == sorted(ids) for ids in parts.values())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shares", [SHARES, {"a": 0.5, "b": 0.5}, {"a": 0.1, "b": 0.6, "c": 0.3}, {"a": 1.0}], ids=str)
def test_parts_have_their_shares_as_nearly_as_whole_speakers_allow(shares, seed):
    """Each end of a part is at most half a speaker away from where it should be."""
    seconds = lengths(60, seed)
    total, longest = sum(seconds.values()), max(seconds.values())
    for part, ids in divide(seconds, shares, seed).items():
        assert abs(sum(seconds[one] for one in ids) - shares[part] * total) <= longest + 1e-6, part


def test_division_is_fixed_by_ids_and_seed_whatever_the_order():
    seconds = lengths(80, 1)
    items = list(seconds.items())
    wanted = divide(seconds, SHARES, 5)
    for n in range(5):
        random.Random(n).shuffle(items)
        assert divide(dict(items), SHARES, 5) == wanted
    others = [divide(seconds, SHARES, seed)["test"] for seed in range(20)]
    assert len({tuple(ids) for ids in others}) > 15
    renamed = {f"x{name}": value for name, value in items}
    assert [one[1:] for one in divide(renamed, SHARES, 5)["test"]] != wanted["test"]


def test_one_more_speaker_moves_few_others():
    """Their order is by a hash of each, so a corpus of which a speaker is missing is divided nearly the same."""
    seconds = {f"s{n}": 1.0 for n in range(200)}
    before, after = (divide(of, SHARES, 1) for of in (seconds, seconds | {"new": 1.0}))
    moved = [one for part in SHARES for one in before[part] if one not in after[part]]
    assert len(moved) <= 3


@pytest.mark.parametrize(
    "shares", [SHARES, {"a": 0.001, "b": 0.998, "c": 0.001}, {"a": 0.98, "b": 0.01, "c": 0.01}], ids=str
)
def test_every_part_has_at_least_one(shares):
    for count in (3, 4, 7, 30):
        for seconds in (
            {f"s{n}": 1.0 for n in range(count)},
            {f"s{n}": 100.0 if n == 1 else 1.0 for n in range(count)},
        ):
            for seed in range(10):
                parts = divide(seconds, shares, seed)
                assert all(parts.values()) and sum(map(len, parts.values())) == count


@pytest.mark.parametrize("count", (0, 1, 2))
def test_fewer_speakers_than_parts_are_an_error(count):
    with pytest.raises(ValueError, match=f"^{count} speakers or utterances cannot be divided into train, dev, test$"):
        divide({f"s{n}": 1.0 for n in range(count)}, SHARES, 1)
