"""Builds what decides on pods and follows them: their workers, and what these ask."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from minikubelet.api.types import Pod
from minikubelet.daemon.execution import Execution
from minikubelet.daemon.reporting import Reporting
from minikubelet.lifecycle.admission import Node
from minikubelet.lifecycle.observed import ObservedContainer, PodUID
from minikubelet.lifecycle.pods import is_init_container
from minikubelet.lifecycle.status import PodEnd
from minikubelet.linux.kernel import boot_time
from minikubelet.node.admission import NodeAdmission
from minikubelet.node.kept_results import KeptResults
from minikubelet.node.measures import Measures
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.pod_records import PodRecords
from minikubelet.node.prober import NodeProber
from minikubelet.node.services import WorkerServices
from minikubelet.node.settings import Settings
from minikubelet.node.shutdown import NodeShutdown, PriorityPeriod, periods
from minikubelet.node.volume_refresher import VolumeRefresher
from minikubelet.runtime.hooks import HookRunner
from minikubelet.runtime.launch import container_hash
from minikubelet.runtime.pauses import Pauses
from minikubelet.runtime.pod_sandboxes import host_port_mappings
from minikubelet.runtime.probes.ask import Asker
from minikubelet.runtime.termination_messages import TerminationMessages

# Of the kubelet that this one follows: servers know it by `kube-probe/<major>.<minor>`.
KUBELET_VERSION: Final = "1.36"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodManagement:
    """Who admits pods, runs and probes them, ends them and remembers them."""

    manager: PodManager
    records: PodRecords
    prober: NodeProber
    refresher: VolumeRefresher
    shutdown: NodeShutdown


def build_pod_management(
    settings: Settings, machine: Node, reporting: Reporting, execution: Execution
) -> PodManagement:
    """Build it; no pod has a worker yet."""
    pods_dir = os.path.join(settings.state_dir, "pods")
    records = PodRecords(pods_dir=pods_dir, recorder=reporting.events, health=reporting.health)
    prober = NodeProber(
        Asker(execution.runtime, version=KUBELET_VERSION, pod_ips=execution.pod_ips),
        reporting.events,
        kept=KeptResults(pods_dir),
        on_change=reporting.bells.ring,
        clock=boot_time,
        started_at=boot_time(),
        wall_clock=time.time,
        observe=reporting.measures.probe_ran,
    )
    # Workers ask for room and for whether the machine goes down; to make it, and to go down, workers are ended.
    pods: PodManager

    async def end_pods(some: Sequence[Pod], end: PodEnd, grace_of: Callable[[Pod], float]) -> None:
        await pods.end(some, end, grace_of)

    shutdown = NodeShutdown(
        _shutdown_periods(settings), pods=lambda: pods.pods(), end_pods=end_pods, health=reporting.health
    )
    admission = NodeAdmission(
        machine,
        port_holder=lambda pod: execution.network.port_conflict(host_port_mappings(pod)),
        recorder=reporting.events,
        end_pods=end_pods,
        is_shutting_down=lambda: shutdown.is_under_way,
    )
    refresher = VolumeRefresher(
        execution.volumes, reporting.events, pods=lambda: pods.pods(), wake=lambda uid: pods.wake(uid)
    )
    pods = PodManager(
        _worker_services(settings, reporting, execution, admission=admission, prober=prober, remember=records.keep),
        # Files of the downward API show labels and annotations.
        on_update=lambda pod: refresher.note_change(),
        on_gone=_forgetting(reporting, execution, prober),
        on_restarted=lambda pod: reporting.measures.pod_restarted(),
    )
    reporting.bells.observe(pods.wake)
    return PodManagement(manager=pods, records=records, prober=prober, refresher=refresher, shutdown=shutdown)


def _worker_services(
    settings: Settings,
    reporting: Reporting,
    execution: Execution,
    *,
    admission: NodeAdmission,
    prober: NodeProber,
    remember: Callable[[Pod], None],
) -> WorkerServices:
    """Return what the workers of all pods share."""
    runtime, status = execution.runtime, reporting.status
    messages = TerminationMessages(file_of=runtime.termination_message_file, log_of=runtime.logs.path)

    def on_http_fallback(pod: Pod, host: str) -> None:
        message = f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
        reporting.events.event(pod, "Warning", "LifecycleHTTPFallback", message)

    return WorkerServices(
        runtime=runtime,
        recorder=reporting.events,
        hooks=HookRunner(
            runtime, version=KUBELET_VERSION, pod_ips=execution.pod_ips, on_http_fallback=on_http_fallback
        ),
        prober=prober,
        publish=status.publish,
        previous_status=lambda pod: status.previous(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid),
        admission=admission,
        host_ips=execution.network.host_ips,
        remember=remember,
        message_of=messages.of,
        wanted_hash=container_hash,
        wall_clock=time.time,
        boot_clock=boot_time,
        max_back_off_s=settings.max_container_restart_period,
        afterwards=reporting.afterwards,
        on_started=_counting_starts(reporting.measures, execution.pauses),
        worked=reporting.measures.worked,
    )


def _shutdown_periods(settings: Settings) -> tuple[PriorityPeriod, ...]:
    return periods(
        settings.shutdown_grace_period,
        settings.shutdown_grace_period_critical_pods,
        [
            PriorityPeriod(one["priority"], float(one["shutdownGracePeriodSeconds"]))
            for one in settings.shutdown_grace_period_by_pod_priority
        ],
    )


def _counting_starts(measures: Measures, pauses: Pauses) -> Callable[[Pod, ObservedContainer], None]:
    """Return what counts the start of a container."""

    def on_started(pod: Pod, started: ObservedContainer) -> None:
        instances = pauses.view(PodUID(pod.metadata.uid)).containers
        before = next((one for one in instances.get(started.name, ()) if one.id != started.id), None)
        measures.container_started(started, before, init=is_init_container(pod, started.name))
        if started.started_at is not None and sum(map(len, instances.values())) == 1:
            seen = (pod.metadata.annotations or {}).get("kubernetes.io/config.seen", "")
            measures.file_started(seen, started.started_at)

    return on_started


def _forgetting(reporting: Reporting, execution: Execution, prober: NodeProber) -> Callable[[Pod], None]:
    """Return what forgets a pod of which nothing is left."""

    def on_gone(pod: Pod) -> None:
        meta = pod.metadata
        uid = PodUID(meta.uid)
        prober.remove(uid)
        execution.stats.forget(uid)
        reporting.status.remove(meta.namespace, meta.name, meta.uid)
        reporting.bells.ring(uid)

    return on_gone
