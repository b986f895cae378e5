"""Files of a Kaldi data directory: their names, their content, reading and writing.

A table is a text file with one record per line. The first field is the key; keys are unique and in byte order. The Lhotse
manifests are gzipped lines of JSON. Uses the standard library only, so the tools start at once.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import stat
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    ALI_SCP,
    CMVN_SCP,
    FEATS_SCP,
    RECORDINGS_JSONL,
    REJECTED_TXT,
    SEGMENTS,
    SPEAKER_VECTORS,
    SPK2GENDER,
    SPK2UTT,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    UTT2CORPUS,
    UTT2DUR,
    UTT2NUM_FRAMES,
    UTT2SCORE,
    UTT2SCORES,
    UTT2SPK,
    UTTERANCE_VECTORS,
    VAD_SCP,
    WAV_SCP,
)

MANIFESTS = (RECORDINGS_JSONL, SUPERVISIONS_JSONL)
MADE_FROM_AUDIO = (FEATS_SCP, VAD_SCP, CMVN_SCP, UTT2NUM_FRAMES, REJECTED_TXT)  # by stage features

# Tables by the kind of their key. Other files called utt2*, spk2* or reco2* are kept but not checked.
BY_UTTERANCE = (
    *(SEGMENTS, FEATS_SCP, VAD_SCP, ALI_SCP, "text", UTT2DUR, UTT2NUM_FRAMES, UTT2CLASS, UTT2SCORE, UTT2SCORES),
    *(UTT2CORPUS, "utt2lang", "utt2uniq", "utt2warp"),
    *UTTERANCE_VECTORS,
)
BY_SPEAKER = (CMVN_SCP, SPK2GENDER, "spk2warp", *SPEAKER_VECTORS)
BY_RECORDING = (WAV_SCP, "reco2dur", "reco2file_and_channel")
# Tables that may lack some keys
PARTIAL = (UTT2SCORE, UTT2SCORES)
# Scores besides the main one, utt2score_<name>, and the experts' marks of them, utt2scores_<name>, have the form of these.
SCORE_TABLES = (UTT2SCORE, UTT2SCORES)
# Files with one value for the set
GLOBAL = ("frame_shift",)

FIX = "python3 -m dnf datadir fix"

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
is_class_name = re.compile(r"[a-z][a-z0-9_]*").fullmatch
NOT_TEXT = re.compile(r"[^\S \t]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")
ARCHIVE = re.compile(r".*[^ ]:[0-9]+(\[[0-9:,]*\])?")


def normal(name: str) -> str:
    """A name in Unicode's composed form, for comparisons."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Spellings:
    """Names that look the same must be the same: é can be one character or two, which would be two speakers."""

    def __init__(self, prefix: str):
        self.prefix, self.first = prefix, {}

    def check(self, kind: str, name: str, place: str) -> None:
        """Raise ``ValueError`` if ``name`` appeared before with other characters; the message names both places."""
        if name.isascii():
            return
        other, before = self.first.setdefault((kind, normal(name)), (name, place))
        if other != name:
            raise ValueError(
                f"{self.prefix}{place}: {kind} {name!r} has other Unicode characters than in {before} "
                f"({ascii(name)} and {ascii(other)}); use the same characters"
            )


class Genders:
    """Every speaker has one gender: ``of`` has it by speaker."""

    def __init__(self, prefix: str):
        self.prefix, self.of, self.places = prefix, {}, {}

    def check(self, speaker: str, gender: str | None, place: str) -> None:
        """Raise ``ValueError`` if the speaker appeared before with another gender; the message names both places."""
        before, first = self.of.setdefault(speaker, gender), self.places.setdefault(speaker, place)
        if before != gender:
            raise ValueError(
                f"{self.prefix}{place}: speaker {speaker} is {gender}, but {before} in {first}; correct one of the two"
            )


def number_of(value: str) -> float:
    """``value`` as a number, or NaN, which compares false with everything."""
    return float(value) if NUMBER.fullmatch(value) and math.isfinite(float(value)) else math.nan


def are_numbers(value: str) -> bool:
    """Whether ``value`` is one number or several."""
    return bool(value) and all(math.isfinite(number_of(word)) for word in value.split())


def is_times(value: str) -> bool:
    """Whether ``value`` is the rest of a line of segments: recording, start and end."""
    fields = re.split("[ \t]+", value)
    return len(fields) == 3 and 0 <= number_of(fields[1]) < number_of(fields[2])


