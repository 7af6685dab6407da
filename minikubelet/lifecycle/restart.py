"""Whether a container that has ended is started again, and how long that waits.

Source: kubelet container/helpers.go `ShouldContainerBeRestarted`, kuberuntime `doBackOff`; client-go
flowcontrol/backoff.go (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import BackOff, ObservedContainer, RunState

INITIAL_DELAY_S: Final = 10.0
MAX_DELAY_S: Final = 300.0
# An instance that ran this long after its start begins with a fresh delay, whatever the maximum is.
RESET_AFTER_S: Final = 600.0


def wants_restart(pod: Pod, container: Container, exit_code: int) -> bool:
    """Tell whether an exit with this code is followed by a restart: rules, container policy, pod policy."""
    for rule in container.restart_policy_rules or ():
        codes = rule.exit_codes
        if codes is not None and (exit_code in (codes.values or ())) == (codes.operator == "In"):
            return rule.action in ("Restart", "RestartAllContainers")
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


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
    return now - finished < entry.delay


def next_back_off(entry: BackOff | None, finished: float, now: float, *, maximum: float = MAX_DELAY_S) -> BackOff:
    """Return the entry after a start: the delay doubles at each start, up to the maximum."""
    if entry is None or has_expired(entry, finished):
        return BackOff(delay=min(INITIAL_DELAY_S, maximum), updated_mono=now)
    return BackOff(delay=min(entry.delay * 2, maximum), updated_mono=now)


def has_expired(entry: BackOff, finished: float) -> bool:
    """Tell whether the exit came so long after the last start that the delay begins anew."""
    return finished - entry.updated_mono > RESET_AFTER_S


def back_off_message(delay: float, container: str, pod: str) -> str:
    """Return the message of state CrashLoopBackOff; `pod` is `name_namespace(uid)`."""
    return f"back-off {go_duration(delay)} restarting failed container={container} pod={pod}"


def go_duration(seconds: float) -> str:
    """Return a duration of whole seconds as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
