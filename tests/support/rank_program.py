"""What the ranks of a test run in place of dnf.training.train: experiments in turn, some with faults in the last rank.

    python3 -m dnf.training.launch EXP rank_program FRAMES CLASSES '[["exp/a", {}], ["exp/b", {"nan": [5, 25]}]]'

Faults: ``nan`` steps at which it gathers vectors that are not numbers; ``error`` what it raises, and at which step.
"""

import json
import math
import os
import sys

import torch

from dnf.experiment import entry
from dnf.features.windows import Windows
from dnf.training import ranks as process_group
from dnf.training import train
from dnf.training.trainer import Trainer

ERRORS = {"user": ValueError("train.ark: torn at byte 7; copy it again"), "bug": KeyError("no such thing")}
advance, gather = Trainer.advance, Windows.gather


def attempt(frames: str, classes: str, exp: str, faults: dict) -> None:
    last, now = int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1, []
    error, step = faults.get("error", (None, None))

    def faulty_advance(self):
        if last and self.step == step:
            raise ERRORS[error]
        now.append(self.step)
        try:
            return advance(self)
        finally:
            now.pop()

    def faulty_gather(self, rows):
        return gather(self, rows) * (math.nan if last and now and now[-1] in faults.get("nan", ()) else 1)

    Trainer.advance, Windows.gather = faulty_advance, faulty_gather
    try:
        train.main([frames, exp, "--classes", classes, "--device", "cpu"])
    finally:
        Trainer.advance, Windows.gather = advance, gather


def main() -> int:
    ranks = process_group.join_ranks(torch.device("cpu"))
    # one process group for all experiments
    train.join_ranks, train.leave = lambda device: ranks, lambda: None
    for exp, faults in json.loads(sys.argv[3]):
        attempt(sys.argv[1], sys.argv[2], exp, faults)
    process_group.leave()
    return 0


if __name__ == "__main__":
    entry.run(process_group.recorded(main))
