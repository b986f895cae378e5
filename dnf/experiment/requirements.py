"""Whether this Python has what the project needs, and whether ``dnf`` is not the package manager of that name."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dnf
from dnf.experiment import entry

PYTHON = (3, 10)


def required(pyproject: str) -> dict[str, tuple[int, ...]]:
    """Least versions by package, from the ``dependencies`` of a pyproject.toml; ``()`` where any will do."""
    block = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject, re.DOTALL | re.MULTILINE).group(1)
    found = re.findall(r'^\s*"([A-Za-z0-9_.-]+)(?:>=([0-9.]+))?"', block, re.MULTILINE)
    return {name: numbers(least) for name, least in found}


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, ``2.13.0+cpu`` to ``(2, 13, 0)``."""
    return tuple(int(part) for part in re.match(r"[0-9.]*", text).group().split(".") if part)


def problem(root: Path) -> str | None:
    """What keeps this Python from running the project, in one line; None if nothing does."""
    if sys.version_info < PYTHON:
        return f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}; 3.10 or later is needed"
    if Path(dnf.__file__).resolve().parent != root.resolve() / "dnf":
        return f"'import dnf' gives {dnf.__file__}, not this project; take its folder off PYTHONPATH"
    for name, least in required((root / "pyproject.toml").read_text(encoding="utf-8")).items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = None
        if found is None or numbers(found) < least:
            have = f"has {name} {found}, older than needed" if found else f"has no {name}"
            return (
                f"{sys.executable} {have}: {sys.executable} -m pip install -c {root}/constraints.txt -e '{root}[test]'"
            )
    return None


if __name__ == "__main__":
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("root", type=Path, help="the checkout that dnf must come from, with its pyproject.toml")
    message = problem(parser.parse_args().root)
    sys.exit(message and f"path.sh: {message}")
