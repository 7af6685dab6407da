"""The status of a Pod: a function of what is wanted, what was seen and what was published before.

Source: kubelet kubelet_pods.go `generateAPIPodStatus`, status/generate.go, status/status_manager.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from minikubelet.api.types import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
    VolumeMountStatus,
)
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod, ProbeOutcome, RunState
from minikubelet.lifecycle.phase import compute_phase
from minikubelet.lifecycle.restart import wants_restart

_ALL_MESSAGES_LIMIT: Final = 12 * 1024
RUNTIME: Final = "minikubelet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnd:
    """A cause that ends a whole pod: a deadline, a shutdown (`disruption`), a rejection (`rejected`: nothing ran)."""

    reason: str
    message: str
    rejected: bool = False
    disruption: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a status says that is not of the pod's own making."""

    now: float  # Unix time
    qos_class: str = ""
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    starting: frozenset[str] = frozenset()  # containers whose postStart hook still runs: not yet shown as running
    end: PodEnd | None = None
    terminating: bool = False
    responsive: bool = True
    # Termination message of an instance that has ended: (container, instance) to text.
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
    inits = pod.spec.init_containers or []
    old = _by_name(previous)
    has_inits = bool(inits)
    limit = _ALL_MESSAGES_LIMIT // max(1, len(inits) + len(pod.spec.containers))
    statuses: dict[str, ContainerStatus] = {}
    app_seen = any(_in_current_sandbox(seen, one.name) for one in pod.spec.containers)
    for container in (*inits, *pod.spec.containers):
        statuses[container.name] = _container_status(
            pod,
            container,
            seen,
            old.get(container.name),
            facts,
            is_init=container in inits,
            has_inits=has_inits,
            app_seen=app_seen,
            limit=limit,
        )
    phase = _phase(pod, statuses, seen, previous, facts, app_seen=app_seen)
    reason, message = _pod_reason(previous, phase, facts)
    conditions = _conditions(pod, statuses, seen, phase, facts, app_seen=app_seen)
    return PodStatus(
        phase=phase,
        conditions=_with_times(conditions, previous, rfc3339(facts.now)),
        message=message,
        reason=reason,
        host_ip=facts.host_ips[0] if facts.host_ips else "",
        host_ips=[HostIP(ip=ip) for ip in facts.host_ips] or None,
        pod_ip=facts.pod_ips[0] if facts.pod_ips else "",
        pod_ips=[PodIP(ip=ip) for ip in facts.pod_ips] or None,
        start_time=start_time,
        init_container_statuses=[statuses[one.name] for one in inits] or None,
        container_statuses=sorted((statuses[one.name] for one in pod.spec.containers), key=lambda one: one.name),
        qos_class=facts.qos_class,
    )


def _by_name(previous: PodStatus | None) -> dict[str, ContainerStatus]:
    if previous is None:
        return {}
    return {one.name: one for one in (*(previous.init_container_statuses or ()), *(previous.container_statuses or ()))}


def _in_current_sandbox(seen: ObservedPod, name: str) -> bool:
    latest = seen.latest(name)
    if latest is None:
        return False
    return not latest.sandbox_id or not seen.sandboxes or latest.sandbox_id == seen.sandboxes[0].id


def _phase(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    seen: ObservedPod,
    previous: PodStatus | None,
    facts: NodeFacts,
    *,
    app_seen: bool,
) -> str:
    if previous is not None and previous.phase in ("Succeeded", "Failed"):
        return previous.phase
    if facts.end is not None:
        return "Failed"
    if not facts.responsive:
        return "Unknown"
    del seen
    return compute_phase(pod, statuses, initialized=app_seen)


def _pod_reason(previous: PodStatus | None, phase: str, facts: NodeFacts) -> tuple[str, str]:
    if facts.end is not None:
        return facts.end.reason, facts.end.message
    if phase == "Unknown":
        return "NodeLost", "The pod's pause process does not answer; its state cannot be obtained."
    if previous is not None and previous.phase == phase:
        return previous.reason, previous.message
    return "", ""


# Container statuses


