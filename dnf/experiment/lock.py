"""Allow one run at a time in a folder: ``run.sh`` locks ``exp/.lock`` while it runs.

The lock (flock) belongs to the open file, and all processes that ``run.sh`` starts on this machine inherit it. So a run that was
killed leaves no lock, nor does a machine that was restarted. But a job that outlives its ``run.sh`` keeps the
next run out. The text in the file only names the owner.

On NFS the server keeps the lock (version 4, or 3 with lockd), so it also holds between machines; mounted with
``nolock`` or ``local_lock`` it holds on each machine alone. If a file system has no locks, the run continues with a
warning.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import logging
import os
import socket
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry

log = logging.getLogger(__name__)

# Seconds for which another process may hold the lock to test it
GLANCE = 1.0
# Seconds for the jobs of a killed run to end
GRACE = 20.0
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Holder(NamedTuple):
    """The owner of the lock; ``since`` in seconds since the epoch."""

    host: str
    pid: int
    since: float
    command: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        command = textwrap.shorten(self.command, 120, placeholder=" ...")
        return f"'{command}' (host {self.host}, pid {self.pid}, since {since})"


def read_holder(path: Path) -> Holder | None:
    """The last owner of the lock, if the file names it."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def processes(path: Path) -> dict[int, str]:
    """Processes of this machine that have the file open, as far as this user may see them: command line by pid."""
    wanted, command_of = path.stat(), {}
    for link in map(Path, glob.iglob("/proc/[0-9]*/fd/*")):  # unlike Path.glob, it ignores processes that end meanwhile
        try:
            if os.path.samestat(link.stat(), wanted):
                words = (link.parents[1] / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                command_of[int(link.parts[2])] = " ".join(words).strip()
        except OSError:  # it ended, or belongs to another user
            continue
    return command_of


def refusal(folder: Path, holder: Holder | None, host: str, living: dict[int, str]) -> tuple[float, str]:
    """Seconds to wait for a lock that others have, and the message after that.

    Args:
        folder: ``exp``.
        holder: owner of the lock according to the file.
        host: this machine.
        living: processes of this machine that may have it, command line by pid.
    """
    if holder is None:
        return GLANCE, f"{folder}: in use by another run, which cannot be identified; wait for it to end"
    if holder.host != host or holder.pid in living or not living:
        return GLANCE, f"{folder}: in use by {holder}; wait for it to end, or stop it there with 'kill {holder.pid}'"
    left = ", ".join(f"pid {pid} ({command})" for pid, command in sorted(living.items()))
    pids = " ".join(map(str, sorted(living)))
    return (
        GRACE,
        f"{folder}: {holder} has ended, but its jobs are still running: {left}; wait for them to end, or 'kill {pids}'",
    )


def take(path: Path, handle: int, holder: Holder) -> None:
    """Lock the file that is open as ``handle``, and write the owner into it.

    Raises:
        ValueError: another run has it.
    """
    began = time.monotonic()
    has_said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            others = {pid: command for pid, command in processes(path).items() if pid not in (os.getpid(), holder.pid)}
            patience, message = refusal(path.parent, read_holder(path), holder.host, others)
            if time.monotonic() - began >= patience:
                raise ValueError(message) from None
            if patience == GRACE and not has_said:
                log.info("%s: waiting for the jobs of a killed run to end", path.parent)
                has_said = True
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning(
                "%s: this file system has no locks (%s): make sure that no other run works here", path, error.strerror
            )
            break
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps(holder._asdict()) + "\n").encode(), 0)


def holder_of(folder: Path) -> Holder | None:
    """The run that works in ``exp`` now; ``None`` if there is none."""
    path = folder / ".lock"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return read_holder(path)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    return None


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("file", type=Path, help="lock file, such as exp/.lock")
    parser.add_argument("handle", type=int, help="file descriptor of the calling shell that has it open for writing")
    parser.add_argument("command", help="command line of that shell, for messages to other runs")
    args = parser.parse_args(argv)
    take(args.file, args.handle, Holder(socket.gethostname(), os.getppid(), round(time.time(), 1), args.command))
    return 0


if __name__ == "__main__":
    entry.run(main)
