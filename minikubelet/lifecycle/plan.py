"""What a pod's worker is told to do next: an ordered list of actions, who has to wait, and when to ask again."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.lifecycle.observed import BackOff, ContainerID


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
    """End one running container; `grace_s` is how long it may take."""

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
    """A container that is to be started when its back-off is over: at `until`, seconds of the boot clock."""

    name: str
    message: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer:
    """Start one container. `back_off` is its entry from now on, None when it has not failed yet.

    `restart_count` is None when no earlier instance is known; log files may then tell of some. One that takes the place
    of an instance that this plan ends waits (`waiting`) if that is over before its back-off.
    """

    name: str
    restart_count: int | None
    back_off: BackOff | None = None
    waiting: Waiting | None = None


Action = KillPod | CreateSandbox | KillContainer | RemoveContainer | StartContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, which containers wait, and when to ask again (`wake_at`, seconds of the boot clock)."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    wake_at: float | None = None
