"""What runs where, what is done, and the last loss: ``python3 -m dnf status exp`` reads it off the files of a folder.

A stage is *done*; *old*, if a stage before it or a setting has changed since; *running*; *failed*, as its log says; or
*stopped*: it was killed, and goes on with the next ``run.sh``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, HISTORY_TSV, STAGES, Layout
from dnf.experiment.lock import Holder, holder_of
from dnf.experiment.settings import Train
from dnf.experiment.stage import key_of, read_marker, read_started
from dnf.experiment.tables import aligned, read_tsv
from utils.jobs import log as job_log

LOGS = {"data": "*.log", "features": "fbank.*.log"}  # of the others: <stage>.log
SHARED = ("data", "features", "frames")
COLUMNS = ("", *STAGES, "NLL", "dev NLL")
RUNNING_ON = re.compile(r"^# Running on (\S+)")
INTERRUPTED = re.compile(r"# Ended \(code \d+; signal (1|2|15)\) at .*\n\Z")
RECENT = 20  # rows of history.tsv that the remaining time is worked out from


class Task(NamedTuple):
    """A task as its log shows it; ``host`` and ``pids`` as far as they are known from here."""

    log: Path
    state: str
    host: str
    pids: tuple[int, ...]


class Seen(NamedTuple):
    """What the files say of one stage.

    Attributes:
        started: when it was begun, seconds since the epoch, if it has not been finished since.
        done: whether it has a marker.
        current: whether the marker is that of the settings and inputs as they are.
        tasks: by their logs.
        total: number of tasks.
        jobs: ids of jobs that are in a queue for it.
    """

    started: float | None = None
    done: bool = False
    current: bool = True
    tasks: tuple[Task, ...] = ()
    total: int = 0
    jobs: tuple[str, ...] = ()


class Progress(NamedTuple):
    """How far training is; ``left`` in seconds, losses in nats per frame, empty where not known."""

    step: int
    total: int
    epoch: float
    nll: str
    dev_nll: str
    frames_per_s: str
    left: float


# ---- what it means ---------------------------------------------------------------------------------------


def state_of(seen: Seen, run_since: float | None) -> str:
    """The state of a stage.

    Args:
        seen: what the files say of it.
        run_since: since when a ``run.sh`` is at work here, seconds since the epoch; ``None`` if there is none.
    """
    if seen.started is None:
        return ("done" if seen.current else "old") if seen.done else "-"
    if (run_since is not None and seen.started >= run_since) or seen.jobs:
        return "running"
    return "failed" if any(task.state == "failed" for task in seen.tasks) else "stopped"


def progress_of(rows: Sequence[dict[str, str]], settings: Train) -> Progress | None:
    """How far training is, from the rows of ``history.tsv``; a row that is being written is left out."""
    rows = [row for row in rows if None not in row.values()]
    if not rows:
        return None
    last, before = rows[-1], rows[-min(len(rows), RECENT)]
    step, epoch = int(last["step"]), float(last["epoch"])
    total = settings.steps or (round(settings.epochs * step / epoch) if epoch else 0)
    steps, seconds = step - int(before["step"]), float(last["seconds"]) - float(before["seconds"])
    pace = seconds / steps if steps else float(last["seconds"]) / max(step, 1)

    def newest(name: str) -> str:
        return next((row[name] for row in reversed(rows) if row[name]), "")

    return Progress(
        step, total, epoch, newest("nll"), newest("dev_nll"), newest("frames_per_s"), max(0, total - step) * pace
    )


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, seconds = divmod(round(max(0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def number(value: str) -> str:
    return f"{float(value):.2f}" if value else ""


def where(seen: Seen, holder: Holder | None) -> str:
    """Host, processes and jobs of what runs."""
    running = [task for task in seen.tasks if task.state == "incomplete"]
    hosts = list(dict.fromkeys(task.host for task in running if task.host)) or ([holder.host] if holder else [])
    pids = [str(pid) for task in running for pid in task.pids[:1]]
    words = [f"on {' '.join(hosts[:4])}{' ...' if len(hosts) > 4 else ''}"] if hosts else []
    words += [f"pid {' '.join(pids[:4])}{' ...' if len(pids) > 4 else ''}"] if pids else []
    words += [f"job {' '.join(seen.jobs)}"] if seen.jobs else []
    return ", ".join(words)


def counts(seen: Seen, state: str) -> str:
    """``done N / running N / failed N / waiting N`` of an array."""
    found = Counter(task.state for task in seen.tasks)
    cut = "running" if state == "running" else "stopped"
    waiting = max(0, seen.total - len(seen.tasks))
    return f"done {found['done']} / {cut} {found['incomplete']} / failed {found['failed']} / waiting {waiting}"


def details(
    label: str, seen: Seen, state: str, holder: Holder | None, now: float, progress: Progress | None
) -> list[str]:
    """Lines about a stage that runs, or has ended without being done."""
    head = f"{label}: {state}"
    if state == "running":
        head += f" for {clock(now - seen.started)}" + (f" {where(seen, holder)}" if where(seen, holder) else "")
        if holder is None:
            head += "; no run.sh waits for it: start it again"
    failed = [task for task in seen.tasks if task.state == "failed"]
    if seen.total > 1:
        head += f": {counts(seen, state)}"
    lines = [head]
    if progress:
        lines.append(
            f"  step {progress.step} of {progress.total}, epoch {progress.epoch:.1f}, NLL {number(progress.nll)}, "
            f"dev NLL {number(progress.dev_nll)}, {number(progress.frames_per_s).split('.')[0]} frames/s, "
            f"{clock(progress.left)} left"
        )
    shown = failed[0] if failed else seen.tasks[0] if seen.tasks and seen.total == 1 else None
    if shown:
        said = "" if progress and not failed else job_log.progress(str(shown.log))
        lines.append(f"  {shown.log}" + (f": {said}" if said else ""))
    return lines


def with_old(states: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """The states, where what is done but rests on what is not is old; ``before`` has those of earlier stages."""
    found = dict(before)
    for stage, state in states.items():
        rests = all(found.get(earlier) == "done" for earlier in STAGES[stage].after)
        found[stage] = "old" if state == "done" and not rests else state
    return {stage: found[stage] for stage in states}


# ---- what the files say ----------------------------------------------------------------------------------


def layouts_of(exp: Path) -> dict[str, list[str]]:
    """Experiments by their corpus; that of the recipe is ''."""
    corpora = sorted((p.parent.name for p in exp.glob(f"feats/*/{CONFIG_YAML}")), key=len, reverse=True)
    found: dict[str, list[str]] = {"": []}
    for path in sorted(exp.glob(f"*/{CONFIG_YAML}")):
        name = path.parent.name
        if name not in ("feats", "frames"):
            found.setdefault(next((c for c in corpora if name.startswith(c + "_")), ""), []).append(name)
    for corpus in sorted(p.parent.name for p in (exp.parent / "data").glob(f"*/{CONFIG_YAML}")):
        found.setdefault(corpus, [])
    return found


def layout_of(exp: Path, corpus: str, name: str) -> Layout:
    return Layout(exp.parent / "data" / corpus, exp / "feats" / corpus, exp / "frames" / corpus, exp / name)


def look(name: str, layout: Layout, writers: dict[str, list[int]]) -> Seen:
    """Read what there is of a stage."""
    folder, marker = layout.folder(name), layout.marker(name)
    started = marker.with_name(f".started.{name}")
    done = read_marker(marker)
    began = None
    if started.is_file() and not done:
        began = read_started(started).get("time") or started.stat().st_mtime
    if began is None:
        return Seen(done=bool(done), current=not done or is_current(name, layout, done["key"]))
    logs = [log for log in folder.glob(f"log/{LOGS.get(name, name + '.log')}") if log.stat().st_mtime >= began - 1]
    logs.sort(key=lambda log: [int(part) if part.isdigit() else part for part in log.name.split(".")])
    heads = [head_of(log) for log in logs]
    tasks = tuple(
        Task(log, state_in(log), (RUNNING_ON.findall(head) or [""])[0], tuple(writers.get(str(log.resolve()), ())))
        for log, head in zip(logs, heads)
    )
    total = max([len(tasks), *(int(n) for head in heads for n in re.findall(r"--jobs (\d+)", head))])
    return Seen(began, tasks=tasks, total=total, jobs=jobs_of(folder))


def is_current(name: str, layout: Layout, key: str) -> bool:
    """Whether the stage would be made again the same way; of stages that read tables it is not looked into."""
    if name in ("data", "features"):
        return True
    try:
        return key == key_of(name, Config.load(layout.folder(name) / CONFIG_YAML), layout, "", [])
    except ValueError:  # settings of another version
        return False


def state_in(log: Path) -> str:
    """``done``, ``failed`` or ``incomplete``, as is a task that the user's or the runner's signal ended."""
    state = job_log.read_state(str(log))
    return "incomplete" if state == "failed" and INTERRUPTED.search(job_log.read_tail(str(log))) else state


def head_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        return file.read(2000)


def jobs_of(folder: Path) -> tuple[str, ...]:
    """Ids of the jobs that queue runners have in work for the logs of a folder, from ``q/<log>/job.json``."""
    found = []
    for path in sorted(folder.glob("q/*/job.json")):
        try:
            call = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the job has just ended
            continue
        if call.get("status") == "running":
            found += [str(s["job"]) for s in call.get("submissions", []) if s.get("job") and not s.get("lost")]
    return tuple(found)


def writers_of_logs() -> dict[str, list[int]]:
    """Processes of this machine, as far as this user may see them, by the log their output goes to."""
    found: dict[str, list[int]] = {}
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = os.readlink(link)
        except OSError:  # it ended, or is not ours to look into
            continue
        if target.endswith(".log"):
            found.setdefault(target, []).append(int(link.parts[2]))
    return {log: sorted(pids) for log, pids in found.items()}


def training_of(folder: Path) -> Progress | None:
    if not (folder / HISTORY_TSV).is_file():
        return None
    return progress_of(read_tsv(folder / HISTORY_TSV), Config.load(folder / CONFIG_YAML).train)


def show(exp: Path) -> str:
    """The whole status, as text."""
    holder, writers, now = holder_of(exp), writers_of_logs(), time.time()
    since = holder.since if holder else None
    rows, below = [COLUMNS], []
    for corpus, names in layouts_of(exp).items():
        shared: dict[str, str] = {}
        for name in ("", *names):
            layout, stages = layout_of(exp, corpus, name), [s for s in STAGES if (s in SHARED) == (not name)]
            seen = {stage: look(stage, layout, writers) for stage in stages}
            states = with_old({stage: state_of(of_stage, since) for stage, of_stage in seen.items()}, shared)
            shared = shared or states
            training = training_of(layout.exp) if name else None
            losses = (number(training.nll), number(training.dev_nll)) if training else ("", "")
            title = name or str(Path("data", corpus)) + "/"
            if name or corpus or any(state != "-" for state in states.values()):
                rows.append((title, *(states.get(stage, "") for stage in STAGES), *losses))
            for stage, state in states.items():
                if state in ("running", "failed", "stopped"):
                    progress = training if stage == "train" and state == "running" else None
                    below += details(f"{title} {stage}", seen[stage], state, holder, now, progress)
    at_work = f"{exp}: {holder}" if holder else f"{exp}: no run.sh is at work"
    return "\n".join([at_work, "", *aligned(rows), *([""] if below else []), *below])


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument(
        "exp", type=Path, nargs="?", default=Path("exp"), help="folder of the experiments (%(default)s)"
    )
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="show it again and again")
    args = parser.parse_args(argv)
    if not args.exp.is_dir():
        raise ValueError(f"{args.exp}: no such folder; give the exp/ of a recipe that was run")
    while args.watch:
        print("\x1b[H\x1b[2J" + show(args.exp), flush=True)
        time.sleep(args.watch)
    print(show(args.exp))
    return 0


if __name__ == "__main__":
    entry.run(main)
