"""A shuffle without memory: the position of each of n numbers is computed, so any batch of any epoch is available."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio: steps of SplitMix64


def uniform(keys: Tensor, stream: int, *shape: int) -> Tensor:
    """Numbers in 0..1 ``(N, *shape)`` float32: a function of each key of ``keys`` ``(N,)`` and the stream alone."""
    count = math.prod(shape)
    counters = torch.arange(1, count + 1, device=keys.device) * GOLDEN
    bits = mix(mix(keys + mix(torch.tensor(stream + 1, device=keys.device)))[:, None] + counters)
    return (((bits >> 40 & 0xFFFFFF).double() + 0.5) / 2**24).clamp(max=1 - 2**-24).float().view(len(keys), *shape)


def normal(keys: Tensor, stream: int, *shape: int) -> Tensor:
    """Standard normal numbers ``(N, *shape)`` float32, as ``uniform``."""
    return math.sqrt(2) * torch.erfinv(2 * uniform(keys, stream, *shape) - 1).clamp(-4, 4)


def between(keys: Tensor, stream: int, low: float, high: float) -> Tensor:
    """Uniform numbers ``(N, 1)`` between two bounds."""
    return low + (high - low) * uniform(keys, stream, 1)


ROUNDS = 4
MULTIPLIERS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of the finalizer of SplitMix64


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014) on int64."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS):
        x = (x ^ (x >> shift & (1 << 64 - shift) - 1)) * multiplier
    return x ^ (x >> 31 & (1 << 33) - 1)


def permute(index: Tensor, n: int, seed: int) -> Tensor:
    """Images ``(B,)`` of ``index`` ``(B,)`` under a permutation of 0 .. n - 1 that ``seed`` chooses.

    A Feistel network (Luby & Rackoff, "How to construct pseudorandom permutations", 1988) permutes the next power of four;
    values outside 0 .. n - 1 are permuted again until they are inside.
    """
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = mix(torch.arange(1, ROUNDS + 1) + (seed << 8) % 2**63).tolist()
    image, outside = index.clone(), torch.ones_like(index, dtype=torch.bool)
    while outside.any():
        left, right = image[outside] >> half, image[outside] & mask
        for key in keys:
            left, right = right, left ^ mix(right + key) & mask
        image[outside] = left << half | right
        outside = image >= n
    return image
