"""The lines that job runners write around a task's output in its log file, and their reading.

    # COMMAND
    # Started at DATE
    #
    (output)
    # Accounting: time=SECONDS threads=N
    # Finished at DATE with status C
    # Ended (code C) at DATE, elapsed time SECONDS seconds

Only the last line of a log says how its task ended: a program may well print ``with status 0`` and then fail.
Standard library only.
"""

from __future__ import annotations

import os
import re
import time
from typing import BinaryIO

ENDED = re.compile(r"# Ended \(code (\d+)(?:; signal \d+)?\) at .+, elapsed time \d+ seconds")
FOOTER = re.compile(r"# (Accounting: time=\d+ threads=\d+.*|Finished at .+ with status \d+)|" + ENDED.pattern)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WARNING = re.compile(rb"\d,\d{3} WARNING \S+ (.*)")  # as Python's logging writes it
TAIL = 16384  # bytes of a log that are looked at, from its end


def date(seconds: float) -> str:
    """Like ``date`` under LC_ALL=C."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(seconds))


def header(command: str, started: float) -> str:
    """The lines before the output; ``started`` in seconds since the epoch."""
    return "# " + command.replace("\n", "\n# ") + f"\n# Started at {date(started)}\n#\n"


def footer(status: int, threads: int, started: float, ended: float) -> str:
    """The lines after the output.

    Args:
        status: as ``subprocess`` has it: exit code, or minus the number of the signal that ended the task.
        threads: number of threads the task was given.
        started: seconds since the epoch.
        ended: seconds since the epoch.
    """
    code = exit_code(status)
    signal = f"; signal {-status}" if status < 0 else ""
    seconds = max(0, round(ended - started))
    return (
        f"# Accounting: time={seconds} threads={threads}\n"
        f"# Finished at {date(ended)} with status {code}\n"
        f"# Ended (code {code}{signal}) at {date(ended)}, elapsed time {seconds} seconds\n"
    )


def end(path: str, text: str) -> None:
    """Append ``text`` to the log, on a new line whatever the task wrote last."""
    with open(path, "ab+" if os.path.isfile(path) else "ab") as log:
        end_open(log, text)


def end_open(log: BinaryIO, text: str) -> None:
    """Like ``end``, to a log that is open for reading and appending, or is no plain file."""
    if log.readable() and log.seek(0, os.SEEK_END) > 0:
        log.seek(-1, os.SEEK_END)
        text = text if log.read(1) == b"\n" else "\n" + text
    log.write(text.encode())


def keep(path: str, *, first: bool = False) -> str:
    """Move the log of a failed try to ``PATH.bak``, behind earlier ones unless it is the first; where it is now."""
    kept = f"{path}.bak"
    if not os.path.isfile(path):
        return path
    if first or not os.path.isfile(kept):
        os.replace(path, kept)
    else:
        with open(path, "rb") as log, open(kept, "ab") as bak:
            bak.write(log.read())
        os.unlink(path)
    return kept


def exit_code(status: int) -> int:
    """The code a shell would show: 128 + S for a task that signal S ended."""
    return 128 - status if status < 0 else status


def read_tail(path: str) -> str:
    """The end of the log, or all of a short one; empty if there is none, or if it is no plain file."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def read_state(path: str) -> str:
    """``done``, ``failed`` or, for a log without its last line, ``incomplete``."""
    lines = read_tail(path).split("\n")
    ended = ENDED.fullmatch(lines[-2]) if len(lines) > 1 and not lines[-1] else None
    if ended is None:
        return "incomplete"
    return "done" if ended[1] == "0" else "failed"


def last_lines(path: str, count: int) -> list[str]:
    """Up to ``count`` last lines of the output that are not blank; of a progress bar, what it showed last."""
    text = read_tail(path)
    output = re.sub(r"\A(# .*\n)+?#\n", "", text)
    lines = [last_chunk(line) for line in output.split("\n") if not FOOTER.fullmatch(line)]
    return [line for line in lines if line][-count:]


def warnings(path: str) -> list[str]:
    """The warnings in a log; none if there is no such file."""
    if not os.path.isfile(path):
        return []
    with open(path, "rb") as stream:
        return [found[1].decode("utf-8", "replace") for line in stream for found in WARNING.finditer(line)]


def last_chunk(text: str) -> str:
    """The last piece of ``text`` that is not blank, between line ends of any kind, without terminal escapes."""
    chunks = [chunk.strip() for chunk in re.split(r"[\r\n]", ESCAPES.sub("", text))]
    return next((chunk for chunk in reversed(chunks) if chunk), "")


def progress(path: str) -> str:
    """What the task wrote last: the state of its progress bar, or its last line; empty if it wrote nothing yet."""
    lines = last_lines(path, 1)
    return lines[0] if lines else ""
