"""The statuses of a Pod's containers: from what was seen of their instances and what was published before.

Source: kubelet kubelet_pods.go `convertToAPIContainerStatuses`, status_manager.go `TerminatePod` (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    ContainerUser,
    LinuxContainerUser,
    Pod,
    PodStatus,
    VolumeMount,
    VolumeMountStatus,
)
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod, ProbeOutcome, RunState
from minikubelet.lifecycle.restart import RESTARTING_ALL, wants_restart
from minikubelet.lifecycle.termination_message import cut

RUNTIME: Final = "minikubelet"
_REMOVED: Final = "The container is removed because RestartAllContainers in place"
_LOST: Final = "The container could not be located when the pod was deleted.  The container used to be Running"
_LOST_AT_END: Final = "The container could not be located when the pod was terminated"
_DONE_BEFORE: Final = (
    "Unable to get init container status from container runtime and pod has been initialized, treat it as exited "
    "normally"
)
_KILLED: Final = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """What container statuses say that is not of the containers' own making.

    `starting` has the containers whose postStart hook still runs: they are not yet shown as running. `may_restart` is
    False once the pod ends. `restarting` says that the whole pod is being restarted in place. `message_of` gives the
    termination message of an instance that has ended.
    """

    starting: frozenset[str] = frozenset()
    may_restart: bool = True
    restarting: bool = False
    message_of: Callable[[Container, ObservedContainer], str] = field(default=lambda container, instance: "")


def container_statuses(
    pod: Pod, seen: ObservedPod, previous: PodStatus | None, facts: ContainerFacts
) -> dict[str, ContainerStatus]:
    """Return the status of every container, init containers first, by name."""
    old = by_name(previous)
    builder = _Builder(pod, seen, facts)
    inits = pod.spec.init_containers or []
    statuses = {one.name: builder.status(one, old.get(one.name), is_init=True) for one in inits}
    statuses.update({one.name: builder.status(one, old.get(one.name), is_init=False) for one in pod.spec.containers})
    return statuses


def by_name(status: PodStatus | None) -> dict[str, ContainerStatus]:
    """Return a Pod's container statuses by name, init containers included."""
    if status is None:
        return {}
    return {one.name: one for one in (*(status.init_container_statuses or ()), *(status.container_statuses or ()))}


def app_exists(pod: Pod, seen: ObservedPod) -> bool:
    """Tell whether an app container has been created in the current sandbox: the pod is initialized."""
    return any(_in_current_sandbox(seen, one.name) for one in pod.spec.containers)


def at_end(pod: Pod, statuses: Mapping[str, ContainerStatus]) -> dict[str, ContainerStatus]:
    """Return the statuses of a pod of which nothing runs and nothing will: what got lost is shown as killed.

    Containers of which there is no sign that they were ever started stay as they are.
    """
    inits = [statuses[one.name] for one in pod.spec.init_containers or ()]
    begun = [i for i, one in enumerate(inits) if one.state.waiting is None or one.last_state.terminated is not None]
    lost = {one.name for one in inits[: max(begun, default=0) + 1]}
    if _has_initialized(pod, statuses):
        lost.update(one.name for one in pod.spec.containers)
    gone = ContainerState(terminated=_killed("ContainerStatusUnknown", _LOST_AT_END))
    return {
        name: msgspec.structs.replace(one, state=gone, ready=False, started=False)
        if name in lost and one.state.terminated is None
        else one
        for name, one in statuses.items()
    }


def _has_initialized(pod: Pod, statuses: Mapping[str, ContainerStatus]) -> bool:
    inits = pod.spec.init_containers or []
    if not inits:
        return True
    apps = [statuses[one.name] for one in pod.spec.containers]
    if any(one.last_state.terminated is not None or one.state.running is not None for one in apps):
        return True
    last = statuses[inits[-1].name]
    if inits[-1].restart_policy == "Always":
        return bool(last.started)
    return any(end is not None and end.exit_code == 0 for end in (last.state.terminated, last.last_state.terminated))


def _in_current_sandbox(seen: ObservedPod, name: str) -> bool:
    latest = seen.latest(name)
    if latest is None:
        return False
    return not latest.sandbox_id or not seen.sandboxes or latest.sandbox_id == seen.sandboxes[0].id