def _container_status(
    pod: Pod,
    container: Container,
    seen: ObservedPod,
    old: ContainerStatus | None,
    facts: NodeFacts,
    *,
    is_init: bool,
    has_inits: bool,
    app_seen: bool,
    limit: int,
) -> ContainerStatus:
    instances = seen.containers.get(container.name, ())
    latest = instances[0] if instances else None
    sidecar = is_init and container.restart_policy == "Always"
    waiting = ContainerState(
        waiting=ContainerStateWaiting(reason="PodInitializing" if has_inits else "ContainerCreating")
    )
    if latest is None:
        state = _state_without_instance(container, old, waiting, is_init=is_init and not sidecar, app_seen=app_seen)
        last = _lost_state(old) if old is not None else ContainerState()
        count = old.restart_count if old is not None else 0
        container_id = ""
    else:
        state = _state(container, latest, facts, limit)
        previous = next((one for one in instances[1:] if one.exit is not None), None)
        last = ContainerState(terminated=_terminated(container, previous, facts, limit)) if previous else _kept(old)
        count, container_id = latest.restart_count, f"{RUNTIME}://{latest.id}"
        if container.name in facts.starting and latest.state is RunState.RUNNING:
            state = waiting
        ended = latest.exit
        if ended is not None and latest.state is RunState.EXITED:
            shown = _waiting_for_restart(pod, container, latest, seen, facts)
            if shown is not None:
                last = ContainerState(terminated=state.terminated)
                state = shown
    if latest is None and (failure := seen.start_failures.get(container.name)) is not None:
        state = ContainerState(waiting=ContainerStateWaiting(reason=failure.reason, message=failure.message))
    running = state.running is not None
    started = running and _started(container, latest, seen)
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=last,
        ready=_ready(container, latest, seen, state, started=started, is_init=is_init, sidecar=sidecar),
        restart_count=count,
        image=container.image,
        image_id=f"{RUNTIME}://host",
        container_id=container_id,
        started=started,
        allocated_resources=container.resources.requests,
        resources=container.resources if container.resources.limits or container.resources.requests else None,
        volume_mounts=[
            VolumeMountStatus(
                name=one.name,
                mount_path=one.mount_path,
                read_only=one.read_only,
                recursive_read_only=one.recursive_read_only,
            )
            for one in container.volume_mounts or ()
        ]
        or None,
    )


def _state_without_instance(
    container: Container, old: ContainerStatus | None, waiting: ContainerState, *, is_init: bool, app_seen: bool
) -> ContainerState:
    if is_init and app_seen:
        # Its record is gone, but it must have succeeded.
        message = "Unable to get init container status from container runtime and pod has been initialized, "
        return ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=0,
                reason="Completed",
                message=message + "treat it as exited normally",
                started_at=None,
                finished_at=None,
            )
        )
    return waiting


def _lost_state(old: ContainerStatus) -> ContainerState:
    """Return lastState of a container that was last seen running and of which nothing is left."""
    if old.state.running is None:
        return old.last_state
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=137,
            reason="ContainerStatusUnknown",
            message="The container could not be located when the pod was deleted.  The container used to be Running",
            started_at=None,
            finished_at=None,
        )
    )


def _kept(old: ContainerStatus | None) -> ContainerState:
    return old.last_state if old is not None and old.last_state.terminated is not None else ContainerState()


def _waiting_for_restart(
    pod: Pod, container: Container, latest: ObservedContainer, seen: ObservedPod, facts: NodeFacts
) -> ContainerState | None:
    """Return the waiting state of a container that has ended and is due to be started again, once there is a reason."""
    failure = seen.start_failures.get(container.name)
    if failure is None or facts.terminating or facts.end is not None or latest.exit is None:
        return None
    if not wants_restart(pod, container, latest.exit.exit_code):
        return None
    return ContainerState(waiting=ContainerStateWaiting(reason=failure.reason, message=failure.message))


def _state(container: Container, latest: ObservedContainer, facts: NodeFacts, limit: int) -> ContainerState:
    match latest.state:
        case RunState.CREATED:
            return ContainerState(waiting=ContainerStateWaiting())
        case RunState.RUNNING:
            started = latest.started_at if latest.started_at is not None else latest.created_at
            return ContainerState(running=ContainerStateRunning(started_at=rfc3339(started)))
        case RunState.EXITED | RunState.UNKNOWN:
            return ContainerState(terminated=_terminated(container, latest, facts, limit))


def _terminated(
    container: Container, instance: ObservedContainer, facts: NodeFacts, limit: int
) -> ContainerStateTerminated:
    ended = instance.exit
    written = facts.message_of(container, instance)
    runtime = ended.message if ended is not None else ""
    message = ": ".join(text for text in (runtime, written) if text)
    started = instance.started_at
    return ContainerStateTerminated(
        exit_code=ended.exit_code if ended is not None else 255,
        signal=0,
        reason=ended.reason if ended is not None else "Unknown",
        message=message.encode()[:limit].decode("utf-8", "ignore"),
        started_at=rfc3339(started) if started is not None else None,
        finished_at=rfc3339(ended.finished_at) if ended is not None else None,
        container_id=f"{RUNTIME}://{instance.id}",
    )


