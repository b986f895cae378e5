"""Which sets have pictures."""

from __future__ import annotations

from collections.abc import Collection

from dnf.experiment.config import Config
from dnf.experiment.sets import name_of
from dnf.plots.style import MOST_SETS


def drawn_sets(names: Collection[str], config: Config) -> list[str]:
    """The sets that have pictures: those of ``plots.sets``, else all, of more than ``MOST_SETS`` train, dev and the first."""
    if config.plots.sets or len(names) <= MOST_SETS:
        return [name for name in names if name in (config.plots.sets or names)]
    fitted = [name_of(config.data, role) for role in ("train", "dev")]
    first = sorted(names, key=lambda name: (name not in fitted, name))[:MOST_SETS]
    return sorted(first)
