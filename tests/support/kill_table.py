"""The mini recipe, killed with SIGKILL at random moments and started again each time: does it end the same?

    python3 tests/support/kill_table.py [--moments 12] [--seed 1]

One run is left alone; it is the reference. A second one is killed at every moment, a random share of the way through
a stage (of the seconds it takes, or of the steps of training), and started again at once. Each time something else is
killed: everything, ``run.sh`` alone, the runner alone, the task alone. When the killed stage is done, all that it made
is held against the reference.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from recipe_runs import command, counts

from dnf.plots.draw import LATER

EXP = "dnf120"
STEPS = 800
OPTIONS = (
    *counts(2, 2, 2, 2, 3), "--exp", EXP, "--set", f"train.steps={STEPS}", "--set", "train.eval_steps=50",
)  # fmt: skip
STAGES = ("data", "features", "frames", "train", "latents", "plots", "score", "decide", "report")
VICTIMS = ("everything", "run.sh", "runner", "task")
OUTPUTS = {  # what a stage leaves, as patterns; what is left out below differs from run to run, or is another stage's
    "data": ("data/**/*",),
    "features": ("data/*/*.scp", "data/*/utt2num_frames", "exp/feats/*/*"),
    "frames": ("exp/frames/*/*",),
    "train": ("*.pt", "training.json", "history.tsv"),
    "latents": ("latents/**/*", "gaussianity*.tsv", "autocorrelation.tsv", "agreement.json"),
    "plots": ("plots/*",),
    "score": ("scores/**/*",),
    "decide": (
        "decisions/*",
        "accuracy.tsv",
        "calibration.json",
        "open_set.*",
        "durations.tsv",
        "speakers.tsv",
        "by_score.tsv",
        "plots/detection_*",
    ),
    "report": ("results.tsv",),
}
CLOCK = ("seconds", "frames_per_s")  # columns of history.tsv, which curves.png shows
MADE_LATER = ("feats.scp", "vad.scp", "cmvn.scp", "utt2num_frames", "rejected.txt")  # in data/, by stage 1


@dataclass
class Row:
    """One kill and what became of it.

    Attributes:
        number: from 1.
        stage: that was to be killed; then the one that was.
        share: of the stage's time in the reference run, or of the steps of training, after which to kill.
        victim: what is killed.
        moment: in seconds since the stage began, or steps.
        killed: processes killed.
        left: processes of the run that were alive after that.
        outlived: of these, those that were alive when the next run began its first stage.
        rerun: what the next run did.
        equal: whether the stage made in the end what it made in the reference run; unknown while it is not done.
    """

    number: int
    stage: str
    share: float
    victim: str
    moment: str = ""
    killed: int = 0
    left: int = 0
    outlived: int = 0
    rerun: str = ""
    equal: bool | None = None

    def cells(self) -> tuple[str, ...]:
        equal = "not reached" if self.equal is None else "equal" if self.equal else "DIFFERENT"
        return (
            str(self.number), f"{self.stage}, {self.moment}", f"{self.victim} ({self.killed})", str(self.left),
            str(self.outlived), self.rerun, equal,
        )  # fmt: skip


HEAD = ("", "killed in", "victim (processes)", "left alive", "and later", "what the next run did", "made")


@dataclass
class Run:
    """A ``run.sh`` at work, with the stages it has announced and when."""

    folder: Path
    begun: list[tuple[float, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.changed = threading.Condition()
        self.said: list[str] = []
        self.process = subprocess.Popen(
            command(*OPTIONS), cwd=self.folder, start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        """Take down what it says, until the last process that could say something is gone."""
        for line in self.process.stderr:
            with self.changed:
                self.said.append(line)
                if found := re.match(r"\S+ stage \d \((\w+)\)(?:: (up to date)|: \d of .*)?$", line):
                    if found[2]:
                        self.skipped.append(found[1])
                    else:
                        self.begun.append((time.monotonic(), found[1]))
                self.changed.notify()

    def wait_for(self, stage: str) -> bool:
        """Wait until it begins a stage, this one or a later; false if it ended before."""

        def there() -> bool:
            return any(STAGES.index(name) >= STAGES.index(stage) for _, name in self.begun)

        with self.changed:
            while not there() and self.process.poll() is None:
                self.changed.wait(0.1)
            return there()

    def end(self) -> int:
        status = self.process.wait()
        self.reader.join()
        return status


def last_step(folder: Path) -> int:
    """The step of training that history.tsv has come to."""
    path = folder / "exp" / EXP / "history.tsv"
    steps = re.findall(r"^(\d+)\t.*\n", path.read_text(), re.MULTILINE) if path.is_file() else []
    return int(steps[-1]) if steps else 0


def tree(pid: int) -> dict[int, str]:
    """A process and all below it: command line by pid, parents first."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:  # it ended
            continue
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    found = [pid]
    for process in found:
        found += sorted(child for child, parent in parents.items() if parent == process)
    return {process: command_line(process) for process in found}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pids: dict[int, str]) -> list[int]:
    """Those processes that still run the same command."""
    return [pid for pid, line in pids.items() if line and command_line(pid) == line]


def kill(run: Run, victim: str) -> tuple[int, dict[int, str]]:
    """Kill the victim, or where a stage has no such process what is next below run.sh.

    Returns:
        How many processes were killed, and the others there were: command line by pid.
    """
    processes = tree(run.process.pid)
    pids = list(processes)
    runners = [pid for pid in pids if "utils/run.py" in processes[pid]]
    tasks = [pid for runner in runners for pid in tree(runner) if pid != runner]
    chosen = {
        "everything": pids,
        "run.sh": pids[:1],
        "runner": runners[:1] or pids[1:2],
        "task": tasks[:1] or pids[-1:],
    }[victim]
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if victim in ("runner", "task"):
        run.end()  # run.sh itself sees that something is wrong
    else:
        run.process.wait()
    return len(chosen), {pid: line for pid, line in processes.items() if pid not in chosen}


