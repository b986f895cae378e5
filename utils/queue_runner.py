"""Runs the tasks of one request by a scheduler: submits, waits, tries again, cancels, and finds a job that it left.

A task is done only if its own record says so and the scheduler does not contradict it. A scheduler that does not answer
says nothing: the runner asks again, ever more seldom, and takes nothing for finished meanwhile. Standard library only.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import sys
import time

import job_log
import queue_conf
import runner_options
from job_array import JobArray, StatusLine, Task, say
from queue_folder import Call, Folder, Submission, folder_of
from runner_options import Request, UsageError
from scheduler import HINTS, Refused, Scheduler, Seen, Silent, Verdict, judge
from wakeup import Wakeup

OPTIONS = """
With JOB=a:b the command runs once for each number from a to b; JOB (any name) is replaced by the number wherever it
occurs in LOGFILE and COMMAND. The words are joined and given to bash: quote what is meant for it ('>', \\|, '$x').

Options:
  --mem 4G, --time 2:00:00, --num-threads N, --gpu N   of each task, as the site's file says
  --max-jobs-run N, -tc N  so many tasks at a time (the smallest wins if given twice)
  --num-tries N            run a failed task up to N times in all; logs of earlier tries go to LOGFILE.bak
  --pick WHICH             all, failed (tasks whose log says so, or has no end), incomplete (those whose log has no end)
  --config FILE            the site's file (default: conf/{0}, here or beside the runner)
Any other --name VALUE must stand in that file; -x VALUE goes to the submit command as it is.

