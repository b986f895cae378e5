"""Runs the tasks of one request by a scheduler: submits, waits, reports results, and tries again.

A task is done only if its own record says so and the scheduler does not contradict it. A scheduler that does not answer
changes nothing: the runner asks again at growing intervals, and no task counts as finished meanwhile. Standard library only.
"""

from __future__ import annotations

import os
import signal
import time

from . import log, queue_conf
from .array import JobArray, Task
from .request import Request, UsageError
from .scheduler import HINTS, Scheduler, Seen, Silent, Verdict, judge
from .signals import Wakeup, end_with
from .submissions import Held, Submitter
from .terminal import StatusLine, command_line, say

OPTIONS = """
With JOB=a:b the command runs once for each number from a to b; JOB (any name) is replaced by the number wherever it
occurs in LOGFILE and COMMAND. The words are joined and given to bash: quote shell characters ('>', \\|, '$x').

Options:
  --mem 4G, --time 2:00:00, --num-threads N, --gpu N   of each task; the site's file describes these
  --max-jobs-run N, -tc N  most tasks at a time (the smallest value counts if given twice)
  --num-tries N            run a failed task up to N times in all; logs of earlier tries go to LOGFILE.bak
  --pick WHICH             all, failed (tasks with a failed or incomplete log), incomplete (tasks with an incomplete log)
  --config FILE            the site's file (default: conf/{0}, here or beside the runner)
Any other --name VALUE needs a line in that file; -x VALUE is passed to the submit command without change.

q/<log>/, beside the folder log/, has the scheduler's output and the runner's record of the job.
Status: 0 if all tasks succeeded, 1 if any failed, 2 if interrupted or if the command line is wrong."""
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
OWN = ("max_jobs_run", "num_tries", "pick", "config")
POLL = (0.5, 5.0)  # seconds between two questions to the scheduler, at first and at most
BACK_OFF = (1.0, 10.0)  # the same, while it does not answer
ASK_ACCOUNTS = 1.5  # seconds between two questions to the accounts about a task that is gone
LIST = (0.1, 1.0)  # seconds between two looks into the folder
DEAF = 8.0  # seconds without a sign of life after which a task on a node that does not answer is given up


