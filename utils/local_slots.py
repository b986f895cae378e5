"""How many tasks this machine runs at a time, and on which GPU devices. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import time


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


def hold_devices(
    devices: list[str], count: int, patience: float, folder: str = "/tmp/gpu_locks"
) -> tuple[list[str], list[int]]:
    """Choose ``count`` devices that no other job of this machine holds.

    For queues that count GPUs but do not say which one a job has. A device is held by a lock on a file of ``folder``;
    the kernel lets go of it when the last process with the file open ends, however that happens.

    Returns:
        Names of the devices, and the open files that hold them.

    Raises:
        OSError: there are less devices than that, or they are not free after ``patience`` seconds.
    """
    if len(devices) < count:
        raise OSError(errno.ENODEV, f"--gpu {count}, but there are {len(devices)} GPUs on {os.uname().nodename}")
    os.makedirs(folder, exist_ok=True)
    if os.stat(folder).st_uid == os.getuid():
        os.chmod(folder, 0o1777)
    deadline = time.monotonic() + patience
    while True:
        held: dict[str, int] = {}
        for device in devices:
            if len(held) < count and (handle := try_lock(os.path.join(folder, device))) is not None:
                held[device] = handle
        if len(held) == count:
            return list(held), list(held.values())
        for handle in held.values():  # or two jobs, each with half of what it needs, would wait for each other
            os.close(handle)
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, f"only {len(held)} of {count} GPUs are free on {os.uname().nodename}")
        time.sleep(0.5)


def try_lock(path: str) -> int | None:
    """A file that is locked as long as it stays open, or ``None`` if another has it."""
    handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
