"""Spikes of the training loss: steps far above the recent ones, as the notes saw and did not count."""

from __future__ import annotations

import statistics
from collections import deque

RECENT = 100
ENOUGH = 20
LEAST_DEVIATION = 0.05


class SpikeMonitor:
    """Counts steps whose NLL is ``factor`` robust deviations above the median of the recent ones.

    The deviation is 1.4826 times the median absolute deviation, at least 0.05 nats.
    """

    def __init__(self, factor: float, state: dict | None = None):
        self.factor = factor
        self.spikes = state["spikes"] if state else 0
        self._recent = deque(state["recent"] if state else (), maxlen=RECENT)

    def state(self) -> dict:
        return {"spikes": self.spikes, "recent": list(self._recent)}

    def add(self, nll: float) -> bool:
        """Take the NLL of a step, nats per frame, and say whether it is a spike."""
        spike = False
        if len(self._recent) >= ENOUGH:
            median = statistics.median(self._recent)
            deviation = 1.4826 * statistics.median(abs(value - median) for value in self._recent)
            spike = nll > median + self.factor * max(deviation, LEAST_DEVIATION)
        self.spikes += spike
        self._recent.append(nll)
        return spike
