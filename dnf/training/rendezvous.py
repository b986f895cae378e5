"""The meeting of a training's nodes: the first node opens a store and writes its address to a file.

Names of nodes need not resolve, so the file has numbers: every IPv4 address of the first node's interfaces, and the
port. The others take the first address that answers. When all have come, they agree on how they address each other: by
127.0.0.1 if they are on one machine, else each by the address of the interface that faces the first node, and that one
by the address it was reached by. The number of the meeting is in the file and in the store, so an old file of an earlier run
has no effect.
"""

from __future__ import annotations

import fcntl
import json
import logging
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import DistError, TCPStore

from dnf.experiment.files import replace_file
from dnf.experiment.layout import RENDEZVOUS_JSON

log = logging.getLogger(__name__)

FILE = RENDEZVOUS_JSON
LOOPBACK = "127.0.0.1"
SIOCGIFADDR = 0x8915
PROBE = 3.0  # seconds for an address to answer
PAUSE = 0.2  # seconds between two looks
STORE_TIMEOUT = timedelta(seconds=10)


class Meeting(NamedTuple):
    """The result of a meeting for a node.

    Attributes:
        run: number of the meeting.
        node, nodes: which of how many this is, from 1.
        host, port: where the store is.
        address: this node's, for the others.
        store: this node's connection to the store, the store itself on node 1.
    """

    run: str
    node: int
    nodes: int
    host: str
    port: int
    address: str
    store: TCPStore

    def connect(self) -> TCPStore:
        """Another connection to the store."""
        return TCPStore(self.host, self.port, is_master=False, wait_for_workers=False, timeout=STORE_TIMEOUT)


def machine() -> str:
    """The same for all processes that reach each other by 127.0.0.1."""
    boot, network = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/net")
    if not boot.is_file() or not network.exists():
        return socket.gethostname()
    return f"{boot.read_text().strip()}/{network.stat().st_ino}"


def interfaces() -> dict[str, str]:
    """IPv4 address of every interface that has one, by its name."""
    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            addresses[name] = socket.inet_ntoa(answer[20:24])
    return addresses


def interface_of(address: str) -> str | None:
    """Name of the interface with an address."""
    return next((name for name, known in interfaces().items() if known == address), None)


def address_towards(host: str) -> str:
    """Own address in packets to ``host``; sends none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, 9))
        return asking.getsockname()[0]


@contextmanager
def meet(folder: Path, node: int, nodes: int, patience: float) -> Iterator[Meeting]:
    """Wait until all nodes have come.

    Args:
        folder: shared by all nodes.
        node, nodes: which of how many this is, from 1.
        patience: seconds to wait; a queue may start the nodes far apart.

    Raises:
        ValueError: some did not come.
    """
    if node > 1:
        yield visit(folder / FILE, node, nodes, patience)
        return
    store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=STORE_TIMEOUT)
    try:
        yield receive(store, folder / FILE, nodes, patience)
    finally:
        (folder / FILE).unlink(missing_ok=True)


def receive(store: TCPStore, file: Path, nodes: int, patience: float) -> Meeting:
    """Node 1: publish its address, wait for the others, and publish all addresses."""
    run = uuid.uuid4().hex
    store.set(f"run/{run}", "")
    outside = sorted(address for address in set(interfaces().values()) if not address.startswith("127."))
    call = {"run": run, "addresses": outside, "port": store.port, "machine": machine()}
    replace_file(file, json.dumps(call) + "\n")
    missing = set(range(2, nodes + 1))

    def all_came() -> bool:
        missing.difference_update([node for node in missing if store.check([f"node/{node}"])])
        return not missing

    wait(all_came, patience, lambda: f"nodes {' '.join(map(str, sorted(missing)))} of {nodes} have not started")
    came = [json.loads(store.get(f"node/{node}")) for node in range(2, nodes + 1)]
    far = [answer["reached"] for answer in came if answer["machine"] != machine()]
    address = far[0] if far else LOOPBACK
    store.set("go", address)
    return Meeting(run, 1, nodes, LOOPBACK, store.port, address, store)


def visit(file: Path, node: int, nodes: int, patience: float) -> Meeting:
    """Other nodes: find the store of node 1, announce themselves, and wait for its answer."""
    meetings: list[tuple[str, str, TCPStore]] = []

    def told_to_go() -> bool:
        try:
            if meetings and meetings[0][2].check(["go"]):
                return True
            if not meetings or not meetings[0][2].check([f"node/{node}"]):
                meetings[:] = find(file, node)
        except DistError:  # node 1 ended; it may come back with another number
            meetings.clear()
        return False

    wait(
        told_to_go,
        patience,
        lambda: f"node 1 of {nodes} {'waits for others' if meetings else f'was not found through {file}'}",
    )
    run, host, store = meetings[0]
    first = store.get("go").decode()
    return Meeting(run, node, nodes, host, store.port, LOOPBACK if first == LOOPBACK else address_towards(first), store)


def find(file: Path, node: int) -> list[tuple[str, str, TCPStore]]:
    """Number, address and store of the meeting in ``file``, if it is active; announces the node there."""
    try:
        call = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    near = [LOOPBACK] if call["machine"] == machine() else []
    for address in (*call["addresses"], *near):
        try:
            socket.create_connection((address, call["port"]), timeout=PROBE).close()
        except OSError:
            continue
        store = TCPStore(
            address, call["port"], is_master=False, wait_for_workers=False, timeout=timedelta(seconds=PROBE)
        )
        if store.check([f"run/{call['run']}"]) and not store.check(["go"]):
            store.set(f"node/{node}", json.dumps({"machine": machine(), "reached": address}))
            return [(call["run"], address, store)]
    return []


def wait(done: Callable[[], bool], patience: float, what: Callable[[], str]) -> None:
    """Wait until ``done``; logs once a minute what it waits for, and raises ``ValueError`` after ``patience``."""
    began = last_said = time.monotonic()
    while not done():
        now = time.monotonic()
        if now - began > patience:
            raise ValueError(f"gave up after {patience:.0f} s: {what()}; see their logs, or lower train.num_nodes")
        if now - last_said > 60:
            log.info("waiting since %.0f s: %s", now - began, what())
            last_said = now
        time.sleep(PAUSE)
