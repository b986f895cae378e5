"""Output of a runner on stderr: lines after its name, the last lines of a log, and one line of progress.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable

from . import request
from .request import Request, UsageError

PERIOD = 30.0  # seconds between two lines of progress where there is no terminal


def write(text: str, end: str = "\n") -> None:
    """Write to stderr, if that is still there: a run outlives its terminal, and a full disk of its log."""
    with contextlib.suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line on stderr, after the name of the runner."""
    write(f"{os.path.basename(sys.argv[0])}: {text}")


def command_line(arguments: list[str], usage: str | None, run: Callable[[Request], int]) -> int:
    """Status of a runner's command line: that of ``run``, or of what is wrong, which is said in one line."""
    if arguments in (["--help"], ["-h"]):
        print(usage or "no help: Python was started with -OO, which removes it")
        return 0
    try:
        asked = request.parse(arguments)
        for warning in asked.warnings:
            say(warning)
        return run(asked)
    except UsageError as error:
        say(f"{error}; see --help")
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        say("interrupted before the first task")
    return 2


def show_tail(name: str, lines: list[str]) -> None:
    """The last lines of the log ``name`` on stderr; nothing if there are none."""
    if lines and name:
        say(f"last lines of {name}:")
    for line in lines:
        write(f"  {line}")


class StatusLine:
    """One line on the terminal, rewritten in place; where stderr is no terminal, a line now and then.

    With ``DNF_QUIET`` in the environment (``run.sh --quiet``) there is none.

    Attributes:
        pause: seconds until it should be updated.
    """

    def __init__(self):
        self.quiet = bool(os.environ.get("DNF_QUIET"))
        self.on = sys.stderr.isatty() and not self.quiet
        self.width = 0
        self.pause = 0.5 if self.on else PERIOD
        self.last = time.monotonic()

    def update(self, progress: Callable[[], str]) -> None:
        if self.on:
            self.show(progress())
        elif not self.quiet and time.monotonic() >= self.last + PERIOD:
            self.last = time.monotonic()
            say(progress())

    def show(self, text: str) -> None:
        if not self.on:
            return
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            columns = 80
        text = text[: columns - 1]
        write("\r" + text.ljust(min(self.width, columns - 1)), end="")
        self.width = len(text)

    def clear(self) -> None:
        if self.width:
            self.show("")
            write("\r", end="")


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
