"""Running a recipe as a user does, with tiny settings, and single stages in this process."""

import csv
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "flow.blocks=2", "flow.hidden=16", "train.steps=24", "train.eval_steps=8", "train.batch_size=200", "train.warmup_steps=2",
    "train.precision=float32", "latents.save_frames=600", "latents.mardia_frames=600", "plots.tsne_points=60", "plots.tsne_perplexity=5", "plots.dpi=40", "report.bootstrap=50",
    "baselines.enabled=false", "baselines.mlp_epochs=1", "baselines.mlp_hidden=16", "baselines.gmm_components=2", "latents.durations=[]",
)  # fmt: skip


def counts(train: int, dev: int, test: int, other: int, utterances: int) -> tuple[str, ...]:
    """Options of ``egs/mini``: speakers of each set, and utterances of each speaker."""
    sizes = {"train-speakers": train, "dev-speakers": dev, "test-speakers": test, "other-speakers": other}
    return tuple(word for name, n in (sizes | {"utterances": utterances}).items() for word in (f"--{name}", str(n)))


def stage_arguments(root: Path, exp: Path | None = None) -> list[str]:
    """What stages 3 and 4 are given: ``root/frames``, the experiment (``root/exp``) and ``root/classes.txt``."""
    return [str(root / "frames"), str(exp or root / "exp"), "--classes", str(root / "classes.txt"), "--device", "cpu"]


def run_stages(root: Path) -> None:
    """Stages 3, 4, 6 and 7 of ``root/exp``, which has its settings."""
    from dnf.decisions import decide
    from dnf.scoring import latents, score
    from dnf.training import train

    for main in (train.main, latents.main):
        assert main(stage_arguments(root)) == 0
    for main in (score.main, decide.main):
        assert main([str(root / "exp")]) == 0


def command(*options: str, tiny: bool = True) -> list[str]:
    """The command line of ``run.sh``; a ``--recipe`` stands first."""
    settings = [word for setting in TINY for word in ("--set", setting)] if tiny else []
    recipe, options = (options[:2], options[2:]) if options[:1] == ("--recipe",) else ((), options)
    return [str(ROOT / "run.sh"), *recipe, "--nj", "2", "--device", "cpu", *settings, *map(str, options)]


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


def until_it_ends(terminal: int) -> bytes:
    """What a terminal shows until nothing writes to it any more; it is closed then."""
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # the end of a terminal
    os.close(terminal)
    return shown


def on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Status of a command that has a terminal as its stderr, and what it showed there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = until_it_ends(ours).decode()
    return process.wait(timeout=60), shown
