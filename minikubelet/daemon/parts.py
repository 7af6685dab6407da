"""All parts of one node, made layer by layer from below: who tells, who carries out, who manages pods and the node.

A layer calls those below it. What a lower one tells a higher one, which is made after it, goes through the functions
here; nothing is told before it is started, and nothing is started here.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.daemon.execution import Execution, build_execution
from minikubelet.daemon.node_management import NodeManagement, build_node_management
from minikubelet.daemon.pod_management import PodManagement, build_pod_management
from minikubelet.daemon.reporting import Reporting, build_reporting
from minikubelet.lifecycle.admission import Node
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key
from minikubelet.node.facts import machine_capacity, node_facts
from minikubelet.node.health import pause_problem
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The layers of one node, lowest first, and what its machine has."""

    machine: Node
    reporting: Reporting
    execution: Execution
    pods: PodManagement
    node: NodeManagement


def build_parts(settings: Settings) -> Parts:
    """Build everything; nothing is started and no file is touched."""
    machine = node_facts(settings, machine_capacity(settings.state_dir))
    reporting = build_reporting(settings)
    pods: PodManagement

    def on_pause_trouble(uid: PodUID, text: str) -> None:
        _tell_pause_trouble(reporting, pods.manager, uid, text)

    def on_host_change() -> None:
        """Take up new addresses of the node: pods on its network, and every pod's hostIP."""
        execution.runtime.follow_host_addresses(pods.manager.pods())
        pods.manager.wake_all()

    execution = build_execution(
        settings, machine, reporting, on_pause_trouble=on_pause_trouble, on_host_change=on_host_change
    )
    pods = build_pod_management(settings, machine, reporting, execution)
    node = build_node_management(settings, machine, reporting, execution, pods)
    return Parts(machine=machine, reporting=reporting, execution=execution, pods=pods, node=node)


def _tell_pause_trouble(reporting: Reporting, pods: PodManager, uid: PodUID, text: str) -> None:
    """Say what is wrong with a pod's pause, as a problem and as an event of the pod."""
    pod = pods.find(uid)
    if pod is None:
        reporting.health.set(pause_problem(f"of {uid}"), text)
        return
    reporting.health.set(pause_problem(pod_key(pod)), text)
    if text:
        reporting.events.event(pod, "Warning", "FailedSync", f"error determining status: {text}")