class QueueRunner:
    """One call of a queue runner."""

    def __init__(self, request: Request, scheduler: Scheduler):
        self.scheduler = scheduler
        conf = read_conf(request, scheduler)
        options = submit_options(request, conf)
        (
            request.numbers("--num-threads"),
            request.numbers("--gpu", least=0),
        )  # wrong ones are errors here, not on the node
        self.tries = (request.numbers("--num-tries") or [1])[-1]
        self.array = JobArray(request, (request.values("--pick") or ["all"])[-1])
        self.submitter = Submitter(request, scheduler, self.array, conf, options)
        self.folder = self.submitter.folder
        self.seen: dict[tuple[str, int], Seen] | None = None  # the scheduler's last answer, if it gave one
        self.records: dict[tuple[int, int], dict] = {}
        self.next_poll = self.next_submit = 0.0
        self.poll_pause, self.list_pause, self.back_off = POLL[0], LIST[0], 0.0
        self.status_line = StatusLine()

    def run(self, arguments: list[str]) -> int:
        """Run all tasks that wait; the exit status."""
        self.wakeup = Wakeup()
        if os.environ.get("DNF_RUN") == str(os.getppid()):
            end_with(os.getppid(), signal.SIGKILL)  # its jobs go on: the next runner finds them
        self.submitter.open(arguments, self.wakeup)
        while self.submitter.busy():
            if self.wakeup.caught:
                return self.stop()
            self.submit()
            self.read_folder()
            self.poll()
            self.settle()
            self.status_line.update(lambda: self.array.progress(max(1, len(self.array.running))))
            if self.submitter.busy():
                self.wakeup.sleep(min(self.list_pause, self.status_line.pause))
                self.list_pause = min(self.list_pause * 1.2, LIST[1])
        self.status_line.clear()
        status = self.array.report()
        self.submitter.close(status)
        return status

    def submit(self) -> None:
        if time.monotonic() < self.next_submit:
            return
        try:
            if self.submitter.submit():
                self.note_answer()
                self.seen, self.next_poll, self.poll_pause = None, time.monotonic() + POLL[0], POLL[0]
        except Silent as silence:
            self.note_silence(silence)
            self.next_submit = time.monotonic() + self.back_off

    def read_folder(self) -> None:
        """Note which tasks run, and the records of those that ended."""
        marks = self.folder.marks(self.submitter.call)
        self.records = {key: record for key, record in self.records.items() if (*key, "end") in marks}
        for held in self.submitter.held.values():
            key = held.key
            if (*key, "run") in marks and held.task in self.array.queued:
                self.array.queued.remove(held.task)
                self.array.running.append(held.task)
                held.task.started = time.time()
                self.list_pause = LIST[0]
            if (*key, "end") in marks and key not in self.records:
                record = self.folder.read_mark(self.submitter.call, *key, "end")
                if record is not None:
                    self.records[key] = record
                    self.list_pause = LIST[0]
                    if record["code"] or all(other.key in self.records for other in self.submitter.held.values()):
                        self.next_poll, self.poll_pause = min(self.next_poll, time.monotonic() + 0.2), POLL[0]

    def poll(self) -> None:
        """Ask the scheduler, when it is time to."""
        jobs = {held.job.number: held.job for held in self.submitter.held.values() if held.job.job}
        if not jobs or time.monotonic() < self.next_poll:
            return
        try:
            self.seen = self.scheduler.look(list(jobs.values()))
        except Silent as silence:
            self.seen = None
            self.note_silence(silence)
            self.next_poll = time.monotonic() + self.back_off
            return
        self.note_answer()
        self.next_poll = time.monotonic() + self.poll_pause
        self.poll_pause = min(self.poll_pause * 1.3, POLL[1])

    def note_silence(self, silence: Silent) -> None:
        if not self.back_off:
            self.status_line.clear()
            say(f"{self.scheduler.name} does not answer ({silence}): the runner continues to ask")
        self.back_off = min(self.back_off * 1.5, BACK_OFF[1]) or BACK_OFF[0]

    def note_answer(self) -> None:
        if self.back_off:
            self.status_line.clear()
            say(f"{self.scheduler.name} answers again")
        self.back_off = 0.0

    def settle(self) -> None:
        """Record the results of tasks that are known."""
        changed = False
        for held in list(self.submitter.held.values()):
            if self.seen is None or held.job.job is None:
                held.state = None
                continue
            verdict = self.judge(held, self.records.get(held.key), self.seen.get((held.job.job, held.index)))
            if verdict is not None:
                changed |= self.book(held, verdict)
        if changed:
            self.folder.write(self.submitter.call)

    def judge(self, held: Held, record: dict | None, seen: Seen | None) -> Verdict | None:
        now = time.monotonic()
        if held.state != (record, seen):
            held.state, held.since, held.asked = (record, seen), now, now
        if record is None and seen is None and now > held.asked + ASK_ACCOUNTS:
            held.asked = now
            seen = self.scheduler.afterwards(held.job, held.index)
        if record is None and seen is not None and seen.kind == "unheard" and self.lives(held):
            return None
        verdict = judge(record, seen, now - held.since, confirms=self.scheduler.confirms)
        if verdict is not None and record is not None and record["code"]:
            self.records[held.key] = self.folder.read_mark(self.submitter.call, *held.key, "end") or record
            return verdict if self.records[held.key] == record else None  # the scheduler had started it again meanwhile
        return verdict

    def lives(self, held: Held) -> bool:
        """Whether a task on a node that the scheduler cannot reach still gives signs of life."""
        try:
            beat = os.stat(self.folder.mark(self.submitter.call, *held.key, "run")).st_mtime
        except OSError:
            beat = 0.0
        if held.beat is None or held.beat[0] != beat:
            held.beat = (beat, time.monotonic())
        return time.monotonic() < held.beat[1] + DEAF

    def book(self, held: Held, verdict: Verdict) -> bool:
        """Record the result of a task; returns whether job.json has to change."""
        task = held.task
        del self.submitter.held[task.number]
        again = verdict.status != 0 and not verdict.final and task.tries < self.tries
        if verdict.status != 0:
            task.queue_log = self.folder.out(self.submitter.call, held.job.number, held.index)
            task.reason = self.reason(task, verdict)
            if log.read_state(task.log) == "done":  # as it believes; --pick has to know better
                now = time.time()
                log.end(task.log, log.footer(verdict.status, 1, now, now))
            seen = (self.seen or {}).get((held.job.job, held.index))
            if seen is not None and seen.kind in ("stuck", "unheard", "waiting"):
                self.take_back(held)
        if again:
            self.status_line.clear()
            tried = f"try {task.tries} of {self.tries} failed ({task.reason})"
            say(f"task {task.number}: {tried}, log is in {task.keep_log()}")
        self.array.book(task, verdict.status, again=again)
        return verdict.status != 0

    def take_back(self, held: Held) -> None:
        try:
            self.scheduler.cancel(held.job, held.index)
        except Silent as silence:
            self.note_silence(silence)

    def reason(self, task: Task, verdict: Verdict) -> str:
        """The verdict's, or out of memory where the logs say so and the scheduler does not."""
        text = log.read_tail(task.log)[-2000:] + log.read_tail(task.queue_log)[-2000:]
        hint = next((hint for hint in HINTS if hint.lower() in text.lower()), None)
        if hint and "memory" not in verdict.reason:
            return f"out of memory, according to its logs ({hint}): give more with --mem; {verdict.reason}"
        return verdict.reason

    def stop(self) -> int:
        """After a signal: cancel the submitted jobs. Returns the exit status."""
        name = signal.Signals(self.wakeup.caught[0]).name
        self.status_line.show(f"{name}: cancelling")
        left = self.submitter.cancel_all(self.wakeup)
        self.status_line.clear()
        jobs = ", ".join(job.job for job in self.submitter.call.submissions if job.job) or "none"
        say(f"interrupted by {name}: cancelled job {jobs}, log is in {self.array.logs}")
        if left:
            say(f"{self.scheduler.name} has not ended job {', '.join(job.job or job.name for job in left)} yet")
        return 2


