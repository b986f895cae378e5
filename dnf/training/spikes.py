"""Spikes of the training loss: steps far above the recent ones, as in the notes."""

from __future__ import annotations

import statistics
from collections import deque

RECENT = 100
ENOUGH = 20
BASE = 9
LEAST_DEVIATION = 0.05


class SpikeMonitor:
    """Counts steps whose NLL is far above the range of the last 9.

    Each step's distance from the median of the 9 before it is compared with recent distances: if it exceeds their median by
    ``factor`` robust deviations (1.4826 times their median absolute deviation, at least 0.05 nats) it is a spike. So a
    falling loss does not hide one.
    """

    def __init__(self, factor: float, state: dict | None = None):
        self.factor = factor
        self.spikes = state["spikes"] if state else 0
        self._last = deque(state["last"] if state else (), maxlen=BASE)
        self._distances = deque(state["distances"] if state else (), maxlen=RECENT)

    def state(self) -> dict:
        return {"spikes": self.spikes, "last": list(self._last), "distances": list(self._distances)}

    def add(self, nll: float) -> bool:
        """Take the NLL of a step, nats per frame, and say whether it is a spike."""
        spike = False
        if len(self._last) == BASE:
            distance = nll - statistics.median(self._last)
            if len(self._distances) >= ENOUGH:
                usual = statistics.median(self._distances)
                deviation = 1.4826 * statistics.median(abs(other - usual) for other in self._distances)
                spike = distance > usual + self.factor * max(deviation, LEAST_DEVIATION)
            self._distances.append(distance)
        self.spikes += spike
        self._last.append(nll)
        return spike
