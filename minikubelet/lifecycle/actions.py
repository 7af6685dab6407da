"""What to do next for one Pod: the kubelet's computePodActions and the back-off that follows it, with all passed in.

The plan is an ordered list: end what must end, make the sandbox, start what may be started now. A regular init
container holds up what comes after it, so a plan starts at most one; sidecars and app containers are started together.
Source: kubelet kuberuntime_manager.go `computePodActions`, `computeInitContainerActions` (v1.36).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import restart, termination
from minikubelet.lifecycle.observed import (
    BackOff,
    ContainerID,
    ObservedContainer,
    ObservedPod,
    ProbeOutcome,
    RunState,
)
from minikubelet.lifecycle.pods import all_containers, full_name
from minikubelet.lifecycle.termination import Cause

_NOT_KNOWN: Final = 'is in "unknown" state, try killing it before restart'


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPod:
    """End every container and the sandbox; then forget the instances in `purge`."""

    sandbox_changed: bool
    purge: tuple[ContainerID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSandbox:
    """Make the sandbox; `attempt` counts those of this pod from 0."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KillContainer:
    """End one running container."""

    name: str
    id: ContainerID
    message: str
    grace_s: float
    run_pre_stop: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveContainer:
    """Forget an instance that has ended and that nobody asks for any more.

    `back_off` is the container's entry from now on, for one that restarts the whole pod in place.
    """

    name: str
    id: ContainerID
    back_off: BackOff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A container that is to be started when its back-off is over."""

    name: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer:
    """Start one container. `back_off` is its entry from now on, None when it has not failed yet.

    `restart_count` is None when no earlier instance is known; log files may then tell of some. One that takes the place
    of an instance that this plan ends has to wait (`waiting`) if that is over before `not_before`, on the boot clock.
    """

    name: str
    restart_count: int | None
    back_off: BackOff | None = None
    not_before: float = 0.0
    waiting: Waiting | None = None


Action = KillPod | CreateSandbox | KillContainer | RemoveContainer | StartContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, which containers wait, and when to ask again (`wake_at`, seconds of the boot clock)."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    wake_at: float | None = None


@dataclass(slots=True)
class _Changes:
    """Being worked out: names to start, and kills by container name."""

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    start_init: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    kill: dict[str, KillContainer] = field(default_factory=dict)


def compute_actions(pod: Pod, seen: ObservedPod, now: float, *, max_back_off_s: float = restart.MAX_DELAY_S) -> Plan:
    """Say what to do next for one Pod, and when to ask again.

    Args:
        pod: The desired Pod, validated and with defaults filled.
        seen: What the runtime reported, taken after every earlier action finished.
        now: Seconds on the boot clock, which stamped `seen`.
        max_back_off_s: Longest delay between an exit and the restart.
    """
    if restart.is_restarting_all(pod, seen):
        return _restart_all(pod, seen, now, max_back_off_s)
    changes = _compute_changes(pod, seen)
    actions: list[Action] = [*_strangers(pod, seen)]
    if changes.kill_pod:
        purge = _init_instances(pod, seen) if changes.create_sandbox else ()
        actions.append(KillPod(sandbox_changed=changes.create_sandbox and bool(seen.sandboxes), purge=purge))
    actions.extend(changes.kill.values())
    if changes.create_sandbox:
        actions.append(CreateSandbox(attempt=changes.attempt))
    waiting: list[Waiting] = []
    due: list[float] = []
    inits = pod.spec.init_containers or []
    names = [inits[i] for i in sorted(changes.start_init)] + [pod.spec.containers[i] for i in changes.start]
    for container in names:
        _start(pod, container, seen, now, max_back_off_s, actions, waiting, due, killed=container.name in changes.kill)
    return Plan(actions=tuple(actions), waiting=tuple(waiting), wake_at=min(due, default=None))


def _restart_all(pod: Pod, seen: ObservedPod, now: float, maximum: float) -> Plan:
    """Plan to restart the whole pod in its sandbox: end what runs, then forget all instances, the trigger's last.

    So a daemon that comes back half-way sees the trigger and goes on, and one that finds nothing starts from the first
    init container, as for a new pod. All is ended at once; how soon it begins anew is up to the trigger's back-off.
    """
    kills: list[Action] = []
    first: list[Action] = []
    last: list[Action] = []
    waiting: list[Waiting] = []
    due: list[float] = []
    for container in all_containers(pod):
        instances = seen.containers.get(container.name, ())
        for one in instances[:1]:
            if one.state is not RunState.EXITED:
                message = f"Stopping container {container.name}"
                kills.append(
                    KillContainer(name=container.name, id=one.id, message=message, grace_s=0, run_pre_stop=False)
                )
        latest = seen.latest(container.name)
        if latest is None or latest.exit is None or not restart.triggers_restart_all(container, latest):
            first.extend(RemoveContainer(name=container.name, id=one.id) for one in instances[::-1])
            continue
        entry, finished = seen.back_off.get(container.name), latest.exit.finished_mono
        if entry is not None and restart.is_in_back_off(entry, finished, now):
            waiting.append(_wait(pod, container.name, entry))
            due.append(finished + entry.delay)
        entry = restart.next_back_off(entry, finished, now, maximum=maximum)
        last.extend(RemoveContainer(name=container.name, id=one.id, back_off=entry) for one in instances[::-1])
    if due:
        return Plan(actions=(*kills, *first), waiting=tuple(waiting), wake_at=max(due))
    return Plan(actions=(*kills, *first, *last), wake_at=now)


def _wait(pod: Pod, name: str, entry: BackOff) -> Waiting:
    return Waiting(name=name, message=restart.back_off_message(entry.delay, name, full_name(pod)))


def _strangers(pod: Pod, seen: ObservedPod) -> list[KillContainer]:
    """End containers that an edit under the same uid took out of the pod."""
    wanted = {one.name for one in all_containers(pod)}
    return [
        KillContainer(
            name=name,
            id=found[0].id,
            message=f"Stopping container {name}",
            grace_s=termination.container_grace_s(pod_s=pod.spec.termination_grace_period_seconds),
        )
        for name, found in seen.containers.items()
        if name not in wanted and found and found[0].state is not RunState.EXITED
    ]


def _start(
    pod: Pod,
    container: Container,
    seen: ObservedPod,
    now: float,
    maximum: float,
    actions: list[Action],
    waiting: list[Waiting],
    due: list[float],
    *,
    killed: bool,
) -> None:
    instances = seen.containers.get(container.name, ())
    entry = seen.back_off.get(container.name)
    ended = next((one.exit for one in instances if one.state is RunState.EXITED and one.exit is not None), None)
    not_before, wait = 0.0, None
    if ended is not None:
        # The kubelet counts from the exit, not from the start; and, where it ends an instance first, looks afterwards.
        if entry is not None and restart.is_in_back_off(entry, ended.finished_mono, now):
            not_before, wait = ended.finished_mono + entry.delay, _wait(pod, container.name, entry)
            if not killed:
                waiting.append(wait)
                due.append(not_before)
                return
        entry = restart.next_back_off(entry, ended.finished_mono, now, maximum=maximum)
    # One dead instance is kept beside the one that runs, for lastState.
    actions.extend(RemoveContainer(name=one.name, id=one.id) for one in instances[1:] if one.state is RunState.EXITED)
    count = instances[0].restart_count + 1 if instances else None
    actions.append(
        StartContainer(name=container.name, restart_count=count, back_off=entry, not_before=not_before, waiting=wait)
    )


def _compute_changes(pod: Pod, seen: ObservedPod) -> _Changes:
    changed, attempt = sandbox_changed(pod, seen)
    changes = _Changes(kill_pod=changed, create_sandbox=changed, attempt=attempt)
    if changed:
        _plan_new_sandbox(pod, seen, changes)
        return changes
    initialized = _plan_init_containers(pod, seen, changes)
    if changes.kill_pod:
        changes.start_init.clear()
    if changes.kill_pod or not initialized:
        return changes
    _plan_app_containers(pod, seen, changes)
    return changes


def sandbox_changed(pod: Pod, seen: ObservedPod) -> tuple[bool, int]:
    """Tell whether a new sandbox is needed, and which attempt it would be (or the current one is)."""
    if not seen.sandboxes:
        return True, 0
    newest = seen.sandboxes[0]
    if not newest.ready or sum(one.ready for one in seen.sandboxes) > 1:
        return True, newest.attempt + 1
    if newest.host_network != pod.spec.host_network:
        return True, newest.attempt + 1
    if not newest.host_network and not newest.ips:
        return True, newest.attempt + 1
    return False, newest.attempt


def _plan_new_sandbox(pod: Pod, seen: ObservedPod, changes: _Changes) -> None:
    has_run = any(seen.containers.values())
    restartable = any(restart.restarts_on_failure(pod, one) for one in pod.spec.containers)
    if not restartable and changes.attempt != 0 and has_run:
        changes.create_sandbox = False
        return
    start = [i for i, one in enumerate(pod.spec.containers) if not _succeeded_for_good(pod, one, seen)]
    created = any(seen.containers.get(one.name) for one in pod.spec.containers)
    if not start and (created or not pod.spec.init_containers):
        changes.create_sandbox = False
        return
    if pod.spec.init_containers:
        changes.start_init.append(0)
        return
    changes.start.extend(start)


def _succeeded_for_good(pod: Pod, container: Container, seen: ObservedPod) -> bool:
    latest = seen.latest(container.name)
    policy = container.restart_policy or pod.spec.restart_policy
    succeeded = latest is not None and latest.exit is not None and latest.exit.exit_code == 0
    return policy != "Always" and succeeded


def _plan_init_containers(pod: Pod, seen: ObservedPod, changes: _Changes) -> bool:
    """Plan for the init containers, last first; return whether app containers may run.

    Progress is read from the last init container that has a status: all before it have done their work. A sidecar is
    kept running from its turn on, whatever else happens.
    """
    inits = pod.spec.init_containers or []
    if not inits:
        return True
    initialized = any(_active(seen, one.name) for one in pod.spec.containers)
    found_progress = initialized
    any_status = False
    for index in range(len(inits) - 1, -1, -1):
        container = inits[index]
        latest = _active(seen, container.name)
        sidecar = container.restart_policy == "Always"
        if latest is None:
            if found_progress and sidecar:
                changes.start_init.append(index)
            continue
        any_status = True
        if found_progress and not sidecar:
            continue
        if sidecar:
            started = _plan_sidecar(pod, container, index, latest, seen, changes)
            if started and not found_progress:
                if index == len(inits) - 1:
                    initialized = True
                else:
                    changes.start_init.append(index + 1)
        else:
            finished = _plan_regular_init(pod, container, index, latest, changes)
            if changes.kill_pod:
                return False
            if finished:
                if index == len(inits) - 1:
                    initialized = True
                else:
                    changes.start_init.append(index + 1)
        found_progress = True
    if not any_status and not initialized:
        changes.start_init.append(0)
    changes.start_init = sorted(set(changes.start_init))
    return initialized


def _active(seen: ObservedPod, name: str) -> ObservedContainer | None:
    """Return the newest instance, but only if it belongs to the current sandbox: a new one begins from the start."""
    latest = seen.latest(name)
    if latest is None or not latest.sandbox_id or not seen.sandboxes:
        return latest
    return latest if latest.sandbox_id == seen.sandboxes[0].id else None


def _plan_sidecar(
    pod: Pod, container: Container, index: int, latest: ObservedContainer, seen: ObservedPod, changes: _Changes
) -> bool:
    """Plan for one sidecar; return whether it has started, so that the next init container may."""
    if latest.state is not RunState.RUNNING:
        if latest.state is RunState.UNKNOWN:
            _kill(changes, pod, container, latest, f"Init container {_NOT_KNOWN}")
        changes.start_init.append(index)
        return False
    message, cause = "", Cause.OTHER
    outcome = seen.startup.get(latest.id, ProbeOutcome.UNKNOWN) if container.startup_probe else ProbeOutcome.SUCCESS
    if outcome is ProbeOutcome.FAILURE:
        message, cause = f"Init container {container.name} failed startup probe", Cause.STARTUP
    elif outcome is ProbeOutcome.UNKNOWN:
        pass  # whether it has to be another one is looked at once it has started
    elif _definition_changed(latest, seen):
        message = f"Init container {container.name} definition changed"
    elif container.liveness_probe is not None and seen.liveness.get(latest.id) is ProbeOutcome.FAILURE:
        message, cause = f"Init container {container.name} failed liveness probe", Cause.LIVENESS
    if message:
        _kill(changes, pod, container, latest, message, cause)
        changes.start_init.append(index)
    return outcome is ProbeOutcome.SUCCESS


def _plan_regular_init(
    pod: Pod, container: Container, index: int, latest: ObservedContainer, changes: _Changes
) -> bool:
    """Plan for one regular init container; return whether it has finished with success."""
    match latest.state:
        case RunState.RUNNING:
            return False
        case RunState.CREATED:
            changes.start_init.append(index)
            return False
        case RunState.UNKNOWN:
            if not restart.restarts_on_failure(pod, container):
                changes.kill_pod = True
                return False
            _kill(changes, pod, container, latest, f"Init container {_NOT_KNOWN}")
            changes.start_init.append(index)
            return False
        case RunState.EXITED:
            code = latest.exit.exit_code if latest.exit is not None else 255
            failed = code != 0 or (latest.exit is not None and latest.exit.reason == "OOMKilled")
            if not failed:
                return True
            if not restart.wants_restart(pod, container, code or 1):
                changes.kill_pod = True
                return False
            changes.start_init.append(index)
            return False


def _plan_app_containers(pod: Pod, seen: ObservedPod, changes: _Changes) -> None:
    kept = 0
    for index, container in enumerate(pod.spec.containers):
        latest = seen.latest(container.name)
        if latest is None or latest.state is not RunState.RUNNING:
            if restart.should_be_restarted(pod, container, latest):
                changes.start.append(index)
                if latest is not None and latest.state is RunState.UNKNOWN:
                    _kill(changes, pod, container, latest, f"Container {_NOT_KNOWN}")
            continue
        again = restart.restarts_on_failure(pod, container)
        cause = Cause.OTHER
        if _definition_changed(latest, seen):
            message, again = f"Container {container.name} definition changed", True
        elif container.liveness_probe is not None and seen.liveness.get(latest.id) is ProbeOutcome.FAILURE:
            message = f"Container {container.name} failed liveness probe"
            cause = Cause.LIVENESS
        elif container.startup_probe is not None and seen.startup.get(latest.id) is ProbeOutcome.FAILURE:
            message = f"Container {container.name} failed startup probe"
            cause = Cause.STARTUP
        else:
            kept += 1
            continue
        if again:
            message += ", will be restarted"
            changes.start.append(index)
        _kill(changes, pod, container, latest, message, cause)
    if kept == 0 and not changes.start:
        changes.kill_pod = True
        # A sidecar does not keep a finished pod alive.
        changes.start_init.clear()


def _definition_changed(latest: ObservedContainer, seen: ObservedPod) -> bool:
    """Tell whether a running container is another than the one that is wanted: its image differs."""
    return bool(latest.spec_hash) and latest.spec_hash != seen.wanted_hashes.get(latest.name, latest.spec_hash)


def _kill(
    changes: _Changes,
    pod: Pod,
    container: Container,
    latest: ObservedContainer,
    message: str,
    cause: Cause = Cause.OTHER,
) -> None:
    changes.kill[container.name] = KillContainer(
        name=container.name,
        id=latest.id,
        message=message,
        grace_s=termination.kill_grace_s(pod, container, cause),
    )


def _init_instances(pod: Pod, seen: ObservedPod) -> tuple[ContainerID, ...]:
    names = {one.name for one in pod.spec.init_containers or ()}
    # The newest instance stays known for its restart count; older ones say nothing any more.
    return tuple(one.id for name, found in seen.containers.items() if name in names for one in found[1:])
