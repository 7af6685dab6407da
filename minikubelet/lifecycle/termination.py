"""How a container is ended, step by step, and how much time each step has. Pure.

    preStop hook ──► wait for turn (sidecars) ──► stop signal ──► SIGKILL ──► exited

One grace period covers hook, turn and stop signal together. Whoever carries an ending out tells what happened
(`Event`), gets the ending as it is then, and does what its new stage says; a pair that is not in the table changes
nothing. Whatever the grace, the main process has two seconds between the stop signal and SIGKILL.
Source: kubelet `killContainer`, `setTerminationGracePeriod`, `terminationOrdering`, pod workers'
`calculateEffectiveGracePeriod` (v1.36).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from minikubelet.api.types import Container, Pod, Probe
from minikubelet.lifecycle.pods import sidecars

# Even a spent grace period leaves the main process this long between the stop signal and SIGKILL.
MINIMUM_GRACE_S: Final = 2.0
_DEFAULT_GRACE_S: Final = 30.0


class Stage(Enum):
    """What is being done to a container that is being ended."""

    PRE_STOP = "pre-stop"  # its hook runs
    TURN = "turn"  # a sidecar waits until those that need it have ended
    TERM = "term"  # the stop signal has been sent
    KILL = "kill"  # SIGKILL has been sent
    ENDED = "ended"


class Event(Enum):
    """What happens to a container that is being ended."""

    HOOK_DONE = "hook done"
    TURN_CAME = "turn came"
    TIME_OVER = "time over"
    EXITED = "exited"


NEXT: Final[Mapping[tuple[Stage, Event], Stage]] = {
    (Stage.PRE_STOP, Event.HOOK_DONE): Stage.TURN,
    (Stage.PRE_STOP, Event.TIME_OVER): Stage.TERM,  # the hook is left to itself
    (Stage.PRE_STOP, Event.EXITED): Stage.ENDED,
    (Stage.TURN, Event.TURN_CAME): Stage.TERM,
    (Stage.TURN, Event.TIME_OVER): Stage.TERM,
    (Stage.TURN, Event.EXITED): Stage.ENDED,
    (Stage.TERM, Event.TIME_OVER): Stage.KILL,
    (Stage.TERM, Event.EXITED): Stage.ENDED,
    (Stage.KILL, Event.TIME_OVER): Stage.KILL,  # it sleeps uninterruptibly, or nobody was there to kill it
    (Stage.KILL, Event.EXITED): Stage.ENDED,
}


class Cause(Enum):
    """Why one container is ended, for its grace."""

    LIVENESS = "liveness"
    STARTUP = "startup"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One container's ending. Times are seconds on one steady clock.

    `deadline` is when the grace period is over; `entered` when the stage began.
    """

    stage: Stage
    deadline: float
    entered: float

    @property
    def due(self) -> float:
        """Return when this stage's time is over."""
        if self.stage is Stage.TERM:
            return max(self.deadline, self.entered + MINIMUM_GRACE_S)
        return self.entered + MINIMUM_GRACE_S if self.stage is Stage.KILL else self.deadline


def begin(now: float, grace_s: float, *, has_hook: bool, must_wait: bool) -> Ending:
    """Return the ending of a running container at its start; without grace no hook is run.

    Args:
        now: The time.
        grace_s: Seconds for hook, turn and stop signal together.
        has_hook: It has a preStop hook that is to be run.
        must_wait: It is a sidecar that others need.
    """
    stage = Stage.PRE_STOP if has_hook and grace_s > 0 else Stage.TURN if must_wait else Stage.TERM
    return Ending(stage=stage, deadline=now + grace_s, entered=now)


def after(ending: Ending, event: Event, now: float) -> Ending:
    """Return the ending after something happened. The kubelet charges hook and turn by whole seconds."""
    stage = NEXT.get((ending.stage, event))
    if stage is None:
        return ending
    deadline = ending.deadline
    if event in (Event.HOOK_DONE, Event.TURN_CAME):
        deadline += math.modf(max(0.0, now - ending.entered))[0]
    return Ending(stage=stage, deadline=deadline, entered=now)


def shortened(ending: Ending, deadline: float) -> Ending:
    """Return the ending with a deadline that can only come nearer."""
    return replace(ending, deadline=min(ending.deadline, deadline))


def kill_grace_s(pod: Pod, container: Container, cause: Cause) -> float:
    """Return the grace with which a container of a pod that goes on is ended, in seconds."""
    return container_grace_s(
        pod_s=pod.spec.termination_grace_period_seconds,
        cause=cause,
        liveness_s=_probe_grace_s(container.liveness_probe),
        startup_s=_probe_grace_s(container.startup_probe),
    )


def _probe_grace_s(probe: Probe | None) -> float | None:
    return None if probe is None else probe.termination_grace_period_seconds


def container_grace_s(
    *,
    pod_s: float | None,
    deletion_s: float | None = None,
    cause: Cause = Cause.OTHER,
    liveness_s: float | None = None,
    startup_s: float | None = None,
) -> float:
    """Return the grace of one ending, in seconds: that of the deletion, else of the probe, else the pod's."""
    own = {Cause.LIVENESS: liveness_s, Cause.STARTUP: startup_s, Cause.OTHER: None}[cause]
    for one in (deletion_s, own, pod_s):
        if one is not None:
            return one
    return MINIMUM_GRACE_S


def pod_grace_s(*, spec_s: float | None, deletion_s: float | None = None, override_s: float | None = None) -> float:
    """Return the grace of a whole pod's termination, in seconds: at least one, as short as anybody asked for."""
    grace = _DEFAULT_GRACE_S if spec_s is None else spec_s
    for shorter in (deletion_s, override_s):
        if shorter is not None:
            grace = min(grace, shorter)
    return max(1.0, grace)


def needed_by(pod: Pod, name: str, running: Collection[str]) -> tuple[str, ...]:
    """Return which running containers must have ended before a sidecar gets its stop signal; nothing for others.

    Those are all app containers and the sidecars that were started after it: sidecars end last, the first one at last.
    """
    names = [one.name for one in sidecars(pod)]
    if name not in names:
        return ()
    users = [*(one.name for one in pod.spec.containers), *names[names.index(name) + 1 :]]
    return tuple(one for one in users if one in running)
