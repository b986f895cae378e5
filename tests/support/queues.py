"""A Slurm and a Grid Engine of one's own, on this machine: everything below one folder, ended by process id.

Slurm listens on the loopback only. Grid Engine cannot be told to; its cell admits this machine's name alone.

    with SlurmCluster() as slurm: subprocess.run(["squeue"], env=slurm.environment)
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Seconds. Bounds are far above what a busy machine needs: nothing waits that long unless it fails.
POLL = 0.05  # between two looks at what is waited for
SOON = 15.0  # until a runner has noticed what has happened
ANSWER = 30.0  # until a job runs, or a scheduler's program has answered
READY = 60.0  # until daemons work
LOST = 120.0  # until a scheduler has given up a node or a runner what it waited for
LAST = 3.0  # until jobs have ended that are killed then
FOR_EVER = "300"  # what a task sleeps that something else ends

HOST = socket.gethostname()
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing(*programs: str) -> list[str]:
    return [program for program in programs if shutil.which(program, path=PATH) is None]


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on."""
    for first in range(21000 + os.getpid() % 500 * 20, 60000, 20):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise OSError("no free ports")


def wait_for(condition, seconds: float = ANSWER, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(POLL)


class Cluster:
    """Daemons, each a child of this process, and the environment that leads to them.

    Daemons do not get what path.sh sets: no site's have it, and Grid Engine's hand their environment on to jobs.
    """

    mark = ""  # variable of the environment by whose value the cluster's processes are known
    scheduler = ""  # name of its daemon that schedules
    last_signal = signal.SIGTERM

    def __init__(self):
        self.root = Path(
            tempfile.mkdtemp(prefix="dnfq", dir="/tmp")
        )  # short: names of sockets are at most 107 characters
        self.root.chmod(0o755)
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SGE_"))
        } | {"PATH": PATH}

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.cancel_all(LAST)
        for name in reversed(list(self.daemons)):
            self.end(name, self.last_signal)
        for process in self.strays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, name: str, *command: str, **environment: str) -> None:
        with open(self.root / f"{name}.out", "ab") as log:
            given = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            own = {variable: value for variable, value in self.environment.items() if variable != "DNF_ROOT"}
            self.daemons[name] = subprocess.Popen(command, env=own | environment, cwd=self.root, **given)

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a daemon, and wait for its end."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(timeout=SOON)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def call(self, *command: str, status: int | None = 0, text: str | None = None) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=READY, input=text or ""
        )
        assert status is None or done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def strays(self) -> list[int]:
        """Processes of jobs that outlived their daemon."""
        wanted = f"{self.mark}={self.environment[self.mark]}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                words = environ.read_bytes().split(b"\0")
                if wanted in words and any(word.startswith((b"SLURM_JOB_ID=", b"JOB_ID=")) for word in words):
                    found.append(int(environ.parent.name))
        return [process for process in found if process != os.getpid()]

    def up(self) -> None:
        raise NotImplementedError

    def start_scheduler(self) -> None:
        raise NotImplementedError

    def wait_until_saved(self) -> None:
        """Until the scheduler, if it is killed, would know the jobs that run now."""

    def cancel_all(self, seconds: float = SOON) -> None:
        raise NotImplementedError


BY_POLLING = """ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill"""
BY_CGROUPS = """ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/none"""