# For each table: the check of a value, and the description of a legal value.
VALUES: dict[str, tuple[Callable[[str], object], str]] = {
    UTT2SPK: (re.compile(r"\S+").fullmatch, "one speaker id"),
    SPK2UTT: (re.compile(r"\S.*").fullmatch, "a list of utterance ids"),
    SEGMENTS: (is_times, "'recording start end' in seconds with 0 <= start < end"),
    FEATS_SCP: (ARCHIVE.fullmatch, "'archive:offset'"),
    VAD_SCP: (ARCHIVE.fullmatch, "'archive:offset'"),
    ALI_SCP: (ARCHIVE.fullmatch, "'archive:offset'"),
    CMVN_SCP: (ARCHIVE.fullmatch, "'archive:offset'"),
    **dict.fromkeys((*UTTERANCE_VECTORS, *SPEAKER_VECTORS), (ARCHIVE.fullmatch, "'archive:offset'")),
    WAV_SCP: (lambda value: value and not value.startswith("~"), "a file name ('~' is not expanded)"),
    "text": (
        lambda value: not NOT_TEXT.search(value) and not {"<s>", "</s>", "#0"} & set(value.split()),
        "words between blanks, without control characters, other white space, <s>, </s> or #0",
    ),
    UTT2DUR: (lambda value: number_of(value) > 0, "a number of seconds above 0"),
    "reco2dur": (lambda value: number_of(value) > 0, "a number of seconds above 0"),
    UTT2NUM_FRAMES: (re.compile("[1-9][0-9]*").fullmatch, "a whole number above 0"),
    UTT2CLASS: (is_class_name, "a class name like en or zh_cn (letters a-z, digits, underscore)"),
    UTT2CORPUS: (re.compile(r"[^ \t]+").fullmatch, "the name of a corpus, without blanks"),
    UTT2SCORE: (lambda value: math.isfinite(number_of(value)), "a number"),
    UTT2SCORES: (are_numbers, "a number of each expert"),
    "utt2warp": (lambda value: 0.5 < number_of(value) < 1.5, "a number between 0.5 and 1.5"),
    "spk2warp": (lambda value: 0.5 < number_of(value) < 1.5, "a number between 0.5 and 1.5"),
    SPK2GENDER: (re.compile("[mf]").fullmatch, "m or f"),
    "reco2file_and_channel": (re.compile("[^ \t]+[ \t]+[AB1]").fullmatch, "'file A' or 'file B'"),
}


def key_of(name: str) -> str | None:
    """The kind of key of table ``name``: utterance, speaker or recording; ``None`` for utt2spk, spk2utt and others."""
    if name in (UTT2SPK, SPK2UTT):
        return None
    prefix = re.fullmatch("(utt|spk|reco)2[a-z0-9_]+", name)
    if name in BY_UTTERANCE or prefix and prefix[1] == "utt":
        return "utterance"
    if name in BY_SPEAKER or prefix and prefix[1] == "spk":
        return "speaker"
    return "recording" if name in BY_RECORDING or prefix else None


def form_of(name: str) -> str:
    """The table whose form table ``name`` has: ``utt2score`` for ``utt2score_fluency``, and itself for most."""
    return next((table for table in SCORE_TABLES if name.startswith(f"{table}_")), name)


def further_scores(directory: Path) -> list[str]:
    """Names of the tables ``utt2score_<name>`` and ``utt2scores_<name>`` of a data directory."""
    return sorted(path.name for table in SCORE_TABLES for path in directory.glob(f"{table}_*") if path.is_file())


def read_table(path: Path | str) -> dict[str, str]:
    """Read a table and check the rules that hold for all tables.

    Args:
        path: UTF-8 text, each line ``KEY`` or ``KEY VALUE``, sorted by key in byte order.

    Returns:
        The rest of each line, without blanks at its ends, by key, in the order of the file.

    Raises:
        ValueError: the file breaks a rule; the message names the line.
    """
    path = Path(path)
    table: dict[str, str] = {}
    spellings, previous = Spellings(f"{path} "), ""
    for number, line in enumerate(read_lines(path), 1):
        key, value = split_line(line, path, number)
        if key in table:
            raise ValueError(f"{path} line {number}: {key!r} appears twice; remove one, or run {FIX} {path.parent}")
        if key < previous:
            raise ValueError(
                f"{path} line {number}: {key!r} comes after {previous!r}, so the file is not in byte order; "
                f"sort it with LC_ALL=C, or run {FIX} {path.parent}"
            )
        spellings.check("id", key, f"line {number}")
        table[key] = value
        previous = key
    return table


