"""Profile of a training step: time of groups of operators (CPU) or kernels (CUDA)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.table import aligned
from benchmarks.timing import Action, Watch

IDLE = "idle"  # CUDA: no kernel runs; CPU: no operator runs, but Python, autograd or dispatch
ELEMENTWISE = "elementwise"
GROUPS = (  # group of the first pattern that matches a name; other names are element-wise
    (ELEMENTWISE, r"^triton_poi|cpp_fused|compiled"),
    ("reduction", r"^triton_(red|per)"),
    ("optimizer", r"adam|multi_?tensor|_foreach"),
    ("matmul", r"gemm|gemv|\b(add)?b?mm(_out)?\b|matmul|\blinear\b|cutlass|xmma|nvjet|cublas|splitk|triton_(tem|mm)"),
    ("gather", r"index|gather|scatter|embedding|take"),
    ("copies", r"memcpy|memset|copy|\bcat\b|catarray|\bto\b|clone|contiguous|fill|zero_|zeros|(slice|select)_backward"),
    ("reduction", r"reduce|\bsum\b|mean|norm|logsumexp|softmax|argmax|scan|cumsum|sort|searchsorted"),
    ("views", r"empty|resize|view|stride|slice|split|chunk|expand|select|detach|squeeze|transpose|\bt\b|resolve"),
)
RUNS = r"^aten::|cpp_fused|[Cc]ompiled"  # operators on a CPU; other events, such as autograd's nodes, contain these


class Group(NamedTuple):
    """Seconds and calls per step."""

    seconds: float
    calls: float


def group_of(name: str) -> str:
    """The group of an operator or kernel."""
    name = name.removeprefix("aten::").lower()
    return next((group for group, pattern in GROUPS if re.search(pattern, name)), ELEMENTWISE)


def groups(step: Action, steps: int, device: torch.device) -> dict[str, Group]:
    """Seconds of a step by group, the longest first; their sum is the time of the step."""
    on_gpu, watch = device.type == "cuda", Watch(device, 1)
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        taken = watch.seconds(lambda: [step() for _ in range(steps)]) / steps
    seconds, calls = defaultdict(float), defaultdict(float)
    for event in found.key_averages():
        counts = event.device_type == DeviceType.CUDA if on_gpu else re.search(RUNS, event.key)
        if event.is_user_annotation or not counts:
            continue
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        seconds[group_of(event.key)] += own * 1e-6 / steps
        calls[group_of(event.key)] += event.count / steps
    seconds[IDLE] = max(0.0, taken - sum(seconds.values()))
    return {name: Group(seconds[name], calls[name]) for name in sorted(seconds, key=seconds.get, reverse=True)}


def table(found: dict[str, Group]) -> str:
    """The groups as text."""
    total = sum(group.seconds for group in found.values())
    lines = [["", "ms a step", "share", "calls"]]
    for name, (seconds, calls) in found.items():
        lines.append([name, f"{1000 * seconds:.3f}", f"{seconds / total:.1%}", f"{calls:.0f}"])
    return aligned([*lines, ["all", f"{1000 * total:.3f}", "100.0%", ""]])
