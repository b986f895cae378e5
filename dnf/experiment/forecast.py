"""Progress and remaining time of a run: ``4 of 9 stages, about 01:40 left``.

The seconds of a stage come from its done-marker of an earlier run or, without one, from that of another experiment beside it.
The seconds of other stages are estimated from these by the shares of the stages in a run of ``egs/mini``.
"""

from __future__ import annotations

import contextlib

from tqdm import tqdm

from dnf.experiment.layout import CONFIG_YAML, NOT_EXPERIMENTS, STAGES, Layout, done_marker
from dnf.experiment.markers import read_marker

# Seconds of egs/mini on two cores; only their ratios count.
SHARES = {
    "data": 14.0,
    "features": 5.0,
    "frames": 2.0,
    "train": 29.0,
    "latents": 26.0,
    "plots": 8.0,
    "score": 0.5,
    "decide": 4.0,
    "report": 1.0,
}
ROUND = 10  # seconds; the estimate is not more exact


def recorded(name: str, layout: Layout) -> float | None:
    """Seconds of a stage, in this experiment or in the latest one beside it; None: it has never run."""
    markers = [layout.marker(name)]
    if STAGES[name].place == "exp":
        beside = [path.parent for path in layout.exp.parent.glob(f"*/{CONFIG_YAML}")]
        others = [done_marker(exp, name) for exp in beside if exp.name not in NOT_EXPERIMENTS and exp != layout.exp]
        markers += sorted((path for path in others if path.is_file()), key=lambda path: -path.stat().st_mtime)
    for marker in markers:
        with contextlib.suppress(ValueError):  # the stage that needs a damaged marker reports it
            if (made := read_marker(marker)) is not None:
                return float(made["seconds"])
    return None


def seconds_left(name: str, layout: Layout, last: int) -> float | None:
    """Seconds from the beginning of stage ``name`` to the end of stage ``last``; None if no stage has ever run."""
    known = {stage: seconds for stage in STAGES if (seconds := recorded(stage, layout)) is not None}
    if not known:
        return None
    scale = sum(known.values()) / sum(SHARES[stage] for stage in known)
    first = STAGES[name].number
    coming = [stage for stage, of in layout.stages.items() if first <= of.number <= last]
    return sum(known.get(stage, SHARES[stage] * scale) for stage in coming)


def coming(name: str, layout: Layout, first: int, last: int) -> str:
    """The position of a stage among those from ``first`` to ``last``, and the estimated remaining time."""
    names = [stage for stage, of in layout.stages.items() if first <= of.number <= last]
    place = f"{names.index(name) + 1} of {len(names)} stages"
    left = seconds_left(name, layout, last)
    if left is None:
        return place
    return f"{place}, about {tqdm.format_interval(max(ROUND, round(left / ROUND) * ROUND))} left"
