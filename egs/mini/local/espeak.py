"""Interface to espeak-ng: its files, its phonemes, and requests to ``speak.py``, which runs it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SPEAK = Path(__file__).parent / "speak.py"
NEEDED = ("phontab", "phonindex", "phondata", "intonations", "en_dict", "cmn_dict", "ja_dict")
LANGUAGES = "lang"
VARIANTS = "voices/!v"
PATH_LIMIT = 150  # bytes, as in speak.py
DELETED = 15  # phoneme type of an entry that removes an inherited phoneme


def locate() -> tuple[Path, Path]:
    """The shared library of espeak-ng and its data directory, from the ``espeakng-loader`` package.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise ValueError("the speech synthesizer is missing: pip install espeakng-loader") from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def copy_data(source: Path, target: Path, variants: dict[str, str]) -> None:
    """Make ``target`` an espeak-ng data directory for our languages (3 MB), with our own voice variants.

    Args:
        source: the data directory of the library.
        target: the new data directory; must not exist.
        variants: contents of the voice variant files by name.

    Raises:
        ValueError: the path of ``target`` is longer than espeak-ng's limit.
    """
    if len(str(target).encode()) > PATH_LIMIT:
        raise ValueError(f"{target}: longer than espeak-ng's limit of {PATH_LIMIT} bytes; set TMPDIR to a shorter path")
    (target / VARIANTS).mkdir(parents=True)
    for name in NEEDED:
        shutil.copyfile(source / name, target / name)
    shutil.copytree(source / LANGUAGES, target / LANGUAGES)
    for name, text in variants.items():
        (target / VARIANTS / name).write_text(text, encoding="utf-8")


def mnemonics(data: Path, table: str) -> frozenset[str]:
    """The phoneme mnemonics that ``table`` of the data directory accepts, with those of its base tables.

    espeak-ng drops unknown mnemonics silently, so its input must be checked against these.

    Raises:
        ValueError: there is no such table.
    """
    tables = read_phontab((data / "phontab").read_bytes())
    names = [name for name, _, _ in tables]
    if table not in names:
        raise ValueError(f"{data}/phontab: no phoneme table {table}; it has {' '.join(names)}")
    number, chain = names.index(table) + 1, []
    while number:
        chain.append(number - 1)
        number = tables[number - 1][1]
    known: dict[str, int] = {}
    for index in reversed(chain):
        known.update(tables[index][2])
    return frozenset(mnemonic for mnemonic, kind in known.items() if kind != DELETED)


def read_phontab(blob: bytes) -> list[tuple[str, int, dict[str, int]]]:
    """Tables of a ``phontab`` file: name, number of the base table (from 1; 0: none), phoneme types by mnemonic."""
    tables = []
    offset = 4
    for _ in range(blob[0]):
        count, base = blob[offset], blob[offset + 1]
        name = blob[offset + 4 : offset + 36].split(b"\0")[0].decode()
        offset += 36
        phonemes = {}
        for _ in range(count):
            (mnemonic,) = struct.unpack_from("4s", blob, offset)
            phonemes[mnemonic.split(b"\0")[0].decode("latin1")] = blob[offset + 11]
            offset += 16
        tables.append((name, base, phonemes))
    return tables


def talk(library: Path, data: Path, requests: Iterable[dict]) -> list[dict]:
    """Send ``requests`` to a new ``speak.py`` process.

    Args:
        library: the shared library.
        data: the data directory.
        requests: see ``speak.py``.

    Returns:
        One reply per request; replies to ``say`` have the samples, int16 ``(N,)``, as ``"audio"``.

    Raises:
        ValueError: the process failed; the message has its last line.
    """
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-I", str(SPEAK), str(library), str(data)]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ValueError(f"speech synthesis failed with status {done.returncode}: {words[-1]}")
    replies, offset, out = [], 0, done.stdout
    while offset < len(out):
        end = out.index(b"\n", offset)
        reply = json.loads(out[offset:end])
        offset = end + 1
        if "samples" in reply:
            reply["audio"] = np.frombuffer(out, dtype="<i2", count=reply["samples"], offset=offset)
            offset += 2 * reply["samples"]
        replies.append(reply)
    return replies
