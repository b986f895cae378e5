"""Which sets have pictures."""

from __future__ import annotations

from collections.abc import Collection

from dnf.experiment.config import Config
from dnf.experiment.sets import name_of
from dnf.plots.style import MOST_SETS


def drawn_sets(names: Collection[str], config: Config) -> list[str]:
    """The sets of ``names`` that have pictures: those of ``plots.sets``, else the first ``MOST_SETS`` test sets.

    A control is part of the pictures of its set and has none of its own. Without test sets it is dev, else train.
    """
    if config.plots.sets:
        return [name for name in names if name in config.plots.sets]
    fitted = [name_of(config.data, role) for role in ("dev", "train")]
    tests = [name for name in names if name not in fitted]
    controls = {control for name, control in config.data.controls.items() if name in tests}
    chosen = [name for name in tests if name not in controls] or tests or [name for name in fitted if name in names][:1]
    return sorted(chosen)[:MOST_SETS]
