"""What to do next for one Pod: the kubelet's computePodActions and the back-off that follows it, with all passed in.

The plan is an ordered list: end what must end, make the sandbox, start what may be started now. A regular init
container holds up what comes after it, so a plan starts at most one; sidecars and app containers are started together.
Source: kubelet kuberuntime_manager.go `computePodActions` (v1.36).
"""

from __future__ import annotations

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import restart, termination
from minikubelet.lifecycle.changes import Changes, definition_changed
from minikubelet.lifecycle.init_actions import plan_init_containers
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, ObservedPod, ProbeOutcome, RunState
from minikubelet.lifecycle.plan import (
    Action,
    CreateSandbox,
    KillContainer,
    KillPod,
    Plan,
    RemoveContainer,
    StartContainer,
    Waiting,
)
from minikubelet.lifecycle.pods import all_containers
from minikubelet.lifecycle.restart_all import restart_all
from minikubelet.lifecycle.termination import Cause


def compute_actions(pod: Pod, seen: ObservedPod, now: float, *, max_back_off_s: float = restart.MAX_DELAY_S) -> Plan:
    """Say what to do next for one Pod, and when to ask again.

    Args:
        pod: The desired Pod, validated and with defaults filled.
        seen: What the runtime reported, taken after every earlier action finished.
        now: Seconds on the boot clock, which stamped `seen`.
        max_back_off_s: Longest delay between an exit and the restart.
    """
    if restart.is_restarting_all(pod, seen):
        return restart_all(pod, seen, now, max_back_off_s=max_back_off_s)
    changes = _compute_changes(pod, seen)
    actions: list[Action] = [*_strangers(pod, seen)]
    if changes.kill_pod:
        purge = _init_instances(pod, seen) if changes.create_sandbox else ()
        actions.append(KillPod(sandbox_changed=changes.create_sandbox and bool(seen.sandboxes), purge=purge))
    actions.extend(changes.kill.values())
    if changes.create_sandbox:
        actions.append(CreateSandbox(attempt=changes.attempt))
    waiting: list[Waiting] = []
    for container in _to_start(pod, changes):
        start = _start(pod, container, seen, now, max_back_off_s)
        if start.waiting is not None and container.name not in changes.kill:
            waiting.append(start.waiting)
            continue
        # One dead instance is kept beside the one that runs, for lastState.
        dead = [one for one in seen.containers.get(container.name, ())[1:] if one.state is RunState.EXITED]
        actions.extend(RemoveContainer(name=one.name, id=one.id) for one in dead)
        actions.append(start)
    return Plan(
        actions=tuple(actions), waiting=tuple(waiting), wake_at=min((one.until for one in waiting), default=None)
    )


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


def _compute_changes(pod: Pod, seen: ObservedPod) -> Changes:
    changed, attempt = sandbox_changed(pod, seen)
    changes = Changes(kill_pod=changed, create_sandbox=changed, attempt=attempt)
    if changed:
        _plan_new_sandbox(pod, seen, changes)
        return changes
    initialized = plan_init_containers(pod, seen, changes)
    if changes.kill_pod:
        changes.start_init.clear()
    elif initialized:
        _plan_app_containers(pod, seen, changes)
    return changes


def _plan_new_sandbox(pod: Pod, seen: ObservedPod, changes: Changes) -> None:
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
        changes.start_init.add(0)
        return
    changes.start.extend(start)


def _succeeded_for_good(pod: Pod, container: Container, seen: ObservedPod) -> bool:
    latest = seen.latest(container.name)
    policy = container.restart_policy or pod.spec.restart_policy
    succeeded = latest is not None and latest.exit is not None and latest.exit.exit_code == 0
    return policy != "Always" and succeeded


def _plan_app_containers(pod: Pod, seen: ObservedPod, changes: Changes) -> None:
    kept = 0
    for index, container in enumerate(pod.spec.containers):
        latest = seen.latest(container.name)
        if latest is None or latest.state is not RunState.RUNNING:
            if restart.should_be_restarted(pod, container, latest):
                changes.start.append(index)
                if latest is not None and latest.state is RunState.UNKNOWN:
                    changes.end_unknown(pod, container, latest, "Container")
            continue
        trouble = _trouble(container, latest, seen)
        if trouble is None:
            kept += 1
            continue
        message, cause = trouble
        if cause is Cause.OTHER or restart.restarts_on_failure(pod, container):
            message += ", will be restarted"
            changes.start.append(index)
        changes.end(pod, container, latest, message, cause)
    if kept == 0 and not changes.start:
        changes.kill_pod = True
        # A sidecar does not keep a finished pod alive.
        changes.start_init.clear()


def _trouble(container: Container, latest: ObservedContainer, seen: ObservedPod) -> tuple[str, Cause] | None:
    """Say why a running app container has to end, None when it may run on."""
    if definition_changed(latest, seen):
        return f"Container {container.name} definition changed", Cause.OTHER
    if container.liveness_probe is not None and seen.liveness.get(latest.id) is ProbeOutcome.FAILURE:
        return f"Container {container.name} failed liveness probe", Cause.LIVENESS
    if container.startup_probe is not None and seen.startup.get(latest.id) is ProbeOutcome.FAILURE:
        return f"Container {container.name} failed startup probe", Cause.STARTUP
    return None


def _to_start(pod: Pod, changes: Changes) -> list[Container]:
    inits = pod.spec.init_containers or []
    return [inits[i] for i in sorted(changes.start_init)] + [pod.spec.containers[i] for i in changes.start]


def _start(pod: Pod, container: Container, seen: ObservedPod, now: float, maximum: float) -> StartContainer:
    """Return the start of a container; it says so when the back-off is not over."""
    instances = seen.containers.get(container.name, ())
    entry = seen.back_off.get(container.name)
    ended = next((one.exit for one in instances if one.state is RunState.EXITED and one.exit is not None), None)
    waiting = None
    if ended is not None:
        # The kubelet counts from the exit, not from the start; and, where it ends an instance first, looks afterwards.
        waiting = restart.back_off_wait(pod, container.name, entry, ended.finished_mono, now)
        entry = restart.next_back_off(entry, ended.finished_mono, now, maximum=maximum)
    count = instances[0].restart_count + 1 if instances else None
    return StartContainer(name=container.name, restart_count=count, back_off=entry, waiting=waiting)


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


def _init_instances(pod: Pod, seen: ObservedPod) -> tuple[ContainerID, ...]:
    names = {one.name for one in pod.spec.init_containers or ()}
    # The newest instance stays known for its restart count; older ones say nothing any more.
    return tuple(one.id for name, found in seen.containers.items() if name in names for one in found[1:])
