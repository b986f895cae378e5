"""Leaks between sets: shared recordings, by path and by content, and shared words that a model could learn instead.

Recordings are compared by their samples, for any file format. If length and rate are equal, the hash of the
beginning is compared, and then the hash of all samples. ``hashes.jsonl``, beside the sets, keeps the hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dnf.data.kaldi_files import normal, read_manifest, read_table
from dnf.experiment.files import replace_file
from dnf.experiment.layout import RECORDINGS_JSONL, SUPERVISIONS_JSONL
from dnf.experiment.settings import DataSettings

log = logging.getLogger(__name__)

TEXT = "text"
BEGINNING = 0.25  # seconds
BLOCK = 10.0


class Spoken(NamedTuple):
    """An utterance and where it is: seconds ``start`` to ``end`` of a file of ``size`` (samples, Hz)."""

    utterance: str
    set: str
    name: str
    path: str
    size: tuple[int, int]
    start: float
    end: float

    def __str__(self) -> str:
        return f"utterance {self.utterance} of {self.set}, class {self.name}"


def read_spoken(directory: Path) -> Iterator[Spoken]:
    """The utterances of a set; those of commands have size (0, 0)."""
    recordings = read_manifest(directory / RECORDINGS_JSONL)
    for utterance, record in read_manifest(directory / SUPERVISIONS_JSONL).items():
        recording = recordings[record["recording_id"]]
        source, size = recording["sources"][0], (recording["num_samples"], recording["sampling_rate"])
        is_file = source["type"] == "file"
        yield Spoken(
            utterance,
            directory.name,
            record["custom"]["class"],
            os.path.realpath(source["source"]) if is_file else source["source"],
            size if is_file else (0, 0),
            record["start"],
            record["start"] + record["duration"],
        )


def check_recordings(directories: Iterable[Path], data: DataSettings, hashes: Path) -> None:
    """Raise ``ValueError`` if a recording has two classes, or is in train or dev and in a set of another role.

    With ``data.shared_speakers`` the second only gives a warning.

    Args:
        directories: folders of the sets.
        data: which of them are train and dev.
        hashes: file that keeps the hashes from one run to the next.
    """
    spoken = [utterance for directory in directories for utterance in read_spoken(directory)]
    roles = dict.fromkeys(data.dev, "dev") | dict.fromkeys(data.train, "train")
    same = same_content(spoken, roles, hashes)
    by_recording: dict[str, list[Spoken]] = defaultdict(list)
    for utterance in spoken:
        by_recording[same.get(utterance.path, utterance.path)].append(utterance)
    shared = []
    for utterances in by_recording.values():
        for one, other in overlapping(utterances):
            if one.name != other.name:
                raise ValueError(f"{say_pair(one, other)}; correct its class, or remove it")
            if roles.get(one.set) != roles.get(other.set):
                shared.append((one, other))
    if shared:
        said = f"{say_pair(*shared[0])}, and {len(shared) - 1} more like it: scores on training recordings mean nothing"
        if not data.shared_speakers:
            raise ValueError(f"{said}; remove it from one of the two")
        log.warning("%s (data.shared_speakers=true)", said)


def overlapping(utterances: list[Spoken]) -> Iterator[tuple[Spoken, Spoken]]:
    """Pairs that share more than half of the shorter one."""
    utterances.sort(key=lambda utterance: (utterance.start, utterance.end))
    for at, one in enumerate(utterances):
        for other in itertools.islice(utterances, at + 1, None):
            if other.start >= one.end:
                break
            shared = min(one.end, other.end) - other.start
            if shared > min(one.end - one.start, other.end - other.start) / 2:
                yield one, other


def say_pair(one: Spoken, other: Spoken) -> str:
    """Two utterances of one recording, in words."""
    same = "" if one.path == other.path else f" has the same samples as {other.path}"
    return f"recording {one.path}{same}: it is {one} and {other}"


def same_content(spoken: Iterable[Spoken], roles: Mapping[str, str], hashes: Path) -> dict[str, str]:
    """For each file with the samples of another file of another role or class: one representative of both."""
    uses: dict[tuple, dict[str, set]] = defaultdict(lambda: defaultdict(set))
    for utterance in spoken:
        if utterance.size[0]:
            uses[utterance.size][utterance.path].add((roles.get(utterance.set), utterance.name))
    groups = list(uses.values())
    cache = Hashes(hashes)
    for whole in (False, True):
        suspects = [group for group in groups if len(group) > 1 and len(set().union(*group.values())) > 1]
        digests = cache.of([path for group in suspects for path in group], whole)
        found: dict[tuple, dict[str, set]] = defaultdict(dict)
        for number, group in enumerate(suspects):
            for path, use in group.items():
                if digests[path]:
                    found[number, digests[path]][path] = use
        groups = list(found.values())
    cache.save()
    return {path: min(group) for group in groups for path in group}


class Hashes:
    """Hashes of the samples of files, of the beginning or of all; the disk keeps those of unchanged files."""

    def __init__(self, path: Path):
        self.path, self.known = path, {}
        # a damaged file is made again
        with contextlib.suppress(OSError, ValueError):
            self.known = {tuple(key): digest for *key, digest in map(json.loads, path.read_text("utf-8").splitlines())}
        self.used: dict[tuple, str] = {}

    def of(self, paths: list[str], whole: bool) -> dict[str, str]:
        """Hash by path; empty for a file that cannot be read, which the next stage rejects."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(paths, pool.map(lambda path: self.one(path, whole), paths), strict=True))

    def one(self, path: str, whole: bool) -> str:
        try:
            about = os.stat(path)
            key = (path, about.st_size, about.st_mtime_ns, whole)
            if key not in self.known:
                self.known[key] = digest(path, whole)
        except (OSError, ValueError):
            return ""
        self.used[key] = self.known[key]
        return self.known[key]

    def save(self) -> None:
        if self.used:
            lines = (json.dumps([*key, found]) + "\n" for key, found in sorted(self.used.items()))
            replace_file(self.path, "".join(lines).encode())
        else:
            self.path.unlink(missing_ok=True)


