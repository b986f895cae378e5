"""Check whether the files of a Kaldi data directory agree: Kaldi's rules for all existing files, and ours for classes."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dnf.data.data_dir import spk2utt_of
from dnf.data.kaldi_files import (
    BY_RECORDING,
    BY_SPEAKER,
    BY_UTTERANCE,
    FIX,
    GLOBAL,
    PARTIAL,
    VALUES,
    Spellings,
    form_of,
    further_scores,
    is_class_name,
    normal,
    not_a_file,
    number_of,
    read_lines,
    read_manifest,
    read_table,
    read_text,
)
from dnf.experiment.layout import (
    FEATS_SCP,
    RECORDINGS_JSONL,
    SEGMENTS,
    SPK2UTT,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    UTT2DUR,
    UTT2NUM_FRAMES,
    UTT2SPK,
    WAV_SCP,
)

MOST_COUNTED = 20  # that are counted one by one in a message


@dataclass(frozen=True)
class Counts:
    """Counts of a valid directory: ``None`` if no file has them; utterances by class, empty without utt2class."""

    utterances: int
    speakers: int
    recordings: int | None
    seconds: float | None
    frames: int | None
    classes: dict[str, int]

    def __str__(self) -> str:
        parts = [f"{self.utterances} utterances", f"{self.speakers} speakers"]
        parts += [f"{self.recordings} recordings"] if self.recordings is not None else []
        if self.seconds is not None:
            minutes, seconds = divmod(round(self.seconds), 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} hours")
        parts += [f"{self.frames} frames"] if self.frames is not None else []
        if len(self.classes) > MOST_COUNTED:
            parts += [
                f"{min(self.classes.values())} to {max(self.classes.values())} of each of {len(self.classes)} classes"
            ]
        else:
            parts += [f"{count} of class {name}" for name, count in self.classes.items()]
        return ", ".join(parts)


def validate(
    directory: Path | str,
    *,
    allow_pipes: bool = False,
    wav_files: bool = True,
    need_wav: bool = True,
    need_feats: bool = False,
    need_spk2utt: bool = True,
    spk_sort: bool = True,
    odd_times: bool = False,
    classes: Path | str | None = None,
) -> Counts:
    """Check a data directory: every existing file, and that the files agree.

    Args:
        directory: the set, with utt2spk at least.
        allow_pipes: accept ``command |`` instead of a file name; reading the set runs it.
        wav_files: check that each audio file exists.
        need_wav: wav.scp is required.
        need_feats: feats.scp is required.
        need_spk2utt: spk2utt is required; it follows from utt2spk.
        odd_times: accept empty segments and segments outside of a recording, for callers that reject them one by one.
        spk_sort: utt2spk must stay sorted when sorted by speaker.
        classes: file of class names, one per line; it must have every class of the set.

    Raises:
        ValueError: the first violation: file, line, reason, remedy.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such data directory")
    check_needed(directory, {UTT2SPK: True, SPK2UTT: need_spk2utt, WAV_SCP: need_wav, FEATS_SCP: need_feats})
    names = [UTT2SPK, SPK2UTT, *BY_UTTERANCE, *BY_SPEAKER, *BY_RECORDING, *further_scores(directory)]
    paths = {name: directory / name for name in names if (directory / name).is_file()}
    tables = {name: read_checked(path, allow_pipes=allow_pipes, odd_times=odd_times) for name, path in paths.items()}
    utt2spk = tables[UTT2SPK]
    if not utt2spk:
        raise ValueError(f"{directory}/utt2spk: no utterances; make the set again")
    tables.setdefault(SPK2UTT, spk2utt_of(utt2spk))
    spellings = Spellings(f"{directory / UTT2SPK} ")
    for line, speaker in enumerate(utt2spk.values(), 1):
        spellings.check("speaker", speaker, f"line {line}")
    if spk_sort:
        check_speaker_order(directory / UTT2SPK)
    check_spk2utt(directory, utt2spk, tables[SPK2UTT])
    check_recordings(directory, tables)
    if wav_files:
        check_wav_files(directory, tables.get(WAV_SCP, {}))
    check_other_tables(directory, tables)
    check_classes(directory, tables, classes)
    manifests = {
        name: read_manifest(directory / name)
        for name in (RECORDINGS_JSONL, SUPERVISIONS_JSONL)
        if (directory / name).is_file()
    }
    check_manifests(directory, tables, manifests, allow_pipes=allow_pipes)
    return count(tables, manifests)


