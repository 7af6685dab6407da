"""What to do next for one Pod that a container's rule restarts as a whole, in its sandbox (RestartAllContainers).

All is ended at once; how soon it begins anew is up to the trigger's back-off. All instances are forgotten, the
trigger's last: so a daemon that comes back half-way sees the trigger and goes on, and one that finds nothing starts
from the first init container, as for a new pod.
"""

from __future__ import annotations

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle import restart
from minikubelet.lifecycle.observed import ObservedContainer, ObservedPod, RunState
from minikubelet.lifecycle.plan import Action, KillContainer, Plan, RemoveContainer, Waiting
from minikubelet.lifecycle.pods import all_containers


def restart_all(pod: Pod, seen: ObservedPod, now: float, *, max_back_off_s: float) -> Plan:
    """Plan the restart of the whole pod; times are seconds of the boot clock."""
    kills: list[Action] = []
    first: list[Action] = []
    last: list[Action] = []
    waiting: list[Waiting] = []
    for container in all_containers(pod):
        instances = seen.containers.get(container.name, ())
        kills.extend(_end(container, one) for one in instances[:1] if one.state is not RunState.EXITED)
        latest = seen.latest(container.name)
        if latest is None or latest.exit is None or not restart.triggers_restart_all(container, latest):
            first.extend(RemoveContainer(name=container.name, id=one.id) for one in instances[::-1])
            continue
        entry, finished = seen.back_off.get(container.name), latest.exit.finished_mono
        wait = restart.back_off_wait(pod, container.name, entry, finished, now)
        if wait is not None:
            waiting.append(wait)
        entry = restart.next_back_off(entry, finished, now, maximum=max_back_off_s)
        last.extend(RemoveContainer(name=container.name, id=one.id, back_off=entry) for one in instances[::-1])
    if waiting:
        wake_at = max(one.until for one in waiting)
        return Plan(actions=(*kills, *first), waiting=tuple(waiting), wake_at=wake_at)
    return Plan(actions=(*kills, *first, *last), wake_at=now)


def _end(container: Container, instance: ObservedContainer) -> KillContainer:
    message = f"Stopping container {container.name}"
    return KillContainer(name=container.name, id=instance.id, message=message, grace_s=0, run_pre_stop=False)
