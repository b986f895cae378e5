"""Read a complete data directory with its Lhotse manifests, and select a part of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from dnf.data.kaldi_files import MANIFESTS, key_of, read_loose, read_manifest
from dnf.experiment.layout import RECORDINGS_JSONL, SEGMENTS, SUPERVISIONS_JSONL, UTT2SPK, run_stage


@dataclass
class DataSet:
    """A data directory: tables by file name, without spk2utt; manifests by file name and record id."""

    tables: dict[str, dict[str, str]]
    manifests: dict[str, dict[str, dict]]

    @property
    def utt2spk(self) -> dict[str, str]:
        return self.tables[UTT2SPK]

    def recording_of(self, utterance: str) -> str:
        """The key of the utterance in wav.scp."""
        segments = self.tables.get(SEGMENTS)
        return re.split("[ \t]", segments[utterance])[0] if segments is not None else utterance


def load_loose(directory: Path) -> DataSet:
    """Read a set, whose tables may be unsorted or have repeated lines."""
    if not (directory / UTT2SPK).is_file():
        raise ValueError(f"{directory}/utt2spk: no such file; name a data directory")
    names = sorted(path.name for path in directory.iterdir() if path.is_file())
    return DataSet(
        {name: read_loose(directory / name) for name in names if name == UTT2SPK or key_of(name)},
        {name: read_manifest(directory / name, loose=True) for name in names if name in MANIFESTS},
    )


def select(data: DataSet, utterances: Iterable[str]) -> DataSet:
    """The set of the given utterances with their speakers and recordings."""
    utterances = sorted(utterances)
    speakers = sorted({data.utt2spk[utterance] for utterance in utterances})
    recordings = sorted({data.recording_of(utterance) for utterance in utterances})
    keys = {"utterance": utterances, "speaker": speakers, "recording": recordings, None: utterances}
    tables = {name: {k: table[k] for k in keys[key_of(name)] if k in table} for name, table in data.tables.items()}
    manifests = {}
    if SUPERVISIONS_JSONL in data.manifests:
        chosen = set(utterances)
        records = {name: record for name, record in data.manifests[SUPERVISIONS_JSONL].items() if name in chosen}
        manifests[SUPERVISIONS_JSONL] = records
        recordings = [record.get("recording_id") for record in records.values()]
    if RECORDINGS_JSONL in data.manifests:
        chosen = set(recordings)
        manifests[RECORDINGS_JSONL] = {
            name: record for name, record in data.manifests[RECORDINGS_JSONL].items() if name in chosen
        }
    return DataSet(tables, manifests)


def spk2utt_of(utt2spk: dict[str, str]) -> dict[str, str]:
    utterances: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        utterances.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(names) for speaker, names in utterances.items()}


def sets_below(data: Path) -> list[Path]:
    """Data directories below ``data``, in byte order."""
    directories = sorted(path.parent for path in data.glob(f"*/{UTT2SPK}") if not path.parent.name.startswith("."))
    if not directories:
        raise ValueError(f"{data}: has no data directories; {run_stage('data')}")
    return directories


def remove_sets(out: Path, kept: Collection[str] = ()) -> None:
    """Remove the sets of an earlier run but those ``kept``."""
    for path in out.glob(f"*/{UTT2SPK}"):
        if path.parent.name not in kept:
            shutil.rmtree(path.parent)