def read_conf(request: Request, scheduler: Scheduler) -> queue_conf.QueueConf:
    """The site's file: named by --config, or below conf/ in the current folder, or else that beside the runner."""
    beside = os.path.join(ROOT, "conf", scheduler.conf_name)
    here = os.path.join("conf", scheduler.conf_name)
    name = (request.values("--config") or [here if os.path.exists(here) else beside])[-1]
    try:
        with open(name, encoding="utf-8") as stream:
            return queue_conf.parse(stream.read(), name)
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file: name the site's file with --config") from None


def submit_options(request: Request, conf: queue_conf.QueueConf) -> list[str]:
    """The submit command's arguments for the options of a request."""
    given, verbatim = {}, []
    for option, values in request.options:
        if option.startswith("--"):
            given[option[2:].replace("-", "_")] = values[0]
        elif option != "-tc":
            verbatim += [option, *values]
    return conf.arguments({name: value for name, value in given.items() if name not in OWN}) + verbatim


def main(arguments: list[str], scheduler: Scheduler, usage: str) -> int:
    def run(request: Request) -> int:
        try:
            return QueueRunner(request, scheduler).run(arguments)
        except Silent as silence:
            say(f"{scheduler.name} does not answer: {silence}")
            return 2

    return command_line(arguments, usage.rstrip() + "\n" + OPTIONS.format(scheduler.conf_name), run)
