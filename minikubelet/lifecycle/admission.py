"""Whether a pod may run on this node: the kubelet's admission, pure, over the pod, the admitted pods and the node.

The first check that fails decides. Pods from files always count as critical: want of resources does not reject one as
`OutOf…`; pods of lower priority make room for it, and if that does not suffice it is an `UnexpectedAdmissionError`.
Source: kubelet lifecycle/predicate.go, preemption/preemption.go, sysctl/allowlist.go; scheduler plugins (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from minikubelet.api.quantity import NANO
from minikubelet.api.types import NodeSelectorRequirement, NodeSelectorTerm, Pod
from minikubelet.lifecycle.pods import all_containers, sidecars
from minikubelet.lifecycle.preemption import Shortage, pods_to_preempt
from minikubelet.lifecycle.resources import pod_total

MILLI: Final = NANO // 1000
_OS_LABEL: Final = "kubernetes.io/os"
_NET_SYSCTLS: Final = (
    "net.ipv4.ip_local_port_range net.ipv4.tcp_syncookies net.ipv4.ping_group_range "
    "net.ipv4.ip_unprivileged_port_start net.ipv4.ip_local_reserved_ports net.ipv4.tcp_keepalive_time "
    "net.ipv4.tcp_fin_timeout net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem "
    "net.ipv4.tcp_wmem"
).split()
SAFE_SYSCTLS: Final = frozenset(["kernel.shm_rmid_forced", *_NET_SYSCTLS])
_IPC_PREFIXES: Final = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")
_BUILT_IN: Final = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What admission must know of the node; `capacity` and `allocatable` are in nano units, without `pods`."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)
    max_pods: int = 110
    allowed_unsafe_sysctls: Sequence[str] = ()
    app_armor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a pod may not run on this node."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A pod is admitted once the pods in `preempt` have ended, or rejected."""

    rejection: Rejection | None = None
    preempt: tuple[Pod, ...] = ()


def decide(pod: Pod, others: Sequence[Pod], node: Node) -> Decision:
    """Say whether a pod may run.

    Args:
        pod: The pod, validated and with defaults filled.
        others: The pods that were admitted and have not ended; not the pod itself nor one that it replaces.
        node: The node.
    """
    rejection = _sysctls(pod, node) or _os(pod, node)
    if rejection is not None:
        return Decision(rejection=rejection)
    shortages = find_shortages(pod, others, node)
    rejection = _affinity(pod, node) or _ports(pod, others)
    if rejection is not None:
        return Decision(rejection=rejection)
    preempt: tuple[Pod, ...] = ()
    if shortages:
        found = pods_to_preempt(pod, others, shortages)
        if isinstance(found, str):
            return Decision(rejection=_unexpected(found, shortages))
        preempt = found
    return Decision(rejection=_app_armor(pod, node), preempt=preempt)


def _sysctls(pod: Pod, node: Node) -> Rejection | None:
    context = pod.spec.security_context
    for one in (context.sysctls if context is not None else None) or ():
        name = _with_dots(one.name)
        problem = _sysctl_problem(pod, name, node.allowed_unsafe_sysctls)
        if problem is not None:
            return Rejection(reason="SysctlForbidden", message=f'forbidden sysctl: "{name}" {problem}')
    return None


def _with_dots(name: str) -> str:
    """Return a sysctl's name with dots between its parts; one that was written with slashes may have dots in them."""
    first = next((one for one in name if one in "./"), ".")
    return name.translate(str.maketrans("./", "/.")) if first == "/" else name


def _sysctl_problem(pod: Pod, name: str, allowed: Sequence[str]) -> str | None:
    listed = any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in allowed)
    if name not in SAFE_SYSCTLS and not listed:
        return "not allowlisted"
    if name.startswith(_IPC_PREFIXES) and pod.spec.host_ipc:
        return "not allowed with host ipc enabled"
    if name.startswith("net.") and pod.spec.host_network:
        return "not allowed with host net enabled"
    return None


def _os(pod: Pod, node: Node) -> Rejection | None:
    label = (pod.metadata.labels or {}).get(_OS_LABEL)
    if label is not None and label != "linux":
        message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Rejection(reason="PodOSSelectorNodeLabelDoesNotMatch", message=message)
    if pod.spec.os is not None and pod.spec.os.name != "linux":
        message = "Failed to admit pod as the OS field doesn't match node OS"
        return Rejection(reason="PodOSNotSupported", message=message)
    return None


