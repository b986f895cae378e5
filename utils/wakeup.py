"""Sleep that a signal, or the end of a child, cuts short. Standard library only."""

from __future__ import annotations

import os
import select
import signal

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
