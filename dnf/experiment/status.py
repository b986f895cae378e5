"""Running jobs, finished stages and the last loss, read from the files of a folder: ``python3 -m dnf status exp``.

A stage is *done*; *old*, if a stage before it or a setting has changed since; *running*; *failed*, as its log says; or
*stopped*: it was killed, and the next ``run.sh`` continues it.
"""

from __future__ import annotations

import functools
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
from dnf.experiment.layout import CONFIG_YAML, HISTORY_TSV, NOT_EXPERIMENTS, OWN, STAGES, Layout, is_fused
from dnf.experiment.lock import Holder, holder_of
from dnf.experiment.markers import read_marker
from dnf.experiment.settings import Train
from dnf.experiment.stage import key_of, read_started
from dnf.experiment.tables import aligned, read_tsv
from utils.jobs import log as job_log

LOGS = {"data": "*.log", "features": "fbank.*.log"}  # of the others: <stage>.log
SHARED = tuple(name for name, stage in STAGES.items() if stage.place != "exp")
ALONE = tuple(name for name, stage in STAGES.items() if stage.place == "exp")
COLUMNS = ("", *STAGES, "NLL", "dev NLL")
RUNNING_ON = re.compile(r"^# Running on (\S+)")
INTERRUPTED = re.compile(r"# Ended \(code \d+; signal (1|2|15)\) at .*\n\Z")
# Rows of history.tsv for the estimate of the remaining time
RECENT = 20

# Processes of this machine by the log their output goes to
Processes = dict[str, list[int]]


class Task(NamedTuple):
    """A task according to its log; ``host`` and ``pids`` if they are known."""

    log: Path
    state: str
    host: str
    pids: tuple[int, ...]


class Seen(NamedTuple):
    """The state of one stage according to its files.

    Attributes:
        started: its start, seconds since the epoch, if it is not finished.
        done: whether it has a marker.
        current: whether the marker has the present settings and inputs.
        tasks: by their logs.
        total: number of tasks.
        jobs: ids of its jobs in a queue.
    """

    started: float | None = None
    done: bool = False
    current: bool = True
    tasks: tuple[Task, ...] = ()
    total: int = 0
    jobs: tuple[str, ...] = ()


class Progress(NamedTuple):
    """Progress of training; ``left`` in seconds, losses in nats per frame, empty if not known."""

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
        seen: its state according to its files.
        run_since: start of the ``run.sh`` that works here, seconds since the epoch; ``None`` if there is none.
    """
    if seen.started is None:
        return ("done" if seen.current else "old") if seen.done else "-"
    if (run_since is not None and seen.started >= run_since) or seen.jobs:
        return "running"
    return "failed" if any(task.state == "failed" for task in seen.tasks) else "stopped"


def progress_of(rows: Sequence[dict[str, str]], settings: Train) -> Progress | None:
    """Progress of training from the rows of ``history.tsv``; an incomplete row is ignored."""
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
    """Host, processes and jobs of a running stage."""
    running = [task for task in seen.tasks if task.state == "incomplete"]
    hosts = list(dict.fromkeys(task.host for task in running if task.host)) or ([holder.host] if holder else [])
    pids = [str(pid) for task in running for pid in task.pids[:1]]
    words = [f"on {' '.join(hosts[:4])}{' ...' if len(hosts) > 4 else ''}"] if hosts else []
    words += [f"pid {' '.join(pids[:4])}{' ...' if len(pids) > 4 else ''}"] if pids else []
    words += [f"job {' '.join(seen.jobs)}"] if seen.jobs else []
    return ", ".join(words)


def counts(seen: Seen, state: str) -> str:
    """``done N / running N / failed N / waiting N`` of an array."""
    number_of = Counter(task.state for task in seen.tasks)
    cut = "running" if state == "running" else "stopped"
    waiting = max(0, seen.total - len(seen.tasks))
    return (
        f"done {number_of['done']} / {cut} {number_of['incomplete']} / failed {number_of['failed']} / waiting {waiting}"
    )


def details(
    label: str, seen: Seen, state: str, holder: Holder | None, now: float, progress: Progress | None
) -> list[str]:
    """Lines about a stage that runs, or has ended without success."""
    head = f"{label}: {state}"
    if state == "running":
        head += f" for {clock(now - seen.started)}" + (f" {where(seen, holder)}" if where(seen, holder) else "")
        if holder is None:
            head += "; its run.sh has ended: start it again"
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
    """The states; a done stage after one that is not done is old. ``before`` has those of earlier stages."""
    known = dict(before)
    for stage, state in states.items():
        rests = all(known[earlier] == "done" for earlier in STAGES[stage].after if earlier in known)
        rests = rests and all(known.get(earlier, "-") in ("done", "-") for earlier in STAGES[stage].shows)
        known[stage] = "old" if state == "done" and not rests else state
    return {stage: known[stage] for stage in states}


# ---- what the files say ----------------------------------------------------------------------------------


def layouts_of(exp: Path) -> list[tuple[Layout, list[Layout]]]:
    """For each folder of data, that of the recipe first: the folders of its shared stages, and its experiments."""
    corpora = sorted(path.parent.name for path in Layout.make(exp, "").data.glob(f"{OWN}/*/{CONFIG_YAML}"))
    shared = [Layout.make(exp, "", corpus) for corpus in ("", *corpora)]
    groups: dict[Path, tuple[Layout, list[Layout]]] = {layout.data: (layout, []) for layout in shared}
    for path in sorted(exp.glob(f"*/{CONFIG_YAML}")):
        if path.parent.name not in NOT_EXPERIMENTS:
            layout = Layout.read(path.parent)
            groups.setdefault(layout.data, (layout, []))[1].append(layout)
    return list(groups.values())


def look(name: str, layout: Layout, processes: Processes) -> Seen:
    """Read the files of a stage."""
    folder, started, done = layout.folder(name), layout.started(name), read_marker(layout.marker(name))
    began = None
    if started.is_file() and not done:
        began = read_started(started).get("time") or started.stat().st_mtime
    if began is None:
        return Seen(done=bool(done), current=not done or is_current(name, layout, done["key"]))
    logs = [log for log in folder.glob(f"log/{LOGS.get(name, name + '.log')}") if log.stat().st_mtime >= began - 1]
    logs.sort(key=lambda log: [int(part) if part.isdigit() else part for part in log.name.split(".")])
    heads = [head_of(log) for log in logs]
    tasks = tuple(
        Task(log, state_in(log), (RUNNING_ON.findall(head) or [""])[0], tuple(processes.get(str(log.resolve()), ())))
        for log, head in zip(logs, heads)
    )
    total = max([len(tasks), *(int(n) for head in heads for n in re.findall(r"--jobs (\d+)", head))])
    return Seen(began, tasks=tasks, total=total, jobs=jobs_of(folder))


def is_current(name: str, layout: Layout, key: str) -> bool:
    """Whether the stage's settings are unchanged; tables are not checked."""
    if name in ("data", "features"):
        return True
    try:
        return key == key_of(name, settings_in(layout.folder(name)), layout, "", [])
    except ValueError:  # settings of another version
        return False


