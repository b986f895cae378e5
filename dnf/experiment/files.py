"""Write files completely or not at all, and name the file and the remedy where one cannot be read."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dnf.experiment import entry

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", **options) -> Iterator[IO]:
    """Open a temporary file in the same folder for writing; at the end it replaces ``path``.

    Args:
        path: does not change if the block raises.
        mode: ``w`` for text, which is UTF-8, or ``wb``.
        options: of ``open``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    try:
        with temporary.open(mode, **options) as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes | str) -> None:
    """Write ``data``, text as UTF-8, under a temporary name in the same folder, then rename it."""
    with replacing(path, "wb") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(path: Path, table: dict) -> None:
    replace_file(path, json.dumps(table, indent=1) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz`` file."""
    import numpy  # slow to import, and most who write files have no arrays

    with replacing(path, "wb") as file:
        numpy.savez(file, **arrays)


@contextlib.contextmanager
def intact(path: Path, remedy: str) -> Iterator[None]:
    """Raise ``ValueError`` with the file and the remedy if the block, which reads it, finds it missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path}: does not exist; {remedy}") from None
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is damaged ({entry.describe(error)}); {remedy}") from None
