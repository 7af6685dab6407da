"""The status of a Pod: a function of what is wanted, what was seen and what was published before.

Source: kubelet kubelet_pods.go `generateAPIPodStatus`, status/generate.go, status/status_manager.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from minikubelet.api.types import Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus, ResourceRequirements
from minikubelet.lifecycle.actions import sandbox_changed
from minikubelet.lifecycle.conditions import ConditionFacts, is_true, pod_conditions
from minikubelet.lifecycle.container_status import ContainerFacts, app_exists, at_end, container_statuses, rfc3339
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod, RunState
from minikubelet.lifecycle.phase import compute_phase
from minikubelet.lifecycle.resources import pod_list
from minikubelet.lifecycle.restart import is_restarting_all

TERMINAL: Final = ("Succeeded", "Failed")

__all__ = ["TERMINAL", "NodeFacts", "PodEnd", "parse_rfc3339", "pod_status", "rfc3339"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnd:
    """A cause that ends a whole pod: a deadline, a shutdown, a rejection (`rejected`: nothing ran).

    `disruption` is the message of the condition DisruptionTarget, "" for none.
    """

    reason: str
    message: str
    rejected: bool = False
    disruption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a status says that is not of the pod's own making.

    `starting` has the containers whose postStart hook still runs: they are not yet shown as running. `terminating` is
    True once the pod is to end, `ended` once nothing of it runs and nothing will. `message_of` gives the termination
    message of an instance that has ended.
    """

    now: float  # Unix time
    qos_class: str = ""
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    starting: frozenset[str] = frozenset()
    end: PodEnd | None = None
    terminating: bool = False
    ended: bool = False
    responsive: bool = True
    message_of: Callable[[Container, ObservedContainer], str] = field(default=lambda container, instance: "")


def pod_status(pod: Pod, seen: ObservedPod, previous: PodStatus | None, facts: NodeFacts) -> PodStatus:
    """Return the status to publish; unchanged parts keep their transition times from `previous`."""
    start_time = previous.start_time if previous is not None and previous.start_time else rfc3339(facts.now)
    if facts.end is not None and facts.end.rejected:
        return PodStatus(
            phase="Failed",
            reason=facts.end.reason,
            message=facts.end.message,
            qos_class=facts.qos_class,
            start_time=start_time,
        )
    triggered = is_restarting_all(pod, seen)
    was_restarting = previous is not None and is_true(previous.conditions, "AllContainersRestarting")
    known = ContainerFacts(
        starting=facts.starting,
        may_restart=not facts.terminating and facts.end is None,
        restarting=triggered or was_restarting,
        message_of=facts.message_of,
    )
    statuses = container_statuses(pod, seen, previous, known)
    if facts.ended:
        statuses = at_end(pod, statuses)
    phase, reason, message = _phase(pod, statuses, seen, previous, facts, restarting=known.restarting)
    conditions = pod_conditions(
        pod,
        statuses,
        previous,
        ConditionFacts(
            phase=phase,
            sandbox_ready=not sandbox_changed(pod, seen)[0],
            app_exists=app_exists(pod, seen),
            responsive=facts.responsive,
            restarting=triggered or (was_restarting and any(seen.containers.values())),
            disruption=facts.end.disruption if facts.end is not None else "",
        ),
        rfc3339(facts.now),
    )
    ips = list(facts.pod_ips) or [one.ip for one in (previous.pod_ips if previous is not None else None) or ()]
    return PodStatus(
        phase=phase,
        conditions=conditions,
        message=message,
        reason=reason,
        host_ip=facts.host_ips[0] if facts.host_ips else "",
        host_ips=[HostIP(ip=ip) for ip in facts.host_ips] or None,
        pod_ip=ips[0] if ips else "",
        pod_ips=[PodIP(ip=ip) for ip in ips] or None,
        start_time=start_time,
        init_container_statuses=[statuses[one.name] for one in pod.spec.init_containers or ()] or None,
        container_statuses=sorted((statuses[one.name] for one in pod.spec.containers), key=lambda one: one.name),
        qos_class=facts.qos_class,
        allocated_resources=pod_list(pod),
        resources=ResourceRequirements(limits=pod_list(pod, limits=True), requests=pod_list(pod)),
    )


def _phase(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    seen: ObservedPod,
    previous: PodStatus | None,
    facts: NodeFacts,
    *,
    restarting: bool,
) -> tuple[str, str, str]:
    """Return phase, reason and message. A terminal phase stays for ever, and comes only when nothing runs any more."""
    before = previous.phase if previous is not None else ""
    kept = (previous.reason, previous.message) if previous is not None else ("", "")
    if before in TERMINAL:
        return before, *kept
    if not facts.responsive:
        return "Unknown", "NodeLost", "The pod's pause process does not answer; its state cannot be obtained."
    phase = "Failed" if facts.end is not None else compute_phase(pod, statuses, initialized=app_exists(pod, seen))
    # Containers that are ended to restart the whole pod in place have not ended the pod.
    goes_on = restarting and facts.end is None and not facts.terminating
    running = goes_on or any(found[0].state is RunState.RUNNING for found in seen.containers.values() if found)
    if phase in TERMINAL and running and not facts.ended:
        return (before, *kept) if before not in ("", "Unknown") else ("Pending", "", "")
    if facts.end is not None:
        # Containers that were done before keep their success.
        return phase, facts.end.reason, facts.end.message
    return (phase, *kept) if phase == before else (phase, "", "")


def parse_rfc3339(text: str) -> float:
    """Return the Unix time of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()
