"""A training process among others: its rank, and common computations.

``dnf.training.launch`` starts the ranks. A process that it did not start is ``ALONE``, without a process group.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dnf.experiment import entry
from dnf.experiment.files import replace_file

TIMEOUT = timedelta(minutes=5)  # of one exchange; dead ranks are noticed at once, this is for ranks that hang
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model.

    Attributes:
        rank: its number, from 0; rank 0 alone writes files.
        size: how many there are.
        device: where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def bounds(self, total: int) -> tuple[int, int]:
        """Its part ``first, end`` of ``total`` rows; the parts of all ranks follow each other."""
        return total * self.rank // self.size, total * (self.rank + 1) // self.size

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value added up over the ranks, in float64: the same bits on every rank."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def sum_tensor(self, values: Tensor) -> Tensor:
        """A tensor added up over the ranks, entry by entry: the same bits on every rank."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def mean(self, values: Sequence[float]) -> list[float]:
        """Each value's mean over the ranks; NaN on every rank if it is NaN on one."""
        return [value / self.size for value in self.sum(values)]

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model``, with gradients that are means over the ranks; it starts with the weights of rank 0."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(model, device_ids=devices)
        wrapped.broadcast_buffers = False  # they never change from now on; the argument of this name is deprecated
        return wrapped

    def check_same(self, value: int, what: str) -> None:
        """Raise ``ValueError`` if the ranks do not agree on ``value``, e.g. because of a slow file system."""
        mean, square = self.mean([value, value * value])
        if square != mean * mean:
            raise ValueError(f"{what} differs between the nodes: {value} on rank {self.rank}; start again")


ALONE = Ranks()


def join_ranks(device: torch.device) -> Ranks:
    """The rank that ``dnf.training.launch`` started this process as, its process group open; else the only one.

    A rank ends with its launcher; otherwise nobody would end it, and it would continue to write checkpoints.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Ranks(device=device)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if device.type == "cuda":
        device = own_gpu(device, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
        torch.cuda.set_device(device)
    on_gpu = device.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT, device_id=device if on_gpu else None)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), device)
    if not ranks.writes:
        logging.getLogger().setLevel(logging.ERROR)
    return ranks


def own_gpu(device: torch.device, local_rank: int, wanted: int) -> torch.device:
    """The GPU of a rank of this node: each has its own, NCCL takes no two on one."""
    if device.index is not None:
        raise ValueError(f"--device {device}: one GPU, but train.num_gpus asks for {wanted}; give --device cuda")
    if torch.cuda.device_count() < wanted:
        raise ValueError(
            f"train.num_gpus is {wanted}, but this node has {torch.cuda.device_count()} GPUs; "
            "lower it, or use more nodes with train.num_nodes"
        )
    return torch.device("cuda", local_rank)


def leave() -> None:
    """Close the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_lost(error: BaseException) -> bool:
    """Whether an error only reports that another rank has ended, whose own error is shown instead."""
    return isinstance(error, dist.DistError) or isinstance(error, RuntimeError) and "gloo" in str(error).lower()


def recorded(main: Callable[[], int]) -> Callable[[], int]:
    """``main``, whose error as one of several ranks goes to torchrun's error file, where ``dnf.training.launch`` finds it.

    The launcher shows the error of the rank that failed first; so ranks themselves print bugs only.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return main

    def rank_main() -> int:
        try:
            return main()
        except Exception as error:
            lost, users = is_lost(error), isinstance(error, (ValueError, OSError))
            if os.environ.get("DNF_TRACEBACK") or not (lost or users):
                traceback.print_exc()
            text = entry.describe(error) if users else f"{type(error).__name__}: {entry.describe(error)}"
            extra = {"timestamp": str(int(time.time())), "lost": lost}
            replace_file(Path(file), json.dumps({"message": {"message": text, "extraInfo": extra}}))
            os._exit(1)  # a normal exit would wait for the other ranks

    return rank_main
