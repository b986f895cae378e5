"""Whether this Python has what the project needs, and whether ``dnf`` is not the package manager of that name."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dnf
from dnf.experiment import entry

PYTHON = (3, 10)


def required(pyproject: str) -> list[str]:
    """The ``dependencies`` in the text of a pyproject.toml."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(pyproject)["project"]["dependencies"]


def unmet(requirements: Iterable[str]) -> str | None:
    """The first requirement that this Python does not meet; None if it meets all."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            return f"has no {requirement.name}"
        if not requirement.specifier.contains(installed, prereleases=True):
            return f"has {requirement.name} {installed}, not {requirement.specifier}"
    return None


def problem(root: Path) -> str | None:
    """Why this Python cannot run the project, in one line; None if it can."""
    if sys.version_info < PYTHON:
        return f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}; 3.10 or later is needed"
    if Path(dnf.__file__).resolve().parent != root.resolve() / "dnf":
        return f"'import dnf' gives {dnf.__file__}, not this project; remove its folder from PYTHONPATH"
    try:
        lacking = unmet(required((root / "pyproject.toml").read_text(encoding="utf-8")))
    except ModuleNotFoundError as error:  # one of the two that read the requirements
        lacking = f"has no {error.name}"
    if lacking:
        return (
            f"{sys.executable} {lacking}: {sys.executable} -m pip install -c {root}/constraints.txt -e '{root}[test]'"
        )
    return None


if __name__ == "__main__":
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("root", type=Path, help="the checkout that dnf must come from, with its pyproject.toml")
    message = problem(parser.parse_args().root)
    sys.exit(message and f"path.sh: {message}")
