"""What pods and the node use: `metrics.k8s.io` for `top`, and the kubelet's `/stats/summary`.

A pod a turn of the loop: reading a thousand pods' control groups holds up nobody.
Source: k8s.io/metrics v1beta1 types, kubelet pkg/apis/stats/v1alpha1/types.go (v1.36).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from minikubelet.api.types import Pod
from minikubelet.lifecycle.status import rfc3339
from minikubelet.runtime.counters import Filesystem, Interface, Memory
from minikubelet.runtime.stats import ContainerStats, Cpu, NodeStats, PodStats, Stats
from minikubelet.server.errors import ApiError, json_response, not_found
from minikubelet.server.selectors import Selector, SelectorError

Json = dict[str, Any]

_API_VERSION: Final = "metrics.k8s.io/v1beta1"
_WINDOW: Final = "10s"


class Usage:
    """Serves usage."""

    def __init__(self, *, stats: Stats, pods: Callable[[], Sequence[Pod]], node_name: str) -> None:
        """Create it.

        Args:
            stats: Reads what is used.
            pods: The published pods.
            node_name: This node's name.
        """
        self._stats = stats
        self._pods = pods
        self._node_name = node_name

    async def read(self, *, running_only: bool = False) -> AsyncIterator[tuple[Pod, PodStats]]:
        """Yield each pod with what it uses."""
        for pod in self._pods():
            if running_only and (pod.status is None or pod.status.phase != "Running"):
                continue
            yield pod, await self._stats.pod(pod)
            await asyncio.sleep(0)

    def memory_peaks(self, uid: str) -> dict[str, int]:
        """Return the most bytes that each running container of a pod has held at once, by instance."""
        pod = next((one for one in self._pods() if one.metadata.uid == uid), None)
        return {} if pod is None else self._stats.memory_peaks(pod)

    def node(self) -> NodeStats:
        """Return what the machine uses."""
        return self._stats.node()

    async def pod_list(self, request: web.Request) -> web.Response:
        """Answer with the pods of a namespace, or of all."""
        namespace = request.match_info.get("namespace", "")
        try:
            selector = Selector("pods", request.query.get("labelSelector", ""))
        except SelectorError as error:
            raise ApiError(400, str(error)) from None
        items: list[Json] = []
        async for pod, stats in self.read(running_only=True):
            labels = {"metadata": {"labels": pod.metadata.labels}}
            if (not namespace or pod.metadata.namespace == namespace) and selector.matches(labels):
                items.append(pod_metrics(pod, stats))
        return json_response({"kind": "PodMetricsList", "apiVersion": _API_VERSION, "metadata": {}, "items": items})

    async def pod(self, request: web.Request) -> web.Response:
        """Answer with one pod."""
        key = (request.match_info["namespace"], request.match_info["name"])
        for pod in self._pods():
            if (pod.metadata.namespace, pod.metadata.name) == key and pod.status and pod.status.phase == "Running":
                return json_response(pod_metrics(pod, await self._stats.pod(pod)))
        raise not_found("podmetrics.metrics.k8s.io", "/".join(key))

    async def node_list(self, request: web.Request) -> web.Response:
        """Answer with this node, as a list."""
        items = [node_metrics(self._node_name, self._stats.node())]
        return json_response({"kind": "NodeMetricsList", "apiVersion": _API_VERSION, "metadata": {}, "items": items})

    async def one_node(self, request: web.Request) -> web.Response:
        """Answer with this node."""
        if request.match_info["name"] != self._node_name:
            raise not_found("nodemetrics.metrics.k8s.io", request.match_info["name"])
        return json_response(node_metrics(self._node_name, self._stats.node()))

    async def summary(self, request: web.Request) -> web.Response:
        """Answer `/stats/summary`."""
        pods = [pod_summary(pod, stats) async for pod, stats in self.read()]
        return json_response({"node": node_summary(self._node_name, self._stats.node()), "pods": pods})


def pod_metrics(pod: Pod, stats: PodStats) -> Json:
    """Return a PodMetrics."""
    meta = pod.metadata
    stamp = rfc3339(stats.time)
    return {
        "kind": "PodMetrics",
        "apiVersion": _API_VERSION,
        "metadata": _metadata(meta.name, meta.namespace, meta.labels, stamp),
        "timestamp": stamp,
        "window": _WINDOW,
        "containers": [
            {"name": one.name, "usage": _usage(one.cpu, one.memory)}
            for one in stats.containers
            if one.cpu or one.memory
        ],
    }


def node_metrics(name: str, stats: NodeStats) -> Json:
    """Return a NodeMetrics."""
    stamp = rfc3339(stats.time)
    return {
        "kind": "NodeMetrics",
        "apiVersion": _API_VERSION,
        "metadata": _metadata(name, "", None, stamp),
        "timestamp": stamp,
        "window": _WINDOW,
        "usage": _usage(stats.cpu, stats.memory),
    }


def _metadata(name: str, namespace: str, labels: dict[str, str] | None, stamp: str) -> Json:
    found: Json = {"name": name, "creationTimestamp": stamp}
    if namespace:
        found["namespace"] = namespace
    if labels:
        found["labels"] = labels
    return found


def _usage(cpu: Cpu | None, memory: Memory | None) -> Json:
    return {
        "cpu": f"{cpu.usage_nano_cores if cpu else 0}n",
        "memory": f"{(memory.working_set if memory else 0) // 1024}Ki",
    }


def pod_summary(pod: Pod, stats: PodStats) -> Json:
    """Return one pod of the summary."""
    stamp = rfc3339(stats.time)
    meta = pod.metadata
    found: Json = {
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": pod.status.start_time if pod.status is not None else None,
        "containers": [_container_summary(one) for one in stats.containers],
        "cpu": _cpu(stats.cpu, stamp),
        "memory": _memory(stats.memory, stamp),
        "network": _network(stats.network, stamp),
        "volume": [{"name": one.name, **_filesystem(one.filesystem, rfc3339(one.time))} for one in stats.volumes],
        "ephemeral-storage": {"time": stamp, "usedBytes": stats.ephemeral_bytes},
        "process_stats": {"process_count": stats.processes or 0},
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _container_summary(one: ContainerStats) -> Json:
    stamp = rfc3339(one.time)
    found: Json = {
        "name": one.name,
        "startTime": rfc3339(one.started_at),
        "cpu": _cpu(one.cpu, stamp),
        "memory": _memory(one.memory, stamp),
        "rootfs": _filesystem(one.rootfs, stamp) if one.rootfs else None,
        "logs": _filesystem(one.logs, stamp) if one.logs else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def node_summary(name: str, stats: NodeStats) -> Json:
    """Return the node of the summary."""
    stamp = rfc3339(stats.time)
    return {
        "nodeName": name,
        "startTime": rfc3339(stats.started_at),
        "cpu": _cpu(stats.cpu, stamp),
        "memory": _memory(stats.memory, stamp),
        "network": _network(stats.network, stamp),
        "fs": _filesystem(stats.filesystem, stamp),
        "rlimit": {"time": stamp, "maxpid": stats.max_processes, "curproc": stats.processes},
    }


def _cpu(cpu: Cpu | None, stamp: str) -> Json | None:
    if cpu is None:
        return None
    return {"time": stamp, "usageNanoCores": cpu.usage_nano_cores, "usageCoreNanoSeconds": cpu.usage_core_ns}


def _memory(memory: Memory | None, stamp: str) -> Json | None:
    if memory is None:
        return None
    found: Json = {
        "time": stamp,
        "usageBytes": memory.usage,
        "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss,
        "pageFaults": memory.page_faults,
        "majorPageFaults": memory.major_page_faults,
    }
    if memory.available is not None:
        found["availableBytes"] = memory.available
    return found


def _network(interfaces: Sequence[Interface], stamp: str) -> Json | None:
    if not interfaces:
        return None
    found = [
        {
            "name": one.name,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        for one in interfaces
    ]
    first = next((one for one in found if one["name"] != "lo"), found[0])
    return {"time": stamp, **first, "interfaces": found}


def _filesystem(one: Filesystem, stamp: str) -> Json:
    return {
        "time": stamp,
        "availableBytes": one.available,
        "capacityBytes": one.capacity,
        "usedBytes": one.used,
        "inodesFree": one.inodes_free,
        "inodes": one.inodes,
        "inodesUsed": one.inodes_used,
    }
