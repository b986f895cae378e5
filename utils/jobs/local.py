"""Runs the tasks of one request on this machine, as many at a time as it has processors or GPUs for. Standard library only."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator

from . import log
from .array import JobArray, Task
from .devices import Slot, Slots, cpu_slots, find_devices
from .request import Request
from .signals import Wakeup, end_with
from .terminal import StatusLine, command_line, say

GRACE = 10.0  # seconds the tasks have to end after a signal, before they are killed
LOOK = 1.0  # seconds between two looks at devices that other runs use


class LocalRunner:
    """Runs the tasks of one request as bash processes, in order, as slots become free.

    Tasks end with the runner, however it ends, and the runner with the ``run.sh`` that started it (process DNF_RUN).
    """

    def __init__(self, request: Request):
        self.threads = (request.numbers("--num-threads") or [None])[-1]
        self.tries = (request.numbers("--num-tries") or [1])[-1]
        self.array = JobArray(request, (request.values("--pick") or ["all"])[-1])
        self.slots = self.find_slots(request)
        self.processes: dict[Task, subprocess.Popen] = {}  # of the running tasks
        self.slot_of: dict[Task, Slot] = {}
        self.status_line = StatusLine()

    def find_slots(self, request: Request) -> Slots:
        gpus = (request.numbers("--gpu", least=0) or [0])[-1]
        limit = min(request.numbers("--max-jobs-run") + request.numbers("-tc"), default=None)
        if gpus == 0:
            return Slots(limit or cpu_slots(len(request.tasks), self.threads or 1))
        devices = find_devices()
        if not devices:
            say("no GPU found: the job runs without a GPU")
            return Slots(limit or 1)
        if len(devices) < gpus:
            say(f"--gpu {gpus}, but there are only {len(devices)} GPUs: the job uses these")
            gpus = len(devices)
        return Slots(min(limit or len(devices), len(devices) // gpus), devices, gpus)

    def run(self) -> int:
        """Run all tasks that wait; the exit status."""
        array = self.array
        array.prepare_logs()
        self.wakeup = Wakeup()
        if os.environ.get("DNF_RUN") == str(os.getppid()):
            end_with(os.getppid())
        told = False
        while (array.waiting or array.running) and not self.wakeup.caught:
            while array.waiting and not self.wakeup.caught and (slot := self.slots.take()):
                self.start(array.waiting.pop(0), slot)
            if array.waiting and not array.running and not told:
                say(f"waiting for a GPU: other runs use {', '.join(self.slots.devices)}")
                told = True
            self.status_line.update(lambda: array.progress(self.slots.count))
            if array.running or array.waiting:
                pause = self.status_line.pause
                self.wakeup.sleep(min(pause, LOOK) if array.waiting and self.slots.devices else pause)
            for task in [task for task in array.running if self.processes[task].poll() is not None]:
                self.collect(task)
        if self.wakeup.caught and (array.waiting or array.running):
            return self.stop()
        self.status_line.clear()
        return array.report()

    def start(self, task: Task, slot: Slot) -> None:
        environment = dict(os.environ)
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        if slot.devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.devices
        task.tries += 1
        task.started = time.time()
        try:
            handle = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
            with open(handle, "wb", buffering=0) as stream, inherited(slot.locks):
                stream.write(log.header(task.command, task.started).encode("utf-8", "surrogateescape"))
                process = subprocess.Popen(
                    ["bash", "-p", "-c", task.command],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env=environment,
                    start_new_session=True,  # a process group of its own, to which signals can be sent
                    close_fds=False,  # it has the locks that this process has
                    preexec_fn=functools.partial(end_with, os.getpid()),
                )
        except OSError as error:
            say(f"cannot start the task with the log {task.log}: {error.strerror}")
            self.slots.give(slot)
            self.array.failed.append(task)
            return
        self.processes[task] = process
        self.slot_of[task] = slot
        self.array.running.append(task)

    def collect(self, task: Task) -> None:
        """Write the end of a task's log and record its result; a failed task goes back to the queue while it has tries left.

        The processes of a failed task are killed first, so that they do not write beside the next try.
        """
        process = self.processes.pop(task)
        status = process.returncode
        if status != 0:
            send(process, signal.SIGKILL)
            deadline = time.time() + GRACE
            while group_lives(process.pid) and time.time() < deadline:
                time.sleep(0.01)
        self.slots.give(self.slot_of.pop(task))
        again = status != 0 and task.tries < self.tries and not self.wakeup.caught
        try:
            log.end(task.log, log.footer(status, self.threads or 1, task.started, time.time()))
            if again:
                self.status_line.clear()
                say(f"try {task.tries} of {self.tries} failed, log is in {task.keep_log()}")
        except OSError as error:
            say(f"cannot write the end of the log {task.log}: {error.strerror}")
        self.array.book(task, status, again=again)

    def stop(self) -> int:
        """Forward the signal to all tasks; kill the rest after a while, or at a second signal. Returns the exit status."""
        name, stopped = signal.Signals(self.wakeup.caught[0]).name, len(self.array.running)
        self.status_line.show(f"{name}: waiting for {stopped} tasks to end; repeat to kill them")
        for process in self.processes.values():
            send(process, self.wakeup.caught[0])
        deadline = time.time() + GRACE
        while self.array.running:
            self.wakeup.sleep(0.1)
            late = time.time() > deadline or len(self.wakeup.caught) > 1
            for task in list(self.array.running):
                process = self.processes[task]
                if late:
                    send(process, signal.SIGKILL)
                    process.wait()
                if process.poll() is not None and (late or not group_lives(process.pid)):
                    self.collect(task)
        self.status_line.clear()
        left = f", {len(self.array.waiting)} not started" if self.array.waiting else ""
        say(f"interrupted by {name}: {stopped} stopped{left}, log is in {self.array.logs}")
        return 2


@contextlib.contextmanager
def inherited(handles: Iterable[int]) -> Iterator[None]:
    """What is started inside the block has these open files, too."""
    for handle in handles:
        os.set_inheritable(handle, True)
    try:
        yield
    finally:
        for handle in handles:
            os.set_inheritable(handle, False)


def send(process: subprocess.Popen, number: int) -> None:
    """Send a signal to all processes of a task."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def group_lives(group: int) -> bool:
    """Whether a process group has a process that is no zombie."""
    try:
        os.killpg(group, 0)
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except ProcessLookupError:
        return False
    except OSError:
        return True
    for process in processes:
        try:
            with open(f"/proc/{process}/stat", "rb") as stream:
                state, _, its_group = stream.read().rpartition(b") ")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in b"ZX":
            return True
    return False


def main(arguments: list[str], usage: str) -> int:
    """Status of the command line of ``utils/run.py``; ``usage`` is what --help prints."""
    return command_line(arguments, usage, lambda request: LocalRunner(request).run())
