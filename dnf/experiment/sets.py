"""Which sets an experiment trains on and is scored on: those of its data directory and those made of them (``data.views``).

``python3 -m dnf.data.check_sets`` checks before stage train whether an experiment can run with the existing sets.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from typing import NamedTuple

from dnf.experiment.settings import DataSettings, View


class Scored(NamedTuple):
    """A set that is scored: its name and its content."""

    name: str
    view: View


def name_of(data: DataSettings, role: str) -> str:
    """The name under which the sets of a role (``train`` or ``dev``) are scored: that of the set, or the role for several sets."""
    sets = getattr(data, role)
    return sets[0] if len(sets) == 1 else role


def views_of(data: DataSettings, role: str) -> set[str]:
    """Names of the views that have utterances of a role (``train`` or ``dev``)."""
    return {name for name, view in data.views.items() if set(view.sets) & set(getattr(data, role))}


def fitted_sets(data: DataSettings) -> set[str]:
    """Names of the sets that a model is fitted on or chosen by, as they are scored, and of views with utterances of them.

    The others are test sets.
    """
    roles = ("train", "dev")
    return {name for role in roles for name in (name_of(data, role), *getattr(data, role), *views_of(data, role))}


def scored_sets(data: DataSettings, present: Collection[str]) -> tuple[list[Scored], dict[str, str]]:
    """The sets to score, training and dev sets first, and those left out, each with the missing set.

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
                f"data.{name}: several sets are scored together as {name}, but another set has this name; rename that set"
            )
    views |= {name: View([name]) for name in test}
    for name, view in data.views.items():
        if name in present or name in views:
            raise ValueError(f"data.views: {name} is the name of a set; rename the view")
        views[name] = view
    scored = [Scored(name, view) for name, view in views.items() if not set(view.sets) - set(present)]
    left_out = {
        name: next(s for s in view.sets if s not in present)
        for name, view in views.items()
        if set(view.sets) - set(present)
    }
    for name, control in data.controls.items():
        if name in views and control in present and control not in views:
            raise ValueError(f"data.controls: {control}, the control of {name}, is not scored; add it to data.test")
        if control not in views and control not in present:
            left_out[control] = control
        if not data.test and name not in views and name not in present:
            left_out[name] = name
    return scored, left_out


def composed(speaker: str) -> str:
    """A speaker id in Unicode's composed form: é may be one character or two."""
    return unicodedata.normalize("NFC", speaker)


def check_shared(speakers: Mapping[str, Collection[str]], data: DataSettings) -> None:
    """Raise ``ValueError`` if speakers of a training or dev set are in a set of another role, unless the settings allow it.

    Args:
        speakers: of each set.
        data: which sets are train and dev.
    """
    if data.shared_speakers:
        return
    for role in (data.train, data.dev):
        mine = {composed(speaker): name for name in role for speaker in speakers.get(name, ())}
        for name in speakers:
            shared = sorted(mine.keys() & set(map(composed, speakers[name]))) if name not in role else []
            if shared:
                raise ValueError(
                    f"speaker {shared[0]} and {len(shared) - 1} more are in both {mine[shared[0]]} and {name}: scores on "
                    f"training speakers mean nothing; remove them from one of the two, or set data.shared_speakers=true"
                )
