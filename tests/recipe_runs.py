"""Running a recipe as a user does, with tiny settings."""

import csv
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "flow.blocks=2", "flow.hidden=16", "train.steps=24", "train.eval_steps=8", "train.batch_size=200", "train.warmup_steps=2",
    "latents.save_frames=600", "latents.mardia_frames=600", "plots.tsne_points=60", "plots.tsne_perplexity=5", "report.bootstrap=50",
    "baselines.mlp_epochs=1", "baselines.mlp_hidden=16", "baselines.gmm_components=2",
)  # fmt: skip


def command(*options: str, tiny: bool = True) -> list[str]:
    """The command line of ``run.sh``."""
    settings = [word for setting in TINY for word in ("--set", setting)] if tiny else []
    return [str(ROOT / "run.sh"), "--nj", "2", "--device", "cpu", *settings, *map(str, options)]


def run(folder: Path, *options: str, tiny: bool = True, status: int = 0) -> str:
    """What ``run.sh`` says when it is run in ``folder``; its status must be the one expected."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command(*options, tiny=tiny), cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_recipe(folder: Path, recipe: str, *options: str, tiny: bool = True, status: int = 0) -> str:
    """What a recipe's run says."""
    return run(folder, "--recipe", recipe, *options, tiny=tiny, status=status)


def results(folder: Path, exp: str) -> list[dict[str, str]]:
    """Rows of an experiment's results.tsv."""
    with (folder / "exp" / exp / "results.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def environment() -> dict[str, str]:
    """For running modules of the project directly."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Status of a command that has a terminal as its stderr, and what it showed there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # the end of a terminal
    os.close(ours)
    return process.wait(timeout=60), shown.decode()
