"""Signals: sleep that one cuts short, and ending with the process that started this one. Standard library only."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda option, number: 0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wakeup:
    """Catches signals from its making on.

    Attributes:
        caught: signals that came, in order.
    """

    def __init__(self, signals: tuple[int, ...] = SIGNALS):
        self.caught: list[int] = []
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in signals:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda number, frame: self.caught.append(number))

    def sleep(self, seconds: float | None) -> None:
        """Until a child ends, a signal comes or the time is over; ``None`` is for ever."""
        select.select([self.reader], [], [], seconds)
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass


def end_with(parent: int, number: int = signal.SIGTERM) -> None:
    """Have this process get a signal when its parent, process ``parent``, ends, even if SIGKILL ended that.

    Kept across ``exec``. Linux only; elsewhere nothing happens.
    """
    prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it has ended before
        os.kill(os.getpid(), signal.SIGKILL)
