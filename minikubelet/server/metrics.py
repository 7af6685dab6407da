"""Metrics in Prometheus' text format, under the kubelet's names where it has them and `minikubelet_` for our own.

The library is imported when metrics are first asked for: nobody else pays for it.
Source: kubelet pkg/kubelet/metrics/metrics.go, prober/prober_manager.go, metrics/collectors/resource_metrics.go,
cadvisor metrics/prometheus.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from minikubelet.api.types import Pod
from minikubelet.lifecycle.pods import all_containers
from minikubelet.node.measures import Histogram, Measures
from minikubelet.node.store import Store
from minikubelet.runtime.counters import Memory
from minikubelet.runtime.stats import ContainerStats, Cpu, PodStats
from minikubelet.server.usage import Usage

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NANO: Final = 1e-9
_CONTAINER: Final = ("container", "id", "image", "name", "namespace", "pod")


class Metrics:
    """Serves all metrics."""

    def __init__(
        self, *, measures: Measures, usage: Usage, store: Store, version: str, problems: Callable[[], int]
    ) -> None:
        """Create it.

        Args:
            measures: What was counted.
            usage: What is used.
            store: The published pods.
            version: Of this program.
            problems: How many problems stand.
        """
        self._measures = measures
        self._usage = usage
        self._store = store
        self._version = version
        self._problems = problems

    async def main(self, request: web.Request) -> web.Response:
        """Answer `/metrics`."""
        return _exposition(self._main())

    async def probes(self, request: web.Request) -> web.Response:
        """Answer `/metrics/probes`."""
        return _exposition(self._probes())

    async def resource(self, request: web.Request) -> web.Response:
        """Answer `/metrics/resource`."""
        pods = [one async for one in self._usage.read()]
        return _exposition(self._resource(pods))

    async def cadvisor(self, request: web.Request) -> web.Response:
        """Answer `/metrics/cadvisor`."""
        pods = [one async for one in self._usage.read()]
        return _exposition(self._cadvisor(pods))

    def _main(self) -> Iterable[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        measures = self._measures
        yield InfoMetricFamily("minikubelet_build", "Version of this program.", value={"version": self._version})
        pods = [one.object for one in self._store.list("pods")]
        running = sum(1 for one in pods if one.get("status", {}).get("phase") == "Running")
        yield GaugeMetricFamily("kubelet_running_pods", "Number of pods that have a running pod sandbox", running)
        states = GaugeMetricFamily(
            "kubelet_running_containers", "Number of containers currently running", labels=["container_state"]
        )
        for state, count in sorted(_container_states(pods).items()):
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("kubelet_active_pods", "The number of pods the kubelet considers active", running)
        started = CounterMetricFamily(
            "kubelet_started_containers", "Cumulative number of containers started", labels=["container_type"]
        )
        for kind, count in sorted(measures.started_containers.items()):
            started.add_metric([kind], count)
        yield started
        for name, what in (("pods", "started"), ("pods_errors", "errors")):
            yield CounterMetricFamily(
                f"kubelet_started_user_namespaced_{name}",
                f"Cumulative number of pods with a user namespace: {what}",
                measures.user_namespaced[what],
            )
        restarted = CounterMetricFamily(
            "kubelet_restarted_pods",
            "Number of pods that have been restarted because they were deleted and recreated with the same UID",
            labels=["static"],
        )
        restarted.add_metric(["true"], measures.restarted_pods)
        yield restarted
        work = HistogramMetricFamily(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            labels=["operation_type"],
        )
        for operation, histogram in sorted(measures.pod_work.items()):
            work.add_metric([operation], _buckets(histogram), histogram.total)
        yield work
        yield _histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            measures.pod_start,
        )
        yield CounterMetricFamily(
            "minikubelet_container_restarts", "Containers started again", measures.restarted_containers
        )
        yield _histogram(
            "minikubelet_file_change_to_start_seconds",
            "From seeing a manifest's change to the start of the pod's first container",
            measures.file_to_start,
        )
        yield _histogram(
            "minikubelet_exit_to_restart_seconds",
            "From a container's exit to its next start, back-off included",
            measures.exit_to_restart,
        )
        yield _histogram(
            "minikubelet_probe_lateness_seconds",
            "How long after its due moment a probe's run began",
            measures.probe_lateness,
        )
        yield GaugeMetricFamily("minikubelet_problems", "Problems of this node that stand", self._problems())
        yield GaugeMetricFamily("minikubelet_watches", "Open watches", self._store.watches)
        yield from _process()

    def _probes(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        total = CounterMetricFamily(
            "prober_probe",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            labels=["probe_type", "result", "container", "pod", "namespace", "pod_uid"],
        )
        for labels, count in self._measures.probe_results.items():
            total.add_metric(labels, count)
        yield total
        duration = HistogramMetricFamily(
            "prober_probe_duration_seconds",
            "Duration in seconds for a probe response.",
            labels=["probe_type", "container", "pod", "namespace"],
        )
        for key, histogram in self._measures.probe_duration.items():
            duration.add_metric(key, _buckets(histogram), histogram.total)
        yield duration

    def _resource(self, pods: Sequence[tuple[Pod, PodStats]]) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        node = self._usage.node()
        yield CounterMetricFamily(
            "node_cpu_usage_seconds", "Cumulative cpu time consumed by the node", node.cpu.usage_core_ns * _NANO
        )
        yield GaugeMetricFamily(
            "node_memory_working_set_bytes", "Current working set of the node in bytes", node.memory.working_set
        )
        families = {
            "cpu": CounterMetricFamily(
                "container_cpu_usage_seconds", "Cumulative cpu time", labels=["container", "namespace", "pod"]
            ),
            "memory": GaugeMetricFamily(
                "container_memory_working_set_bytes", "Current working set", labels=["container", "namespace", "pod"]
            ),
            "start": GaugeMetricFamily(
                "container_start_time_seconds", "Start time since unix epoch", labels=["container", "namespace", "pod"]
            ),
            "pod cpu": CounterMetricFamily("pod_cpu_usage_seconds", "Cumulative cpu time", labels=["namespace", "pod"]),
            "pod memory": GaugeMetricFamily(
                "pod_memory_working_set_bytes", "Current working set", labels=["namespace", "pod"]
            ),
        }
        for pod, stats in pods:
            name = [pod.metadata.namespace, pod.metadata.name]
            for one in stats.containers:
                labels = [one.name, *name]
                _add(families["cpu"], labels, one.cpu.usage_core_ns * _NANO if one.cpu is not None else None)
                _add(families["memory"], labels, one.memory.working_set if one.memory is not None else None)
                _add(families["start"], labels, one.started_at)
            _add(families["pod cpu"], name, stats.cpu.usage_core_ns * _NANO if stats.cpu is not None else None)
            _add(families["pod memory"], name, stats.memory.working_set if stats.memory is not None else None)
        yield from families.values()
        yield GaugeMetricFamily("resource_scrape_error", "1 if there was an error while getting container metrics", 0)

    def _cadvisor(self, pods: Sequence[tuple[Pod, PodStats]]) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        cpu = CounterMetricFamily("container_cpu_usage_seconds", "Cumulative cpu time consumed", labels=_CONTAINER)
        gauges = {
            name: GaugeMetricFamily(f"container_{name}", text, labels=_CONTAINER)
            for name, text in (
                ("memory_usage_bytes", "Current memory usage, including all memory"),
                ("memory_working_set_bytes", "Current working set"),
                ("memory_rss", "Size of RSS"),
                ("memory_swap", "Container swap usage"),
                ("processes", "Number of processes running inside the container"),
                ("fs_usage_bytes", "Bytes that are consumed by the container on its writable layer"),
                ("start_time_seconds", "Start time of the container since unix epoch"),
            )
        }
        network = {
            name: CounterMetricFamily(f"container_network_{name}", text, labels=["id", "interface", "namespace", "pod"])
            for name, text in (
                ("receive_bytes", "Cumulative count of bytes received"),
                ("receive_packets", "Cumulative count of packets received"),
                ("receive_errors", "Cumulative count of errors encountered while receiving"),
                ("receive_packets_dropped", "Cumulative count of packets dropped while receiving"),
                ("transmit_bytes", "Cumulative count of bytes transmitted"),
                ("transmit_packets", "Cumulative count of packets transmitted"),
                ("transmit_errors", "Cumulative count of errors encountered while transmitting"),
                ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting"),
            )
        }
        for pod, stats in pods:
            meta = pod.metadata
            whole = ["", f"/kubepods/pod{meta.uid}", "", "", meta.namespace, meta.name]
            _fill(cpu, gauges, whole, stats.cpu, stats.memory, stats.processes, None)
            images = {one.name: one.image for one in all_containers(pod)}
            for one in stats.containers:
                image = images.get(one.name, "")
                labels = [one.name, f"/kubepods/pod{meta.uid}/{one.id}", image, one.id, meta.namespace, meta.name]
                _fill(cpu, gauges, labels, one.cpu, one.memory, one.processes, one)
            for interface in stats.network:
                labels = [whole[1], interface.name, meta.namespace, meta.name]
                for name, family in network.items():
                    direction, _, what = name.partition("_")
                    field = f"{'rx' if direction == 'receive' else 'tx'}_{what.removeprefix('packets_')}"
                    family.add_metric(labels, getattr(interface, field))
        yield cpu
        yield from gauges.values()
        yield from network.values()
        import os

        yield GaugeMetricFamily("machine_cpu_cores", "Number of logical CPU cores", os.cpu_count() or 1)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield GaugeMetricFamily("machine_memory_bytes", "Amount of memory installed on the machine", memory)


def _fill(
    cpu: Any,
    gauges: dict[str, Any],
    labels: list[str],
    used: Cpu | None,
    memory: Memory | None,
    processes: int | None,
    container: ContainerStats | None,
) -> None:
    _add(cpu, labels, used.usage_core_ns * _NANO if used is not None else None)
    if memory is not None:
        _add(gauges["memory_usage_bytes"], labels, memory.usage)
        _add(gauges["memory_working_set_bytes"], labels, memory.working_set)
        _add(gauges["memory_rss"], labels, memory.rss)
        _add(gauges["memory_swap"], labels, memory.swap)
    _add(gauges["processes"], labels, processes)
    if container is not None:
        _add(gauges["start_time_seconds"], labels, container.started_at)
        _add(gauges["fs_usage_bytes"], labels, container.rootfs.used if container.rootfs is not None else None)


def _add(family: Any, labels: Sequence[str], value: float | None) -> None:
    """Add a sample; what could not be read has none."""
    if value is not None:
        family.add_metric(labels, value)


def _container_states(pods: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = {"created": 0, "exited": 0, "running": 0, "unknown": 0}
    for pod in pods:
        status = pod.get("status", {})
        for one in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
            state = one.get("state") or {}
            if state.get("running") is not None:
                counts["running"] += 1
            elif state.get("terminated") is not None or (one.get("lastState") or {}).get("terminated") is not None:
                counts["exited"] += 1
    return counts


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, text, buckets=_buckets(values), sum_value=values.total)


def _buckets(values: Histogram) -> list[tuple[str, float]]:
    """Return the cumulative counts by upper bound, as text."""
    found: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*values.bounds, float("inf")), values.counts, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else str(bound), total))
    return found


def _process() -> Iterable[Metric]:
    """Return what the library knows of this process: memory, processor time, descriptors."""
    from prometheus_client import PROCESS_COLLECTOR

    return PROCESS_COLLECTOR.collect()


class _Once:
    """A registry that holds what is at hand."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _exposition(families: Iterable[Metric]) -> web.Response:
    from prometheus_client.exposition import generate_latest

    return web.Response(body=generate_latest(_Once(families)), headers={"Content-Type": _TYPE})
