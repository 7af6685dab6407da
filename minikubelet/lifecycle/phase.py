"""A Pod's phase, from its container statuses.

Source: kubelet kubelet_pods.go `getPhase` (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minikubelet.api.types import Container, ContainerStateTerminated, ContainerStatus, Pod
from minikubelet.lifecycle.restart import RESTARTING_ALL, wants_restart


@dataclass(slots=True)
class _Counts:
    pending_init: int = 0
    failed_init: int = 0
    pending_sidecar: int = 0
    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    stopped_for_good: int = 0
    succeeded: int = 0


def compute_phase(
    pod: Pod, statuses: Mapping[str, ContainerStatus], *, initialized: bool, terminal: bool = False
) -> str:
    """Return Pending, Running, Succeeded or Failed.

    Args:
        pod: The desired Pod.
        statuses: Init and app container statuses by name.
        initialized: An app container has been created in the current sandbox.
        terminal: No container is started any more, whatever its policy says.
    """
    counts = _Counts()
    for container in pod.spec.init_containers or ():
        if container.restart_policy == "Always":
            _count_sidecar(statuses.get(container.name), counts)
        else:
            _count_init(pod, container, statuses.get(container.name), counts)
    for container in pod.spec.containers:
        _count_app(pod, container, statuses.get(container.name), counts)
    if counts.failed_init:
        return "Failed"
    if counts.pending_init or (counts.pending_sidecar and not initialized) or counts.waiting:
        return "Pending"
    if counts.running and not counts.unknown:
        return "Running"
    if not counts.running and counts.stopped and not counts.unknown:
        if counts.stopped != counts.stopped_for_good and not terminal:
            return "Running"
        return "Succeeded" if counts.stopped == counts.succeeded else "Failed"
    return "Pending"


def _count_init(pod: Pod, container: Container, status: ContainerStatus | None, counts: _Counts) -> None:
    if status is None or status.state.running is not None:
        counts.pending_init += 1
        return
    ended = status.state.terminated
    if ended is None and status.state.waiting is not None:
        ended = status.last_state.terminated
        if ended is not None and ended.exit_code == 0:
            return
    if ended is None:
        counts.pending_init += 1
    elif ended.exit_code != 0 and not _will_restart(pod, container, ended):
        counts.failed_init += 1


def _count_sidecar(status: ContainerStatus | None, counts: _Counts) -> None:
    if status is None:
        counts.unknown += 1
    elif status.state.running is not None:
        if not status.started:
            counts.pending_sidecar += 1
        counts.running += 1
    elif status.state.waiting is not None and status.last_state.terminated is None:
        counts.pending_sidecar += 1
        counts.waiting += 1
    elif status.state.terminated is None and status.state.waiting is None:
        counts.pending_sidecar += 1
        counts.unknown += 1


def _count_app(pod: Pod, container: Container, status: ContainerStatus | None, counts: _Counts) -> None:
    if status is None:
        counts.unknown += 1
    elif status.state.running is not None:
        counts.running += 1
    elif (ended := status.state.terminated) is not None:
        counts.stopped += 1
        counts.succeeded += ended.exit_code == 0
        counts.stopped_for_good += not _will_restart(pod, container, ended)
    elif status.state.waiting is not None and (last := status.last_state.terminated) is not None:
        counts.stopped += 1
        counts.stopped_for_good += not _will_restart(pod, container, last)
    elif status.state.waiting is not None:
        counts.waiting += 1
    else:
        counts.unknown += 1


def _will_restart(pod: Pod, container: Container, ended: ContainerStateTerminated) -> bool:
    return ended.reason == RESTARTING_ALL or wants_restart(pod, container, ended.exit_code)
