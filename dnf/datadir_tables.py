"""Files of a Kaldi data directory: which there are, and reading and writing one of them.

A table is a text file of one record a line, whose first field is the key; keys are unique and in byte order. The Lhotse
manifests are gzipped lines of JSON. Standard library only, so that the tools start at once.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

RECORDINGS = "recordings.jsonl.gz"
SUPERVISIONS = "supervisions.jsonl.gz"
MANIFESTS = (RECORDINGS, SUPERVISIONS)

# Tables by what their key is. Other files called utt2*, spk2* or reco2* are carried along but not checked.
BY_UTTERANCE = (
    *("segments", "feats.scp", "vad.scp", "ali.scp", "text", "utt2dur", "utt2num_frames", "utt2class", "utt2score"),
    *("utt2lang", "utt2uniq", "utt2warp"),
)
BY_SPEAKER = ("cmvn.scp", "spk2gender", "spk2warp")
BY_RECORDING = ("wav.scp", "reco2dur", "reco2file_and_channel")
PARTIAL = ("utt2score",)  # may lack some of its keys
GLOBAL = ("frame_shift",)  # one value for the whole set

FIX = "python3 -m dnf.datadir fix"


def key_of(name: str) -> str | None:
    """``utterance``, ``speaker`` or ``recording``: what the table called ``name`` is keyed by; ``None`` if it is no such table."""
    if name in ("utt2spk", "spk2utt"):
        return None
    if name in BY_UTTERANCE or name.startswith("utt2"):
        return "utterance"
    if name in BY_SPEAKER or name.startswith("spk2"):
        return "speaker"
    return "recording" if name in BY_RECORDING or name.startswith("reco2") else None


def read_table(path: Path | str) -> dict[str, str]:
    """Read a table, checking what holds for all of them.

    Args:
        path: UTF-8 text, each line ``KEY`` or ``KEY VALUE``, sorted by key in byte order.

    Returns:
        The rest of each line, without blanks at its ends, by key, in the order of the file.

    Raises:
        ValueError: the file is not as above; names the line.
    """
    path = Path(path)
    table: dict[str, str] = {}
    previous = ""
    for number, line in enumerate(read_lines(path), 1):
        key, value = split_line(line, path, number)
        if key in table:
            raise ValueError(f"{path} line {number}: {key!r} is there twice; remove one, or run {FIX} {path.parent}")
        if key < previous:
            raise ValueError(
                f"{path} line {number}: {key!r} comes after {previous!r}, so the file is not in byte order; "
                f"sort it under LC_ALL=C, or run {FIX} {path.parent}"
            )
        table[key] = value
        previous = key
    return table


def read_loose(path: Path) -> dict[str, str]:
    """Like ``read_table``, but of any order, with blank lines, CRLF ends, repeated lines or no last newline."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, loose=True), 1):
        if not line.strip():
            continue
        key, value = split_line(line.strip(" \t\r"), path, number)
        if table.setdefault(key, value) != value:
            raise ValueError(f"{path} line {number}: {key!r} is there before, with another value; remove one of the two lines")
    return dict(sorted(table.items()))


def read_lines(path: Path, loose: bool = False) -> list[str]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {number}: not UTF-8; convert the file with iconv") from None
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
        raise ValueError(f"{path} line {number}: {fault}; make it 'id value', or run {FIX} {path.parent}")
    return key, rest[0].rstrip(" \t") if rest else ""


def write_table(path: Path | str, mapping: dict[str, str]) -> None:
    """Write a table, sorted, under a temporary name that is then moved into place.

    Args:
        path: the file; its folder is there.
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


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name in the same folder, then move it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_manifest(path: Path, loose: bool = False) -> dict[str, dict]:
    """Records of a Lhotse manifest by id; ``loose`` allows repeated lines.

    Raises:
        ValueError: no gzipped lines of JSON objects with an ``id``, or an id that is there twice.
    """
    records: dict[str, dict] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                record = json.loads(line)
                name = record["id"]
                if name in records and not (loose and records[name] == record):
                    raise ValueError(f"{path} line {number}: {name!r} is there twice; make the manifest again")
                records[name] = record
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} line {number}: not a gzipped line of JSON with an id; make the manifest again") from None
    return records


def render_manifest(records: Iterable[dict]) -> bytes:
    """The same bytes for the same records: no time, no file name."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        for record in records:
            stream.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8"))
    return buffer.getvalue()
