"""Training as several processes: the same course as one, and what happens when one of them ends before its time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from recipe_runs import environment, results, run_recipe

from dnf import checkpoint
from dnf.distributed import Ranks
from dnf.launch import ABORTED, ENDED, KILLED, LOST, OWN, Cause
from dnf.tables import read_tsv

EXACT = ("step", "epoch", "lr", "spikes", "restores")
TOLERANCE = {"nll": 2e-3, "logp": 2e-3, "logdet": 2e-3, "grad_norm": 2e-2, "accuracy": 0.02}  # sums in another order


@pytest.fixture(scope="module")
def frames(write_store, two_classes, tmp_path_factory) -> Path:
    """Stores train (300 vectors) and dev (107 vectors, which no number of ranks divides), and classes.txt."""
    folder = tmp_path_factory.mktemp("several") / "frames"
    write_store(folder / "train", two_classes(1))
    dev = two_classes(2, utterances=2)
    write_store(folder / "dev", dev | {"more-u": ("more", "en", next(iter(dev.values()))[2][:7], [1] * 7)})
    (folder.parent / "classes.txt").write_text("en\nzh\n")
    return folder
