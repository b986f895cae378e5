"""The interface of a scheduler, and the verdict on a task from its answer and the task's record.

Standard library only.
"""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple

from .account import Submission
from .queue_conf import QueueConf
from .request import UsageError

LATE = 8.0  # seconds that a record, or the scheduler's reason for a failure, may come after what it belongs to
HINTS = ("MemoryError", "std::bad_alloc", "Cannot allocate memory", "oom_kill", "oom-kill", "exceeded memory limit")


class Silent(Exception):
    """The scheduler did not answer, so the state is unknown."""


class Refused(Exception):
    """The scheduler refuses the job."""


class Seen(NamedTuple):
    """The scheduler's answer about a task.

    Attributes:
        kind: ``waiting``, ``running``, ``ended`` (and nothing wrong with it), ``failed``, ``stuck`` (it will never run)
            or ``unheard`` (it ran on a node that does not answer).
        reason: for people, of the last three; of a waiting task, what it waits for.
        plain: no more than that it did not end with code 0, of which its record tells more.
    """

    kind: str
    reason: str = ""
    plain: bool = False


class Verdict(NamedTuple):
    """The result of a task.

    Attributes:
        status: 0, or the exit code that its log shows, if it has one.
        reason: why it failed.
        final: another try is useless.
    """

    status: int
    reason: str = ""
    final: bool = False


class Variables(NamedTuple):
    """Names of what the scheduler sets in the environment of a task; empty for what it does not tell."""

    index: str
    job: str
    restarts: str = ""


class Scheduler:
    """One kind of queue. Its methods ask the scheduler's own programs, and raise ``Silent`` when these do not answer.

    Attributes:
        name: for messages.
        conf_name: the site's file, below ``conf/``.
        cancel_command: what a user cancels a job with.
        variables: by which a task knows its index, its job's id, and how often it has been started again.
        chooses_gpus: it counts GPUs, but does not say which one a job has.
        confirms: whether a record of success counts only once the scheduler says that the job is over: it may know of a
            failure that the task does not know of.
    """

    name: str
    conf_name: str
    cancel_command: str
    variables: Variables
    chooses_gpus = False
    confirms = True

    def submit(
        self, conf: QueueConf, options: list[str], job: Submission, script: str, out: str, limit: int | None
    ) -> str:
        """Hand in a job, or a job array if it has several tasks; its id.

        Args:
            options: arguments of the submit command.
            out: the scheduler's output file, with ``{}`` for the index of the task.
            limit: so many tasks at a time.

        Raises:
            Refused: the scheduler does not want it.
        """
        raise NotImplementedError

    def look(self, jobs: list[Submission]) -> dict[tuple[str, int], Seen]:
        """State of every task of these jobs that the scheduler still lists, by id and index: one call for all."""
        raise NotImplementedError

    def find(self, name: str) -> str | None:
        """Id of the job of that name, if the scheduler has it."""
        raise NotImplementedError

    def cancel(self, job: Submission, index: int | None = None) -> None:
        """Take back a job, or one of its tasks."""
        raise NotImplementedError

    def longest_array(self) -> int:
        """How many tasks an array may have here."""
        raise NotImplementedError

    def afterwards(self, job: Submission, index: int) -> Seen | None:
        """What the accounts say of a task that is no longer listed, if they know it."""
        return None

    def environment(self) -> dict[str, str]:
        """The environment to submit with: without what an enclosing job would hand down."""
        return {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}

    def ask(self, *words: str, patience: float = 60.0) -> tuple[int, str, str]:
        """Run one of the scheduler's programs, out of reach of Control-C; its status, output and messages.

        Raises:
            Silent: it takes longer than ``patience`` seconds.
        """
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": patience}
        try:
            done = subprocess.run(words, **given, env=self.environment(), start_new_session=True)
        except FileNotFoundError:
            raise UsageError(f"{words[0]} is not on PATH: use a machine that can submit jobs") from None
        except subprocess.TimeoutExpired:
            raise Silent(f"{words[0]} took more than {patience:.0f} s") from None
        return done.returncode, done.stdout, done.stderr


def judge(record: dict | None, seen: Seen | None, quiet: float, *, confirms: bool) -> Verdict | None:
    """The result of a task, or ``None`` while it is unknown.

    Args:
        record: the task's own, with ``code``, ``host`` and ``reason``; ``None`` if it left none (yet).
        seen: what the scheduler says of it; ``None`` if it does not list it.
        quiet: seconds since either of them changed last.
        confirms: see ``Scheduler``.
    """
    if record is None:
        return judge_without(seen, quiet)
    active = seen is not None and seen.kind in ("waiting", "running", "unheard", "stuck")
    if record["code"] == 0:
        if seen is not None and seen.kind == "failed":
            return Verdict(1, f"{seen.reason} (though the task itself ended with code 0)")
        return None if active and confirms else Verdict(0)
    if active and confirms and (quiet < LATE or seen.kind == "waiting"):  # waiting: it will be started again
        return None
    told = seen.reason if seen is not None and seen.kind == "failed" and not seen.plain else ""
    ended = f"ended with code {record['code']} on {record['host']}"
    return Verdict(record["code"], told or record["reason"] or ended)


def judge_without(seen: Seen | None, quiet: float) -> Verdict | None:
    """Like ``judge``, of a task that left no record."""
    if seen is not None and seen.kind in ("waiting", "running"):
        return None
    if seen is not None and seen.kind == "stuck":
        return Verdict(1, seen.reason, final=True)
    if seen is not None and seen.kind == "failed" and quiet > 1.0:
        return Verdict(1, seen.reason)
    if quiet < LATE:
        return None
    if seen is None:
        return Verdict(
            1, "the scheduler does not know it any more, and it has no record: it was cancelled, or its node died"
        )
    return Verdict(
        1, seen.reason or "ended according to the scheduler, but it has no record: check that its node sees the folder"
    )