class _Builder:
    """Makes one container's status after the other."""

    def __init__(self, pod: Pod, seen: ObservedPod, facts: ContainerFacts) -> None:
        self._pod = pod
        self._seen = seen
        self._facts = facts
        inits = pod.spec.init_containers or []
        self._count = len(inits) + len(pod.spec.containers)
        self._app_exists = app_exists(pod, seen)
        self._waiting = _waiting("PodInitializing" if inits else "ContainerCreating")

    def status(self, container: Container, old: ContainerStatus | None, *, is_init: bool) -> ContainerStatus:
        """Return the status of one container."""
        latest = self._seen.latest(container.name)
        begins = latest is not None and latest.state in (RunState.CREATED, RunState.RUNNING)
        if begins and container.name in self._facts.starting:
            # Nothing is told of an instance before its postStart hook is done: the kubelet's worker is busy with it.
            if old is not None:
                return old
            latest = None
        if latest is None:
            return self._without_instance(container, old, is_init=is_init)
        state, last = self._states(container, latest, old, is_init=is_init)
        return self._status(container, latest, old, state, last, is_init=is_init)

    def _states(
        self, container: Container, latest: ObservedContainer, old: ContainerStatus | None, *, is_init: bool
    ) -> tuple[ContainerState, ContainerState]:
        instances = self._seen.containers[container.name]
        state = self._state(container, latest)
        previous = next((one for one in instances[1:] if one.exit is not None), None)
        if previous is not None:
            last = ContainerState(terminated=self._terminated(container, previous))
        elif old is not None and old.state.terminated is not None and not old.container_id.endswith(latest.id):
            last = old.state  # its record is lost; it was shown
        else:
            kept = old is not None and old.last_state.terminated is not None
            last = old.last_state if old is not None and kept else ContainerState()
        failure = self._seen.start_failures.get(container.name)
        if failure is not None and self._is_to_start(container, latest, is_init=is_init):
            if state.terminated is not None:
                last = ContainerState(terminated=state.terminated)
            state = _waiting(failure.reason, failure.message)
        return state, last

    def _is_to_start(self, container: Container, latest: ObservedContainer, *, is_init: bool) -> bool:
        if not self._facts.may_restart or latest.state is RunState.RUNNING:
            return False
        if is_init and latest.exit is not None and latest.exit.exit_code == 0:
            return False  # as the kubelet has it also for a sidecar that waits for its restart
        return latest.exit is None or wants_restart(self._pod, container, latest.exit.exit_code)

    def _without_instance(self, container: Container, old: ContainerStatus | None, *, is_init: bool) -> ContainerStatus:
        """Return the status of a container of which the runtime knows nothing: not yet, or not any more."""
        state, last, count = self._waiting, ContainerState(), 0
        # A sidecar may be lost just so, and is started again; a regular init container must have done its work.
        done_before = is_init and container.restart_policy != "Always" and self._app_exists
        if old is not None:
            last, count = old.last_state, old.restart_count
            removed = old.state.waiting is not None and old.state.waiting.reason == RESTARTING_ALL
            if self._facts.restarting and (old.container_id or removed):
                state = _waiting(RESTARTING_ALL, _REMOVED)
                last = ContainerState(terminated=_killed(RESTARTING_ALL, _REMOVED))
                count += not removed
            elif old.state.terminated is not None and (is_init or not self._restarts_after(container, old)):
                return old  # its record may have been removed at any time
            elif old.state.running is not None and not done_before:
                last = ContainerState(terminated=_killed("ContainerStatusUnknown", _LOST))
                count += 1
        if done_before and not self._facts.restarting:
            state = ContainerState(terminated=_killed("Completed", _DONE_BEFORE, exit_code=0))
        failure = self._seen.start_failures.get(container.name)
        if failure is not None and state.terminated is None:
            state = _waiting(failure.reason, failure.message)
        return ContainerStatus(
            name=container.name,
            state=state,
            last_state=last,
            ready=self._ready(container, None, state, started=False, is_init=is_init),
            restart_count=count,
            image=container.image,
            image_id="",
            started=False,
            volume_mounts=_mount_statuses(container),
        )

    def _restarts_after(self, container: Container, old: ContainerStatus) -> bool:
        ended = old.state.terminated
        return ended is None or wants_restart(self._pod, container, ended.exit_code)

    def _status(
        self,
        container: Container,
        latest: ObservedContainer,
        old: ContainerStatus | None,
        state: ContainerState,
        last: ContainerState,
        *,
        is_init: bool,
    ) -> ContainerStatus:
        container_id = f"{RUNTIME}://{latest.id}"
        # An instance keeps what it was made with, whatever an edit under the same uid wants of the next one.
        made = old if old is not None and old.container_id == container_id else None
        resources = made.resources if made is not None and state.running is not None else None
        started = state.running is not None and self._started(container, latest)
        return ContainerStatus(
            name=container.name,
            state=state,
            last_state=last,
            ready=self._ready(container, latest, state, started=started, is_init=is_init),
            restart_count=latest.restart_count,
            image=made.image if made is not None else container.image,
            image_id=f"{RUNTIME}://host",
            container_id=container_id,
            started=started,
            allocated_resources=container.resources.requests,
            resources=container.resources if resources is None else resources,
            volume_mounts=_mount_statuses(container),
            user=_user(latest),
            stop_signal=container.lifecycle.stop_signal if container.lifecycle is not None else None,
        )

    def _state(self, container: Container, latest: ObservedContainer) -> ContainerState:
        match latest.state:
            case RunState.CREATED:
                return ContainerState(waiting=ContainerStateWaiting())
            case RunState.RUNNING:
                started = latest.started_at if latest.started_at is not None else latest.created_at
                return ContainerState(running=ContainerStateRunning(started_at=rfc3339(started)))
            case RunState.EXITED | RunState.UNKNOWN:
                return ContainerState(terminated=self._terminated(container, latest))

    def _terminated(self, container: Container, instance: ObservedContainer) -> ContainerStateTerminated:
        ended = instance.exit
        written = self._facts.message_of(container, instance)
        runtime = ended.message if ended is not None else ""
        # Of an instance that has never started, containerd tells the time 0 and the kubelet passes it on.
        started = instance.started_at if instance.started_at is not None else 0.0
        return ContainerStateTerminated(
            exit_code=ended.exit_code if ended is not None else 255,
            signal=0,
            reason=ended.reason if ended is not None else "Unknown",
            message=cut(": ".join(text for text in (runtime, written) if text), self._count),
            started_at=rfc3339(started),
            finished_at=rfc3339(ended.finished_at) if ended is not None else None,
            container_id=f"{RUNTIME}://{instance.id}",
        )

    def _started(self, container: Container, latest: ObservedContainer) -> bool:
        if container.startup_probe is None:
            return True
        return self._seen.startup.get(latest.id) is ProbeOutcome.SUCCESS

    def _ready(
        self,
        container: Container,
        latest: ObservedContainer | None,
        state: ContainerState,
        *,
        started: bool,
        is_init: bool,
    ) -> bool:
        if is_init and container.restart_policy != "Always":
            return state.terminated is not None and state.terminated.exit_code == 0
        if state.running is None or not started or latest is None:
            return False
        if container.readiness_probe is None:
            return True
        return self._seen.readiness.get(latest.id) is ProbeOutcome.SUCCESS


def _waiting(reason: str, message: str = "") -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


def _killed(reason: str, message: str, *, exit_code: int = _KILLED) -> ContainerStateTerminated:
    """Return the end of an instance of which nothing is known but that it has ended."""
    return ContainerStateTerminated(
        exit_code=exit_code, reason=reason, message=message, started_at=None, finished_at=None
    )


def _mount_statuses(container: Container) -> list[VolumeMountStatus] | None:
    return [_mount_status(one) for one in container.volume_mounts or ()] or None


def _mount_status(mount: VolumeMount) -> VolumeMountStatus:
    recursive = None
    if mount.read_only:
        recursive = "Enabled" if mount.recursive_read_only in ("Enabled", "IfPossible") else "Disabled"
    return VolumeMountStatus(
        name=mount.name, mount_path=mount.mount_path, read_only=mount.read_only, recursive_read_only=recursive
    )


def _user(latest: ObservedContainer) -> ContainerUser | None:
    if latest.user is None:
        return None
    user = latest.user
    return ContainerUser(linux=LinuxContainerUser(uid=user.uid, gid=user.gid, supplemental_groups=list(user.groups)))


def rfc3339(seconds: float) -> str:
    """Return Unix time as whole-second RFC 3339 in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