class SlurmCluster(Cluster):
    """munged, slurmctld and two slurmd with 4 processors, 8192 MB and 2 GPUs each.

    With ``cgroups`` the kernel holds tasks to their memory, and Slurm learns that it killed one (version 1, root only).
    """

    mark = "SLURM_CONF"
    scheduler = "slurmctld"
    needs = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

    def __init__(self, nodes: int = 2, cgroups: bool = False):
        super().__init__()
        self.cgroups = cgroups
        self.nodes = [f"n{n}" for n in range(1, nodes + 1)]
        self.conf = self.root / "slurm.conf"
        self.environment["SLURM_CONF"] = str(self.conf)

    def up(self) -> None:
        port, root, last = free_ports(1 + len(self.nodes)), self.root, len(self.nodes)
        for name in ("state", "munge", "dev", *(f"spool/{node}" for node in self.nodes)):
            (root / name).mkdir(parents=True)
        (root / "private").mkdir(mode=0o700)
        key = root / "private/key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        try:  # a GPU must be a character device, or a job is granted one and not told which
            for n in range(2):
                os.mknod(root / f"dev/gpu{n}", 0o666 | 0o020000, os.makedev(1, 3))
            gpus = [f"Name=gpu File={root}/dev/gpu[0-1]"]
        except PermissionError:
            gpus = ["Name=gpu File=/dev/null", "Name=gpu File=/dev/zero"]
        (root / "gres.conf").write_text("AutoDetect=off\n" + "".join(f"NodeName=n[1-{last}] {gpu}\n" for gpu in gpus))
        limits = "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n" if self.cgroups else ""
        (root / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\n{limits}")
        user = self.call("id", "-un").strip()
        self.conf.write_text(f"""
ClusterName=test
SlurmctldHost={HOST.partition(".")[0]}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
{BY_CGROUPS if self.cgroups else BY_POLLING}
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=2
MinJobAge=300
MaxArraySize=41
MessageTimeout=5
GresTypes=gpu
NodeName=n[1-{last}] NodeHostname={HOST.partition(".")[0]} NodeAddr=127.0.0.1 Port=[{port + 1}-{port + last}] \\
 CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8192 Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
""")  # fmt: skip
        self.start("munged", "munged", "--foreground", f"--socket={root}/munge/sock", f"--key-file={key}",
                   f"--pid-file={root}/private/pid", f"--log-file={root}/private/log",
                   f"--seed-file={root}/private/seed")  # fmt: skip
        wait_for((root / "munge/sock").exists, what="munged")
        self.start_scheduler()
        for node in self.nodes:
            self.start_node(node)
        self.wait_until_ready()

    def start_scheduler(self) -> None:
        self.start(self.scheduler, "slurmctld", "-D", "-f", str(self.conf))

    def wait_until_saved(self) -> None:
        begun, state = time.time(), self.root / "state/job_state"
        wait_for(lambda: state.exists() and state.stat().st_mtime > begun, what="the controller's state on the disk")

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node, "-f", str(self.conf))

    def wait_until_ready(self) -> None:
        """Until a step really ran on every node: what sinfo says may be a state from before."""
        count = str(len(self.nodes))
        step = ["srun", "-Q", "-N", count, "-n", count, "--immediate=2", "true"]

        def ready() -> bool:
            return subprocess.run(step, env=self.environment, capture_output=True, timeout=ANSWER).returncode == 0

        wait_for(ready, READY, f"Slurm; see {self.root}")

    def listed(self) -> str:
        """Jobs that wait or run."""
        return self.call("squeue", "-h", "-r", status=None).strip()

    def cancel_all(self, seconds: float = SOON) -> None:
        if self.scheduler not in self.daemons:
            return
        user = self.call("id", "-un").strip()
        self.call("scancel", "-u", user, status=None)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.listed(), seconds)

    def __exit__(self, *_):
        super().__exit__()
        for controller in Path("/sys/fs/cgroup").glob("*") if self.cgroups else ():
            for node in self.nodes:  # only empty ones can be removed
                for folder in sorted((controller / f"slurm_{node}").glob("**/"), reverse=True):
                    with contextlib.suppress(OSError):
                        folder.rmdir()


QUEUE = """qname all.q
hostlist {host}
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list smp
rerun FALSE
slots 8
tmpdir /tmp
shell /bin/bash
shell_start_mode unix_behavior
notify 00:00:05
initial_state default
"""
PARALLEL = """pe_name smp
slots 9999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""
EXEC_HOST = """hostname {host}
load_scaling NONE
complex_values gpu=2
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""


