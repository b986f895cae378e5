"""Start the processes of a distributed training on this node, and report a failure in one line.

This is torchrun (its agent, its c10d rendezvous, its error files) with additions for queues. The nodes meet
at an address that node 1 writes into the experiment's folder. When a rank dies, its node ends at once, the other nodes
within seconds. All report the error of the rank that failed first.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML
from dnf.training.rendezvous import LOOPBACK, Meeting, interface_of, meet

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported; what it would say
os.environ.setdefault("LOGLEVEL", "CRITICAL")  # is said here, in one line

log = logging.getLogger(__name__)

PATIENCE = 3600.0  # seconds that nodes wait for each other before the start
BEAT = 1.0  # seconds between two signs of life of a node
SILENCE = 30.0  # seconds without one after which a node counts as dead
OTHERS = 10.0  # seconds that a node waits for the others' reason
OWN, KILLED, ABORTED, LOST, ENDED = range(5)  # order of the causes of a failure
HOST_GONE = "node 1 does not answer; see its log"


class Cause(NamedTuple):
    """Why a rank ended; the least of several is shown."""

    order: int
    rank: int
    text: str

    @property
    def first_hand(self) -> bool:
        return self.order < LOST


def cause_of(rank: int, size: int, failure: ProcessFailure) -> Cause:
    """torchrun's report on a failed rank, in words."""
    name = f"rank {rank} of {size}"
    if isinstance(failure.message, dict):
        lost = failure.message["extraInfo"]["lost"]
        return Cause(LOST if lost else OWN, rank, f"{name}: {failure.message['message']}")
    if failure.exitcode >= 0:
        return Cause(OWN, rank, f"{name} ended with status {failure.exitcode}; see the log")
    number = -failure.exitcode
    order = {signal.SIGTERM: ENDED, signal.SIGINT: ENDED, signal.SIGABRT: ABORTED}.get(number, KILLED)
    hint = ", often because of too little memory (lower train.micro_batch)" if number == signal.SIGKILL else ""
    return Cause(order, rank, f"{name} was killed by signal {number} ({failure.signal_name()}){hint}")


class Watch(threading.Thread):
    """Watches the other nodes, and ends this one if another has failed or gives no sign of life.

    Attributes:
        trouble: what happened to another node.
    """

    def __init__(self, meeting: Meeting):
        super().__init__(daemon=True)
        self.meeting, self.store = meeting, meeting.connect()
        self.others = [node for node in range(1, meeting.nodes + 1) if node != meeting.node]
        self.seen = {node: (0, time.monotonic()) for node in self.others}
        self.trouble: Cause | None = None
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(BEAT) and not self.trouble:
            self.trouble = self.look()
            if self.trouble and not self.over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # torchrun's agent ends its ranks

    def look(self) -> Cause | None:
        """Give a sign of life and check those of the others; returns the trouble, if any."""
        try:
            self.store.add(f"beat/{self.meeting.node}", 1)
            for node in self.others:
                if self.store.check([f"causes/{node}"]) and self.cause_of(node).first_hand:
                    return self.cause_of(node)
                beat, now = self.store.add(f"beat/{node}", 0), time.monotonic()
                if beat != self.seen[node][0]:
                    self.seen[node] = beat, now
                elif now - self.seen[node][1] > SILENCE and not self.store.check([f"done/{node}"]):
                    return Cause(KILLED, sys.maxsize, f"node {node} has not answered for {SILENCE:.0f} s")
        except DistError:
            return Cause(KILLED, sys.maxsize, HOST_GONE)
        return None

    def cause_of(self, node: int) -> Cause:
        """The cause of the failure according to a node."""
        return min(Cause(*cause) for cause in json.loads(self.store.get(f"causes/{node}")))

    def stop(self) -> None:
        self.over.set()
        self.join()

    def tell(self, causes: list[Cause]) -> Cause:
        """Exchange the nodes' causes of a failure; returns the first one."""
        causes = [*causes, *([self.trouble] if self.trouble else [])]
        try:
            self.store.set(f"causes/{self.meeting.node}", json.dumps(causes))
            end = time.monotonic() + OTHERS
            waiting = set(self.others)
            while waiting and time.monotonic() < end and not (self.meeting.node > 1 and min(causes).first_hand):
                for node in [node for node in waiting if self.store.check([f"causes/{node}"])]:
                    waiting.remove(node)
                    causes.append(self.cause_of(node))
                time.sleep(0.1)
            if waiting and not min(causes).first_hand:
                nodes = " ".join(map(str, sorted(waiting)))
                causes.append(Cause(KILLED, sys.maxsize, f"node {nodes} ended without a message; see its log"))
        except DistError:
            causes.append(Cause(KILLED, sys.maxsize, HOST_GONE))
        return min(causes)

    def finish(self) -> None:
        """The ranks of this node have succeeded. Node 1 waits until the others know this, since it has the store."""
        try:
            self.store.set(f"done/{self.meeting.node}", "")
            end = time.monotonic() + SILENCE
            keys = [f"done/{node}" for node in self.others]
            while self.meeting.node == 1 and time.monotonic() < end and not self.store.check(keys):
                time.sleep(0.1)
        except DistError:
            log.info("node 1 has ended")


