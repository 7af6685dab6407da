"""Admits pods to this node and remembers which were; what decides is `lifecycle.admission`.

A pod holds its requests, its host ports and its place from its admission until all of it has ended, also while it
terminates. A rejection is final until the pod's file changes or the daemon starts anew. What an earlier daemon started
runs on, whatever the configuration says now.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog

from minikubelet.api.quantity import NANO, Quantity, parse_quantity
from minikubelet.api.types import Pod
from minikubelet.lifecycle.admission import Node, Rejection, decide, host_ports, ports_rejection
from minikubelet.lifecycle.observed import PodUID
from minikubelet.node.settings import Settings

log = structlog.get_logger(__name__)

_APP_ARMOR: Final = "/sys/module/apparmor/parameters/enabled"
_HUGE_PAGES: Final = "/sys/kernel/mm/hugepages"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

HostPorts = Iterable[tuple[str, str, int]]


class NodeAdmission:
    """Owner of the admitted pods."""

    def __init__(
        self,
        node: Node,
        *,
        port_holder: Callable[[Pod], Awaitable[str | None]],
        preempt: Callable[[tuple[Pod, ...]], Awaitable[None]],
        is_shutting_down: Callable[[], bool],
    ) -> None:
        """Create it.

        Args:
            node: The node.
            port_holder: Says which of a pod's host ports a program outside our pods holds, and its name.
            preempt: Ends pods to make room; returns when they have ended.
            is_shutting_down: Whether the machine goes down: nothing new begins.
        """
        self._node = node
        self._port_holder = port_holder
        self._preempt = preempt
        self._is_shutting_down = is_shutting_down
        self._admitted: dict[PodUID, Pod] = {}

    @property
    def node(self) -> Node:
        """Return what admission knows of the node."""
        return self._node

    async def admit(self, pod: Pod) -> Rejection | None:
        """Decide on a pod; from then on it counts, unless it is rejected."""
        uid = PodUID(pod.metadata.uid)
        others = [one for one in self._admitted.values() if one.metadata.uid != uid]
        decision = decide(pod, others, self._node)
        if decision.rejection is not None:
            return decision.rejection
        if self._is_shutting_down():
            return Rejection(reason="NodeShutdown", message="Pod was rejected as the node is shutting down.")
        self._admitted[uid] = pod
        if host_ports(pod):
            held = await self._port_holder(pod)
            if held is not None:
                self.release(uid)
                return ports_rejection(held)
        if decision.preempt:
            await self._preempt(decision.preempt)
        return None

    def adopt(self, pod: Pod) -> None:
        """Count a pod that an earlier daemon admitted."""
        self._admitted[PodUID(pod.metadata.uid)] = pod

    def release(self, uid: PodUID) -> None:
        """Note that nothing of a pod runs any more."""
        self._admitted.pop(uid, None)


def node_facts(settings: Settings, capacity: Mapping[str, str]) -> Node:
    """Return what admission must know of this machine.

    Args:
        settings: The node's configuration.
        capacity: What the machine has, as quantities, without huge pages.
    """
    machine = os.uname().machine
    architecture = _ARCHITECTURES.get(machine, machine)
    labels = {
        "kubernetes.io/hostname": settings.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        **dict(settings.node_labels),
    }
    there = {name: parse_quantity(text).nanos for name, text in capacity.items()} | _huge_pages()
    reserved = (dict(settings.system_reserved), dict(settings.kube_reserved))
    allocatable = {
        name: max(0, nanos - sum(parse_quantity(one[name]).nanos for one in reserved if name in one))
        for name, nanos in there.items()
    }
    return Node(
        name=settings.node_name,
        labels=labels,
        capacity=there,
        allocatable=allocatable,
        max_pods=settings.max_pods,
        allowed_unsafe_sysctls=settings.allowed_unsafe_sysctls,
        app_armor=_read(_APP_ARMOR).startswith("Y"),
    )


def resource_list(resources: Mapping[str, int]) -> dict[str, str]:
    """Return amounts in nano units as the texts of a Node: processors in decimal, bytes in binary suffixes."""
    return {
        name: Quantity(nanos, "DecimalSI" if name == "cpu" else "BinarySI").canonical()
        for name, nanos in sorted(resources.items())
    }


def _huge_pages() -> dict[str, int]:
    """Return the machine's huge pages by resource name, in nano bytes."""
    found: dict[str, int] = {}
    try:
        names = os.listdir(_HUGE_PAGES)
    except OSError:
        return found
    for name in names:
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        size = f"{kilobytes // 1048576}Gi" if kilobytes >= 1048576 else f"{kilobytes // 1024}Mi"
        number = int(_read(f"{_HUGE_PAGES}/{name}/nr_hugepages") or 0)
        found[f"hugepages-{size}"] = number * kilobytes * 1024 * NANO
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
