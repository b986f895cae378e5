"""In which numbers matrix products run. Sums, densities and the weights themselves stay in float32 in any case."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

BFLOAT16_PROCESSORS = {"amx_bf16", "avx512_bf16"}  # flags of /proc/cpuinfo: elsewhere bfloat16 is emulated, and slow


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do, as Linux names it; empty where that is not known."""
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