def check_needed(directory: Path, needed: Mapping[str, bool]) -> None:
    """The required files exist."""
    for name, is_needed in needed.items():
        if is_needed and not (directory / name).is_file():
            hint = f"run {FIX} {directory}" if name == SPK2UTT else "make it, or name another directory"
            raise ValueError(f"{directory / name}: {not_a_file(directory / name)}; {hint}")


def check_other_tables(directory: Path, tables: dict[str, dict[str, str]]) -> None:
    """Tables by utterance and by speaker have the right keys, and single values of the set are numbers."""
    for name, table in tables.items():
        if form_of(name) in BY_UTTERANCE:
            partial = form_of(name) in PARTIAL
            check_keys(directory / name, table, directory / UTT2SPK, tables[UTT2SPK], partial=partial)
        elif name in BY_SPEAKER:
            check_keys(directory / name, table, directory / SPK2UTT, tables[SPK2UTT], what="speakers")
    for name in GLOBAL:
        path = directory / name
        if path.is_file() and not number_of(read_text(path).strip()) > 0:
            raise ValueError(f"{path}: not a number above 0; write the frame shift in seconds, such as 0.01")


def read_checked(path: Path, *, allow_pipes: bool, odd_times: bool = False) -> dict[str, str]:
    """Read a table and check each value on its own."""
    table = read_table(path)
    is_value, wanted = VALUES.get(form_of(path.name), (None, ""))
    if odd_times and path.name == SEGMENTS:
        is_value, wanted = are_times, "'recording start end' in seconds"
    for line, (key, value) in enumerate(table.items(), 1):
        if path.suffix == ".scp" and "|" in (value.strip()[:1], value.strip()[-1:]):
            if not allow_pipes:
                raise ValueError(
                    f"{path} line {line}: {key!r} is a command: {value!r}; "
                    "use audio files, or allow pipes if you trust the directory"
                )
        elif is_value and not is_value(value):
            raise ValueError(f"{path} line {line}: {key!r} has {value!r}, not {wanted}; correct or remove the line")
    return table


def are_times(value: str) -> bool:
    """Whether ``value`` is a recording and two numbers."""
    fields = re.split("[ \t]+", value)
    return len(fields) == 3 and all(math.isfinite(number_of(field)) for field in fields[1:])


def check_speaker_order(path: Path) -> None:
    """The file utt2spk stays sorted when sorted by speaker."""
    lines = read_lines(path)
    by_speaker = sorted(lines, key=lambda line: (line[len(re.split("[ \t]", line, maxsplit=1)[0]) :], line))
    for number, (line, other) in enumerate(zip(lines, by_speaker, strict=True), 1):
        if line != other:
            raise ValueError(
                f"{path} line {number}: {line!r} stands where {other!r} would if sorted by speaker; "
                f"{why_mixed(line, other, path.parent)}"
            )


def check_spk2utt(directory: Path, utt2spk: dict[str, str], spk2utt: dict[str, str]) -> None:
    """The table spk2utt agrees with utt2spk."""
    wanted: dict[str, list[str]] = {}
    for utterance, speaker in utt2spk.items():
        wanted.setdefault(speaker, []).append(utterance)
    check_keys(directory / SPK2UTT, spk2utt, directory / UTT2SPK, sorted(wanted), what="speakers")
    for line, (speaker, utterances) in enumerate(spk2utt.items(), 1):
        listed = re.split("[ \t]+", utterances)
        if listed != wanted[speaker]:
            differ = sorted(set(listed) ^ set(wanted[speaker]))
            raise ValueError(
                f"{directory}/spk2utt line {line}: speaker {speaker!r} has other utterances than in utt2spk "
                f"({few(differ) if differ else 'in another order, or twice'}); run {FIX} {directory}"
            )


