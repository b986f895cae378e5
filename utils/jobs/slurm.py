"""Slurm, asked by sbatch, squeue, scancel and scontrol. Standard library only."""

from __future__ import annotations

import re

from .account import Submission
from .queue_conf import QueueConf
from .scheduler import Refused, Scheduler, Seen, Silent, Variables

FIELDS = "ArrayJobID:24 ,ArrayTaskID:24 ,State:24 ,exit_code:12 ,Name:128 ,Reason:160"
NO_ANSWER = re.compile(r"(?i)unable to contact|timed out|connection|zero bytes|try again|temporar|unexpected message")
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
NO_OUTPUT = 53  # "signal" of a job whose output file or folder Slurm could not open

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"}
FAILED = {
    "OUT_OF_MEMORY": "out of memory: give more with --mem",
    "TIMEOUT": "time limit: give more with --time",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure: it could not be started",
    "CANCELLED": "cancelled, but not by this runner",
    "PREEMPTED": "preempted by another job",
    "DEADLINE": "its deadline has passed",
    "REVOKED": "moved to another cluster",
}
NEVER = {
    "DependencyNeverSatisfied": "a job that it depends on failed, so it would never run",
    "PartitionConfig": "no such node in the partition, so it would never run",
    "PartitionNodeLimit": "more nodes than the partition allows, so it would never run",
    "PartitionTimeLimit": "more time than the partition allows, so it would never run",
    "BadConstraints": "no node meets its demands, so it would never run",
    "InvalidAccount": "the account is not valid, so it would never run",
    "InvalidQOS": "the quality of service is not valid, so it would never run",
}


class Slurm(Scheduler):
    name = "Slurm"
    conf_name = "slurm.conf"
    cancel_command = "scancel"
    variables = Variables("SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")

    def submit(
        self, conf: QueueConf, options: list[str], job: Submission, script: str, out: str, limit: int | None
    ) -> str:
        words = [*conf.command, *options, "--open-mode=append", f"--job-name={job.name}"]
        if len(job.tasks) > 1:
            words += [f"--array=1-{len(job.tasks)}{f'%{limit}' if limit else ''}", f"--output={out.format('%a')}"]
        else:
            words.append(f"--output={out.format(1)}")
        status, output, errors = self.ask(*words, script)
        found = re.findall(r"Submitted batch job (\d+)", output)
        if status == 0 and len(found) == 1:
            return found[0]
        if NO_ANSWER.search(errors):
            raise Silent(last_line(errors))
        raise Refused(last_line(errors or output))

    def look(self, jobs: list[Submission]) -> dict[tuple[str, int], Seen]:
        status, output, errors = self.ask(
            "squeue", "-h", "-r", "-t", "all", "-j", ",".join(job.job for job in jobs), "-O", FIELDS
        )
        if status != 0 and "Invalid job id" not in errors:
            raise Silent(last_line(errors))
        return read_table(output, {job.name for job in jobs})

    def find(self, name: str) -> str | None:
        status, output, errors = self.ask("squeue", "-h", "-t", "all", "--name", name, "-O", "ArrayJobID:24")
        if status != 0:
            raise Silent(last_line(errors))
        return output.split()[0] if output.split() else None

    def cancel(self, job: Submission, index: int | None = None) -> None:
        what = job.job if index is None or len(job.tasks) == 1 else f"{job.job}_{index}"
        status, _, errors = self.ask("scancel", f"--name={job.name}", what)
        if status != 0 and NO_ANSWER.search(errors):
            raise Silent(last_line(errors))

    def longest_array(self) -> int:
        status, output, errors = self.ask("scontrol", "show", "config")
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
        if status != 0 or not found:
            raise Silent(last_line(errors))
        return max(1, int(found[1]) - 1)  # it is one more than the largest index

    def environment(self) -> dict[str, str]:
        inherited = super().environment()
        if "SLURM_JOB_ID" not in inherited:
            return inherited  # SBATCH_ACCOUNT and the like are the user's own
        return {
            name: value
            for name, value in inherited.items()
            if not name.startswith(("SLURM_", "SBATCH_")) or name in KEPT
        }


def read_table(text: str, names: set[str]) -> dict[tuple[str, int], Seen]:
    """What squeue lists, by job id and index, without jobs of other names that were given an id of ours anew."""
    found = {}
    for line in text.splitlines():
        job, index, state, code, name, reason = (line.split(None, 5) + [""])[:6]
        if name in names:
            found[job, int(index) if index.isdigit() else 1] = classify(state, int(code), reason.strip())
    return found


def classify(state: str, code: int, reason: str) -> Seen:
    """One task by its state, the raw wait status and the reason that squeue gives."""
    if state in WAITING:
        if reason in NEVER:
            return Seen("stuck", f"{NEVER[reason]} (Slurm: {reason})")
        return Seen("waiting", "" if reason in ("None", "Priority") else reason)
    if state in RUNNING:
        return Seen("running")
    if state == "COMPLETED":
        return Seen("ended")
    if state in FAILED:
        return Seen("failed", f"{FAILED[state]} (Slurm: {state})")
    if state == "FAILED" and code & 127 == NO_OUTPUT:
        return Seen("failed", "Slurm could not open its output file or folder: make them writable on the node")
    if state == "FAILED" and code >> 8:
        return Seen("failed", f"ended with code {code >> 8} without a record, before or after the command", plain=True)
    if state == "FAILED":
        return Seen("failed", f"killed by signal {code & 127} (Slurm: {reason})", plain=True)
    return Seen("running", f"unknown state {state}")


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")
