"""How many tasks this machine runs at a time, and on which GPU devices. Standard library only."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from typing import NamedTuple


class Slot(NamedTuple):
    """A place for one task: its CUDA_VISIBLE_DEVICES, or ``None`` to leave the environment's, and the locks it holds."""

    devices: str | None
    locks: dict[str, int]


class Slots:
    """The places for the tasks of one run.

    A GPU device is taken by locking a file named after it in the folder for temporary files, so that runs that know
    nothing of each other do not use the same one. The task inherits the lock: the device is free when the last process of
    the task is gone, whatever became of the runner.

    Args:
        count: tasks at a time, where they need no device.
        devices: names as CUDA_VISIBLE_DEVICES has them, with what tells the device apart on this machine.
        each: devices of a task.
        limit: the most tasks at a time.
    """

    def __init__(self, count: int, devices: dict[str, str] | None = None, each: int = 0, limit: int | None = None):
        self.devices, self.each = devices or {}, min(each, len(devices or {}))
        self.count = len(self.devices) // self.each if self.each else count
        if limit is not None:
            self.count = min(self.count, limit)
        self.taken: list[Slot] = []

    def take(self) -> Slot | None:
        """A free place; ``None`` while there is none."""
        if len(self.taken) >= self.count:
            return None
        slot = Slot(None, {})
        if self.each:
            slot = self.lock_devices()
            if slot is None:
                return None
        self.taken.append(slot)
        return slot

    def lock_devices(self) -> Slot | None:
        used = {name for slot in self.taken for name in slot.locks}
        locks: dict[str, int] = {}
        for name, device in self.devices.items():
            if name not in used and len(locks) < self.each:
                handle = lock_device(device)
                if handle is not None:
                    locks[name] = handle
        slot = Slot(",".join(locks), locks)
        if len(locks) == self.each:
            return slot
        close(slot)
        return None

    def give(self, slot: Slot) -> None:
        self.taken.remove(slot)
        close(slot)


def close(slot: Slot) -> None:
    for handle in slot.locks.values():
        os.close(handle)


def lock_device(device: str) -> int | None:
    """The open file that locks a device; ``None`` if another run has it."""
    path = os.path.join(tempfile.gettempdir(), f"gpu-{re.sub('[^A-Za-z0-9_-]', '_', device)}.lock")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def cpu_slots(tasks: int, threads: int) -> int:
    """One slot for each ``threads`` processors; one for each task if there are less than 1.4 times as many tasks."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slots = max(1, processors // threads)
    return tasks if tasks < 1.4 * slots else slots


def find_devices() -> dict[str, str]:
    """The GPU devices this process may use: name as CUDA_VISIBLE_DEVICES has it, and UUID where it is known."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        listing = found.stdout if found.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        listing = ""
    devices, uuids = listed_devices(listing)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = devices if visible is None else chosen_devices(visible)
    return {name: uuids.get(name, name) for name in names}


def chosen_devices(visible: str) -> list[str]:
    """Names in CUDA_VISIBLE_DEVICES, up to the first that is none, as CUDA reads it."""
    names = [name.strip() for name in visible.split(",")]
    return names[: next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))]


def listed_devices(listing: str) -> tuple[list[str], dict[str, str]]:
    """Devices in the output of ``nvidia-smi -L``: the number of each GPU, or the UUIDs of its MIG slices; UUIDs by number."""
    devices: list[tuple[str, list[str]]] = []
    uuids = {}
    for line in listing.splitlines():
        if gpu := re.match(r"GPU (\d+):.*?(?:\(UUID: *(\S+)\))?$", line):
            devices.append((gpu[1], []))
            uuids[gpu[1]] = gpu[2] or gpu[1]
        elif (mig := re.match(r"\s+MIG .*\(UUID: *(\S+)\)", line)) and devices:
            devices[-1][1].append(mig[1])
    return [name for gpu, slices in devices for name in slices or [gpu]], uuids