def launch(command: list[str], gpus: int, meeting: Meeting | None, watch: Watch | None) -> list[Cause]:
    """Run ``python3 -m COMMAND`` as ``gpus`` ranks of this node until they end; returns the reason of a failure."""
    nodes = meeting.nodes if meeting else 1
    address = meeting.address if meeting else LOOPBACK
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "5")  # seconds from TERM to KILL
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // gpus)))
    interface = interface_of(address)
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    settings = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=gpus,
        run_id=meeting.run if meeting else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{meeting.host}:{meeting.port}" if meeting else f"{LOOPBACK}:0",
        rdzv_configs={"is_host": not meeting, "timeout": 60, "read_timeout": 60},
        max_restarts=0,
        local_addr=address,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", *command)
    except ChildFailedError as error:
        return [cause_of(rank, nodes * gpus, failure) for rank, failure in error.failures.items()]
    except SignalException as error:
        return [(watch and watch.trouble) or Cause(KILLED, sys.maxsize, f"ended by {error.sigval.name}")]
    except RendezvousConnectionError:  # torchrun may see before the watch that node 1, which has the store, is gone
        if not watch:
            raise
        return [watch.trouble or Cause(KILLED, sys.maxsize, HOST_GONE)]
    return []


def launch_among(command: list[str], gpus: int, meeting: Meeting) -> Cause | None:
    """``launch`` as one of several nodes that end together; returns the reason of a failure, or None."""
    watch = Watch(meeting)
    watch.start()
    try:
        causes = launch(command, gpus, meeting, watch)
        watch.stop()
    except SignalException:  # of the watch itself, too late to end any rank
        causes = []
    if causes or watch.trouble:
        return watch.tell(causes)
    watch.finish()
    return None


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, shared by the nodes; see config.yaml there")
    parser.add_argument("--node", type=int, default=1, help="number of this node, from 1 (%(default)s)")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds to wait for the others (%(default)s)")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="module and arguments: dnf.training.train FRAMES EXP ..."
    )
    args = parser.parse_args(argv)
    settings = Config.load(args.exp / CONFIG_YAML).train
    if not 1 <= args.node <= settings.num_nodes or not args.command or args.command[0].startswith("-"):
        parser.error(f"give --node 1 to {settings.num_nodes} (train.num_nodes), then EXP, then a module to run")
    if settings.num_nodes == 1:
        causes = launch(args.command, settings.num_gpus, None, None)
        cause = min(causes) if causes else None
    else:
        with meet(args.exp, args.node, settings.num_nodes, args.patience) as meeting:
            log.info("node %d of %d is %s", args.node, settings.num_nodes, meeting.address)
            cause = launch_among(args.command, settings.num_gpus, meeting)
    if cause:
        print(file=sys.stderr)  # ends the line of a progress bar
        raise ValueError(cause.text)
    return 0


if __name__ == "__main__":
    entry.run(main)
