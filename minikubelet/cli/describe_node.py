"""What `kubectl describe node` prints of this machine.

Source: kubectl pkg/describe/describe.go `describeNode` (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from minikubelet.api.aggregate import aggregate_limits, aggregate_requests
from minikubelet.api.quantity import Quantity, parse_quantity
from minikubelet.api.types import PodSpec
from minikubelet.cli.describe_pod import event_lines, moment
from minikubelet.lifecycle.columns import age_column

Json = Mapping[str, Any]

_NONE: Final[Json] = {}
_ROLE: Final = "node-role.kubernetes.io/"
_ZERO: Final = Quantity(0, "DecimalSI")
_INFO: Final = (
    ("Machine ID", "machineID"),
    ("System UUID", "systemUUID"),
    ("Boot ID", "bootID"),
    ("Kernel Version", "kernelVersion"),
    ("OS Image", "osImage"),
    ("Operating System", "operatingSystem"),
    ("Architecture", "architecture"),
    ("Container Runtime Version", "containerRuntimeVersion"),
    ("Kubelet Version", "kubeletVersion"),
)


def node_lines(node: Json, pods: Sequence[Json], events: Sequence[Json], now: float) -> Iterator[str]:
    """Yield the description's lines, columns parted by tabs."""
    meta, status = node["metadata"], node.get("status", _NONE)
    labels = meta.get("labels") or {}
    roles = {name.removeprefix(_ROLE) for name in labels if name.startswith(_ROLE)} - {""}
    yield f"Name:\t{meta['name']}"
    yield f"Roles:\t{','.join(sorted(roles)) or '<none>'}"
    for title, values, between in (("Labels", meta.get("labels"), "="), ("Annotations", meta.get("annotations"), ": ")):
        shown = [f"{name}{between}{value}" for name, value in sorted((values or {}).items())] or ["<none>"]
        yield f"{title}:\t{shown[0]}"
        yield from (f"\t{one}" for one in shown[1:])
    yield f"CreationTimestamp:\t{moment(meta.get('creationTimestamp'))}"
    taints = [_taint(one) for one in node.get("spec", _NONE).get("taints") or ()] or ["<none>"]
    yield f"Taints:\t{taints[0]}"
    yield from (f"\t{one}" for one in taints[1:])
    yield f"Unschedulable:\t{str(bool(node.get('spec', _NONE).get('unschedulable'))).lower()}"
    yield "Conditions:"
    yield "  Type\tStatus\tLastTransitionTime\tReason\tMessage"
    yield "  ----\t------\t------------------\t------\t-------"
    for one in status.get("conditions") or ():
        since = moment(one.get("lastTransitionTime"))
        yield f"  {one['type']}\t{one['status']}\t{since}\t{one.get('reason', '')}\t{one.get('message', '')}"
    yield "Addresses:"
    yield from (f"  {one['type']}:\t{one['address']}" for one in status.get("addresses") or ())
    for title, key in (("Capacity", "capacity"), ("Allocatable", "allocatable")):
        yield f"{title}:"
        yield from (f"  {name}:\t{value}" for name, value in sorted((status.get(key) or {}).items()))
    yield "System Info:"
    info = status.get("nodeInfo") or _NONE
    yield from (f"  {title}:\t{info[key]}" for title, key in _INFO if info.get(key))
    cidr = node.get("spec", _NONE).get("podCIDR")
    if cidr:
        yield f"PodCIDR:\t{cidr}"
    yield from _pods(pods, status.get("allocatable") or _NONE, now)
    yield from event_lines(events, now)


def _taint(taint: Json) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _pods(pods: Sequence[Json], allocatable: Json, now: float) -> Iterator[str]:
    live = [one for one in pods if one.get("status", _NONE).get("phase") not in ("Succeeded", "Failed")]
    yield f"Non-terminated Pods:\t({len(live)} in total)"
    yield "  Namespace\tName\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge"
    yield "  ---------\t----\t------------\t----------\t---------------\t-------------\t---"
    total: dict[str, _Amounts] = {name: _Amounts() for name in ("cpu", "memory", "ephemeral-storage")}
    total |= {name: _Amounts() for name in sorted(allocatable) if name.startswith("hugepages-")}
    for one in live:
        amounts = _amounts(msgspec.convert(one["spec"], PodSpec))
        for name, own in amounts.items():
            total[name] = total.get(name, _Amounts()) + own
        cells = [cell for name in ("cpu", "memory") for cell in amounts.get(name, _Amounts()).cells(name, allocatable)]
        meta = one["metadata"]
        age = age_column(meta.get("creationTimestamp") or one["status"].get("startTime"), now)
        yield "\t".join([f"  {meta['namespace']}", meta["name"], *cells, age])
    yield "Allocated resources:"
    yield "  (Total limits may be over 100 percent, i.e., overcommitted.)"
    yield "  Resource\tRequests\tLimits"
    yield "  --------\t--------\t------"
    yield from ("\t".join([f"  {name}", *own.cells(name, allocatable)]) for name, own in total.items())


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Request and limit of one resource."""

    request: Quantity = _ZERO
    limit: Quantity = _ZERO

    def __add__(self, other: _Amounts) -> _Amounts:
        return _Amounts(self.request + other.request, self.limit + other.limit)

    def cells(self, name: str, allocatable: Json) -> list[str]:
        """Return both as texts, with their part of what pods may have; of what is not the node's own there is none."""
        there = allocatable.get(name)
        if there is None and "/" in name:
            return [self.request.canonical(), self.limit.canonical()]
        whole = parse_quantity(str(there or "0")).nanos
        return [
            f"{one.canonical()} ({one.nanos * 100 // whole if whole else 0}%)" for one in (self.request, self.limit)
        ]


def _amounts(spec: PodSpec) -> dict[str, _Amounts]:
    """Return what a pod asks for: of its own level where it says so, else its containers together, and its overhead."""
    requests, limits = aggregate_requests(spec), aggregate_limits(spec)
    if spec.resources is not None:
        requests |= {name: parse_quantity(text) for name, text in (spec.resources.requests or {}).items()}
        limits |= {name: parse_quantity(text) for name, text in (spec.resources.limits or {}).items()}
    for name, text in (spec.overhead or {}).items():
        requests[name] = requests.get(name, _ZERO) + parse_quantity(text)
        if name in limits and limits[name].nanos:
            limits[name] += parse_quantity(text)
    names = [*requests, *(name for name in limits if name not in requests)]
    return {name: _Amounts(requests.get(name, _ZERO), limits.get(name, _ZERO)) for name in names}
