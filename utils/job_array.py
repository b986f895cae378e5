"""The tasks of one runner call, whichever backend runs them: which are to run, how they fare, what the user is told.

Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

import job_log
from runner_options import Request, UsageError

PICKS = ("all", "failed", "incomplete")


def say(text: str) -> None:
    """One line on stderr, after the name of the runner."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


class Task:
    """One task: its number, command and log, and what became of it."""

    def __init__(self, request: Request, number: int):
        self.number = number
        self.command = request.command_of(number)
        self.log = request.log_of(number)
        self.tries = 0
        self.started = 0.0  # seconds since the epoch, of the last try
        self.status: int | None = None  # exit code, or minus a signal

    def keep_log(self) -> str:
        """Move the log of a failed try to ``LOG.bak``, behind those of earlier tries; where it is now."""
        kept = f"{self.log}.bak"
        if not os.path.isfile(self.log):
            return self.log
        if self.tries == 1:
            os.replace(self.log, kept)
        else:
            with open(self.log, "rb") as log, open(kept, "ab") as bak:
                bak.write(log.read())
        return kept


class JobArray:
    """All tasks of a request. A single job is an array of one.

    Attributes:
        tasks: every task, in order.
        waiting: tasks to be started, in order.
        running: tasks that have been started.
        failed: tasks that failed for good, in this run or, if they are not run again, in an earlier one.
        done: number of tasks that succeeded.
    """

    def __init__(self, request: Request, pick: str = "all"):
        if pick not in PICKS:
            raise UsageError(f"--pick must be one of {', '.join(PICKS)}, not {pick!r}")
        self.request = request
        self.tasks = [Task(request, number) for number in request.tasks]
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.failed: list[Task] = []
        self.done = 0
        self.started = time.time()
        self.seconds: list[float] = []  # of every try that ended
        for task in self.tasks:
            state = "incomplete" if pick == "all" else job_log.read_state(task.log)
            if state == "done":
                self.done += 1
            elif state == "failed" and pick == "incomplete":
                self.failed.append(task)
            else:
                self.waiting.append(task)

    @property
    def logs(self) -> str:
        """The name of the log, with ``*`` for the number of the task if there are several."""
        return self.tasks[0].log if len(self.tasks) == 1 else self.request.numbered(self.request.log, "*")

    def prepare_logs(self) -> None:
        """Make the folders of the logs, and remove what earlier runs left in the logs of the tasks to run."""
        for task in self.waiting:
            os.makedirs(os.path.dirname(task.log) or ".", exist_ok=True)
            if os.path.isdir(task.log):
                raise UsageError(f"the log {task.log} is a directory")
            if os.path.isfile(task.log):
                os.unlink(task.log)

    def book(self, task: Task, status: int, again: bool) -> None:
        """Take note that a running task ended with ``status``; if it failed, ``again`` puts it first in the queue."""
        self.running.remove(task)
        self.seconds.append(time.time() - task.started)
        task.status = status
        if status == 0:
            self.done += 1
        elif again:
            self.waiting.insert(0, task)
        else:
            self.failed.append(task)

    def progress(self, slots: int) -> str:
        """One line: of an array the counts and, once a task has ended, the time left; of one job what its log says."""
        if len(self.tasks) == 1:
            shown = job_log.progress(self.tasks[0].log) if self.running else ""
            return shown or f"running, {clock(time.time() - self.started)}"
        counts = (
            f"done {self.done} / running {len(self.running)} / failed {len(self.failed)} / waiting {len(self.waiting)}"
        )
        if not self.seconds:
            return counts
        mean = sum(self.seconds) / len(self.seconds)
        left = mean * len(self.waiting) + sum(max(0.0, mean - (time.time() - task.started)) for task in self.running)
        return f"{counts}, {clock(left / max(1, min(slots, len(self.waiting) + len(self.running))))} left"

    def report(self) -> int:
        """Say what failed, with the last lines of the first failed task; the runner's exit status."""
        if not self.failed:
            return 0
        failed = "job" if len(self.tasks) == 1 else f"{len(self.failed)} / {len(self.tasks)}"
        say(f"{failed} failed, log is in {self.logs}")
        if self.request.job_name is None and "JOB" in self.request.log:
            say("probably JOB=1:N is missing before the log file")
        first = min(self.failed, key=lambda task: task.number)
        lines = job_log.last_lines(first.log, 5)
        if first.status is not None and job_log.exit_code(first.status) == 137:
            lines.append("(killed by signal 9, often for want of memory)")
        if lines and len(self.tasks) > 1:
            say(f"last lines of {first.log}:")
        for line in lines:
            print(f"  {line}", file=sys.stderr)
        return 1


class StatusLine:
    """One line on the terminal, rewritten in place; nothing if stderr is no terminal."""

    def __init__(self):
        self.on = sys.stderr.isatty()
        self.width = 0

    def show(self, text: str) -> None:
        if not self.on:
            return
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            columns = 80
        text = text[: columns - 1]
        print("\r" + text.ljust(min(self.width, columns - 1)), end="", file=sys.stderr, flush=True)
        self.width = len(text)

    def clear(self) -> None:
        if self.width:
            self.show("")
            print("\r", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
