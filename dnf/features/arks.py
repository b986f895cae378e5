"""Read matrices and vectors of Kaldi archives, without running or unpickling anything in a table or archive.

Given a name, kaldiio runs what looks like a command, and it unpickles entries that say so. Here it is given an open file, and
only where an array begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from kaldiio.matio import read_kaldi, read_token

from dnf.experiment import entry
from dnf.experiment.layout import run_again

BINARY, TEXT = b"\0B", b" ["  # how an array begins


def read_entry(file: BinaryIO) -> np.ndarray:
    """The array at the position of ``file``; ``ValueError`` if there is none."""
    start = file.tell()
    if not file.read(2).startswith((BINARY, TEXT)):
        raise ValueError("no array at this offset")
    file.seek(start)
    return read_kaldi(file)


def read_array(value: str, scp: Path, utt: str, remedy: str = run_again("features")) -> np.ndarray:
    """The array that ``value`` of utterance ``utt`` in ``scp`` names, ``archive:offset``.

    Raises:
        ValueError: a command, another kind of value, or a missing or damaged archive.
    """
    where, value = f"{scp}: {utt}", value.strip()
    if "|" in (value[:1], value[-1:]):
        raise ValueError(f"{where} is a command: {value!r}; {remedy}")
    place = re.fullmatch(r"(.*[^ ]):([0-9]+)", value)
    if not place:
        raise ValueError(f"{where} is {value!r}, not 'archive:offset'; {remedy}")
    try:
        with open(place[1], "rb") as file:
            file.seek(int(place[2]))
            return read_entry(file)
    except Exception as error:  # the exception for a damaged archive depends on the damage
        reason = error.strerror if isinstance(error, OSError) else entry.describe(error)
        raise ValueError(f"{where}: {value} cannot be read ({reason}); {remedy}") from None


def read_all(ark: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Key and array of each entry of an archive; ``ValueError`` if it is damaged."""
    try:
        with ark.open("rb") as file:
            while key := read_token(file):
                yield key, read_entry(file)
    except Exception as error:
        raise ValueError(f"{ark}: cannot be read ({entry.describe(error)}); {run_again('features')}") from None
