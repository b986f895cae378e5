"""In which numbers matrix products run. Sums, densities and the weights themselves stay in float32 in any case."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

from dnf.models.dnf import DNF
from dnf.training.objective import Objective

# Floating-point operations of a run from which on compiling pays. On a processor it takes half a minute and saves up to
# a tenth of a run of a quarter of an hour or more. The bound of a GPU is a guess: half a minute of eager steps at 100 TFLOP/s.
WORTH_COMPILING = {"cpu": 1e14, "cuda": 3e15}


def operations(model: DNF, frames: int) -> float:
    """Floating-point operations of training on ``frames``: two a weight of the matrices, forward and twice backward."""
    return 6.0 * frames * sum(p.numel() for p in model.flow.parameters() if p.dim() == 2)


def can_compile(device: torch.device) -> bool:
    """Whether there is what ``torch.compile`` needs to build code: a compiler, Python's headers, on a GPU Triton."""
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return False
    if device.type == "cuda":
        compilers = (os.environ.get("CC") or "gcc", "clang", "cc")
        known = importlib.util.find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (7, 0)
    else:
        compilers, known = (os.environ.get("CXX") or "g++", "clang++"), True
    return known and any(map(shutil.which, compilers))


def compiles(setting: str, device: torch.device, objective: Objective, model: DNF, frames: int) -> bool:
    """Whether a run on ``frames`` is compiled: ``always``, ``never``, or ``auto``, where it can be and is worth it."""
    if setting != "auto":
        return setting == "always"
    return not objective.looks and operations(model, frames) >= WORTH_COMPILING[device.type] and can_compile(device)


BFLOAT16_PROCESSORS = {"amx_bf16", "avx512_bf16"}  # flags of /proc/cpuinfo: elsewhere bfloat16 is emulated, and slow


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do, as Linux names it; empty if that is not known."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def choose(precision: str, device: torch.device) -> str:
    """``float32``, ``tf32`` or ``bf16``; for ``auto`` bf16 on devices that have it, float32 on others."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has = bool(BFLOAT16_PROCESSORS & processor_flags())
    return "bf16" if has else "float32"


@contextlib.contextmanager
def tf32(precision: str) -> Iterator[None]:
    """Let float32 products inside the block, those of ``backward`` too, run in TF32 where ``precision`` says so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
