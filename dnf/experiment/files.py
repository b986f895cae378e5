"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name in the same folder, then move it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, table: dict) -> None:
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
