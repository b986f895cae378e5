"""Repair a data directory, so that its files agree."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from dnf.data.data_dir import DataSet, load_loose, select, spk2utt_of
from dnf.data.kaldi_files import (
    BY_RECORDING,
    BY_SPEAKER,
    BY_UTTERANCE,
    PARTIAL,
    VALUES,
    render_manifest,
    render_table,
)
from dnf.data.rename import keeps_together, new_ids, renamed
from dnf.data.validate import Counts, few, validate
from dnf.experiment.files import replace_file
from dnf.experiment.layout import RECORDINGS_JSONL, SEGMENTS, SPK2UTT, SUPERVISIONS_JSONL

log = logging.getLogger(__name__)


def fix(directory: Path | str, *, allow_pipes: bool = False, spk_sort: bool = True) -> Counts:
    """Repair a directory: sort, drop repeated lines, keep the utterances that all files have, rebuild spk2utt.

    If sorting by utterance would mix speakers, utterances are renamed to ``<speaker>-<rest>``.

    ``.backup`` keeps the old versions of changed files.

    Raises:
        ValueError: nothing would remain (then nothing is changed), a key has two different values, or the rest
            breaks a rule that cannot be met by leaving records out.
    """
    directory = Path(directory)
    data = load_loose(directory)
    if not data.utt2spk:
        raise ValueError(f"{directory}/utt2spk: no utterances; make the set again")
    kept = select(data, shared_utterances(data, directory))
    if spk_sort and not keeps_together(kept.utt2spk) and (ids := new_ids(kept.utt2spk)):
        first = min(utterance for utterance, name in ids.items() if name != utterance)
        log.warning("%s: renamed utterances to <speaker>-<rest>, for example %s to %s", directory, first, ids[first])
        kept = renamed(kept, ids)
    files = {name: render_table(table) for name, table in kept.tables.items()}
    files[SPK2UTT] = render_table(spk2utt_of(kept.utt2spk))
    for name, records in kept.manifests.items():
        if records != data.manifests[name]:
            files[name] = render_manifest(records.values())
    for name, content in files.items():
        path = directory / name
        if path.is_file():
            if path.read_bytes() == content:
                continue
            (directory / ".backup").mkdir(exist_ok=True)
            shutil.copy2(path, directory / ".backup" / name)
        replace_file(path, content)
        log.info("%s: rewritten", path)
    return validate(directory, allow_pipes=allow_pipes, wav_files=False, need_wav=False, spk_sort=spk_sort)


def shared_utterances(data: DataSet, directory: Path) -> list[str]:
    """The utterances that are in every table and manifest of the set.

    Raises:
        ValueError: there are none.
    """
    utterances = list(data.utt2spk)
    for is_fine, why in (*demands_of_tables(data), *demands_of_manifests(data)):
        dropped = [utterance for utterance in utterances if not is_fine(utterance)]
        if dropped:
            log.warning("%s: left out %d utterances that %s: %s", directory, len(dropped), why, few(dropped))
        utterances = [utterance for utterance in utterances if is_fine(utterance)]
        if not utterances:
            raise ValueError(f"{directory}: no utterance remains without those that {why}; use files of one set")
    return utterances


Demand = tuple[Callable[[str], object], str]


def demands_of_tables(data: DataSet) -> Iterator[Demand]:
    """The requirements for an utterance to remain, each with the message about utterances that fail it."""
    tables = data.tables
    for name in BY_UTTERANCE:
        if name in tables and name not in PARTIAL:
            yield tables[name].__contains__, f"{name} does not have"
    if SEGMENTS in tables:
        is_times, _ = VALUES[SEGMENTS]
        yield lambda u: is_times(tables[SEGMENTS][u]), "have bad times in segments"
    for name in BY_SPEAKER:
        if name in tables:
            yield lambda u, table=tables[name]: data.utt2spk[u] in table, f"are of speakers {name} does not have"
    for name in BY_RECORDING:
        if name in tables:
            yield lambda u, table=tables[name]: data.recording_of(u) in table, f"are of recordings {name} does not have"


def demands_of_manifests(data: DataSet) -> Iterator[Demand]:
    """The same for the Lhotse manifests."""
    supervisions, recordings = data.manifests.get(SUPERVISIONS_JSONL), data.manifests.get(RECORDINGS_JSONL)
    if supervisions is not None:
        yield supervisions.__contains__, f"{SUPERVISIONS_JSONL} does not have"
    if recordings is not None and supervisions is None:
        yield lambda u: data.recording_of(u) in recordings, f"are of recordings {RECORDINGS_JSONL} does not have"
    elif recordings is not None:
        yield (
            lambda u: supervisions[u].get("recording_id") in recordings,
            f"are of recordings {RECORDINGS_JSONL} does not have",
        )
