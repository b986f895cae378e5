"""The submissions of one request: submit jobs, find those of a killed runner, and cancel them.

Standard library only.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import sys
import time

from .account import Call, Folder, Submission, folder_of
from .array import JobArray, Task
from .queue_conf import QueueConf
from .request import Request, UsageError
from .scheduler import Refused, Scheduler, Silent
from .signals import Wakeup
from .terminal import say

QUEUE_TASK = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "queue_task.py"))
FULL = 10.0  # seconds until a job is submitted again for which there was no room in the queue
CANCEL_WAIT = 20.0  # seconds that cancelled jobs have to end
NO_ROOM = re.compile(r"(?i)limit|max_u?_?jobs|too many")


class Held:
    """A task that the scheduler has."""

    def __init__(self, task: Task, job: Submission, index: int):
        self.task, self.job, self.index = task, job, index
        self.key = (task.number, job.number)
        self.state: object = None  # what was known of it last
        self.since = 0.0  # and since when
        self.asked = 0.0  # when the accounts were asked about it last
        self.beat: tuple[float, float] | None = None  # time of its last sign of life, and when that was new


class Submitter:
    """Submits the waiting tasks and records them on the disk.

    Attributes:
        call: the account.
        held: the tasks that the scheduler has, by number.
        pending: a submission whose id is not known yet.
        limit: so many tasks at a time.
    """

    def __init__(self, request: Request, scheduler: Scheduler, array: JobArray, conf: QueueConf, options: list[str]):
        self.request, self.scheduler, self.array = request, scheduler, array
        self.conf, self.options = conf, options
        self.limit = min(request.numbers("--max-jobs-run") + request.numbers("-tc"), default=None)
        self.folder = Folder(folder_of(request))
        self.call: Call
        self.held: dict[int, Held] = {}
        self.pending: Submission | None = None
        self.longest: int | None = None
        self.full_until = 0.0

    # ---- starting

    def open(self, arguments: list[str], wakeup: Wakeup) -> None:
        """Begin a call, or continue that of a killed runner.

        Raises:
            UsageError: another runner, or a job of another command, writes the same logs.
        """
        if holder := self.folder.lock():
            raise UsageError(f"{holder} runs {self.request.log} already: wait for it, or stop it")
        left, work = self.folder.read(), os.environ.get("DNF_WORK", "")
        if left is not None and left.status == "running":
            if (left.arguments, left.cwd, left.work) == (arguments, os.getcwd(), work):
                return self.join(left)
            self.refuse_beside(left)
        elif left is not None and left.status == "cancelled":
            self.call = left
            self.cancel_all(wakeup)
        self.array.prepare_logs()
        name = re.sub(r"\W+", "_", os.path.basename(self.folder.path), flags=re.ASCII)
        run = f"{name if name[0].isalpha() else 'j' + name}-{secrets.token_hex(4)}"
        self.call = Call(run, os.getcwd(), arguments, work, [task.number for task in self.array.waiting])
        self.folder.begin(self.call)

    def join(self, left: Call) -> None:
        """Continue the call of a killed runner: wait for its jobs, and submit nothing twice."""
        self.call, self.array.waiting = left, []
        ours = [task for task in self.array.tasks if task.number in left.tasks]
        self.array.failed = [task for task in self.array.failed if task not in ours]
        self.array.done = len(self.array.tasks) - len(ours) - len(self.array.failed)
        for task in ours:
            task.tries = left.tries.get(task.number, 0)
            holders = [job for job in left.submissions if task.number in job.tasks and not job.lost]
            if holders:
                self.hold(task, holders[-1])
            else:
                self.array.waiting.append(task)
        self.pending = next((job for job in left.submissions if job.job is None and not job.lost), None)
        jobs = ", ".join(job.job for job in left.submissions if job.job) or "not known yet"
        say(f"waiting for the job of an earlier call (job {jobs})")

    def refuse_beside(self, left: Call) -> None:
        """Another command with the same log, or the same with other settings: an error if the scheduler still has it."""
        jobs = [job for job in left.submissions if job.job and not job.lost]
        if jobs and any(seen.kind in ("waiting", "running", "unheard") for seen in self.scheduler.look(jobs).values()):
            ids = [job.job for job in jobs]
            raise UsageError(
                f"job {', '.join(ids)} of another command, or with other settings, still writes {self.request.log}: cancel it "
                f"({self.scheduler.cancel_command} {' '.join(ids)}) or wait for its end"
            )

    # ---- submitting

    def busy(self) -> bool:
        """Whether anything is left to be submitted or waited for."""
        return bool(self.array.waiting or self.held or self.pending)

    def submit(self) -> bool:
        """Submit waiting tasks, as many as possible; returns whether a job was accepted.

        With a limit on tasks at a time, or if the queue was full, what is there has to end first.

        Raises:
            Silent: the scheduler does not answer.
        """
        came = False
        while self.pending or (
            self.array.waiting and time.monotonic() >= self.full_until and not (self.limit and self.held)
        ):
            came |= self.find_pending() if self.pending else self.submit_some()
        return came

    def submit_some(self) -> bool:
        """Submit as many tasks as an array may have; returns whether they were accepted."""
        waiting = self.array.waiting
        if self.longest is None:
            self.longest = self.scheduler.longest_array() if len(waiting) > 1 else 1
        tasks = waiting[: self.longest]
        del waiting[: len(tasks)]
        number = len(self.call.submissions) + 1
        job = self.pending = Submission(number, f"{self.call.run}-{number}", [task.number for task in tasks])
        self.call.submissions.append(job)
        for task in tasks:
            task.tries += 1
            self.call.tries[task.number] = task.tries
            self.hold(task, job)
        script = os.path.join(self.folder.path, self.call.run, f"{number}.sh")
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(self.script(number))
        self.folder.write(self.call)  # before the scheduler has it: a runner that is killed here can look for its name
        out = self.folder.out(self.call, number, "{}")
        try:
            job.job = self.scheduler.submit(self.conf, self.options, job, script, out, self.limit)
        except Refused as refusal:
            self.take_back(job, str(refusal))
            return False
        self.pending = None
        self.folder.write(self.call)  # and before anyone waits for it
        return True

    def hold(self, task: Task, job: Submission) -> None:
        self.held[task.number] = Held(task, job, job.tasks.index(task.number) + 1)
        self.array.queued.append(task)

    def script(self, number: int) -> str:
        """The job script: a few lines of bash around ``queue_task.py``."""
        words = [sys.executable or "python3", "-S", QUEUE_TASK, self.folder.path, self.call.run, str(number)]
        told = [f'"${{{name}:-}}"' if name else '""' for name in self.scheduler.variables]
        told += ["--choose-gpus"] if self.scheduler.chooses_gpus else []
        return (
            "#!/usr/bin/env bash\n"
            f"cd {shlex.quote(self.call.cwd)} || exit 1\n"
            'if [[ -z ${DNF_ROOT:-} && -f path.sh ]]; then . ./path.sh || { echo "path.sh failed" >&2; exit 1; }; fi\n'
            f"exec {shlex.join(words)} {' '.join(told)}\n"
        )

    def find_pending(self) -> bool:
        """A submission whose answer was lost: it is there under its name, or it never came in."""
        job = self.pending
        job.job = self.scheduler.find(job.name) or self.id_in_marks(job)
        if job.job is None:
            job.lost = True
            self.let_go(job)
        self.pending = None
        self.folder.write(self.call)
        return not job.lost

    def id_in_marks(self, job: Submission) -> str | None:
        """Its id as its tasks noted it when they began."""
        begun = [task for task, number, kind in self.folder.marks(self.call) if (number, kind) == (job.number, "run")]
        marks = [self.folder.read_mark(self.call, task, job.number, "run") for task in begun]
        return next((mark["job"] for mark in marks if mark and mark["job"]), None)

    def let_go(self, job: Submission) -> list[Task]:
        """Its tasks wait again, as if they had not been submitted; these tasks."""
        tasks = [self.held.pop(number).task for number in job.tasks if number in self.held]
        for task in tasks:
            self.array.queued.remove(task)
            task.tries -= 1
            self.call.tries[task.number] = task.tries
        self.array.waiting[:0] = tasks
        return tasks

    def take_back(self, job: Submission, refusal: str) -> None:
        """A refused job: wait for room if others of ours are in the queue, else its tasks have failed."""
        job.lost, self.pending = True, None
        tasks = self.let_go(job)
        if self.held and NO_ROOM.search(refusal):
            self.full_until = time.monotonic() + FULL
        else:
            del self.array.waiting[: len(tasks)]
            for task in tasks:
                task.reason = f"{self.scheduler.name} refused it: {refusal}"
            self.array.failed += tasks
        self.folder.write(self.call)

    # ---- ending

    def close(self, status: int) -> None:
        """All tasks have ended: after a failure keep the files that help to find its reason."""
        if status == 0:
            return self.folder.remove(self.call)
        self.call.status = "failed"
        self.folder.write(self.call)

    def cancel_all(self, wakeup: Wakeup) -> list[Submission]:
        """Cancel every job of the call, and wait until the scheduler has let go of them; those that it still has."""
        self.call.status = "cancelled"  # on the disk first: a node out of reach of the scheduler sees it, too
        self.folder.write(self.call)
        deadline = time.monotonic() + CANCEL_WAIT
        left = [job for job in self.call.submissions if not job.lost]
        while left and time.monotonic() < deadline:
            try:
                for job in left:
                    job.job = job.job or self.scheduler.find(job.name)
                    if job.job:
                        self.scheduler.cancel(job)
                known = [job for job in left if job.job]
                seen = self.scheduler.look(known) if known else {}
                alive = {job for (job, _), one in seen.items() if one.kind not in ("ended", "failed")}
                left = [job for job in known if job.job in alive]
            except Silent:
                pass  # asked again until the deadline; what it has not let go of then is named
            if left:
                wakeup.sleep(0.5)
        return left
