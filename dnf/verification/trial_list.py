"""Trials: which enrolment is scored against which test utterance, read from a file or made from a set.

A file has a line for each trial, ``<enrolment> <test> target|nontarget`` as in Kaldi's recipes, or ``1|0 <enrolment> <test>`` with
the label first; the first line says which. An enrolment is an utterance, or, with a map ``<enrolment> <utterance> ...``
like ``spk2utt``, several. Trials are arrays of numbers, so ten million take 100 MB.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

log = logging.getLogger(__name__)

LABELS = {"target": True, "nontarget": False, "1": True, "0": False}
REJECTED = -1  # number of a rejected utterance
MOST = 20_000_000  # most trials that are made
NAMED = 5  # most speakers that a message names


class Utterances(NamedTuple):
    """The utterances of a set.

    Attributes:
        set: name of the set.
        names: U names.
        speakers: ``(U,)`` numbers of their speakers, from 0 on.
        sessions: ``(U,)`` numbers of their sessions; None: unknown.
        rejected: names of utterances of the set that have no vector, since their recordings were rejected.
    """

    set: str
    names: Sequence[str]
    speakers: np.ndarray
    sessions: np.ndarray | None = None
    rejected: Collection[str] = ()

    @classmethod
    def of(cls, name: str, names: Sequence[str], speakers: Sequence[str], sessions: Mapping[str, str]) -> Utterances:
        """From the speaker of each utterance, and the session of each if there are sessions.

        Raises:
            ValueError: an utterance has no session although others have one.
        """
        if not sessions:
            return cls(name, names, numbered(speakers))
        if missing := [utt for utt in names if utt not in sessions]:
            raise ValueError(
                f"utt2sess: no session of {missing[0]} and {len(missing) - 1} more of set {name}; add them"
            )
        return cls(name, names, numbered(speakers), numbered([sessions[utt] for utt in names]))


class Enrolments(NamedTuple):
    """M enrolments.

    Attributes:
        names: M names.
        members: ``(R,)`` utterances, as rows of the set.
        of: ``(R,)`` the enrolment of each member.
        speakers: ``(M,)`` numbers of speakers.
        rejected: names of enrolments whose utterances were all rejected.
    """

    names: Sequence[str]
    members: np.ndarray
    of: np.ndarray
    speakers: np.ndarray
    rejected: Collection[str] = ()

    @classmethod
    def each(cls, utterances: Utterances) -> Enrolments:
        """Every utterance is an enrolment."""
        rows = np.arange(len(utterances.names))
        return cls(utterances.names, rows, rows, utterances.speakers, utterances.rejected)

    @classmethod
    def read(cls, path: Path, utterances: Utterances) -> Enrolments:
        """From a map of lines ``<enrolment> <utterance> ...``, without rejected utterances.

        Raises:
            ValueError: a line is wrong, names no utterance of the set, or utterances of two speakers.
        """
        row = numbers_of(utterances.names, utterances.rejected)
        found: dict[str, list[int]] = {}
        for number, line in enumerate(lines_of(path), 1):
            name, *utts = line.split()
            if not utts:
                raise ValueError(f"{path}: line {number}: no utterances; expected '<enrolment> <utterance> ...'")
            if name in found:
                raise ValueError(f"{path}: line {number}: enrolment {name} a second time; give each one line")
            if absent := [utt for utt in utts if utt not in row]:
                raise ValueError(
                    f"{path}: line {number}: {absent[0]} is not an utterance of set {utterances.set}; correct it"
                )
            if len(set(utts)) < len(utts):
                raise ValueError(f"{path}: line {number}: enrolment {name} has an utterance twice; remove one")
            found[name] = [row[utt] for utt in utts if row[utt] != REJECTED]
            if len(set(utterances.speakers[found[name]])) > 1:
                raise ValueError(
                    f"{path}: line {number}: enrolment {name} has utterances of several speakers; split it"
                )
        rejected = [name for name, rows in found.items() if not rows]
        found = {name: rows for name, rows in found.items() if rows}
        if not found:
            raise ValueError(f"{path}: has no enrolment; expected lines '<enrolment> <utterance> ...'")
        members = np.concatenate([*found.values()])
        of = np.repeat(np.arange(len(found)), [len(rows) for rows in found.values()])
        return cls(list(found), members, of, utterances.speakers[[rows[0] for rows in found.values()]], rejected)


class TrialList(NamedTuple):
    """N trials.

    Attributes:
        enrolled: ``(N,)`` numbers of enrolments.
        tested: ``(N,)`` utterances, as rows of the set.
        target: ``(N,)`` bool, whether both are of one speaker.
    """

    enrolled: np.ndarray
    tested: np.ndarray
    target: np.ndarray

    def checked(self, source: str) -> TrialList:
        """The same trials.

        Raises:
            ValueError: there are only target or only nontarget trials.
        """
        targets = int(self.target.sum())
        if not 0 < targets < len(self.target):
            raise ValueError(
                f"{source}: {targets} target and {len(self.target) - targets} nontarget trials; the figures need both kinds"
            )
        return self


def numbered(names: Sequence[str]) -> np.ndarray:
    """Numbers ``(U,)`` of names, in byte order."""
    place = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.fromiter((place[name] for name in names), np.int32, len(names))


def numbers_of(names: Sequence[str], rejected: Collection[str]) -> dict[str, int]:
    """The number of each name, and ``REJECTED`` of those that were rejected."""
    return dict.fromkeys(rejected, REJECTED) | {name: number for number, name in enumerate(names)}


def lines_of(path: Path) -> Iterator[str]:
    """Lines of a text file that are not blank."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if not line.isspace())
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file") from None