class GridEngineCell(Cluster):
    """sge_qmaster and one sge_execd with 8 slots and a consumable of 2 GPUs."""

    mark = "SGE_ROOT"
    scheduler = "sge_qmaster"
    needs = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qdel", "qconf", "qacct")
    last_signal = signal.SIGKILL  # it takes 8 seconds over SIGTERM, and its folder is thrown away
    package, tools = Path("/var/lib/gridengine"), Path("/usr/lib/gridengine")

    def __init__(self):
        super().__init__()
        port = free_ports(2)
        self.environment |= {
            "SGE_ROOT": str(self.root), "SGE_CELL": "default", "SGE_CLUSTER_NAME": f"p{port}",
            "SGE_QMASTER_PORT": str(port), "SGE_EXECD_PORT": str(port + 1),
        }  # fmt: skip

    def up(self) -> None:
        root = self.root
        common, conf = root / "default/common", root / "conf"
        for folder in (common, conf, root / "spool/qmaster/job_scripts", root / "spool/execd", root / "spool/db"):
            folder.mkdir(parents=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (root / name).symlink_to(self.package / name)
        settings = {
            "admin_user": "none", "default_domain": "none", "ignore_fqdn": "false", "spooling_method": "berkeleydb",
            "spooling_lib": "libspoolb", "spooling_params": f"{root}/spool/db", "binary_path": "/usr/sbin",
            "qmaster_spool_dir": f"{root}/spool/qmaster", "security_mode": "none", "listener_threads": "2",
            "worker_threads": "2", "scheduler_threads": "1",
        }  # fmt: skip
        (common / "bootstrap").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        (common / "act_qmaster").write_text(f"{HOST}\n")
        (common / "host_aliases").write_text(
            f"{HOST} localhost\n"
        )  # 127.0.0.1 is called localhost, clients call themselves HOST
        changed = {
            "execd_spool_dir": f"{root}/spool/execd", "mailer": "/bin/true", "min_uid": "0", "min_gid": "0",
            "load_report_time": "00:00:01", "max_unheard": "00:00:05", "shell_start_mode": "unix_behavior",
            "execd_params": "ENABLE_ADDGRP_KILL=true", "max_aj_tasks": "40",
        }  # fmt: skip
        default = (
            Path("/usr/share/gridengine/default-configuration")
            .read_text()
            .replace("flush_time=00:00:15", "flush_time=00:00:01")
        )
        (conf / "global").write_text(with_values(default, changed))
        self.call(f"{self.tools}/spoolinit", "berkeleydb", "libspoolb", f"{root}/spool/db", "init", status=None)
        resources = "/usr/share/gridengine/util/resources"
        for kind, what in (("configuration", f"{conf}/global"), ("complexes", f"{resources}/centry"),
                           ("usersets", f"{resources}/usersets"),
                           ("managers", self.call("id", "-un").strip())):  # fmt: skip
            self.call(f"{self.tools}/spooldefaults", kind, what, status=None)
        self.start_scheduler()
        self.call("qconf", "-as", HOST, status=None)
        fast = {
            "schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1",
            "job_load_adjustments": "NONE", "load_adjustment_decay_time": "0:0:0",
        }  # fmt: skip
        self.configure("-Msconf", with_values(self.call("qconf", "-ssconf"), fast))
        self.configure("-Mc", self.call("qconf", "-sc") + "gpu gpu INT <= YES YES 0 0\n")
        self.configure("-Ae", EXEC_HOST.format(host=HOST))
        self.configure("-Ap", PARALLEL)
        none = (
            "prolog epilog starter_method suspend_method resume_method terminate_method owner_list user_lists "
            "xuser_lists subordinate_list complex_values projects xprojects calendar"
        )
        limits = "".join(
            f"s_{name} INFINITY\nh_{name} INFINITY\n" for name in "rt cpu fsize data stack core rss vmem".split()
        )
        self.configure("-Aq", QUEUE.format(host=HOST) + "".join(f"{name} NONE\n" for name in none.split()) + limits)
        self.start_host()

    def configure(self, option: str, text: str) -> None:
        file = self.root / "conf/new"
        file.write_text(text)
        self.call("qconf", option, str(file))

    def start_scheduler(self) -> None:
        self.start(self.scheduler, "sge_qmaster", SGE_ND="1")
        wait_for(
            lambda: subprocess.run(["qconf", "-sh"], env=self.environment, capture_output=True).returncode == 0,
            READY,
            "qmaster",
        )

    def start_host(self) -> None:
        self.start("sge_execd", "sge_execd", SGE_ND="1")
        wait_for(
            lambda: re.search(r"^\S+ +lx-", self.call("qhost", "-h", HOST, status=None), re.MULTILINE), READY, "execd"
        )

    def listed(self) -> str:
        """Jobs that wait or run."""
        return self.call("qstat", "-u", "*", status=None).strip()

    def cancel_all(self, seconds: float = SOON) -> None:
        if self.scheduler not in self.daemons:
            return
        self.call("qdel", "-u", "*", status=None)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.listed(), seconds)


def with_values(text: str, values: dict[str, str]) -> str:
    """Lines ``name value`` of a configuration with other values."""
    for name, value in values.items():
        text, count = re.subn(rf"^{name} .*(\\\n.*)*$", f"{name} {value}", text, flags=re.MULTILINE)
        if not count:
            text += f"{name} {value}\n"
    return text