def read_loose(path: Path) -> dict[str, str]:
    """Like ``read_table``, but accepts any order, blank lines, CRLF, repeated lines and a missing last newline."""
    table: dict[str, str] = {}
    spellings = Spellings(f"{path} ")
    for number, line in enumerate(read_lines(path, loose=True), 1):
        if not line.strip():
            continue
        key, value = split_line(line.strip(" \t\r"), path, number)
        spellings.check("id", key, f"line {number}")
        if table.setdefault(key, value) != value:
            raise ValueError(
                f"{path} line {number}: {key!r} appears before with another value; remove one of the lines"
            )
    return dict(sorted(table.items()))


def not_a_file(path: str | Path) -> str:
    """Why ``path`` cannot be read; empty if it is a file."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"is a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else no_such_file(path)
    except OSError as error:
        return str(error.strerror)
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    if stat.S_ISFIFO(mode):
        return "is a named pipe (FIFO), which can be read only once; write its output to a file"
    return "" if stat.S_ISREG(mode) else "is not a file but a device or socket"


def no_such_file(path: Path) -> str:
    """The message that a file is missing, or that only a file whose name looks the same exists, as after a copy from a Mac."""
    if not path.name.isascii() and path.parent.is_dir():
        alike = [name for name in os.listdir(path.parent) if normal(name) == normal(path.name)]
        if alike:
            return f"no such file; a file name with other Unicode characters exists, {ascii(alike[0])}; use the same characters"
    return "no such file"


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Text of a file; ``ValueError`` names the line that is not in the encoding."""
    data = path.read_bytes()
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {number}: not {encoding.upper()}; convert the file with iconv") from None


def read_lines(path: Path, *, loose: bool = False) -> list[str]:
    text = read_text(path)
    if text.startswith("\ufeff"):
        raise ValueError(f"{path} line 1: begins with a byte-order mark; save the file without it")
    lines = text.split("\n")
    if lines[-1] and not loose:
        raise ValueError(f"{path} line {len(lines)}: the last line does not end in a newline; run {FIX} {path.parent}")
    return lines if lines[-1] else lines[:-1]


def split_line(line: str, path: Path, number: int) -> tuple[str, str]:
    """Key and value of one line."""
    key, *rest = re.split("[ \t]+", line, maxsplit=1)
    fault = None
    if not key:
        fault = "blank line" if not line.strip() else "begins with a blank"
    elif line.endswith("\r"):
        fault = "ends in a carriage return"
    elif not key.isprintable():
        fault = f"the id {key!r} has a blank or control character in it"
    if fault:
        raise ValueError(f"{path} line {number}: {fault}; write 'id value', or run {FIX} {path.parent}")
    return key, rest[0].rstrip(" \t") if rest else ""


def write_table(path: Path | str, mapping: dict[str, str]) -> None:
    """Write a sorted table under a temporary name, and then rename it.

    Args:
        path: the file; its folder must exist.
        mapping: value by key; an empty value leaves the key alone on its line.

    Raises:
        ValueError: a key has white space in it, or a value a line break.
    """
    for key, value in mapping.items():
        if not key or not key.isprintable() or " " in key:
            raise ValueError(f"{path}: the id {key!r} is empty or has a blank or control character in it")
        if "\n" in value or "\r" in value:
            raise ValueError(f"{path}: the value of {key!r} has a line break in it: {value!r}")
    replace_file(Path(path), render_table(mapping))


def render_table(mapping: dict[str, str]) -> bytes:
    return "".join(f"{key} {mapping[key]}".rstrip(" ") + "\n" for key in sorted(mapping)).encode("utf-8")


def read_manifest(path: Path, *, loose: bool = False) -> dict[str, dict]:
    """Records of a Lhotse manifest by id; ``loose`` allows repeated lines.

    Raises:
        ValueError: no gzipped lines of JSON objects with an ``id``, or an id that appears twice.
    """
    records: dict[str, dict] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                record = json.loads(line)
                name = record["id"]
                if name in records and not (loose and records[name] == record):
                    raise ValueError(f"{path} line {number}: {name!r} appears twice; make the manifest again")
                records[name] = record
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} line {number}: not gzipped JSON with an id; make the manifest again") from None
    return records


def render_manifest(records: Iterable[dict]) -> bytes:
    """The same bytes for the same records: no time, no file name."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        for record in records:
            stream.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8"))
    return buffer.getvalue()
