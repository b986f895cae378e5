"""How far a command is, in one form: in its log, and from there on the status line of the runner that started it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"
PERIOD = 0.5  # seconds between two lines, as often as a runner looks


def progress(items: Iterable | None = None, *, what: str, unit: str, total: int | None = None, **more: Any) -> tqdm:
    """A tqdm whose line is ``what: 130 of 420 steps, 15.5 steps/s, 00:18 left``.

    Args:
        items: to go through; without any, ``update`` counts.
        what: is done.
        unit: of the items, in the plural.
        total: number of items, where they cannot be counted.
        more: arguments of tqdm.
    """
    return tqdm(items, desc=what, unit=f" {unit}", total=total, bar_format=LINE, mininterval=PERIOD, **more)
