"""The tasks of one runner call, for all backends: which of them run, their results, and the messages to the user.

Standard library only.
"""

from __future__ import annotations

import os
import time

from . import log
from .request import Request, UsageError
from .terminal import clock, say, show_tail

PICKS = ("all", "failed", "incomplete")


class Task:
    """One task: its number, command, log and result."""

    def __init__(self, request: Request, number: int):
        self.number = number
        self.command = request.command_of(number)
        self.log = request.log_of(number)
        self.tries = 0
        self.started = 0.0  # seconds since the epoch, of the last try
        self.status: int | None = None  # exit code, or minus a signal
        self.reason = ""  # reason of the failure, if known
        self.queue_log = ""  # the scheduler's own output file

    def keep_log(self) -> str:
        """Move the log of a failed try to ``LOG.bak``; returns its new name."""
        return log.keep(self.log, first=self.tries == 1)


class JobArray:
    """All tasks of a request. A single job is an array of one.

    Attributes:
        tasks: every task, in order.
        waiting: tasks to be started, in order.
        queued: tasks that the scheduler has not started yet.
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
        self.queued: list[Task] = []
        self.running: list[Task] = []
        self.failed: list[Task] = []
        self.done = 0
        self.started = time.time()
        self.seconds: list[float] = []  # of every try that ended
        for task in self.tasks:
            state = "incomplete" if pick == "all" else log.read_state(task.log)
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
        """Make the folders of the logs, and empty the logs of the tasks to run."""
        for task in self.waiting:
            os.makedirs(os.path.dirname(task.log) or ".", exist_ok=True)
            if os.path.isdir(task.log):
                raise UsageError(f"the log {task.log} is a directory")
            if os.path.isfile(task.log):
                os.unlink(task.log)

    def book(self, task: Task, status: int, *, again: bool) -> None:
        """Record that a task ended with ``status``; if it failed, ``again`` puts it first in the queue."""
        if task in self.running:
            self.running.remove(task)
            self.seconds.append(time.time() - task.started)
        else:
            self.queued.remove(task)
        task.status = status
        if status == 0:
            self.done += 1
        elif again:
            self.waiting.insert(0, task)
        else:
            self.failed.append(task)

    def progress(self, slots: int) -> str:
        """One line: of one job what its log says; of an array the counts and, once a task has ended, rate and time left.

        Before that, it has what the log of the first running task says.
        """
        waiting = len(self.waiting) + len(self.queued)
        if len(self.tasks) == 1:
            shown = log.progress(self.tasks[0].log) if self.running else ""
            return shown or f"{'running' if self.running else 'waiting'}, {clock(time.time() - self.started)}"
        counts = f"done {self.done} / running {len(self.running)} / failed {len(self.failed)} / waiting {waiting}"
        if not self.seconds:
            shown = log.progress(self.running[0].log) if self.running else ""
            return f"{counts}; {shown}" if shown else counts
        mean = sum(self.seconds) / len(self.seconds)
        left = mean * waiting + sum(max(0.0, mean - (time.time() - task.started)) for task in self.running)
        rate = 60 * len(self.seconds) / max(1.0, time.time() - self.started)
        return f"{counts}, {rate:.3g} tasks/min, {clock(left / max(1, min(slots, waiting + len(self.running))))} left"

    def report(self) -> int:
        """Report failures, with the last lines of the first failed task, or warnings; returns the runner's exit status."""
        if not self.failed:
            self.report_warnings()
            return 0
        failed = "job" if len(self.tasks) == 1 else f"{len(self.failed)} / {len(self.tasks)}"
        say(f"{failed} failed, log is in {self.logs}")
        if self.request.job_name is None and "JOB" in self.request.log:
            say("probably JOB=1:N is missing before the log file")
        first = min(self.failed, key=lambda task: task.number)
        for reason in dict.fromkeys(task.reason for task in self.failed if task.reason):
            say(f"{self.named([task for task in self.failed if task.reason == reason])}{reason}")
        lines = log.last_lines(first.log, 5)
        if not first.reason and first.status is not None and log.exit_code(first.status) == 137:
            lines.append("(killed by signal 9, often because of too little memory)")
        show_tail(first.log if len(self.tasks) > 1 or first.queue_log else "", lines)
        show_tail(first.queue_log, log.last_lines(first.queue_log, 5))
        return 1

    def report_warnings(self) -> None:
        """One line with the number of warnings in the logs, and the first of them."""
        found = [warning for task in self.tasks for warning in log.warnings(task.log)]
        if found and not os.environ.get("DNF_QUIET"):
            count = "a warning" if len(found) == 1 else f"{len(found)} warnings, the first"
            say(f"{count} in {self.logs}: {found[0]}")

    def named(self, tasks: list[Task]) -> str:
        """``task 3: ``, ``tasks 3, 5 and 7 more: ``, and nothing if there is only one."""
        if len(self.tasks) == 1:
            return ""
        numbers = [str(task.number) for task in sorted(tasks, key=lambda task: task.number)]
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
        return f"task{'s' if len(tasks) > 1 else ''} {', '.join(numbers[:8])}{more}: "
