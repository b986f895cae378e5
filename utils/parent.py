"""Ending with the process that started this one, even if SIGKILL ended that. Linux only; elsewhere nothing happens.

Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda option, number: 0


def end_with(parent: int, number: int = signal.SIGTERM) -> None:
    """Have this process get a signal when its parent, process ``parent``, ends; kept across ``exec``."""
    prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it has ended before
        os.kill(os.getpid(), signal.SIGKILL)
