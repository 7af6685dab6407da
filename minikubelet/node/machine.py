"""This machine as the API's Node object: what it has, how it is, where it is reached.

Source: kubelet nodestatus/setters.go and kubelet_node_status.go (v1.36): conditions, their reasons and messages, and
the heartbeat that is published at the latest every five minutes. The thresholds of the pressure conditions are the
kubelet's default eviction thresholds; nothing is evicted here.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from minikubelet.lifecycle.admission import Node
from minikubelet.lifecycle.status import rfc3339
from minikubelet.node.facts import read_text, resource_list
from minikubelet.node.store import Store
from minikubelet.runtime.stats import NodeStats

Json = dict[str, Any]

_PERIOD_S: Final = 10.0
_HEARTBEAT_S: Final = 300.0
_MIN_MEMORY: Final = 100 * 1024 * 1024
_MIN_DISK: Final = 0.10
_MIN_INODES: Final = 0.05
_MIN_PROCESSES: Final = 0.05

# A condition's type, status, reason and message.
Condition = tuple[str, bool, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change while the daemon runs."""

    node: Node  # as admission knows it
    version: str
    pod_cidrs: tuple[str, ...]
    started: str  # RFC 3339


def conditions(stats: NodeStats, problems: Mapping[str, str]) -> list[Condition]:
    """Return the node's conditions, Ready last; `problems` are those of the node itself. Pure."""
    disk, memory = stats.filesystem, stats.memory
    low_disk = disk.available < _MIN_DISK * disk.capacity or (
        disk.inodes and disk.inodes_free < _MIN_INODES * disk.inodes
    )
    low_memory = memory.available is not None and memory.available < _MIN_MEMORY
    low_processes = stats.max_processes - stats.processes < _MIN_PROCESSES * stats.max_processes
    found: list[Condition] = [
        _pressure("MemoryPressure", bool(low_memory), "Memory", "memory available"),
        _pressure("DiskPressure", bool(low_disk), "Disk", "disk pressure"),
        _pressure("PIDPressure", low_processes, "PID", "PID available"),
    ]
    if problems:
        text = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        return [*found, ("Ready", False, "KubeletNotReady", text)]
    return [*found, ("Ready", True, "KubeletReady", "kubelet is posting ready status")]


def _pressure(kind: str, under: bool, word: str, what: str) -> Condition:
    if kind == "DiskPressure":
        message = "kubelet has disk pressure" if under else "kubelet has no disk pressure"
        return kind, under, f"KubeletHas{'' if under else 'No'}DiskPressure", message
    message = f"kubelet has {'insufficient' if under else 'sufficient'} {what}"
    return kind, under, f"KubeletHas{'Insufficient' if under else 'Sufficient'}{word}", message


def node_object(
    machine: Machine,
    found: Sequence[Condition],
    *,
    addresses: Sequence[str],
    changed: Mapping[str, str],
    now: str,
) -> Json:
    """Return the Node.

    Args:
        machine: The machine.
        found: Its conditions.
        addresses: How it is reached.
        changed: When each condition last changed.
        now: The heartbeat.
    """
    kernel = platform.uname()
    node = machine.node
    pods = {"pods": str(node.max_pods)}
    spec: Json = {"podCIDR": machine.pod_cidrs[0], "podCIDRs": list(machine.pod_cidrs)} if machine.pod_cidrs else {}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": node.name,
            "uid": node.name,
            "creationTimestamp": machine.started,
            "labels": dict(node.labels),
        },
        "spec": spec,
        "status": {
            "capacity": {**resource_list(node.capacity), **pods},
            "allocatable": {**resource_list(node.allocatable), **pods},
            "conditions": [
                {
                    "type": kind,
                    "status": str(status),
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": changed[kind],
                    "reason": reason,
                    "message": message,
                }
                for kind, status, reason, message in found
            ],
            "addresses": [
                *({"type": "InternalIP", "address": one} for one in addresses),
                {"type": "Hostname", "address": node.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {
                "machineID": read_text("/etc/machine-id"),
                "systemUUID": read_text("/sys/class/dmi/id/product_uuid"),
                "bootID": read_text("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": kernel.release,
                "osImage": _os_image(),
                "containerRuntimeVersion": f"minikubelet://{machine.version}",
                "kubeletVersion": f"v1.36.0-minikubelet.{machine.version}",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": node.labels.get("kubernetes.io/arch", kernel.machine),
            },
        },
    }


class NodePublisher:
    """Publishes the Node: at once when a condition or an address changes, else as a heartbeat."""

    def __init__(
        self,
        machine: Machine,
        store: Store,
        *,
        stats: Callable[[], NodeStats],
        problems: Callable[[], Mapping[str, str]],
        addresses: Callable[[], Sequence[str]],
        unschedulable: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """Create it.

        Args:
            machine: What does not change.
            store: Where it is published.
            stats: Reads what the machine uses.
            problems: What is wrong with the node itself.
            addresses: How it is reached.
            unschedulable: Whether it runs no pods for now.
            clock: Unix time.
        """
        self._machine = machine
        self._store = store
        self._stats = stats
        self._problems = problems
        self._addresses = addresses
        self._unschedulable = unschedulable
        self._clock = clock
        self._told: tuple[Any, ...] = ()
        self._told_at = 0.0
        self._changed: dict[str, tuple[bool, str]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Publish now and from now on."""
        self.publish()
        self._task = asyncio.create_task(self._run(), name="node status")

    def stop(self) -> None:
        """Publish no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            self.publish()

    def publish(self) -> None:
        """Look, and publish if that says something new."""
        now = self._clock()
        stats = self._stats()
        found = conditions(stats, self._problems())
        addresses = tuple(self._addresses())
        told = (tuple(found), addresses, self._unschedulable())
        if told == self._told and now - self._told_at < _HEARTBEAT_S:
            return
        stamp = rfc3339(now)
        for kind, status, _, _ in found:
            if self._changed.get(kind, (None, ""))[0] is not status:
                self._changed[kind] = (status, stamp)
        changed = {kind: since for kind, (_, since) in self._changed.items()}
        value = node_object(self._machine, found, addresses=addresses, changed=changed, now=stamp)
        if self._unschedulable():
            value["spec"]["unschedulable"] = True
        self._store.put("nodes", "", self._machine.node.name, value)
        self._told, self._told_at = told, now


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