def digest(path: str, whole: bool) -> str:
    """Hash of the samples of a file; ``ValueError`` when it cannot be read."""
    from dnf.data.audio_blocks import Source, read_blocks  # slow to import, and few corpora have two files to compare

    made = hashlib.blake2b(digest_size=16)
    for block in read_blocks(Source(path), BLOCK if whole else BEGINNING)[1]:
        made.update(block.tobytes())
        if not whole:
            break
    return made.hexdigest()


def say_shared_words(directories: Iterable[Path], data: DataSettings) -> None:
    """Log for each set outside training which share of its utterances and words is also in training."""
    texts = {
        directory.name: list(map(words_of, read_table(directory / TEXT).values()))
        for directory in directories
        if (directory / TEXT).is_file()
    }
    learnt = [text for name in data.train for text in texts.get(name, ())]
    sentences, words = set(learnt), set().union(*learnt)
    for name, spoken in texts.items():
        spoken = [text for text in spoken if text]
        if name in data.train or not spoken or not words:
            continue
        count = sum(map(len, spoken))
        shared = sum(text in sentences for text in spoken) / len(spoken)
        known = sum(word in words for text in spoken for word in text) / count
        if shared:
            log.warning(
                "%s: text: %.0f %% of its utterances have the words of a training utterance, %.0f %% of its words are in the "
                "training sets: the model can learn the words; compare with a set of other sentences",
                *(name, 100 * shared, 100 * known),
            )
        elif known:
            log.info(
                "%s: text: no utterance of training, but %.0f %% of its words are in the training sets",
                name,
                100 * known,
            )


def words_of(text: str) -> tuple[str, ...]:
    """The words of an utterance for comparison, without case and punctuation."""
    return tuple(re.findall(r"\w+(?:'\w+)*", normal(text).casefold()))
