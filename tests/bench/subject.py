"""The daemon under measurement: a node of its own, and what its processes have used."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import laws
from tests.conftest import Node, running_node

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Processes:
    """The node's own processes by what they are."""

    daemon: int
    forkserver: tuple[int, ...]
    pauses: tuple[int, ...]
    containers: tuple[int, ...]


@contextlib.contextmanager
def subject(base: Path, *, settings: str = "") -> Iterator[Node]:
    """Run a daemon with room for 1000 pods; nothing of it is left afterwards."""
    config = f"maxPods: 2000\nfileCheckFrequency: 1h\n{settings}"
    with running_node(base, pod_cidr="{wide}/20", config=config) as node:
        yield node


def processes(node: Node) -> Processes:
    """Return the node's processes now."""
    found = laws.children_of(node)
    assert node.process is not None
    return Processes(node.process.pid, tuple(found["forkserver"]), tuple(found["pause"]), tuple(found["container"]))


def cpu_seconds(pids: Iterator[int] | tuple[int, ...]) -> float:
    """Return the processor time that processes and the children they have waited for took."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(int(part) for part in _stat(pid)[11:15])
    return total / TICKS


def precise_cpu_seconds(pid: int) -> float:
    """Return one process' own time on the processor to the nanosecond, without its children's."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def own_cpu(node: Node) -> float:
    """Return the time of everything but the apps: daemon, fork server, pauses and what they have waited for."""
    found = processes(node)
    return cpu_seconds((found.daemon, *found.forkserver, *found.pauses))


def pss_mb(pids: tuple[int, ...]) -> float:
    """Return the proportional memory of processes in MB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def main_process(node: Node, word: str) -> int:
    """Return the host's pid of the program that says a word."""
    for pid in processes(node).containers:
        with contextlib.suppress(OSError):
            if f"echo {word} >".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise LookupError(f"no process of {word}")


def restart(node: Node) -> float:
    """Kill the daemon, start another, and return the milliseconds until it says READY."""
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify:
        path = str(node.base / "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        notify.bind(path)
        notify.settimeout(60)
        arguments = [f"--bridge={node.bridge}", f"--pod-cidr={node.pod_cidr}", "--node-name=n1", "--remove-pods"]
        began = time.monotonic()
        with open(node.base / "daemon.log", "ab") as log:
            node.process = subprocess.Popen(
                [sys.executable, "-m", "minikubelet", "run", *node.roots, *arguments],
                env={**node.environment, "NOTIFY_SOCKET": path},
                stdout=log,
                stderr=log,
            )
        while b"READY=1" not in notify.recv(4096):
            pass
        return (time.monotonic() - began) * 1000


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
