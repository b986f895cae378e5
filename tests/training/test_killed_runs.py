"""Training that is killed and started again ends like training that was not."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recipe_runs import ROOT
from training_history import history

from dnf.models import checkpoint

KILLER = """
import json, math, os, signal, sys
from pathlib import Path
import torch
from dnf.models import checkpoint
from dnf.training import train
from dnf.features.windows import Windows

torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # what the first optimizer imports takes a second
frames, classes, plan = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
advance, gather, replace = train.Trainer.advance, Windows.gather, os.replace

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def attempt(exp, broken, kind=None, number=None):
    saved, now = {"best.pt": 0, "last.pt": 0}, []
    def dying_advance(self):
        if kind == "before step" and self.step == number:
            die()
        now.append(self.step)
        try:
            return advance(self)
        finally:
            now.pop()
    def dying_replace(source, target):
        name = Path(target).name
        if name in saved:
            saved[name] += 1
            if kind == "before " + name and saved[name] == number:
                die()
        replace(source, target)
        if name in saved and kind == "after " + name and saved[name] == number:
            die()
    train.Trainer.advance, os.replace = dying_advance, dying_replace
    Windows.gather = lambda self, rows: gather(self, rows) * (math.nan if now and now[-1] in broken else 1)
    train.main([frames, exp, "--classes", classes, "--device", "cpu"])

for exp, broken, deaths in plan:
    for death in [*deaths, []]:
        child = os.fork()
        if not child:
            status = 1
            try:
                attempt(exp, broken, *death)
                status = 0
            finally:
                os._exit(status)
        wanted = -signal.SIGKILL if death else 0
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != wanted:
            sys.exit(f"{exp}: {death}: status {status}, not {wanted}")
"""

# 60 steps, looks at 21, 42 and 60, rows at even steps: where the process is killed, one place after the other
DEATHS = {
    "never": [],
    "before the first checkpoint": [["before step", 9]],
    "between checkpoints": [["before step", 30]],
    "at once after starting again": [["before step", 30], ["before step", 21]],
    "again and again": [["before step", 30], ["before step", 41], ["before step", 50], ["before step", 59]],
    "while best.pt is written": [["before best.pt", 2]],
    "between best.pt and last.pt": [["after best.pt", 2]],
    "while last.pt is written": [["before last.pt", 2]],
    "right after last.pt": [["after last.pt", 2]],
    "right after the first last.pt": [["after last.pt", 1]],
    "at the very end": [["after last.pt", 3]],
    "never, with broken steps": [],
    "with broken steps": [["before step", 31], ["before step", 24]],
}
BROKEN = [5, 25, 28, 29]


@pytest.fixture(scope="module")
def killed(problem, small_config, tmp_path_factory):
    """The experiment of each entry of DEATHS, brought to its end in processes that were killed with SIGKILL."""
    root = tmp_path_factory.mktemp("killed")
    config = small_config("train.steps=60", "train.eval_steps=21", "train.lr=0.003")
    plan = []
    for n, (name, deaths) in enumerate(DEATHS.items()):
        config.save(root / str(n) / "config.yaml")
        plan.append((str(root / str(n)), BROKEN if "broken" in name else [], deaths))
    argv = [sys.executable, "-c", KILLER, str(problem), str(problem.parent / "classes.txt"), json.dumps(plan)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: root / str(n) for n, name in enumerate(DEATHS)}


def flat(content, prefix: str = "") -> dict:
    """Every tensor and value of a checkpoint by its place."""
    if isinstance(content, (dict, list, tuple)):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {k: v for key, value in items for k, v in flat(value, f"{prefix}/{key}").items()}
    return {prefix: content}


def assert_same_checkpoint(path: Path, other: Path) -> None:
    one, two = (flat(checkpoint.load(p)) for p in (path, other))
    assert one.keys() == two.keys()
    for place, value in one.items():
        assert torch.equal(value, two[place]) if torch.is_tensor(value) else value == two[place], place


@pytest.mark.parametrize("name", [name for name in DEATHS if not name.startswith("never")])
def test_a_killed_run_ends_like_one_that_was_not(killed, name):
    whole = killed["never, with broken steps" if "broken" in name else "never"]
    for file in ("last.pt", "best.pt"):
        assert_same_checkpoint(killed[name] / file, whole / file)
    assert (killed[name] / "training.json").read_text() == (whole / "training.json").read_text()
    assert not list(killed[name].glob("*.tmp"))


@pytest.mark.parametrize("name", [name for name in DEATHS if not name.startswith("never")])
def test_the_history_of_a_killed_run_is_whole(killed, name):
    whole = killed["never, with broken steps" if "broken" in name else "never"]
    assert history(killed[name]) == history(whole)


def test_the_whole_run_is_as_planned(killed):
    rows = history(killed["never"])
    assert [int(row["step"]) for row in rows] == sorted({*range(2, 61, 2), 21})
    assert [int(row["step"]) for row in rows if row["dev_nll"]] == [21, 42, 60]
    assert history(killed["never, with broken steps"])[-1]["restores"] == str(len(BROKEN))
    assert float(rows[-1]["dev_nll"]) < float(rows[10]["dev_nll"])


def test_seconds_of_a_killed_run_go_on(killed):
    """The curve over time of a run in two parts does not begin at zero again."""
    seconds = [float(row["seconds"]) for row in history(killed["between checkpoints"], without=())]
    assert all(a <= b for a, b in itertools.pairwise(seconds))
