"""Time actions in turn, and count their multiply-adds."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Action = Callable[[], object]


class Spread(NamedTuple):
    """Median and quartiles of a measurement."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def processor_seconds() -> float:
    """Processor seconds of this process and of its ended child processes."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": processor_seconds}


class Watch(NamedTuple):
    """Device, clock and number of rounds of a measurement."""

    device: torch.device
    rounds: int
    clock: Callable[[], float] = time.perf_counter

    def synchronize(self) -> None:
        """Wait for the device to finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Action) -> float:
        """Seconds of one call, with its kernels."""
        self.synchronize()
        began = self.clock()
        action()
        self.synchronize()
        return self.clock() - began

    def in_turn(self, actions: Mapping[str, Action]) -> dict[str, list[float]]:
        """Seconds of each action in each round; in a round, all actions run in turn.

        With more than one round, an additional first round does not count.
        """
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(self.rounds + (self.rounds > 1)):
            for name, action in actions.items():
                times[name].append(self.seconds(action))
        return {name: taken[-self.rounds :] for name, taken in times.items()}


def multiply_adds(call: Action) -> float:
    """Multiply-adds of all matrix products of a call, with its backward passes."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


def passes(module: nn.Module, density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Multiply-adds per frame of a forward pass, and of a forward and backward pass with the gradients of all parameters.

    Args:
        module: has the parameters.
        density: log densities ``(N,)`` of vectors ``(N, D)``.
        x: some vectors.
    """
    with torch.no_grad():
        forward = multiply_adds(lambda: density(x))
    both = multiply_adds(lambda: density(x).mean().backward())
    module.zero_grad()
    return forward / len(x), both / len(x)


def product(size: int, dtype: torch.dtype, device: torch.device) -> Action:
    """The product of two square matrices, whose rate is the upper bound of all rows."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    return lambda: torch.mm(a, b)


def has_fast_bf16(device: torch.device, size: int = 256) -> bool:
    """Whether bfloat16 products are measured at least as fast as float32 ones; without hardware instructions they are very slow."""
    actions = {str(dtype): product(size, dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    float32, bf16 = (min(times) for times in Watch(device, 3).in_turn(actions).values())
    return bf16 <= float32
