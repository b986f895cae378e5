"""How many tasks this machine runs at a time, and on which GPU devices. Standard library only."""

from __future__ import annotations

import os
import re
import subprocess


def cpu_slots(tasks: int, threads: int) -> int:
    """One slot for each ``threads`` processors; one for each task if there are less than 1.4 times as many tasks."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slots = max(1, processors // threads)
    return tasks if tasks < 1.4 * slots else slots


def gpu_slots(devices: list[str], gpus: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each slot: ``gpus`` devices each, or one slot with all of them if there are too few."""
    return [",".join(devices[at : at + gpus]) for at in range(0, max(1, len(devices) - gpus + 1), gpus)]


def find_devices() -> list[str]:
    """Names of the GPU devices this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return names[: next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))]
    try:
        found = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed_devices(found.stdout) if found.returncode == 0 else []


def listed_devices(listing: str) -> list[str]:
    """Devices in the output of ``nvidia-smi -L``: the number of each GPU, or the UUIDs of its MIG slices."""
    devices: list[tuple[str, list[str]]] = []
    for line in listing.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            devices.append((gpu[1], []))
        elif (mig := re.match(r"\s+MIG .*\(UUID: *(\S+)\)", line)) and devices:
            devices[-1][1].append(mig[1])
    return [name for gpu, slices in devices for name in slices or [gpu]]
