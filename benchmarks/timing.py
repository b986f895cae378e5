"""Timing actions in turn, and counting the multiply-adds that they make."""

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
    """Median and quartiles of what was measured."""

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
    """Seconds that this process and those that it waited for have had on processors."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": processor_seconds}


class Watch(NamedTuple):
    """How seconds are taken: of what device, by what clock, and in how many rounds."""

    device: torch.device
    rounds: int
    clock: Callable[[], float] = time.perf_counter

    def synchronize(self) -> None:
        """Wait for what the device has been given to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Action) -> float:
        """Seconds that one call takes, kernels included."""
        self.synchronize()
        began = self.clock()
        action()
        self.synchronize()
        return self.clock() - began

    def in_turn(self, actions: Mapping[str, Action]) -> dict[str, list[float]]:
        """Seconds of each action in each round, one after the other round by round.

        A first round does not count, but where there is only one.
        """
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(self.rounds + (self.rounds > 1)):
            for name, action in actions.items():
                times[name].append(self.seconds(action))
        return {name: taken[-self.rounds :] for name, taken in times.items()}


def multiply_adds(call: Action) -> float:
    """Multiply-adds of all matrix products that a call makes, its backward passes included."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


def passes(module: nn.Module, density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Multiply-adds a frame of a forward pass, and of one with the gradients of all parameters.

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
    """The product of two square matrices, whose rate is what any row can reach at most."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    return lambda: torch.mm(a, b)


def has_fast_bf16(device: torch.device, size: int = 256) -> bool:
    """Whether bfloat16 products are at least as fast as float32 ones, measured: without the instructions they crawl."""
    actions = {str(dtype): product(size, dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    float32, bf16 = (min(times) for times in Watch(device, 3).in_turn(actions).values())
    return bf16 <= float32
