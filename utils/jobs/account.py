"""The folder ``q/<log>`` of one call of a queue runner: its submissions, and the records of its tasks.

    job.json                     the call and its submissions, rewritten by the runner before anything depends on it
    lock                         held by the runner that waits
    RUN/out/S.I.out              the scheduler's own output file of task I of submission S
    RUN/tasks/N.S.run            task N began in submission S: token, host, and by its time that it lives
    RUN/tasks/N.S.end            how it ended: the record that the runner trusts

RUN is new for every call that submits, so that tasks of an earlier call cannot be confused with this one's.
Every file appears whole, under its own name: whoever lists the folder sees it, also over NFS. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from dataclasses import asdict, dataclass, field

from .request import Request


@dataclass
class Submission:
    """One job, or job array, handed to the scheduler.

    Attributes:
        number: from 1.
        name: of the job; no other job has it.
        tasks: numbers of the tasks; the scheduler's index I, from 1, is the I-th of them.
        job: the scheduler's id; ``None`` until it is known.
        lost: the scheduler never had it, or has lost it; tasks of it that still start must do nothing.
    """

    number: int
    name: str
    tasks: list[int]
    job: str | None = None
    lost: bool = False


@dataclass
class Call:
    """A runner's call and its submissions.

    Attributes:
        run: name of the folder of this call.
        cwd: where the tasks run.
        arguments: of the runner, as given.
        work: DNF_WORK, by which run.sh distinguishes equal commands with other settings.
        tasks: numbers of the tasks that are to run.
        status: ``running``, ``cancelled`` or ``failed`` (a call that succeeded leaves no file).
        tries: how often each task has been submitted.
    """

    run: str
    cwd: str
    arguments: list[str]
    work: str
    tasks: list[int]
    status: str = "running"
    tries: dict[int, int] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)

    def is_current(self, submission: int, task: int) -> bool:
        """Whether this submission of the task is the one that counts."""
        holders = [s for s in self.submissions if task in s.tasks]
        return self.status == "running" and bool(holders) and holders[-1].number == submission and not holders[-1].lost


def folder_of(request: Request) -> str:
    """``exp/x/q/a.JOB`` for the log ``exp/x/log/a.JOB.log``; of another folder than ``log``, its own ``q``."""
    directory, name = os.path.split(request.log)
    parent, last = os.path.split(directory)
    return os.path.join(parent if last == "log" else directory, "q", name.removesuffix(".log"))


class Folder:
    """Reads and writes the files of one call."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)

    def lock(self) -> str | None:
        """Hold the folder until this process ends; else, who holds it."""
        os.makedirs(self.path, exist_ok=True)
        self.handle = open(os.path.join(self.path, "lock"), "a+")
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.handle.seek(0)
            return self.handle.read().strip() or "another process"
        self.handle.truncate(0)
        self.handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.handle.flush()
        return None

    def read(self) -> Call | None:
        """The last call of the folder."""
        try:
            with open(os.path.join(self.path, "job.json"), encoding="utf-8", errors="surrogateescape") as stream:
                held = json.load(stream)
        except FileNotFoundError:
            return None
        held["submissions"] = [Submission(**submission) for submission in held["submissions"]]
        held["tries"] = {int(task): tries for task, tries in held["tries"].items()}
        return Call(**held)

    def write(self, call: Call) -> None:
        write_atomically(os.path.join(self.path, "job.json"), json.dumps(asdict(call)))

    def begin(self, call: Call) -> None:
        """Start a new call: remove the files of the last one."""
        for entry in os.scandir(self.path):
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
        for name in ("out", "tasks"):
            os.makedirs(os.path.join(self.path, call.run, name))
        self.write(call)

    def remove(self, call: Call) -> None:
        """The files that are not needed after success: all but the lock."""
        os.unlink(os.path.join(self.path, "job.json"))
        shutil.rmtree(os.path.join(self.path, call.run), ignore_errors=True)

    def out(self, call: Call, submission: int, index: int | str) -> str:
        """The scheduler's output file."""
        return os.path.join(self.path, call.run, "out", f"{submission}.{index}.out")

    def mark(self, call: Call, task: int, submission: int, kind: str) -> str:
        """The file ``run`` or ``end`` of a task."""
        return os.path.join(self.path, call.run, "tasks", f"{task}.{submission}.{kind}")

    def marks(self, call: Call) -> set[tuple[int, int, str]]:
        """``(task, submission, kind)`` of every mark there is; listing makes an NFS client look again."""
        names = [name.split(".") for name in os.listdir(os.path.join(self.path, call.run, "tasks"))]
        return {(int(name[0]), int(name[1]), name[2]) for name in names if len(name) == 3 and name[2] in ("run", "end")}

    def read_mark(self, call: Call, task: int, submission: int, kind: str) -> dict | None:
        try:
            with open(self.mark(call, task, submission, kind), encoding="utf-8") as stream:
                return json.load(stream)
        except (FileNotFoundError, ValueError):  # missing, or not yet complete for this NFS client
            return None


def write_atomically(path: str, text: str, *, durable: bool = True) -> None:
    """Write a file completely or not at all (if ``durable``, even in a power failure)."""
    temporary = f"{path}.{socket.gethostname()}-{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    os.replace(temporary, path)
