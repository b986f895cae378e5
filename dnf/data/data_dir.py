"""A data directory read whole: choosing part of it, joining several, writing it. Lhotse manifests go along."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dnf.data.kaldi_files import (
    GLOBAL,
    MANIFESTS,
    PARTIAL,
    RECORDINGS,
    SUPERVISIONS,
    key_of,
    read_loose,
    read_manifest,
    read_table,
    render_manifest,
    write_table,
)
from dnf.experiment.files import replace_file
from dnf.experiment.layout import SPK2UTT, UTT2SPK, run_stage


@dataclass
class DataSet:
    """A data directory: tables by file name, without spk2utt; manifests by file name and record id."""

    tables: dict[str, dict[str, str]]
    manifests: dict[str, dict[str, dict]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)  # of the whole set, like frame_shift

    @property
    def utt2spk(self) -> dict[str, str]:
        return self.tables["utt2spk"]

    def recording_of(self, utterance: str) -> str:
        """The key of the utterance in wav.scp."""
        segments = self.tables.get("segments")
        return re.split("[ \t]", segments[utterance])[0] if segments is not None else utterance


def files_of(directory: Path) -> list[str]:
    """Names of the files that make up the set in ``directory``."""
    names = sorted(path.name for path in directory.iterdir() if path.is_file())
    return [name for name in names if name in ("utt2spk", "spk2utt", *MANIFESTS, *GLOBAL) or key_of(name)]


def load(directory: Path, loose: bool = False) -> DataSet:
    """Read a set; ``loose`` accepts tables that are unsorted or have repeated lines."""
    if not (directory / UTT2SPK).is_file():
        raise ValueError(f"{directory}/utt2spk: no such file; name a data directory")
    read = read_loose if loose else read_table
    names = files_of(directory)
    return DataSet(
        {name: read(directory / name) for name in names if name == "utt2spk" or key_of(name)},
        {name: read_manifest(directory / name, loose) for name in names if name in MANIFESTS},
        {name: (directory / name).read_text(encoding="utf-8") for name in names if name in GLOBAL},
    )


def select(data: DataSet, utterances: Iterable[str]) -> DataSet:
    """The set of the given utterances with their speakers and recordings."""
    utterances = sorted(utterances)
    speakers = sorted({data.utt2spk[utterance] for utterance in utterances})
    recordings = sorted({data.recording_of(utterance) for utterance in utterances})
    keys = {"utterance": utterances, "speaker": speakers, "recording": recordings, None: utterances}
    tables = {name: {k: table[k] for k in keys[key_of(name)] if k in table} for name, table in data.tables.items()}
    manifests = {}
    if SUPERVISIONS in data.manifests:
        chosen = set(utterances)
        found = {name: record for name, record in data.manifests[SUPERVISIONS].items() if name in chosen}
        manifests[SUPERVISIONS] = found
        recordings = [record.get("recording_id") for record in found.values()]
    if RECORDINGS in data.manifests:
        chosen = set(recordings)
        manifests[RECORDINGS] = {name: record for name, record in data.manifests[RECORDINGS].items() if name in chosen}
    return DataSet(tables, manifests, dict(data.values))


def spk2utt_of(utt2spk: dict[str, str]) -> dict[str, str]:
    utterances: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        utterances.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(names) for speaker, names in utterances.items()}


def write(data: DataSet, directory: Path) -> None:
    """Write a set into an empty folder."""
    for name, table in data.tables.items():
        if table or name not in PARTIAL:
            write_table(directory / name, table)
    write_table(directory / SPK2UTT, spk2utt_of(data.utt2spk))
    for name, records in data.manifests.items():
        replace_file(directory / name, render_manifest(records.values()))
    for name, value in data.values.items():
        replace_file(directory / name, value.encode("utf-8"))


def join(name: str, parts: list[tuple[Path, dict | str]]):
    """One file of several sets: records by key, or one value; equal records may be in several of them."""
    first_path, first = parts[0]
    if isinstance(first, str):
        for path, value in parts[1:]:
            if value.split() != first.split():
                raise ValueError(
                    f"{path / name}: is {value.strip()}, but {first_path / name} {first.strip()}; make them agree"
                )
        return first
    joined: dict = {}
    origin: dict[str, Path] = {}
    for path, records in parts:
        for key, record in records.items():
            if joined.setdefault(key, record) != record:
                raise ValueError(f"{path / name}: {key!r} is other than in {origin[key] / name}; rename or remove one")
            origin.setdefault(key, path)
    return dict(sorted(joined.items()))


def sets_below(data: Path) -> list[Path]:
    """Data directories below ``data``, in byte order."""
    found = sorted(path.parent for path in data.glob(f"*/{UTT2SPK}") if not path.parent.name.startswith("."))
    if not found:
        raise ValueError(f"{data}: no data directory below it; {run_stage('data')}")
    return found
