"""What `kubectl describe node` prints of this machine.

Source: kubectl pkg/describe/describe.go `describeNode` (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from minikubelet.cli.describe_pod import event_lines, moment

Json = Mapping[str, Any]

_NONE: Final[Json] = {}
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
    yield f"Name:\t{meta['name']}"
    for title, values, between in (("Labels", meta.get("labels"), "="), ("Annotations", meta.get("annotations"), ": ")):
        shown = [f"{name}{between}{value}" for name, value in sorted((values or {}).items())] or ["<none>"]
        yield f"{title}:\t{shown[0]}"
        yield from (f"\t{one}" for one in shown[1:])
    yield f"CreationTimestamp:\t{moment(meta.get('creationTimestamp'))}"
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
    yield from _pods(pods)
    yield from event_lines(events, now)


def _pods(pods: Sequence[Json]) -> Iterator[str]:
    live = [one for one in pods if one.get("status", _NONE).get("phase") not in ("Succeeded", "Failed")]
    yield f"Non-terminated Pods:\t({len(live)} in total)"
    yield "  Namespace\tName\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits"
    yield "  ---------\t----\t------------\t----------\t---------------\t-------------"
    for one in live:
        cells = [_sum(one, kind, name) for name in ("cpu", "memory") for kind in ("requests", "limits")]
        yield "\t".join([f"  {one['metadata']['namespace']}", one["metadata"]["name"], *cells])


def _sum(pod: Json, kind: str, name: str) -> str:
    """Return what the containers ask for together, each amount as it is written."""
    found = [
        str(amount)
        for one in pod["spec"]["containers"]
        if (amount := ((one.get("resources") or _NONE).get(kind) or _NONE).get(name)) is not None
    ]
    return "+".join(found) or "0"