def _started(container: Container, latest: ObservedContainer | None, seen: ObservedPod) -> bool:
    if container.startup_probe is None:
        return True
    return latest is not None and seen.startup.get(latest.id) is ProbeOutcome.SUCCESS


def _ready(
    container: Container,
    latest: ObservedContainer | None,
    seen: ObservedPod,
    state: ContainerState,
    *,
    started: bool,
    is_init: bool,
    sidecar: bool,
) -> bool:
    if is_init and not sidecar:
        return state.terminated is not None and state.terminated.exit_code == 0
    if state.running is None or not started or latest is None:
        return False
    if container.readiness_probe is None:
        return True
    return seen.readiness.get(latest.id) is ProbeOutcome.SUCCESS


# Conditions


def _conditions(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    seen: ObservedPod,
    phase: str,
    facts: NodeFacts,
    *,
    app_seen: bool,
) -> list[PodCondition]:
    sandbox_ready = bool(seen.sandboxes) and seen.sandboxes[0].ready and bool(facts.pod_ips)
    containers_ready = _containers_ready(pod, statuses, phase, facts)
    disruption = []
    if facts.end is not None and facts.end.disruption:
        disruption.append(_condition("DisruptionTarget", True, "TerminationByKubelet", facts.end.message))
    return [
        *disruption,
        _condition("PodReadyToStartContainers", sandbox_ready),
        _initialized(pod, statuses, phase, app_seen=app_seen),
        _ready_condition(pod, containers_ready),
        containers_ready,
        _condition("PodScheduled", True),
    ]


def _condition(kind: str, value: bool, reason: str = "", message: str = "") -> PodCondition:
    return PodCondition(
        type=kind,
        status="True" if value else "False",
        last_probe_time=None,
        last_transition_time=None,
        reason=reason,
        message=message,
    )


def _initialized(pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str, *, app_seen: bool) -> PodCondition:
    kind = "Initialized"
    if phase == "Succeeded":
        return _condition(kind, True, "PodCompleted")
    incomplete: list[str] = []
    for container in pod.spec.init_containers or ():
        status = statuses[container.name]
        done = bool(status.started) if container.restart_policy == "Always" else status.ready
        if not done:
            incomplete.append(container.name)
    if not incomplete or app_seen:
        return _condition(kind, True)
    message = f"containers with incomplete status: {go_list(incomplete)}"
    return _condition(kind, False, "ContainersNotInitialized", message)


def _containers_ready(pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str, facts: NodeFacts) -> PodCondition:
    kind = "ContainersReady"
    if phase == "Succeeded":
        return _condition(kind, False, "PodCompleted")
    if phase == "Failed":
        return _condition(kind, False, "PodFailed")
    if not facts.responsive:
        return msgspec.structs.replace(_condition(kind, False, "PauseNotResponding"), status="Unknown")
    sidecars = [one for one in pod.spec.init_containers or () if one.restart_policy == "Always"]
    unready = [one.name for one in (*sidecars, *pod.spec.containers) if not statuses[one.name].ready]
    if unready:
        return _condition(kind, False, "ContainersNotReady", f"containers with unready status: {go_list(unready)}")
    return _condition(kind, True)


def _ready_condition(pod: Pod, containers_ready: PodCondition) -> PodCondition:
    if containers_ready.status != "True":
        return msgspec.structs.replace(containers_ready, type="Ready")
    # Gates are set by an API client; without one none is ever there.
    missing = [
        f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.'
        for gate in pod.spec.readiness_gates or ()
    ]
    if missing:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(missing))
    return _condition("Ready", True)


def _with_times(conditions: Sequence[PodCondition], previous: PodStatus | None, now: str) -> list[PodCondition]:
    """Give each condition its transition time: the old one while its status stays."""
    old = {one.type: one for one in (previous.conditions if previous is not None else None) or ()}
    timed: list[PodCondition] = []
    for one in conditions:
        before = old.get(one.type)
        since = before.last_transition_time if before is not None and before.status == one.status else now
        timed.append(msgspec.structs.replace(one, last_transition_time=since))
    return timed


def go_list(names: Sequence[str]) -> str:
    """Return names as Go prints a list: `[a b]`."""
    return f"[{' '.join(names)}]"


def rfc3339(seconds: float) -> str:
    """Return Unix time as whole-second RFC 3339 in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float:
    """Return the Unix time of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()
