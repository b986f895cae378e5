"""The done-marker of a stage: the settings and sources of its last run."""

from __future__ import annotations

import json
from pathlib import Path

MARKER = ("key", "run", "source", "settings", "seconds")


def read_marker(path: Path) -> dict | None:
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        marker = None
    if not isinstance(marker, dict) or not set(MARKER) <= marker.keys():
        raise ValueError(f"{path}: not a done-marker; delete it, and run its stage again")
    return marker