What the scheduler writes, and what the runner needs to find a job again, is in q/<log>/ beside the folder log/.
Status: 0 if all tasks succeeded, 1 if any failed, 2 if interrupted or if the command line is wrong."""
OWN = ("max_jobs_run", "num_tries", "pick", "config")
POLL = (0.5, 5.0)  # seconds between two questions to the scheduler, at first and at most
BACK_OFF = (1.0, 10.0)  # the same, while it does not answer
LIST = (0.1, 1.0)  # seconds between two looks into the folder
FULL = 10.0  # seconds until a job is submitted again for which there was no room in the queue
DEAF = 12.0  # seconds without a sign of life after which a task on a node that does not answer is given up
CANCEL_WAIT = 20.0  # seconds that cancelled jobs have to end


class Held:
    """A task that the scheduler has."""

    def __init__(self, task: Task, job: Submission, index: int):
        self.task, self.job, self.index = task, job, index
        self.state: object = None  # what was known of it last
        self.since = 0.0  # and since when
        self.beat: tuple[float, float] | None = None  # time of its last sign of life, and when that was new


class QueueRunner:
    """One call of a queue runner."""

    def __init__(self, request: Request, arguments: list[str], scheduler: Scheduler):
        self.request, self.arguments, self.scheduler = request, arguments, scheduler
        self.conf = read_conf(request, scheduler)
        self.options = submit_options(request, self.conf)
        self.tries = (request.numbers("--num-tries") or [1])[-1]
        request.numbers("--num-threads"), request.numbers("--gpu", least=0)
        self.limit = min(request.numbers("--max-jobs-run") + request.numbers("-tc"), default=None)
        self.array = JobArray(request, (request.values("--pick") or ["all"])[-1])
        self.folder = Folder(folder_of(request))
        self.held: dict[int, Held] = {}
        self.pending: Submission | None = None  # handed in, but the id is not known
        self.seen: dict[tuple[str, int], Seen] | None = None  # the scheduler's last answer, if it gave one
        self.records: dict[tuple[int, int], dict] = {}
        self.longest: int | None = None
        self.next_poll = self.next_submit = 0.0
        self.poll_pause, self.list_pause, self.back_off = POLL[0], LIST[0], 0.0
        self.status_line = StatusLine()

    def run(self) -> int:
        """Run all tasks that wait; the exit status."""
        holder = self.folder.lock()
        if holder:
            raise UsageError(f"{holder} runs {self.request.log} already: wait for it, or stop it")
        self.wakeup = Wakeup()
        self.begin_or_join()
        while self.array.waiting or self.held or self.pending:
            if self.wakeup.caught:
                return self.stop()
            self.submit()
            self.read_folder()
            self.poll()
            self.settle()
            self.status_line.update(lambda: self.array.progress(max(1, len(self.array.running))))
            if self.array.waiting or self.held or self.pending:
                self.wakeup.sleep(min(self.list_pause, self.status_line.pause))
                self.list_pause = min(self.list_pause * 1.2, LIST[1])
        self.status_line.clear()
        status = self.array.report()
        if status == 0:
            self.folder.remove(self.call)
        else:
            self.call.status = "failed"
            self.folder.write(self.call)
        return status

    # ---- starting, or finding what an earlier runner left

    def begin_or_join(self) -> None:
        left = self.folder.read()
        if left is not None and left.status == "running":
            if left.arguments == self.arguments and left.cwd == os.getcwd():
                return self.join(left)
            self.refuse_beside(left)
        elif left is not None and left.status == "cancelled":
            self.call = left
            self.cancel_all()
        self.array.prepare_logs()
        name = re.sub(r"\W+", "_", os.path.basename(self.folder.path), flags=re.ASCII)
        run = f"{name if name[0].isalpha() else 'j' + name}-{secrets.token_hex(4)}"
        self.call = Call(run, os.getcwd(), self.arguments, [task.number for task in self.array.waiting])
        self.folder.begin(self.call)

    def join(self, left: Call) -> None:
        """Go on with the call of a runner that was killed: wait for what it submitted, and for nothing twice."""
        self.call = left
        array = self.array
        picked, array.waiting = {task.number for task in array.waiting}, []
        array.done = len(array.tasks) - len(left.tasks) - len(array.failed) if picked != set(left.tasks) else array.done
        for task in array.tasks:
            if task.number not in left.tasks:
                continue
            array.failed = [failed for failed in array.failed if failed is not task]
            task.tries = left.tries.get(task.number, 0)
            holders = [s for s in left.submissions if task.number in s.tasks and not s.lost]
            if holders:
                self.hold(task, holders[-1])
            else:
                array.waiting.append(task)
        array.done = len(array.tasks) - len(left.tasks) - len(array.failed)
        self.pending = next((s for s in left.submissions if s.job is None and not s.lost), None)
        jobs = ", ".join(s.job for s in left.submissions if s.job) or "none yet"
        say(f"waiting for what an earlier call submitted (job {jobs})")

    def refuse_beside(self, left: Call) -> None:
        """Another command with the same log: an error if the scheduler still has it."""
        self.call = left
        jobs = [s for s in left.submissions if s.job and not s.lost]
        if jobs and any(seen.kind in ("waiting", "running", "unheard") for seen in self.scheduler.look(jobs).values()):
            raise UsageError(
                f"job {', '.join(s.job for s in jobs)} of another command still writes {self.request.log}: cancel it "
                f"({'scancel' if self.scheduler.confirms else 'qdel'} {' '.join(s.job for s in jobs)}) or wait for its end"
            )

    # ---- submitting

    def hold(self, task: Task, job: Submission) -> None:
        self.held[task.number] = Held(task, job, job.tasks.index(task.number) + 1)
        self.array.queued.append(task)

    def submit(self) -> None:
        """Hand in what waits; with a limit on tasks at a time, only when nothing else is there."""
        while time.monotonic() >= self.next_submit and (self.pending or self.array.waiting):
            if self.pending is None and self.limit and self.held:
                return
            try:
                if self.pending:
                    self.find_pending()
                else:
                    self.submit_some()
            except Silent as silence:
                self.note_silence(silence)
                self.next_submit = time.monotonic() + self.back_off
                return
            self.note_answer()

    def submit_some(self) -> None:
        waiting = self.array.waiting
        if self.longest is None:
            self.longest = self.scheduler.longest_array() if len(waiting) > 1 else 1
        tasks = waiting[: self.longest]
        number = len(self.call.submissions) + 1
        job = Submission(number, f"{self.call.run}-{number}", [task.number for task in tasks])
        self.call.submissions.append(job)
        for task in tasks:
            task.tries += 1
            self.call.tries[task.number] = task.tries
            self.hold(task, job)
        del waiting[: len(tasks)]
        self.pending = job
        script = os.path.join(self.folder.path, self.call.run, f"{number}.sh")
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(self.script(number))
        self.folder.write(self.call)  # before the scheduler has it: a runner that is killed here can look for its name
        out = self.folder.out(self.call, number, "{}")
        try:
            job.job = self.scheduler.submit(self.conf, self.options, job, script, out, self.limit)
        except Refused as refusal:
            self.take_back(job, str(refusal))
            return
        self.settled_pending()

    def script(self, number: int) -> str:
        """What the scheduler starts: a few lines of bash around ``queue_task.py``."""
        python, program = sys.executable or "python3", os.path.join(os.path.dirname(os.path.abspath(__file__)), "queue_task.py")
        words = [python, "-S", program, self.folder.path, self.call.run, str(number)]
        words += ["--choose-gpus"] if self.scheduler.chooses_gpus else []
        return (
            "#!/usr/bin/env bash\n"
            f"cd {shlex.quote(self.call.cwd)} || exit 1\n"
            'if [[ -z ${DNF_ROOT:-} && -f path.sh ]]; then . ./path.sh || { echo "path.sh failed" >&2; exit 1; }; fi\n'
            f"exec {shlex.join(words)}\n"
        )

    def settled_pending(self) -> None:
        """The id is known: put it on the disk before waiting."""
        self.pending = None
        self.folder.write(self.call)
        self.seen, self.next_poll, self.poll_pause = None, time.monotonic() + POLL[0], POLL[0]

    def find_pending(self) -> None:
        """A submission whose answer was lost: it is there under its name, or it never came in."""
        job = self.pending
        job.job = self.scheduler.find(job.name) or self.job_in_marks(job)
        if job.job:
            self.settled_pending()
            return
        job.lost = True
        self.let_go(job)
        self.pending = None
        self.folder.write(self.call)

    def job_in_marks(self, job: Submission) -> str | None:
        """Its id as its tasks noted it when they began."""
        for task, number, kind in self.folder.marks(self.call):
            mark = self.folder.read_mark(self.call, task, number, "run") if number == job.number and kind == "run" else None
            if mark and mark["job"]:
                return mark["job"]
        return None

    def let_go(self, job: Submission) -> None:
        """Its tasks wait again, as if they had not been submitted."""
        held = [self.held.pop(number) for number in job.tasks if number in self.held]
        for one in reversed(held):
            self.array.queued.remove(one.task)
            one.task.tries -= 1
            self.call.tries[one.task.number] = one.task.tries
            self.array.waiting.insert(0, one.task)

    def take_back(self, job: Submission, refusal: str) -> None:
        """A refused job: wait for room if others of ours are in the queue, else its tasks have failed."""
        job.lost, self.pending = True, None
        self.let_go(job)
        if self.held and re.search(r"(?i)limit|max_u?_?jobs|too many", refusal):
            self.next_submit = time.monotonic() + FULL
        else:
            for task in self.array.waiting[: len(job.tasks)]:
                task.reason = f"{self.scheduler.name} refused it: {refusal}"
                self.array.failed.append(task)
            del self.array.waiting[: len(job.tasks)]
        self.folder.write(self.call)

    # ---- waiting

    def read_folder(self) -> None:
        """Note which tasks run, and the records of those that ended."""
        marks = self.folder.marks(self.call)
        self.records = {key: record for key, record in self.records.items() if (*key, "end") in marks}
        for number, held in self.held.items():
            key = (number, held.job.number)
            if (*key, "run") in marks and held.task in self.array.queued:
                self.array.queued.remove(held.task)
                self.array.running.append(held.task)
                held.task.started = time.time()
                self.list_pause = LIST[0]
            if (*key, "end") in marks and key not in self.records:
                record = self.folder.read_mark(self.call, *key, "end")
                if record is not None:
                    self.records[key] = record
                    self.list_pause = LIST[0]
                    if record["code"] or all((n, h.job.number) in self.records for n, h in self.held.items()):
                        self.next_poll, self.poll_pause = min(self.next_poll, time.monotonic() + 0.2), POLL[0]

    def poll(self) -> None:
        """Ask the scheduler, when it is time to."""
        jobs = {held.job.number: held.job for held in self.held.values() if held.job.job}
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
            say(f"{self.scheduler.name} does not answer ({silence}): asking again until it does")
        self.back_off = min(self.back_off * 1.5, BACK_OFF[1]) or BACK_OFF[0]

    def note_answer(self) -> None:
        if self.back_off:
            self.status_line.clear()
            say(f"{self.scheduler.name} answers again")
        self.back_off = 0.0

    def settle(self) -> None:
        """Book the tasks of which it is known what became of them."""
        changed = False
        for number, held in list(self.held.items()):
            if self.seen is None or held.job.job is None:
                held.state = None
                continue
            verdict = self.judge(held, self.records.get((number, held.job.number)), self.seen.get((held.job.job, held.index)))
            if verdict is not None:
                changed |= self.book(held, verdict)
        if changed:
            self.folder.write(self.call)

    def judge(self, held: Held, record: dict | None, seen: Seen | None) -> Verdict | None:
        now = time.monotonic()
        if held.state != (record, seen):
            held.state, held.since = (record, seen), now
        if record is None and seen is None and now > held.since + 1.0:
            seen = self.scheduler.afterwards(held.job, held.index)
        if record is None and seen is not None and seen.kind == "unheard" and self.lives(held):
            return None
        verdict = judge(record, seen, now - held.since, self.scheduler.confirms)
        if verdict is not None and record is not None and record["code"]:
            key = (held.task.number, held.job.number)
            self.records[key] = self.folder.read_mark(self.call, *key, "end") or record
            return verdict if self.records[key] == record else None  # the scheduler had started it again meanwhile
        return verdict

    def lives(self, held: Held) -> bool:
        """Whether a task on a node that the scheduler cannot reach still gives signs of life."""
        try:
            beat = os.stat(self.folder.mark(self.call, held.task.number, held.job.number, "run")).st_mtime
        except OSError:
            beat = 0.0
        if held.beat is None or held.beat[0] != beat:
            held.beat = (beat, time.monotonic())
        return time.monotonic() < held.beat[1] + DEAF

    def book(self, held: Held, verdict: Verdict) -> bool:
        """Note what became of a task; whether job.json has to change."""
        task = held.task
        del self.held[task.number]
        again = verdict.status != 0 and not verdict.final and task.tries < self.tries
        if verdict.status != 0:
            task.queue_log = self.folder.out(self.call, held.job.number, held.index)
            task.reason = self.reason(task, verdict)
            seen = (self.seen or {}).get((held.job.job, held.index))
            if seen is not None and seen.kind in ("stuck", "unheard", "waiting"):
                self.cancel(held.job, held.index)
        if again:
            self.status_line.clear()
            say(f"task {task.number}: try {task.tries} of {self.tries} failed ({task.reason}), log is in {task.keep_log()}")
        self.array.book(task, verdict.status, again)
        return verdict.status != 0

    def reason(self, task: Task, verdict: Verdict) -> str:
        """The verdict's, or out of memory where the logs say so and the scheduler does not."""
        text = job_log.read_tail(task.log)[-2000:] + job_log.read_tail(task.queue_log)[-2000:]
        hint = next((hint for hint in HINTS if hint.lower() in text.lower()), None)
        if hint and "memory" not in verdict.reason:
            return f"out of memory, by what its logs say ({hint}): give more with --mem; {verdict.reason}"
        return verdict.reason

    # ---- ending early

    def cancel(self, job: Submission, index: int | None = None) -> bool:
        try:
            self.scheduler.cancel(job, index)
        except Silent as silence:
            self.note_silence(silence)
            return False
        return True

    def cancel_all(self) -> list[Submission]:
        """Cancel every job of the call, and wait until the scheduler has let go of them; those it still has."""
        deadline = time.monotonic() + CANCEL_WAIT
        left = [job for job in self.call.submissions if not job.lost]
        while left and time.monotonic() < deadline:
            try:
                for job in left:
                    job.job = job.job or self.scheduler.find(job.name)
                    if job.job:
                        self.scheduler.cancel(job)
                seen = self.scheduler.look([job for job in left if job.job]) if any(job.job for job in left) else {}
                alive = {job for (job, _), one in seen.items() if one.kind not in ("ended", "failed")}
                left = [job for job in left if job.job in alive]
            except Silent as silence:
                self.note_silence(silence)
            if left:
                self.wakeup.sleep(0.5)
        return left

    def stop(self) -> int:
        """A signal came: cancel what was submitted. The exit status."""
        name = signal.Signals(self.wakeup.caught[0]).name
        self.status_line.show(f"{name}: cancelling")
        self.call.status = "cancelled"  # on the disk first: a node out of reach of the scheduler sees it, too
        self.folder.write(self.call)
        left = self.cancel_all()
        self.status_line.clear()
        jobs = ", ".join(job.job for job in self.call.submissions if job.job) or "none"
        say(f"interrupted by {name}: cancelled job {jobs}, log is in {self.array.logs}")
        if left:
            say(f"{self.scheduler.name} has not let go of job {', '.join(job.job or job.name for job in left)} yet")
        return 2


def read_conf(request: Request, scheduler: Scheduler) -> queue_conf.QueueConf:
    """The site's file: the one named by --config, or conf/ of the current folder has, or else that beside the runner."""
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "conf", scheduler.conf_name)
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
    if arguments in (["--help"], ["-h"]):
        print(usage.rstrip() + "\n" + OPTIONS.format(scheduler.conf_name))
        return 0
    try:
        request = runner_options.parse(arguments)
        for warning in request.warnings:
            say(warning)
        return QueueRunner(request, arguments, scheduler).run()
    except UsageError as error:
        say(f"{error}; see --help")
    except Silent as silence:
        say(f"{scheduler.name} does not answer: {silence}")
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        say("interrupted before the first task")
    return 2
