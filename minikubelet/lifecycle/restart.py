"""Whether a container that has ended is started again, and how long that waits.

Source: kubelet container/helpers.go `ShouldContainerBeRestarted`, kuberuntime `doBackOff`; client-go
flowcontrol/backoff.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import BackOff, ObservedContainer, ObservedPod, RunState
from minikubelet.lifecycle.plan import Waiting
from minikubelet.lifecycle.pods import all_containers, full_name

INITIAL_DELAY_S: Final = 10.0
MAX_DELAY_S: Final = 300.0
# An instance that ran this long after its start begins with a fresh delay, whatever the maximum is.
RESET_AFTER_S: Final = 600.0
# Action of a rule, and reason of what it ended.
RESTART_ALL: Final = "RestartAllContainers"
RESTARTING_ALL: Final = "RestartingAllContainers"

_LOG_NAME: Final = re.compile(r"(\d+)\.log(\..*)?", re.ASCII)


def wants_restart(pod: Pod, container: Container, exit_code: int) -> bool:
    """Tell whether an exit with this code is followed by a restart: rules, container policy, pod policy."""
    action = rule_action(container, exit_code)
    if action is not None:
        return action in ("Restart", RESTART_ALL)
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def rule_action(container: Container, exit_code: int) -> str | None:
    """Return the action of the first restart rule that an exit code meets, or None."""
    for rule in container.restart_policy_rules or ():
        codes = rule.exit_codes
        if codes is not None and (exit_code in (codes.values or ())) == (codes.operator == "In"):
            return rule.action
    return None


def can_restart_all(pod: Pod) -> bool:
    """Tell whether any container has a rule that restarts the whole pod in place."""
    return any(rule.action == RESTART_ALL for one in all_containers(pod) for rule in one.restart_policy_rules or ())


def triggers_restart_all(container: Container, latest: ObservedContainer | None) -> bool:
    """Tell whether the way in which a container has ended restarts the whole pod in place."""
    if latest is None or latest.state is not RunState.EXITED or latest.exit is None:
        return False
    return rule_action(container, latest.exit.exit_code) == RESTART_ALL


def is_restarting_all(pod: Pod, seen: ObservedPod) -> bool:
    """Tell whether the pod is being restarted in place: the instance that triggered it is the last to be removed."""
    return any(triggers_restart_all(one, seen.latest(one.name)) for one in all_containers(pod))


def count_from_logs(names: Iterable[str]) -> int:
    """Return the restart count that follows from the log files there are: one more than the highest, or 0.

    For an instance of which the runtime knows no predecessor. Source: kubelet `calcRestartCountByLogDir` (v1.36).
    """
    found = (_LOG_NAME.fullmatch(name) for name in names)
    return max((int(one[1]) + 1 for one in found if one is not None), default=0)


def restarts_on_failure(pod: Pod, container: Container | None = None) -> bool:
    """Tell whether a failed container is started again at all."""
    policy = (container.restart_policy if container is not None else None) or pod.spec.restart_policy
    return policy != "Never"


def should_be_restarted(pod: Pod, container: Container, latest: ObservedContainer | None) -> bool:
    """Tell whether a container that is not running is (re)started now, back-off apart."""
    if pod.metadata.deletion_timestamp is not None:
        return False
    if latest is None:
        return True
    match latest.state:
        case RunState.RUNNING:
            return False
        case RunState.CREATED | RunState.UNKNOWN:
            return True
        case RunState.EXITED:
            return wants_restart(pod, container, latest.exit.exit_code if latest.exit is not None else 255)


def is_in_back_off(entry: BackOff | None, finished: float, now: float) -> bool:
    """Tell whether a start must still wait; all times on one clock, in seconds."""
    if entry is None or has_expired(entry, finished):
        return False
    return now < finished + entry.delay  # the very sum at which it is asked again: a difference may be rounded


def next_back_off(entry: BackOff | None, finished: float, now: float, *, maximum: float = MAX_DELAY_S) -> BackOff:
    """Return the entry after a start: the delay doubles at each start, up to the maximum."""
    if entry is None or has_expired(entry, finished):
        return BackOff(delay=min(INITIAL_DELAY_S, maximum), updated_mono=now)
    return BackOff(delay=min(entry.delay * 2, maximum), updated_mono=now)


def has_expired(entry: BackOff, finished: float) -> bool:
    """Tell whether the exit came so long after the last start that the delay begins anew."""
    return finished - entry.updated_mono > RESET_AFTER_S


def back_off_wait(pod: Pod, name: str, entry: BackOff | None, finished: float, now: float) -> Waiting | None:
    """Return how long a container waits, None when it may start.

    Args:
        pod: Its pod.
        name: The container.
        entry: Its back-off, None when it has not failed yet.
        finished: When it exited, in seconds of the boot clock.
        now: The time on that clock.
    """
    if entry is None or not is_in_back_off(entry, finished, now):
        return None
    message = f"back-off {go_duration(entry.delay)} restarting failed container={name} pod={full_name(pod)}"
    return Waiting(name=name, message=message, until=finished + entry.delay)


def go_duration(seconds: float) -> str:
    """Return a duration of whole seconds as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
