"""Which sets an experiment trains on and is scored on: those of its data directory and those made of them (``data.views``).

``python3 -m dnf.sets check`` says before stage 3 whether an experiment can run with the sets that are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from dnf import entry
from dnf.config import add_arguments, resolve
from dnf.datadir import read_table
from dnf.settings import Data, View
from dnf.splits import check_shared

CANNOT_RUN = 4


class Scored(NamedTuple):
    """A set with figures of its own: its name and what it is made of."""

    name: str
    view: View


def name_of(data: Data, role: str) -> str:
    """Under which name the sets of a role, ``train`` or ``dev``, are scored: the set's own, or the role's for several."""
    sets = getattr(data, role)
    return sets[0] if len(sets) == 1 else role


def scored_sets(data: Data, present: Collection[str]) -> tuple[list[Scored], dict[str, str]]:
    """What to score, the training and dev sets first, and what is left out, with the set that is not there.

    Args:
        data: the settings.
        present: names of the sets there are.

    Raises:
        ValueError: a view, or several training or dev sets together, have the name of a set; the control of a set that
            is scored is there and is not scored.
    """
    seen = {*data.train, *data.dev}
    test = data.test or [name for name in sorted(present) if name not in seen]
    views = {name_of(data, "train"): View(data.train), name_of(data, "dev"): View(data.dev)}
    for name in test:
        if name in views and name not in seen:
            raise ValueError(
                f"data.{name}: its sets are scored together as {name}, but another set has that name; rename it"
            )
    views |= {name: View([name]) for name in test}
    for name, view in data.views.items():
        if name in present or name in views:
            raise ValueError(f"data.views: {name} is the name of a set already; call the view something else")
        views[name] = view
    found = [Scored(name, view) for name, view in views.items() if not set(view.sets) - set(present)]
    left_out = {
        name: next(s for s in view.sets if s not in present)
        for name, view in views.items()
        if set(view.sets) - set(present)
    }
    for name, control in data.controls.items():
        if name in views and control in present and control not in views:
            raise ValueError(f"data.controls: {control}, the control of {name}, has no figures; add it to data.test")
        if control not in views and control not in present:
            left_out[control] = control
        if not data.test and name not in views and name not in present:
            left_out[name] = name
    return found, left_out


def reasons(left_out: dict[str, str], data_dir: Path) -> dict[str, str]:
    """Why each thing is left out, in words: the set it lacks and, where the recipe said so, the option that gives it."""
    path = data_dir / "missing.txt"
    missing = read_table(path) if path.is_file() else {}
    return {
        name: f"no set {absent}" + (f": give {missing[absent]}" if absent in missing else f" in {data_dir}")
        for name, absent in left_out.items()
    }


def lacking(data: Data, data_dir: Path) -> str | None:
    """What keeps an experiment from running, in a line; None if its training and dev sets are there.

    Raises:
        ValueError: what stage 4 would refuse after hours of training, as ``scored_sets`` and ``check_shared`` say.
    """
    present = {path.parent.name for path in data_dir.glob("*/utt2spk")}
    used = {name for _, view in scored_sets(data, present)[0] for name in view.sets}
    check_shared({name: set(read_table(data_dir / name / "utt2spk").values()) for name in sorted(used)}, data)
    absent = [name for name in (*data.train, *data.dev) if name not in present]
    if not absent:
        return None
    return "; ".join(dict.fromkeys(reasons({name: name for name in absent}, data_dir).values()))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.sets", description=__doc__)
    parser.add_argument("verb", choices=("check",))
    parser.add_argument("data", type=Path, help="folder of the data directories")
    add_arguments(parser)
    args = parser.parse_args(argv)
    reason = lacking(resolve(args.layers).data, args.data)
    if reason:
        print(reason)
        return CANNOT_RUN
    return 0


if __name__ == "__main__":
    entry.run(main)