def settings_in(folder: Path) -> Config:
    """The settings that a stage left in a folder; those of a file that has not changed are read once."""
    path = folder / CONFIG_YAML
    return load_settings(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.cache
def load_settings(path: Path, changed: int) -> Config:
    """Those of a file that was ``changed`` at a time, in nanoseconds."""
    return Config.load(path)


def state_in(log: Path) -> str:
    """``done``, ``failed`` or ``incomplete``; a task that a signal of the user or the runner ended is incomplete."""
    state = job_log.read_state(str(log))
    return "incomplete" if state == "failed" and INTERRUPTED.search(job_log.read_tail(str(log))) else state


def head_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        return file.read(2000)


def jobs_of(folder: Path) -> tuple[str, ...]:
    """Ids of the queue runners' jobs for the logs of a folder, from ``q/<log>/job.json``."""
    ids = []
    for path in sorted(folder.glob("q/*/job.json")):
        try:
            call = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the job has just ended
            continue
        if call.get("status") == "running":
            ids += [str(s["job"]) for s in call.get("submissions", []) if s.get("job") and not s.get("lost")]
    return tuple(ids)


def writers_of_logs() -> Processes:
    """Processes, as far as this user may see them."""
    processes: Processes = {}
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = os.readlink(link)
        except OSError:  # it ended, or belongs to another user
            continue
        if target.endswith(".log"):
            processes.setdefault(target, []).append(int(link.parts[2]))
    return {log: sorted(pids) for log, pids in processes.items()}


def training_of(folder: Path) -> Progress | None:
    if not (folder / HISTORY_TSV).is_file():
        return None
    return progress_of(read_tsv(folder / HISTORY_TSV), settings_in(folder).train)


def status_of(
    title: str,
    layout: Layout,
    names: Sequence[str],
    before: dict[str, str],
    holder: Holder | None,
    processes: Processes,
) -> tuple[dict[str, str], list[str], list[str]]:
    """States of the stages ``names`` as a row of the table, and lines about running and stopped ones.

    Args:
        title: name of the row.
        layout: folders of the stages.
        names: of the stages.
        before: states of the earlier stages.
        holder: the ``run.sh`` that is at work, if there is one.
        processes: of this machine, by their logs.
    """
    seen = {name: look(name, layout, processes) for name in names}
    since = holder.since if holder else None
    states = with_old({name: state_of(seen_of_stage, since) for name, seen_of_stage in seen.items()}, before)
    training = training_of(layout.exp) if "train" in names else None
    losses = (number(training.nll), number(training.dev_nll)) if training else ("", "")
    lines = []
    for name, state in states.items():
        if state in ("running", "failed", "stopped"):
            progress = training if name == "train" and state == "running" else None
            lines += details(f"{title} {name}", seen[name], state, holder, time.time(), progress)
    return states, [title, *(states.get(name, "") for name in STAGES), *losses], lines


def show(exp: Path) -> str:
    """The whole status, as text."""
    holder, processes = holder_of(exp), writers_of_logs()
    rows, below = [list(COLUMNS)], []
    for shared, experiments in layouts_of(exp):
        title = os.path.relpath(shared.data, exp / "..") + "/"
        before, row, lines = status_of(title, shared, SHARED, {}, holder, processes)
        if experiments or OWN in shared.data.parts or any(state != "-" for state in before.values()):
            rows.append(row)
        below += lines
        for layout in experiments:
            names = [name for name in ALONE if name in layout.stages]
            _, row, lines = status_of(
                layout.exp.name, layout, names, {} if is_fused(layout.exp) else before, holder, processes
            )
            rows.append(row)
            below += lines
    at_work = f"{exp}: {holder}" if holder else f"{exp}: no run.sh is at work"
    return "\n".join([at_work, "", *aligned(rows), *([""] if below else []), *below])


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument(
        "exp", type=Path, nargs="?", default=Path("exp"), help="folder of the experiments (%(default)s)"
    )
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="repeat at this interval")
    args = parser.parse_args(argv)
    if not args.exp.is_dir():
        raise ValueError(f"{args.exp}: no such folder; give the folder exp/ of a recipe")
    while args.watch:
        print("\x1b[H\x1b[2J" + show(args.exp), flush=True)
        time.sleep(args.watch)
    print(show(args.exp))
    return 0


if __name__ == "__main__":
    entry.run(main)
