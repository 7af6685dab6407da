"""Builds what keeps the node as its manifests want it, and watches over the node itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from minikubelet.daemon.execution import Execution
from minikubelet.daemon.pod_management import PodManagement
from minikubelet.daemon.reporting import Reporting
from minikubelet.lifecycle.admission import Node
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.status import rfc3339
from minikubelet.node.events import EventRecorder
from minikubelet.node.leftovers import Leftovers
from minikubelet.node.machine import Machine, NodePublisher
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.pressure import PressureWatch
from minikubelet.node.reconciler import Reconciler
from minikubelet.node.settings import Settings
from minikubelet.node.source import ManifestSource
from minikubelet.node.verdicts import Verdict, VerdictFiles
from minikubelet.version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeManagement:
    """Who reads manifests and sees to it that they come true, and who looks after the machine."""

    source: ManifestSource
    verdicts: VerdictFiles
    reconciler: Reconciler
    leftovers: Leftovers
    publisher: NodePublisher
    pressure: PressureWatch


def build_node_management(
    settings: Settings, machine: Node, reporting: Reporting, execution: Execution, management: PodManagement
) -> NodeManagement:
    """Build it; nothing is read or watched yet."""
    pods = management.manager
    reconciler: Reconciler
    leftovers = Leftovers(
        execution.runtime,
        execution.cgroups,
        alive=lambda: {PodUID(one.metadata.uid) for one in pods.pods()},
        on_removed=lambda uid: reconciler.retry(uid),
    )
    publisher = NodePublisher(
        Machine(
            node=machine,
            version=VERSION,
            pod_cidrs=tuple(settings.pod_cidr.split(",")),
            started=rfc3339(time.time()),
        ),
        reporting.store,
        stats=lambda: execution.stats.node(network=False),
        problems=reporting.health.problems_of_node,
        addresses=execution.network.host_ips,
        unschedulable=lambda: reconciler.is_cordoned,
        clock=time.time,
    )
    verdicts = VerdictFiles(
        os.path.join(settings.run_dir, "manifests"),
        report=_refusal_events(reporting.events, pods),
        clock=time.monotonic,
    )
    reconciler = Reconciler(
        run_dir=settings.run_dir,
        objects=execution.objects,
        published=reporting.published,
        pods=pods,
        refresher=management.refresher,
        verdicts=verdicts,
        afterwards=reporting.afterwards,
        view=execution.runtime.view,
        leftovers=leftovers,
        on_cordon=publisher.publish,
    )
    source = ManifestSource(
        directory=settings.manifest_dir,
        state_dir=settings.state_dir,
        node_name=settings.node_name,
        period_s=settings.file_check_frequency,
        strict_static=settings.strict_static,
        trusted_uid=settings.trusted_uid,
        on_change=reconciler.take_up,
        on_scan=lambda: reporting.afterwards(verdicts.flush),
        afterwards=reporting.afterwards,
    )
    pressure = PressureWatch(
        reporting.health,
        {"state": settings.state_dir, "run": settings.run_dir, "log": os.path.join(settings.log_dir, "pods")},
    )
    return NodeManagement(
        source=source,
        verdicts=verdicts,
        reconciler=reconciler,
        leftovers=leftovers,
        publisher=publisher,
        pressure=pressure,
    )


def _refusal_events(events: EventRecorder, pods: PodManager) -> Callable[[Verdict], None]:
    """Return what says a refusal as an event: of the pods that the file keeps running, or else of the node."""

    def report(verdict: Verdict) -> None:
        message = "; ".join(verdict.errors())
        running = [pod for pod in pods.pods() if pod.metadata.uid in verdict.uids]
        for pod in running:
            events.event(pod, "Warning", verdict.reason, message)
        if not running:
            events.node_event("Warning", verdict.reason, message)

    return report
