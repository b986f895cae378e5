"""The precision of matrix products. Sums, densities and the weights themselves are always float32."""

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

# Fewest floating-point operations of a run that is compiled. On a processor it takes half a minute and saves up to
# a tenth of a run of a quarter of an hour or more. The bound of a GPU is a guess: half a minute of eager steps at 100 TFLOP/s.
WORTH_COMPILING = {"cpu": 1e14, "cuda": 3e15}


def operations(model: DNF, frames: int) -> float:
    """Floating-point operations of training on ``frames``: two per weight of the matrices, once forward and twice backward."""
    return 6.0 * frames * sum(p.numel() for p in model.flow.parameters() if p.dim() == 2)


def can_compile(device: torch.device) -> bool:
    """Whether ``torch.compile`` can build code: a compiler, Python's headers, and on a GPU Triton."""
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return False
    if device.type == "cuda":
        compilers = (os.environ.get("CC") or "gcc", "clang", "cc")
        known = importlib.util.find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (7, 0)
    else:
        compilers, known = (os.environ.get("CXX") or "g++", "clang++"), True
    return known and any(map(shutil.which, compilers))


def compiles(setting: str, device: torch.device, objective: Objective, model: DNF, frames: int) -> bool:
    """Whether a run on ``frames`` is compiled: ``always``, ``never``, or ``auto``: if it is possible and long enough."""
    if setting != "auto":
        return setting == "always"
    return not objective.looks and operations(model, frames) >= WORTH_COMPILING[device.type] and can_compile(device)


BFLOAT16_PROCESSORS = {"amx_bf16", "avx512_bf16"}  # flags of /proc/cpuinfo: elsewhere bfloat16 is emulated, and slow


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's features as Linux names them; empty if unknown."""
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
    """Run float32 products inside the block, also those of ``backward``, in TF32 if ``precision`` is tf32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
