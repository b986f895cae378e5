"""Slots for tasks on this machine, with their GPU devices. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import subprocess
import time
from typing import NamedTuple

LOCKS = "/tmp/gpu_locks"  # the same for all users and runs of the machine


class Slot(NamedTuple):
    """A place for one task: its CUDA_VISIBLE_DEVICES, or ``None`` to leave the environment's, and its locks."""

    devices: str | None
    locks: list[int]


class Slots:
    """The places for the tasks of one run.

    Args:
        count: tasks at a time.
        devices: GPU devices to choose from, as CUDA_VISIBLE_DEVICES has them.
        each: devices of a task.
    """

    def __init__(self, count: int, devices: list[str] | None = None, each: int = 0):
        self.count, self.devices, self.each = count, devices or [], each
        self.taken: list[Slot] = []

    def take(self) -> Slot | None:
        """A free place; ``None`` while there is none."""
        if len(self.taken) >= self.count:
            return None
        slot = Slot(None, [])
        if self.each:
            try:
                names, locks = hold_devices(self.devices, self.each)
            except BlockingIOError:
                return None
            slot = Slot(",".join(names), locks)
        self.taken.append(slot)
        return slot

    def give(self, slot: Slot) -> None:
        self.taken = [other for other in self.taken if other is not slot]
        for handle in slot.locks:
            os.close(handle)


def cpu_slots(tasks: int, threads: int) -> int:
    """One slot for each ``threads`` processors; one for each task if there are less than 1.4 times as many tasks."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slots = max(1, processors // threads)
    return tasks if tasks < 1.4 * slots else slots


def hold_devices(devices: list[str], count: int, patience: float = 0.0) -> tuple[list[str], list[int]]:
    """Choose ``count`` devices that no other job of this machine holds, all of them or none.

    A device is held by a lock on a file named after it, so runs that do not know each other do not share it. Whoever
    inherits the open files holds it, too; it is free when the last such process has ended.

    Returns:
        Names of the devices, and the open files that hold them.

    Raises:
        BlockingIOError: they are not free after ``patience`` seconds.
        OSError: there are less devices than that.
    """
    if len(devices) < count:
        raise OSError(errno.ENODEV, f"--gpu {count}, but there are {len(devices)} GPUs on {os.uname().nodename}")
    deadline = time.monotonic() + patience
    while True:
        held: dict[str, int] = {}
        for device in devices:
            if len(held) < count and (handle := lock(identity(device))) is not None:
                held[device] = handle
        if len(held) == count:
            return list(held), list(held.values())
        for handle in held.values():
            os.close(handle)
        if time.monotonic() >= deadline:
            raise BlockingIOError(
                errno.EAGAIN,
                f"only {len(held)} of {count} GPUs are free on {os.uname().nodename}; the locks are in {LOCKS}",
            )
        time.sleep(0.5)


def lock(name: str) -> int | None:
    """A file that is locked as long as it stays open; ``None`` if another has it."""
    if not os.path.isdir(LOCKS):
        os.makedirs(LOCKS, exist_ok=True)
        os.chmod(LOCKS, 0o1777)
    path = os.path.join(LOCKS, re.sub("[^A-Za-z0-9_-]", "_", name))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # O_CREAT is refused on a file of another user
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def identity(device: str) -> str:
    """The identity of a device on this machine: the UUID of a number, if nvidia-smi knows it."""
    return uuids(listing()).get(device, device)


def find_devices() -> list[str]:
    """Names of the GPU devices this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed_devices(listing())
    names = [name.strip() for name in visible.split(",")]
    return names[: next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))]


@functools.cache
def listing() -> str:
    """What ``nvidia-smi -L`` prints; empty without a GPU."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout if found.returncode == 0 else ""


def listed_devices(listing: str) -> list[str]:
    """Devices in the output of ``nvidia-smi -L``: the number of each GPU, or the UUIDs of its MIG slices."""
    devices: list[tuple[str, list[str]]] = []
    for line in listing.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            devices.append((gpu[1], []))
        elif (mig := re.match(r"\s+MIG .*\(UUID: *(\S+)\)", line)) and devices:
            devices[-1][1].append(mig[1])
    return [name for gpu, slices in devices for name in slices or [gpu]]


def uuids(listing: str) -> dict[str, str]:
    """UUID of each GPU by its number, in the output of ``nvidia-smi -L``."""
    return dict(re.findall(r"^GPU (\d+):.*\(UUID: *(\S+)\)", listing, re.MULTILINE))