def why_mixed(line: str, other: str, directory: Path) -> str:
    """Why two lines of utt2spk are in another order than their speakers, and the remedy."""
    (utt, speaker), (other_utt, other_speaker) = (re.split("[ \t]+", text, maxsplit=1) for text in (line, other))
    if utt.startswith(speaker) and other_utt.startswith(other_speaker):
        at = next((n for n, (one, two) in enumerate(zip(utt, other_utt)) if one != two), 0)
        return (
            f"sort puts {utt!r} before {other_utt!r}, for {utt[at]!r} comes before {other_utt[at]!r} in byte order, but "
            f"speaker {other_speaker!r} before {speaker!r}: put '-' behind the speaker, as in {other_speaker}-0 and {speaker}-0, "
            f"or run {FIX} {directory}"
        )
    return "begin utterance ids with the speaker id, as in spk-utt"


def check_recordings(directory: Path, tables: dict[str, dict[str, str]]) -> None:
    """wav.scp, segments and the tables by recording agree."""
    wav, segments = tables.get(WAV_SCP), tables.get(SEGMENTS)
    if wav is None:
        if segments is not None:
            raise ValueError(f"{directory}/segments: wav.scp is missing; make it, or remove segments")
    elif segments is not None:
        recordings = sorted({re.split("[ \t]", value)[0] for value in segments.values()})
        check_keys(directory / WAV_SCP, wav, directory / SEGMENTS, recordings, what="recordings")
    else:
        check_keys(directory / WAV_SCP, wav, directory / UTT2SPK, tables[UTT2SPK])
    for name in BY_RECORDING[1:]:
        if name in tables:
            keys, by = (wav, WAV_SCP) if wav is not None else (tables[UTT2SPK], UTT2SPK)
            check_keys(directory / name, tables[name], directory / by, keys, what="recordings")


def check_wav_files(directory: Path, wav: dict[str, str]) -> None:
    """The audio files of wav.scp exist."""
    missing = [
        (line, key, value)
        for line, (key, value) in enumerate(wav.items(), 1)
        if not value.strip().endswith("|")
        and not os.path.isfile(value)
        and not os.path.isfile(re.sub(r":[0-9]+$", "", value))
    ]
    if missing:
        line, key, value = missing[0]
        reason = not_a_file(value).replace("no such file", "is not there")
        raise ValueError(
            f"{directory}/wav.scp line {line}: the audio file of {key!r} {reason}: {value} "
            f"({len(missing)} of {len(wav)} are missing); restore the file, or remove its line and "
            f"run {FIX} {directory}"
        )


def check_classes(directory: Path, tables: dict[str, dict[str, str]], classes: Path | str | None) -> None:
    """Every speaker has one class, and every class is in the list of classes."""
    utt2spk, utt2class = tables[UTT2SPK], tables.get(UTT2CLASS, {})
    class_of: dict[str, tuple[str, str]] = {}
    for line, (utterance, name) in enumerate(utt2class.items(), 1):
        first, other = class_of.setdefault(utt2spk[utterance], (utterance, name))
        if name != other:
            raise ValueError(
                f"{directory}/utt2class line {line}: speaker {utt2spk[utterance]!r} has class {name!r} in "
                f"{utterance!r} and {other!r} in {first!r}; give each speaker one class"
            )
    if classes is None:
        return
    known = read_table(classes)
    for line, (name, rest) in enumerate(known.items(), 1):
        if rest or not is_class_name(name):
            raise ValueError(f"{classes} line {line}: {name + ' ' + rest!r} is not one class name like en or zh_cn")
    for line, (utterance, name) in enumerate(utt2class.items(), 1):
        if name not in known:
            raise ValueError(
                f"{directory}/utt2class line {line}: class {name!r} of {utterance!r} is not in {classes} "
                f"({few(list(known))}); add it there, or remove the utterance"
            )


