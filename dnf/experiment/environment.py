"""The machine and versions a model was trained with, for ``env.json`` and the head of results.txt."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from dnf.experiment.layout import ROOT

PACKAGES = ("torch", "lhotse", "kaldiio", "numpy", "scipy")


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` option: ``auto`` is the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: unknown device; give cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {name}: this PyTorch ({torch.__version__}) finds no GPU; give --device cpu, or install a CUDA build"
        )
    return device


def git_revision() -> str:
    """Short revision of the project, with -dirty if files differ from it; unknown outside a checkout."""

    def git(*words: str) -> subprocess.CompletedProcess:
        # hooks export GIT_DIR and the like, which name another checkout
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, env=environment)

    try:
        head = git("rev-parse", "--short", "HEAD")
    except FileNotFoundError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + ("-dirty" if git("status", "--porcelain").stdout.strip() else "")


def describe_environment(device: torch.device) -> dict[str, str | int]:
    """Versions, revision, device and threads as a flat table."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "git": git_revision(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Model name of the CPU, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.machine()