def find_shortages(pod: Pod, others: Sequence[Pod], node: Node) -> list[Shortage]:
    """Return what of the node's resources does not suffice for one more pod."""
    found: list[Shortage] = []
    if len(others) + 1 > node.max_pods:
        found.append(Shortage(name="pods", requested=1, used=len(others), capacity=node.max_pods))
    for name in _requested(pod):
        if "/" in name and name not in node.allocatable:
            continue  # of the cluster, not of a node
        unit = MILLI if name == "cpu" else NANO
        requested = _units(pod_total(pod, name), unit)
        used = sum(_units(pod_total(one, name), unit) for one in others)
        capacity = node.allocatable.get(name, 0) // unit
        if requested > 0 and requested > capacity - used:
            found.append(Shortage(name=name, requested=requested, used=used, capacity=capacity))
    return found


def _requested(pod: Pod) -> list[str]:
    names = {name for one in all_containers(pod) for name in one.resources.requests or ()}
    names |= set(pod.spec.overhead or ())
    level = pod.spec.resources
    if level is not None:
        names |= set(level.requests or ())
    return [*(one for one in _BUILT_IN if one in names), *sorted(names - set(_BUILT_IN))]


def _units(nanos: int, unit: int) -> int:
    return -(-nanos // unit)


def _unexpected(problem: str, shortages: Iterable[Shortage]) -> Rejection:
    what = "Unexpected error while attempting to recover from admission failure"
    # In the kubelet the numbers are in its log only.
    details = "; ".join(one.describe() for one in shortages)
    message = f"{what}: preemption: error finding a set of pods to preempt: {problem} ({details})"
    return Rejection(reason="UnexpectedAdmissionError", message=message)


def _affinity(pod: Pod, node: Node) -> Rejection | None:
    selector = pod.spec.node_selector or {}
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    matches = all(node.labels.get(name) == value for name, value in selector.items())
    if required is not None:
        matches = matches and any(_term_matches(one, node) for one in required.node_selector_terms)
    if matches:
        return None
    message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    return Rejection(reason="NodeAffinity", message=message)


def _term_matches(term: NodeSelectorTerm, node: Node) -> bool:
    """Tell whether all of a term holds; an empty term matches nothing."""
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not fields:
        return False
    by_field = {"metadata.name": node.name}
    return all(_holds(one, node.labels) for one in expressions) and all(_holds(one, by_field) for one in fields)


def _holds(one: NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(one.key)
    wanted = one.values or []
    match one.operator:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            own, bound = _number(value), _number(wanted[0] if wanted else None)
            if own is None or bound is None:
                return False
            return own > bound if one.operator == "Gt" else own < bound


def _number(text: str | None) -> int | None:
    """Return an integer as Go reads one: digits with a sign, nothing between them, within 64 bits."""
    if text is None or not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def _ports(pod: Pod, others: Sequence[Pod]) -> Rejection | None:
    wanted = host_ports(pod)
    if not wanted:
        return None
    taken = [one for other in others for one in host_ports(other)]
    if any(_overlap(one, other) for one in wanted for other in taken):
        return ports_rejection()
    return None


def ports_rejection(detail: str = "") -> Rejection:
    """Return the rejection of a pod whose host ports are not free, with who holds them if that is known."""
    message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return Rejection(reason="NodePorts", message=f"{message}: {detail}" if detail else message)


def host_ports(pod: Pod) -> list[tuple[str, str, int]]:
    """Return the (host address, protocol, port) that a pod takes of the node."""
    return [
        (port.host_ip, port.protocol or "TCP", port.host_port)
        for container in (*pod.spec.containers, *sidecars(pod))
        for port in container.ports or ()
        if port.host_port
    ]


def _overlap(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or one[0] in _ANY_ADDRESS or other[0] in _ANY_ADDRESS)


def _app_armor(pod: Pod, node: Node) -> Rejection | None:
    contexts = [pod.spec.security_context]
    profiles = [one.app_armor_profile for one in contexts if one is not None]
    profiles += [
        one.security_context.app_armor_profile for one in all_containers(pod) if one.security_context is not None
    ]
    if node.app_armor or all(one is None or one.type == "Unconfined" for one in profiles):
        return None
    message = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return Rejection(reason="AppArmor", message=message)