def order_of(fields: Sequence[str], path: Path) -> tuple[int, int, int]:
    """Places of enrolment, test and label in a line of three fields.

    Raises:
        ValueError: no field is a label.
    """
    if len(fields) == 3 and fields[2] in LABELS:
        return 0, 1, 2
    if len(fields) == 3 and fields[0] in LABELS:
        return 1, 2, 0
    raise ValueError(
        f"{path}: first line {' '.join(fields)[:80]!r}: expected '<enrolment> <test> target|nontarget', or "
        "'1|0 <enrolment> <test>'"
    )


def read_trials(path: Path, enrolments: Enrolments, utterances: Utterances) -> TrialList:
    """Trials of a file, without those of rejected utterances, which are counted.

    Raises:
        ValueError: a line is wrong or names nobody, a trial is there twice, its label contradicts the speakers, or all
            trials are of one kind.
    """
    row = numbers_of(utterances.names, utterances.rejected)
    model = row if enrolments.names is utterances.names else numbers_of(enrolments.names, enrolments.rejected)
    enrolled, tested, target = array("i"), array("i"), array("b")
    places = None
    for number, line in enumerate(lines_of(path), 1):
        fields = line.split()
        places = places or order_of(fields, path)
        try:
            first, second, label = (fields[place] for place in places)
            target.append(LABELS[label])
        except (IndexError, KeyError):
            raise ValueError(
                f"{path}: line {number}: {line.strip()[:80]!r} is not a trial like the first line"
            ) from None
        if first not in model or second not in row:
            what = f"test {second} is not an utterance" if first in model else f"enrolment {first} is not an enrolment"
            raise ValueError(
                f"{path}: line {number}: {what} of set {utterances.set}; correct the line, or name its set"
            )
        enrolled.append(model[first])
        tested.append(row[second])
    columns = np.array(enrolled, np.int32), np.array(tested, np.int32), np.array(target, bool)
    keep = (columns[0] != REJECTED) & (columns[1] != REJECTED)
    if left_out := len(keep) - int(keep.sum()):
        log.warning("%s: %d of %d trials are left out: their utterances were rejected", path, left_out, len(keep))
    trials = TrialList(*(column[keep] for column in columns)).checked(str(path))
    check_labels(trials, enrolments, utterances, path)
    return trials


def check_labels(trials: TrialList, enrolments: Enrolments, utterances: Utterances, path: Path) -> None:
    """Raise ``ValueError`` for a trial that is there twice or tests what it enrols, or whose label contradicts the speakers."""
    count = len(utterances.names)
    key = trials.enrolled.astype(np.int64) * count + trials.tested
    ordered = np.sort(key)
    same = enrolments.speakers[trials.enrolled] == utterances.speakers[trials.tested]
    faults = {
        "more than once; remove the copies": ordered[1:][ordered[1:] == ordered[:-1]],
        "with a test utterance that is part of the enrolment; remove them": np.intersect1d(
            key, enrolments.of.astype(np.int64) * count + enrolments.members
        ),
        f"against the speakers of set {utterances.set}; correct the label or utt2spk": key[same != trials.target],
    }
    for fault, keys in faults.items():
        if len(keys):
            model, test = divmod(int(keys[0]), count)
            trial = f"{enrolments.names[model]} {utterances.names[test]}"
            raise ValueError(f"{path}: trial {trial} and {len(keys) - 1} more are {fault}")


