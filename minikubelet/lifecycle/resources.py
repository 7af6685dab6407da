"""Quality of service and what resources mean for control groups, as numbers.

Source: pkg/apis/core/v1/helper/qos, pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/policy.go, containerd's and runc's
cgroup conversions (v1.36).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from minikubelet.api.quantity import Quantity, parse_quantity
from minikubelet.api.types import Container, Pod, ResourceRequirements
from minikubelet.lifecycle.pods import all_containers

PERIOD_US: Final = 100_000
GUARANTEED_OOM_SCORE_ADJ: Final = -997
_MIN_QUOTA_US: Final = 1000
MIN_SHARES: Final = 2
MAX_SHARES: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """What is written into one control group; None means unlimited."""

    shares: int = MIN_SHARES
    quota_us: int | None = None
    memory: int | None = None
    huge_pages: Mapping[str, int] = field(default_factory=dict)  # page size ("2Mi") to bytes; other sizes get none


def qos_class(pod: Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort, by cpu and memory only."""
    level = pod.spec.resources
    if level is not None and (level.limits or level.requests):
        return _class_of([level])
    return _class_of([one.resources for one in all_containers(pod)])


def _class_of(resources: list[ResourceRequirements]) -> str:
    used = False
    guaranteed = True
    for one in resources:
        requests, limits = _positive(one.requests), _positive(one.limits)
        used = used or bool(requests or limits)
        guaranteed = guaranteed and limits.keys() == {"cpu", "memory"} and requests == limits
    if not used:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(entries: Mapping[str, str] | None) -> dict[str, int]:
    found = {name: parse_quantity(text).nanos for name, text in (entries or {}).items() if name in ("cpu", "memory")}
    return {name: nanos for name, nanos in found.items() if nanos > 0}


def milli_cpu(text: str | None) -> int:
    """Return thousandths of a processor, 0 for none."""
    return parse_quantity(text).milli_value() if text else 0