def check_manifests(
    directory: Path, tables: dict[str, dict[str, str]], manifests: dict[str, dict], *, allow_pipes: bool
) -> None:
    """The Lhotse manifests have the recordings and utterances of the tables, with the same speakers and classes."""
    recordings, supervisions = manifests.get(RECORDINGS_JSONL), manifests.get(SUPERVISIONS_JSONL)
    remedy = f"make the set again, or run {FIX} {directory}"
    if recordings is not None:
        if WAV_SCP in tables:
            check_keys(
                directory / RECORDINGS_JSONL, recordings, directory / WAV_SCP, tables[WAV_SCP], what="recordings"
            )
        for line, (name, record) in enumerate(recordings.items(), 1):
            if not allow_pipes and any(source.get("type") == "command" for source in record.get("sources", ())):
                raise ValueError(
                    f"{directory / RECORDINGS_JSONL} line {line}: the source of {name!r} is a command; "
                    "name audio files, or allow pipes if you trust the directory"
                )
    if supervisions is None:
        return
    check_keys(directory / SUPERVISIONS_JSONL, supervisions, directory / UTT2SPK, tables[UTT2SPK])
    for line, (name, record) in enumerate(supervisions.items(), 1):
        where = f"{directory / SUPERVISIONS_JSONL} line {line}: {name!r}"
        if recordings is not None and record.get("recording_id") not in recordings:
            raise ValueError(
                f"{where} is of recording {record.get('recording_id')!r}, not in {RECORDINGS_JSONL}; {remedy}"
            )
        for field, value, table in (
            ("speaker", record.get("speaker"), UTT2SPK),
            ("class", (record.get("custom") or {}).get("class"), UTT2CLASS),
        ):
            if value is not None and table in tables and value != tables[table][name]:
                raise ValueError(
                    f"{where} has {field} {value!r}, but {tables[table][name]!r} in {table}; correct one of them"
                )


def check_keys(
    path: Path,
    keys: Collection[str],
    other: Path,
    expected: Collection[str],
    *,
    what: str = "utterances",
    partial: bool = False,
) -> None:
    """Raise ``ValueError`` unless ``keys`` are those expected or, if ``partial``, some of them."""
    have, want = set(keys), set(expected)
    lacking, unknown = [] if partial else sorted(want - have), sorted(have - want)
    if lacking or unknown:
        parts = [f"lacks {len(lacking)} ({few(lacking)})"] if lacking else []
        parts += [f"has {len(unknown)} more ({few(unknown)})"] if unknown else []
        if set(map(normal, lacking)) & set(map(normal, unknown)):
            parts.append("some differ only in Unicode characters")
        remedy = f"make it again, or keep the common utterances with {FIX} {path.parent}"
        raise ValueError(f"{path}: its {what} differ from {other}: {', '.join(parts)}; {remedy}")


def few(names: list[str]) -> str:
    """The first three, on one line."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def count(tables: dict[str, dict[str, str]], manifests: dict[str, dict]) -> Counts:
    recordings = tables.get(WAV_SCP, manifests.get(RECORDINGS_JSONL))
    durations, frames = tables.get(UTT2DUR), tables.get(UTT2NUM_FRAMES)
    return Counts(
        utterances=len(tables[UTT2SPK]),
        speakers=len(tables[SPK2UTT]),
        recordings=None if recordings is None else len(recordings),
        seconds=None if durations is None else sum(map(float, durations.values())),
        frames=None if frames is None else sum(map(int, frames.values())),
        classes=dict(sorted(Counter(tables.get(UTT2CLASS, {}).values()).items())),
    )
