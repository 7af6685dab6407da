"""What to do next for the init containers of one Pod, sidecars among them.

A regular init container holds up what comes after it, so at most one is started at a time; a sidecar is kept running
from its turn on, whatever else happens.
Source: kubelet kuberuntime_container.go `computeInitContainerActions` (v1.36).
"""

from __future__ import annotations

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import restart
from minikubelet.lifecycle.changes import Changes, definition_changed
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod, ProbeOutcome, RunState
from minikubelet.lifecycle.termination import Cause

_KIND = "Init container"


def plan_init_containers(pod: Pod, seen: ObservedPod, changes: Changes) -> bool:
    """Plan for the init containers, last first; return whether app containers may run.

    Progress is read from the last init container that has a status: all before it have done their work.
    """
    inits = pod.spec.init_containers or []
    if not inits:
        return True
    initialized = any(_current(seen, one.name) for one in pod.spec.containers)
    found_progress = initialized
    any_status = False
    for index in range(len(inits) - 1, -1, -1):
        container = inits[index]
        latest = _current(seen, container.name)
        is_sidecar = container.restart_policy == "Always"
        if latest is None:
            if found_progress and is_sidecar:
                changes.start_init.add(index)
            continue
        any_status = True
        if found_progress and not is_sidecar:
            continue
        plan = _plan_sidecar if is_sidecar else _plan_regular
        done = plan(pod, container, index, latest, seen, changes)
        if changes.kill_pod:
            return False
        if done and not found_progress:
            if index == len(inits) - 1:
                initialized = True
            else:
                changes.start_init.add(index + 1)
        found_progress = True
    if not any_status and not initialized:
        changes.start_init.add(0)
    return initialized


def _current(seen: ObservedPod, name: str) -> ObservedContainer | None:
    """Return the newest instance, but only if it belongs to the current sandbox: a new one begins from the start."""
    latest = seen.latest(name)
    if latest is None or not latest.sandbox_id or not seen.sandboxes:
        return latest
    return latest if latest.sandbox_id == seen.sandboxes[0].id else None


def _plan_sidecar(
    pod: Pod, container: Container, index: int, latest: ObservedContainer, seen: ObservedPod, changes: Changes
) -> bool:
    """Plan for one sidecar; return whether it has started, so that the next init container may."""
    if latest.state is not RunState.RUNNING:
        if latest.state is RunState.UNKNOWN:
            changes.end_unknown(pod, container, latest, _KIND)
        changes.start_init.add(index)
        return False
    message, cause = "", Cause.OTHER
    outcome = seen.startup.get(latest.id, ProbeOutcome.UNKNOWN) if container.startup_probe else ProbeOutcome.SUCCESS
    if outcome is ProbeOutcome.FAILURE:
        message, cause = f"{_KIND} {container.name} failed startup probe", Cause.STARTUP
    elif outcome is ProbeOutcome.UNKNOWN:
        pass  # whether it has to be another one is looked at once it has started
    elif definition_changed(latest, seen):
        message = f"{_KIND} {container.name} definition changed"
    elif container.liveness_probe is not None and seen.liveness.get(latest.id) is ProbeOutcome.FAILURE:
        message, cause = f"{_KIND} {container.name} failed liveness probe", Cause.LIVENESS
    if message:
        changes.end(pod, container, latest, message, cause)
        changes.start_init.add(index)
    return outcome is ProbeOutcome.SUCCESS


def _plan_regular(
    pod: Pod, container: Container, index: int, latest: ObservedContainer, seen: ObservedPod, changes: Changes
) -> bool:
    """Plan for one regular init container; return whether it has finished with success."""
    match latest.state:
        case RunState.RUNNING:
            return False
        case RunState.CREATED:
            again = True
        case RunState.UNKNOWN:
            again = restart.restarts_on_failure(pod, container)
            if again:
                changes.end_unknown(pod, container, latest, _KIND)
        case RunState.EXITED:
            code = latest.exit.exit_code if latest.exit is not None else 255
            if code == 0 and not (latest.exit is not None and latest.exit.reason == "OOMKilled"):
                return True
            again = restart.wants_restart(pod, container, code or 1)
    if again:
        changes.start_init.add(index)
    else:
        changes.kill_pod = True
    return False