def cpu_shares(milli: int) -> int:
    """Return version 1 shares for a request."""
    return max(MIN_SHARES, min(MAX_SHARES, milli * 1024 // 1000)) if milli else MIN_SHARES


def cpu_quota(milli: int) -> int | None:
    """Return microseconds of each period for a limit, None for no limit."""
    return max(_MIN_QUOTA_US, milli * PERIOD_US // 1000) if milli > 0 else None


def pod_weight(shares: int) -> int:
    """Return the version 2 weight of a pod's group."""
    return 1 + (shares - MIN_SHARES) * 9999 // 262_142


def container_weight(shares: int) -> int:
    """Return the version 2 weight of a container's group, as runc converts shares."""
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10_000
    level = math.log2(shares)
    return math.ceil(10 ** ((level * level + 125 * level) / 612.0 - 7.0 / 34.0))


def container_limits(pod: Pod, container: Container) -> GroupLimits:
    """Return the limits of one container's group; one that it does not have itself is its pod's."""
    requests, own = container.resources.requests or {}, container.resources.limits or {}
    limits = {**((pod.spec.resources.limits if pod.spec.resources is not None else None) or {}), **own}
    request = milli_cpu(requests.get("cpu", limits.get("cpu")))
    memory = parse_quantity(limits["memory"]).value() if "memory" in limits else 0
    return GroupLimits(
        shares=cpu_shares(request),
        quota_us=cpu_quota(milli_cpu(limits.get("cpu"))),
        memory=memory or None,
        huge_pages=_huge_pages(own),
    )


def _huge_pages(limits: Mapping[str, str]) -> dict[str, int]:
    prefix = "hugepages-"
    named = {name.removeprefix(prefix): text for name, text in limits.items() if name.startswith(prefix)}
    return {size: parse_quantity(text).value() for size, text in named.items()}


def pod_total(pod: Pod, name: str, *, limits: bool = False) -> int:
    """Return a pod's request (or limit) of one resource in nano units: what scheduling and its group count."""
    level = pod.spec.resources
    own = (level.limits if limits else level.requests) if level is not None else None
    overhead = parse_quantity((pod.spec.overhead or {}).get(name, "0")).nanos
    if own and name in own:
        return parse_quantity(own[name]).nanos + overhead
    return _aggregate(pod, name, limits=limits) + overhead


def pod_list(pod: Pod, *, limits: bool = False) -> dict[str, str] | None:
    """Return a pod's requests (or limits) of all resources, as its status shows them; None for none.

    Each is written as the first of those that it is the sum of. Source: component-helpers `PodRequests`, `PodLimits`.
    """
    level = pod.spec.resources
    parts = [*([level] if level is not None else []), *(one.resources for one in all_containers(pod))]
    lists = [one.limits if limits else one.requests for one in parts]
    if not limits:
        lists.append(pod.spec.overhead)
    first: dict[str, str] = {}
    for entries in lists:
        for name, text in (entries or {}).items():
            first.setdefault(name, text)
    return {
        name: Quantity(pod_total(pod, name, limits=limits), parse_quantity(text).format).canonical()
        for name, text in first.items()
    } or None


def _aggregate(pod: Pod, name: str, *, limits: bool = False) -> int:
    """Return what the containers need at most at one time, in nano units."""

    def of(container: Container) -> int:
        entries = container.resources.limits if limits else container.resources.requests
        return parse_quantity((entries or {}).get(name, "0")).nanos

    total = sum(of(one) for one in pod.spec.containers)
    sidecars = largest = 0
    for container in pod.spec.init_containers or ():
        if container.restart_policy == "Always":
            sidecars += of(container)
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + of(container))
    return max(total + sidecars, largest)


def pod_limits(pod: Pod) -> GroupLimits:
    """Return the limits of a pod's group: quota and memory only where every container has that limit."""
    if qos_class(pod) == "BestEffort":
        return GroupLimits()
    level = (pod.spec.resources.limits if pod.spec.resources else None) or {}

    def bounded(name: str) -> bool:
        return name in level or all(name in _positive(one.resources.limits) for one in all_containers(pod))

    quota = cpu_quota(-(-pod_total(pod, "cpu", limits=True) // 10**6)) if bounded("cpu") else None
    memory = pod_total(pod, "memory", limits=True) // 10**9 if bounded("memory") else 0
    return GroupLimits(shares=pod_shares(pod), quota_us=quota, memory=memory or None)


def pod_shares(pod: Pod) -> int:
    """Return the version 1 shares of all that a pod requests."""
    return cpu_shares(-(-pod_total(pod, "cpu") // 10**6))


def oom_score_adj(pod: Pod, container: Container, node_memory: int) -> int:
    """Return how readily the kernel kills a container when memory runs out: -997 last, 1000 first.

    Args:
        pod: The container's pod.
        container: One of its containers or init containers.
        node_memory: Bytes of memory the node has.
    """
    if pod.spec.priority_class_name == "system-node-critical":
        return GUARANTEED_OOM_SCORE_ADJ
    match qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE_ADJ
        case "BestEffort":
            return 1000
    request = _memory_request(container)
    if container.restart_policy == "Always" and container in (pod.spec.init_containers or ()):
        # A sidecar is not killed before the containers that it serves.
        request = max(request, min(_memory_request(one) for one in pod.spec.containers))
    score = 1000 - 1000 * (request + _unassigned_memory(pod)) // max(1, node_memory)
    return min(999, max(1000 + GUARANTEED_OOM_SCORE_ADJ, score))


def _memory_request(container: Container) -> int:
    return parse_quantity((container.resources.requests or {}).get("memory", "0")).value()


def _unassigned_memory(pod: Pod) -> int:
    """Return a container's share of the pod-level request that no container claims, in bytes."""
    level = (pod.spec.resources.requests if pod.spec.resources is not None else None) or {}
    if "memory" not in level:
        return 0
    count = len(pod.spec.containers) + len(pod.spec.init_containers or ())
    return max(0, parse_quantity(level["memory"]).value() - _aggregate(pod, "memory") // 10**9) // count