def plain(value: object) -> object:
    """The content of a checkpoint, to compare; its bytes also depend on which equal strings are one object."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return [(key, plain(held)) for key, held in value.items()]
    return [plain(held) for held in value] if isinstance(value, (list, tuple)) else value


def content(path: Path, folder: Path) -> bytes:
    """What must be the same in every run."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".pt":
        data = repr(plain(torch.load(path, weights_only=True))).encode()
    if path.name == "history.tsv":
        rows = csv.DictReader(io.StringIO(data.decode()), delimiter="\t")
        data = repr([{k: v for k, v in row.items() if k not in CLOCK} for row in rows]).encode()
    return data.replace(str(folder).encode(), b"")


def outputs(folder: Path, stage: str) -> dict[str, str]:
    """Hash of every file that a stage made."""
    root = folder if stage in STAGES[:3] else folder / "exp" / EXP
    found = {}
    for pattern in OUTPUTS[stage]:
        for path in root.glob(pattern):
            name = path.relative_to(folder)
            other = {"config.yaml", "curves.png", *(MADE_LATER if stage == "data" else ())}
            later = (".done", *(LATER if stage == "plots" else ()))
            if (
                path.is_file()
                and "log" not in name.parts
                and name.name not in other
                and not name.name.startswith(later)
                and name.suffix != ".tmp"  # what a write that was killed leaves beside the file
            ):
                found[str(name)] = hashlib.sha256(content(path, folder)).hexdigest()
    return found


def is_done(folder: Path, stage: str) -> bool:
    place = {"data": "data", "features": "exp/feats", "frames": "exp/frames"}.get(stage, f"exp/{EXP}")
    return (folder / place / f".done.{stage}").is_file()


def compare(rows: list[Row], folder: Path, reference: Path) -> None:
    """Fill in, for every stage that is done by now, whether it made what the reference has."""
    for row in rows:
        if row.equal is None and is_done(folder, row.stage):
            row.equal = outputs(folder, row.stage) == outputs(reference, row.stage) != {}


def draw(moments: int, seed: int) -> list[Row]:
    """Where to kill: every stage once, then features and training, which last longest; in order, a victim in turn."""
    rng = random.Random(seed)
    stages = [*STAGES, *rng.choices(("data", "features", "train", "train", "latents"), k=max(0, moments - len(STAGES)))]
    places = sorted((STAGES.index(stage), rng.uniform(0.02, 0.98)) for stage in stages[:moments])
    first = rng.randrange(len(VICTIMS))
    return [Row(n + 1, STAGES[s], share, VICTIMS[(first + n) % len(VICTIMS)]) for n, (s, share) in enumerate(places)]


def did(run: Run, folder: Path) -> str:
    """In words: which stages a run skipped, where it went on, and where from."""
    skipped = f"skipped {len(run.skipped)}, " if run.skipped else ""
    if not run.begun:
        return f"{skipped}began no stage"
    log = folder / "exp" / EXP / "log" / "train.log"
    step = (
        re.search(r"continuing from step (\d+)", log.read_text(errors="replace"))
        if run.begun[0][1] == "train" and log.is_file()
        else None
    )
    waited = "waited, " if any("waiting for the jobs" in line for line in run.said) else ""
    return f"{waited}{skipped}went on with {run.begun[0][1]}" + (f" from step {step[1]}" if step else "")


def make_table(work: Path, moments: int, seed: int) -> tuple[list[Row], bool]:
    """All rows, and whether results.tsv of the killed run is that of the reference, byte by byte."""
    reference, folder = work / "reference", work / "killed"
    reference.mkdir()
    folder.mkdir()
    whole = Run(reference)
    if whole.end():
        raise ValueError("".join(whole.said))
    times = [at for at, _ in whole.begun] + [time.monotonic()]
    lasted = {name: after - at for (at, name), after in zip(whole.begun, times[1:])}
    rows, before, left = draw(moments, seed), None, {}
    for row in [*rows, None]:
        run = Run(folder)
        if before:
            run.wait_for("data")  # its first stage, whichever it is: nothing of the killed run may be at work any more
            before.outlived = len(alive(left))
        if row and run.wait_for(row.stage):
            if row.stage == "train":
                while (
                    last_step(folder) < row.share * STEPS and run.begun[-1][1] == "train" and run.process.poll() is None
                ):
                    time.sleep(0.01)
            else:
                # In its first third: the machine may be three times as fast as it was for the reference.
                time.sleep(row.share * lasted[row.stage] / 3)
            at, row.stage = run.begun[-1]
            row.moment = f"step {last_step(folder)}" if row.stage == "train" else f"{time.monotonic() - at:.1f} s"
            row.killed, left = kill(run, row.victim)
            row.left = len(alive(left))
        elif run.end() or row:
            raise ValueError("".join(run.said))
        if before:
            before.rerun = did(run, folder)
        compare(rows[: row.number if row else None], folder, reference)
        before = row
    name = f"exp/{EXP}/results.tsv"
    return rows, (folder / name).read_bytes() == (reference / name).read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--moments", type=int, default=12, help="how often to kill (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows, same = make_table(Path(work), args.moments, args.seed)
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(f"results.tsv in the end: {'equal' if same else 'DIFFERENT'}, byte by byte")
    return 0 if same and all(row.equal and not row.outlived for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
