"""The conditions of a Pod, with reasons, messages and transition times.

Source: kubelet status/generate.go, kubelet_pods.go `generateAPIPodStatus` (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from minikubelet.api.types import ContainerStatus, Pod, PodCondition, PodStatus
from minikubelet.lifecycle.pods import sidecars
from minikubelet.lifecycle.restart import can_restart_all

_OWN: Final = frozenset(
    "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled DisruptionTarget "
    "AllContainersRestarting".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionFacts:
    """What the conditions are made of, besides the containers' statuses."""

    phase: str
    sandbox_ready: bool
    app_exists: bool
    responsive: bool = True
    restarting: bool = False  # containers are being removed to restart the whole pod in place
    disruption: str = ""  # message of a disruption by the node; "" for none


def pod_conditions(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    previous: PodStatus | None,
    facts: ConditionFacts,
    now: str,
) -> list[PodCondition]:
    """Return all conditions: other people's first, then the node's, each with the time of its last change."""
    old = list((previous.conditions if previous is not None else pod.status.conditions) or ())
    foreign = [one for one in old if one.type not in _OWN]
    ready = _containers_ready(pod, statuses, facts)
    made = [
        *_disruption(old, facts),
        _condition("PodReadyToStartContainers", facts.sandbox_ready),
        _initialized(pod, statuses, old, facts),
        _ready(pod, ready, foreign),
        ready,
        _condition("PodScheduled", True),
        *_restarting(pod, facts),
    ]
    return [*foreign, *_with_times(made, old, now)]


def is_true(conditions: Iterable[PodCondition] | None, kind: str) -> bool:
    """Tell whether a condition is there and True."""
    return any(one.type == kind and one.status == "True" for one in conditions or ())


def go_list(names: Sequence[str]) -> str:
    """Return names as Go prints a list: `[a b]`."""
    return f"[{' '.join(names)}]"


def _condition(kind: str, value: bool | None, reason: str = "", message: str = "") -> PodCondition:
    return PodCondition(
        type=kind,
        status="Unknown" if value is None else "True" if value else "False",
        last_probe_time=None,
        last_transition_time=None,
        reason=reason,
        message=message,
    )


def _disruption(old: Sequence[PodCondition], facts: ConditionFacts) -> list[PodCondition]:
    """Return DisruptionTarget, once the pod is terminal; what was said of it stays."""
    if facts.disruption and facts.phase in ("Succeeded", "Failed"):
        return [_condition("DisruptionTarget", True, "TerminationByKubelet", facts.disruption)]
    return [one for one in old if one.type == "DisruptionTarget"]


def _initialized(
    pod: Pod, statuses: Mapping[str, ContainerStatus], old: Sequence[PodCondition], facts: ConditionFacts
) -> PodCondition:
    kind = "Initialized"
    if facts.phase == "Succeeded":
        return _condition(kind, True, "PodCompleted")
    incomplete: list[str] = []
    for container in pod.spec.init_containers or ():
        status = statuses[container.name]
        done = bool(status.started) if container.restart_policy == "Always" else status.ready
        if not done:
            incomplete.append(container.name)
    if not incomplete or facts.app_exists or is_true(old, kind):
        return _condition(kind, True)
    message = f"containers with incomplete status: {go_list(incomplete)}"
    return _condition(kind, False, "ContainersNotInitialized", message)


def _containers_ready(pod: Pod, statuses: Mapping[str, ContainerStatus], facts: ConditionFacts) -> PodCondition:
    kind = "ContainersReady"
    if facts.phase == "Succeeded":
        return _condition(kind, False, "PodCompleted")
    if facts.phase == "Failed":
        return _condition(kind, False, "PodFailed")
    if not facts.responsive:
        message = "The pod's pause process does not answer; whether its containers are ready cannot be told."
        return _condition(kind, None, "PauseNotResponding", message)
    unready = [one.name for one in (*sidecars(pod), *pod.spec.containers) if not statuses[one.name].ready]
    if unready:
        return _condition(kind, False, "ContainersNotReady", f"containers with unready status: {go_list(unready)}")
    return _condition(kind, True)


def _ready(pod: Pod, containers_ready: PodCondition, foreign: Sequence[PodCondition]) -> PodCondition:
    if containers_ready.status != "True":
        return msgspec.structs.replace(containers_ready, type="Ready")
    known = {one.type: one.status for one in foreign}
    problems: list[str] = []
    for gate in pod.spec.readiness_gates or ():
        kind = gate.condition_type
        if kind not in known:
            problems.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif known[kind] != "True":
            problems.append(f'the status of pod readiness gate "{kind}" is not "True", but {known[kind]}')
    if problems:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(problems))
    return _condition("Ready", True)


def _restarting(pod: Pod, facts: ConditionFacts) -> list[PodCondition]:
    kind = "AllContainersRestarting"
    if not can_restart_all(pod):
        return []
    if facts.phase in ("Succeeded", "Failed"):
        return [_condition(kind, False, "PodCompleted" if facts.phase == "Succeeded" else "PodFailed")]
    if facts.restarting:
        message = "container exited with restart policy rule"
        return [_condition(kind, True, "RestartAllContainersStarted", message)]
    return [_condition(kind, False)]


def _with_times(made: Iterable[PodCondition], old: Iterable[PodCondition], now: str) -> list[PodCondition]:
    """Give each condition its transition time: the old one while its status stays."""
    before = {one.type: one for one in old}
    timed: list[PodCondition] = []
    for one in made:
        known = before.get(one.type)
        since = known.last_transition_time if known is not None and known.status == one.status else None
        timed.append(msgspec.structs.replace(one, last_transition_time=since or now))
    return timed
