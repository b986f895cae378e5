"""Seconds of program starts, and of the stages of run.sh with little or no work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.parts import Part
from benchmarks.timing import Watch
from dnf.experiment.layout import STAGES

ROOT = Path(__file__).resolve().parent.parent
SPEAKERS = {"train-speakers": 2, "dev-speakers": 2, "test-speakers": 2, "other-speakers": 1, "utterances": 2}
TINY = (
    "flow.blocks=2",
    "flow.hidden=64",
    "train.steps=20",
    "train.batch_size=200",
    "train.eval_steps=10",
    "latents.save_frames=600",
    "latents.mardia_frames=600",
    "latents.durations=[]",
    "baselines.enabled=false",
    "plots.tsne_points=60",
    "plots.tsne_perplexity=5",
    "report.bootstrap=50",
)


def run(folder: Path, *command: object) -> str:
    """The output of a command; ``RuntimeError`` with its last lines if it fails."""
    words = list(map(str, command))
    done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def starts(folder: Path, model: Path, recording: Path, device: str) -> dict[str, Part]:
    """Start Python, PyTorch and programs of ours, and run the complete command that classifies one recording."""
    commands = {
        "python3 -c pass": (sys.executable, "-c", "pass"),
        "python3 -c 'import torch'": (sys.executable, "-c", "import torch"),
        "python3 -m dnf.features.extract --help": (sys.executable, "-m", "dnf.features.extract", "--help"),
        "python3 -m dnf.training.train --help": (sys.executable, "-m", "dnf.training.train", "--help"),
        "utils/classify.sh": (ROOT / "utils" / "classify.sh", model, recording, "--device", device),
    }
    return {f"start: {name}": Part(partial(run, folder, *command)) for name, command in commands.items()}


def seconds_of_making(stage: Callable[[], str], watch: Watch) -> float | None:
    """Seconds of a call of run.sh; None if its output was up to date."""
    said: list[str] = []
    taken = watch.seconds(lambda: said.append(stage()))
    return None if re.search("up to date$", said[0], re.MULTILINE) else taken


def stages(folder: Path, nj: int, watch: Watch) -> tuple[dict[str, Part], dict[str, float]]:
    """Calls of run.sh with all stages up to date, and the seconds of each stage for a corpus of half a minute.

    Args:
        folder: folder for the recipe's data and results; stages that are up to date do not run, and have no seconds.
    """
    options = [word for name, count in SPEAKERS.items() for word in (f"--{name}", count)]
    options += [word for setting in TINY for word in ("--set", setting)]
    command = (ROOT / "run.sh", "--exp", "dnf120", "--nj", nj, "--device", watch.device, *options)
    parts, made = {}, {}
    for number, name in enumerate(STAGES):
        one = partial(run, folder, *command, "--stage", number, "--stop-stage", number)
        if (taken := seconds_of_making(one, watch)) is not None:
            made[f"run.sh --stage {number} ({name})"] = taken
        parts[f"run.sh --stage {number} ({name}), up to date"] = Part(one)
    parts["run.sh, all stages up to date"] = Part(partial(run, folder, *command))
    parts["run.sh --dry-run"] = Part(partial(run, folder, *command, "--dry-run"))
    return parts, made
