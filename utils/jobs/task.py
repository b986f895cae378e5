"""One task of a queued job, on the node where the scheduler started it.

Runs the command with its log, and leaves a record of how it ended. A task that has been superseded (the runner gave it
to another submission, or cancelled it while this node could not be reached) stops, and leaves none. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

from . import log, request
from .account import Folder, write_atomically
from .devices import find_devices, hold_devices
from .signals import SIGNALS, Wakeup

HEARTBEAT = 5.0  # seconds between signs of life
STORAGE_WAIT = 60.0  # seconds that the file system has to take the record
GPU_WAIT = 60.0  # seconds until a GPU that the scheduler granted must be free
FORWARDED = (*SIGNALS, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
NOT_STARTED = 126


class Superseded(Exception):
    """Another submission of this task is valid."""


class QueuedTask:
    """The task of one submission that has the index the scheduler gave.

    Args:
        folder: of the call.
        run: name of its folder in that.
        submission: its number.
        index: of the task, from 1; of a job that is no array, whatever the scheduler has in its place.
        job: the scheduler's id.
        restarts: how often the scheduler has started it again; empty if it does not tell.
        choose_gpus: the scheduler does not say which GPUs the task has.

    Raises:
        Superseded: the folder is of another call by now.
    """

    def __init__(
        self, folder: str, run: str, submission: str, index: str, job: str, restarts: str, *, choose_gpus: bool
    ):
        self.folder = Folder(folder)
        self.run_name, self.submission = run, int(submission)
        self.job, self.restarts = job, restarts
        self.token = f"{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self.choose_gpus = choose_gpus
        self.call = self.folder.read()
        tasks = self.call.submissions[self.submission - 1].tasks if self.call and self.call.run == run else []
        at = int(index) if index.isdigit() else 1
        if at > len(tasks):
            raise Superseded("the runner has started again")
        self.number = tasks[at - 1]
        self.request = request.parse(self.call.arguments)
        self.log = self.request.log_of(self.number)
        self.threads = (self.request.numbers("--num-threads") or [None])[-1]

    def check(self, *, own: bool = True) -> None:
        """Raise ``Superseded`` unless this is the submission that counts and, if ``own``, the mark is ours."""
        call = self.folder.read()
        if call is None or call.run != self.run_name or not call.is_current(self.submission, self.number):
            raise Superseded("the runner has cancelled or resubmitted it")
        mark = self.folder.read_mark(call, self.number, self.submission, "run") if own else None
        if own and (mark is None or mark["token"] != self.token):
            raise Superseded("the scheduler has started it again elsewhere")

    def record(self, kind: str, **more) -> None:
        path = self.folder.mark(self.call, self.number, self.submission, kind)
        write_atomically(
            path, json.dumps({"token": self.token, "host": socket.gethostname(), **more}), durable=kind == "end"
        )

    def run(self) -> int:
        self.check(own=False)
        earlier = self.folder.read_mark(self.call, self.number, self.submission, "end")
        if earlier and earlier["code"] == 0:
            print(f"task {self.number} succeeded before the scheduler started it again: nothing to do")
            return 0
        again = self.folder.read_mark(self.call, self.number, self.submission, "run") is not None
        attempt = int(self.restarts or again) + 1
        started = time.time()
        if again and os.path.exists(end := self.folder.mark(self.call, self.number, self.submission, "end")):
            os.unlink(end)
        self.record("run", started=started, attempt=attempt, job=self.job)
        reason = None
        try:
            status = self.run_command(started)
        except OSError as error:
            status, reason = NOT_STARTED, f"{error.strerror}: {error.filename}" if error.filename else str(error)
            print(reason, file=sys.stderr)
        code = log.exit_code(status)
        end = {"code": code, "attempt": attempt, "started": started, "ended": time.time(), "reason": reason}
        deadline = time.monotonic() + STORAGE_WAIT
        while True:
            try:
                self.check()
                self.record("end", **end)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
        return 1 if code in (99, 100) else code  # to Grid Engine these two mean other things than failure

    def run_command(self, started: float) -> int:
        """Run the command to its end; exit code or minus a signal.

        Raises:
            OSError: the log cannot be written, or there is no GPU.
        """
        command = self.request.command_of(self.number)
        try:
            log.keep(self.log)
            stream = open(self.log, "ab+", buffering=0)
        except OSError as error:
            raise OSError(error.errno, f"the log cannot be written ({error.strerror})", self.log) from None
        with stream:
            top = f"# Running on {socket.gethostname()}\n" + log.header(command, started)
            stream.write(top.encode("utf-8", "surrogateescape"))
            environment, held = self.environment()
            wakeup = Wakeup(FORWARDED)
            process = subprocess.Popen(
                ["bash", "-p", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                pass_fds=held,
            )
            self.wait(process, wakeup)
            log.end_open(stream, log.footer(process.returncode, self.threads or 1, started, time.time()))
            os.fsync(stream.fileno())
        return process.returncode

    def environment(self) -> tuple[dict[str, str], list[int]]:
        """The environment of the command, and the files that hold its GPUs for it."""
        environment, held = dict(os.environ), []
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        if self.choose_gpus:
            count = (self.request.numbers("--gpu", least=0) or [0])[-1]
            names, held = hold_devices(find_devices() if count else [], count, GPU_WAIT)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        return environment, held

    def wait(self, process: subprocess.Popen, wakeup: Wakeup) -> None:
        """Until the command ends: hand on signals, give signs of life, and stop when superseded."""
        mark = self.folder.mark(self.call, self.number, self.submission, "run")
        beat = time.monotonic()
        while process.poll() is None:
            while wakeup.caught:
                process.send_signal(wakeup.caught.pop(0))
            wakeup.sleep(HEARTBEAT)
            if time.monotonic() - beat < HEARTBEAT:
                continue
            beat = time.monotonic()
            try:
                self.check()
                os.utime(mark)
            except Superseded:
                stop_group()
                raise
            except OSError as error:  # the file system may come back
                print(f"cannot write the sign of life: {error}", file=sys.stderr)


def stop_group() -> None:
    """End everything that the scheduler started here, except this process: TERM, and KILL after two seconds."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    time.sleep(2.0)
    for process in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            if process != os.getpid() and os.getpgid(process) == os.getpgrp():
                os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main(arguments: list[str]) -> int:
    """Status of the command line of ``utils/queue_task.py``."""
    try:
        return QueuedTask(*arguments[:6], choose_gpus="--choose-gpus" in arguments[6:]).run()
    except Superseded as reason:
        print(f"stopped: {reason}", file=sys.stderr)
        return 1
