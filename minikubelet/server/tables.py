"""Objects as the Tables that kubectl prints: its own columns, of which those with priority 1 are the wide ones. Pure.

Source: kubernetes pkg/printers/internalversion/printers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from minikubelet.lifecycle import columns

Json = dict[str, Any]
Cells = list[str | int]

_NONE: Final = "<none>"
_UNKNOWN: Final = "<unknown>"
_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE: Final = "kubernetes.io/role"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Table."""

    name: str
    wide: bool = False
    type: str = "string"

    def definition(self) -> Json:
        """Return it as a Table defines it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" and not self.wide else "",
            "description": "",
            "priority": int(self.wide),
        }


_COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "pods": (
        *map(Column, ("Name", "Ready", "Status", "Restarts", "Age")),
        *(Column(name, wide=True) for name in ("IP", "Node", "Nominated Node", "Readiness Gates")),
    ),
    "events": (
        *map(Column, ("Last Seen", "Type", "Reason", "Object")),
        Column("Subobject", wide=True),
        Column("Source", wide=True),
        Column("Message"),
        Column("First Seen", wide=True),
        Column("Count", wide=True),
        Column("Name", wide=True),
    ),
    "nodes": (
        *map(Column, ("Name", "Status", "Roles", "Age", "Version")),
        *(Column(name, wide=True) for name in ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version")),
        Column("Container-Runtime", wide=True),
    ),
    "namespaces": tuple(map(Column, ("Name", "Status", "Age"))),
    "configmaps": (Column("Name"), Column("Data"), Column("Age")),
    "secrets": (Column("Name"), Column("Type"), Column("Data", type="integer"), Column("Age")),
}


def column_definitions(kind: str) -> list[Json]:
    """Return a kind's columns as a Table defines them."""
    return [one.definition() for one in _COLUMNS[kind]]


def cells(kind: str, found: Json, now: float) -> Cells:
    """Return an object's cells; `now` is Unix time."""
    return _ROWS[kind](found, now)


def header(kind: str, version: str, *, definitions: bool = True) -> Json:
    """Return a Table without rows."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": column_definitions(kind) if definitions else [],
    }


def partial(found: Json) -> Json:
    """Return an object's metadata only."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"]}


def _pod(pod: Json, now: float) -> Cells:
    return list(columns.pod_row(pod, now)[1:])


def _event(event: Json, now: float) -> Cells:
    involved = event["involvedObject"]
    target = f"{involved['kind'].lower()}/{involved['name']}" if involved.get("name") else involved["kind"].lower()
    source = event.get("source") or {}
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = event.get("lastTimestamp") or first
    return [
        columns.age_column(last, now),
        event["type"],
        event["reason"],
        target,
        involved.get("fieldPath", ""),
        ", ".join(one for one in (source.get("component"), source.get("host")) if one),
        event["message"].strip(),
        columns.age_column(first, now),
        str(event.get("count") or 1),
        event["metadata"]["name"],
    ]


def _node(node: Json, now: float) -> Cells:
    status = node.get("status", {})
    info = status.get("nodeInfo", {})
    ready = [one["status"] for one in status.get("conditions", ()) if one["type"] == "Ready"]
    state = ("Ready" if ready[0] == "True" else "NotReady") if ready else "Unknown"
    if node.get("spec", {}).get("unschedulable"):
        state += ",SchedulingDisabled"
    return [
        node["metadata"]["name"],
        state,
        ",".join(_roles(node["metadata"].get("labels") or {})) or _NONE,
        _age(node, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or _UNKNOWN,
        info.get("kernelVersion") or _UNKNOWN,
        info.get("containerRuntimeVersion") or _UNKNOWN,
    ]


def _roles(labels: dict[str, str]) -> list[str]:
    found = {name.removeprefix(_ROLE_PREFIX) for name in labels if name.startswith(_ROLE_PREFIX)}
    if labels.get(_ROLE):
        found.add(labels[_ROLE])
    return sorted(one for one in found if one)


def _address(status: Json, kind: str) -> str:
    return next((one["address"] for one in status.get("addresses", ()) if one["type"] == kind), _NONE)


def _namespace(namespace: Json, now: float) -> Cells:
    return [namespace["metadata"]["name"], namespace.get("status", {}).get("phase", ""), _age(namespace, now)]


def _config_map(config_map: Json, now: float) -> Cells:
    count = len(config_map.get("data") or {}) + len(config_map.get("binaryData") or {})
    return [config_map["metadata"]["name"], str(count), _age(config_map, now)]


def _secret(secret: Json, now: float) -> Cells:
    return [secret["metadata"]["name"], secret.get("type", ""), len(secret.get("data") or {}), _age(secret, now)]


def _age(found: Json, now: float) -> str:
    return columns.age_column(found["metadata"].get("creationTimestamp"), now)


_ROWS: Final[dict[str, Callable[[Json, float], Cells]]] = {
    "pods": _pod,
    "events": _event,
    "nodes": _node,
    "namespaces": _namespace,
    "configmaps": _config_map,
    "secrets": _secret,
}
