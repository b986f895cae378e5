"""Grid Engine, asked by qsub, qstat, qdel, qacct and qconf. Standard library only."""

from __future__ import annotations

import os
import pwd
import re
import time
from xml.etree import ElementTree

from .account import Submission
from .queue_conf import QueueConf
from .scheduler import Refused, Scheduler, Seen, Silent, Variables

NO_ANSWER = re.compile(r"(?i)qmaster|gdi request|commlib|timed? ?out|communication|try again")
INHERITED = re.compile(
    r"JOB_(ID|NAME|SCRIPT)|SGE_(TASK_.*|JOB_.*|STDO.*|STDERR.*|STDIN.*|CWD_PATH|ARCH|HGR_.*)|PE(_HOSTFILE)?"
    r"|N(SLOTS|HOSTS|QUEUES)|QUEUE|REQUEST|RESTARTED|TMPDIR|ARC|ENVIRONMENT"
)
CHECK_HOSTS = 2.0  # seconds between two looks at the hosts of running tasks


class GridEngine(Scheduler):
    name = "Grid Engine"
    conf_name = "queue.conf"
    cancel_command = "qdel"
    variables = Variables("SGE_TASK_ID", "JOB_ID")
    chooses_gpus = True
    confirms = (
        False  # it lists a task whose host is out of reach as running for ever, and knows no more than its record
    )

    def __init__(self):
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.hosts_checked = 0.0
        self.unheard: set[str] = set()
        self.accounts_slow = False

    def submit(
        self, conf: QueueConf, options: list[str], job: Submission, script: str, out: str, limit: int | None
    ) -> str:
        words = [*conf.command, *options, "-S", "/bin/bash", "-wd", os.getcwd(), "-j", "y", "-N", job.name]
        if len(job.tasks) > 1:
            words += [
                "-t",
                f"1-{len(job.tasks)}",
                *(["-tc", str(limit)] if limit else []),
                "-o",
                out.format("$TASK_ID"),
            ]
        else:
            words += ["-o", out.format(1)]
        status, output, errors = self.ask(*words, script)
        found = re.findall(r"Your job(?:-array)? (\d+)", output)
        if status == 0 and len(found) == 1:
            return found[0]
        if NO_ANSWER.search(errors + output):
            raise Silent(one_line(errors or output))
        raise Refused(one_line(errors or output))

    def look(self, jobs: list[Submission]) -> dict[tuple[str, int], Seen]:
        rows = self.list_jobs()
        ids = {job.job for job in jobs}
        mine = [row for row in rows if row["JB_job_number"] in ids]
        if time.monotonic() > self.hosts_checked + CHECK_HOSTS:
            self.find_unheard({row["queue_name"] for row in mine if row.get("queue_name")})
        found = {}
        for row in mine:
            for index in indices(row.get("tasks") or "1"):
                found[row["JB_job_number"], index] = self.classify(row, index)
        return found

    def list_jobs(self) -> list[dict[str, str]]:
        """All waiting and running tasks of this user, with the columns of ``qstat -xml``."""
        status, output, errors = self.ask("qstat", "-xml", "-g", "d", "-s", "prs", "-u", self.user)
        if status != 0:
            raise Silent(one_line(errors))
        try:
            return [
                {field.tag: field.text or "" for field in row}
                for row in ElementTree.fromstring(output).iter("job_list")
            ]
        except ElementTree.ParseError:
            raise Silent("the answer of qstat is incomplete") from None

    def classify(self, row: dict[str, str], index: int) -> Seen:
        state, queue = row["state"], row.get("queue_name", "")
        if "E" in state:
            return Seen(
                "stuck", f"Grid Engine could not start it (state {state}): {self.error(row['JB_job_number'], index)}"
            )
        if "w" in state:
            return Seen("waiting", "held" if "h" in state else "")
        if queue in self.unheard:
            return Seen("unheard", f"node failure: Grid Engine gets no answer from {queue}")
        return Seen("running")

    def error(self, job: str, index: int) -> str:
        """Why a task is in an error state."""
        _, output, _ = self.ask("qstat", "-j", job)
        reasons = dict(re.findall(r"^error reason\s+(\d+):\s*(.*)$", output, re.MULTILINE))
        return reasons.get(str(index)) or next(iter(reasons.values()), "no reason given")

    def find_unheard(self, queues: set[str]) -> None:
        """Note which of these queue instances are in state u: their host does not answer."""
        self.hosts_checked = time.monotonic()
        self.unheard = set()
        if not queues:
            return
        _, output, _ = self.ask("qstat", "-f", "-q", ",".join(sorted(queues)), "-u", self.user, "-xml")
        try:
            for row in ElementTree.fromstring(output).iter("Queue-List"):
                if "u" in (row.findtext("state") or ""):
                    self.unheard.add(row.findtext("name") or "")
        except ElementTree.ParseError:
            pass  # no answer: they count as good

    def find(self, name: str) -> str | None:
        return next((row["JB_job_number"] for row in self.list_jobs() if row["JB_name"] == name), None)

    def cancel(self, job: Submission, index: int | None = None) -> None:
        status, _, errors = self.ask(
            "qdel", job.job, *([] if index is None or len(job.tasks) == 1 else ["-t", str(index)])
        )
        if status != 0 and NO_ANSWER.search(errors):
            raise Silent(one_line(errors))

    def longest_array(self) -> int:
        status, output, errors = self.ask("qconf", "-sconf")
        found = re.search(r"^max_aj_tasks\s+(\d+)", output, re.MULTILINE)
        if status != 0:
            raise Silent(one_line(errors))
        return int(found[1]) if found and int(found[1]) else 75000

    def afterwards(self, job: Submission, index: int) -> Seen | None:
        if self.accounts_slow:
            return None
        try:
            words = ["qacct", "-j", job.job, *(["-t", str(index)] if len(job.tasks) > 1 else [])]
            status, output, _ = self.ask(*words, patience=10.0)
        except Silent:  # years of accounts in one file take too long
            self.accounts_slow = True
            return None
        return read_account(output) if status == 0 else None

    def environment(self) -> dict[str, str]:
        inherited = super().environment()
        if "JOB_ID" not in inherited:
            return inherited
        return {name: value for name, value in inherited.items() if not INHERITED.fullmatch(name)}


def indices(text: str) -> list[int]:
    """``1``, ``3-9:2`` and ``2,5`` as numbers."""
    found = []
    for part in text.split(","):
        first, last, step = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part.strip()).groups()
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def read_account(text: str) -> Seen:
    """qacct's result for a task without a record."""
    fields = dict(re.findall(r"^(\w+) +(.*?) *$", text, re.MULTILINE))
    failed, exit_status = fields.get("failed", "0"), int(re.match(r"\d*", fields.get("exit_status", "0"))[0] or 0)
    where = f" on {fields['hostname']}" if fields.get("hostname") else ""
    told = f"Grid Engine: failed {failed}, exit status {exit_status}, maxvmem {fields.get('maxvmem', '?')}"
    if "h_rt" in failed or "h_vmem" in failed:
        return Seen("failed", f"time or memory limit: give more with --time or --mem{where} ({told})")
    if exit_status > 128:
        return Seen("failed", f"killed by signal {exit_status - 128}{where}: time or memory limit, or someone ({told})")
    return Seen("failed", f"ended without a record{where} ({told})")


def one_line(text: str) -> str:
    return " ".join(text.split()) or "no message"
