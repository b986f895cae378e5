"""Progress of a command in its log, from which the runner takes its status line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"
PERIOD = 0.5  # seconds between two lines, the polling interval of a runner


def progress(items: Iterable | None = None, *, what: str, unit: str, total: int | None = None, **more: Any) -> tqdm:
    """A tqdm whose line is ``what: 130 of 420 steps, 15.5 steps/s, 00:18 left``.

    Args:
        items: items of the loop; without items, ``update`` counts.
        what: name of the work.
        unit: name of the items, in the plural.
        total: number of items, if they have no length.
        more: arguments of tqdm.
    """
    return tqdm(items, desc=what, unit=f" {unit}", total=total, bar_format=LINE, mininterval=PERIOD, **more)