def all_trials(enrolments: Enrolments, utterances: Utterances, *, pairs: bool) -> TrialList:
    """Each enrolment against each utterance of other sessions that is not part of it.

    Args:
        enrolments, utterances: of the set.
        pairs: enrolments are the utterances themselves, and of both orders of two utterances only one is a trial.

    Raises:
        ValueError: there are more than ``MOST`` trials, or only one kind.
    """
    models, count = len(enrolments.names), len(utterances.names)
    number = models * count // (2 if pairs else 1)
    if number > MOST:
        raise ValueError(
            f"set {utterances.set}: {number} trials are more than {MOST}; draw some with --per-speaker N, or give --trials"
        )
    columns = np.arange(count, dtype=np.int32)
    members = np.split(enrolments.members, np.flatnonzero(np.diff(enrolments.of)) + 1)
    parts = []
    for model in range(models):
        keep = columns > model if pairs else ~np.isin(columns, members[model])
        if utterances.sessions is not None:
            keep &= ~np.isin(utterances.sessions, utterances.sessions[members[model]])
        parts.append(columns[keep])
    enrolled = np.repeat(np.arange(models, dtype=np.int32), [len(part) for part in parts])
    tested = np.concatenate(parts)
    target = enrolments.speakers[enrolled] == utterances.speakers[tested]
    return TrialList(enrolled, tested, target).checked(f"set {utterances.set}")


def drawn_pairs(utterances: Utterances, per_speaker: int, seed: int) -> TrialList:
    """Pairs of utterances of different sessions: ``per_speaker`` target and as many nontarget ones of each speaker, or all there are.

    Raises:
        ValueError: there is only one kind.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(utterances.speakers, kind="stable")
    starts = np.searchsorted(utterances.speakers[order], np.arange(utterances.speakers.max() + 2))
    found = []
    for first, last in zip(starts, starts[1:]):
        mine, others = order[first:last], len(order) - (last - first)
        found.append(target_pairs(rng, mine, utterances.sessions, per_speaker))
        if others:
            place = rng.integers(others, size=2 * per_speaker)
            a, b = rng.choice(mine, 2 * per_speaker), order[np.where(place < first, place, place + last - first)]
            pairs = np.unique(np.sort(np.column_stack([a, b]), axis=1), axis=0)
            if utterances.sessions is not None:
                pairs = pairs[utterances.sessions[pairs[:, 0]] != utterances.sessions[pairs[:, 1]]]
            found.append(rng.permutation(pairs)[:per_speaker])
    pairs = np.unique(np.concatenate(found), axis=0).astype(np.int32)
    target = utterances.speakers[pairs[:, 0]] == utterances.speakers[pairs[:, 1]]
    return TrialList(pairs[:, 0], pairs[:, 1], target).checked(f"set {utterances.set}")


def target_pairs(rng: np.random.Generator, mine: np.ndarray, sessions: np.ndarray | None, most: int) -> np.ndarray:
    """At most ``most`` of the pairs ``(N, 2)`` of utterances ``mine`` ``(M,)`` of different sessions, by their number.

    The partners of an utterance are those of all later sessions, so a pair has a number, and memory is that of M and N.
    """
    session = np.arange(len(mine)) if sessions is None else sessions[mine]
    order = np.argsort(session, kind="stable")
    mine, session = mine[order], session[order]
    later = np.searchsorted(session, session, side="right")
    partners = len(mine) - later
    ends = np.cumsum(partners)
    number = rng.choice(ends[-1], min(most, ends[-1]), replace=False)
    a = np.searchsorted(ends, number, side="right")
    b = later[a] + number - ends[a] + partners[a]
    return np.sort(np.column_stack([mine[a], mine[b]]), axis=1)


def warn_of_single(utterances: Utterances, speaker_names: Sequence[str]) -> None:
    """Say which speakers have one utterance, and so no target trial between utterances."""
    counts = Counter(utterances.speakers.tolist())
    single = [speaker_names[speaker] for speaker in sorted(counts) if counts[speaker] == 1]
    if single:
        names = " ".join(single[:NAMED]) + " ..." * (len(single) > NAMED)
        log.warning(
            "set %s: %d of %d speakers have one utterance and no target trial: %s",
            utterances.set,
            len(single),
            len(counts),
            names,
        )
