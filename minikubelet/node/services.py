"""What the workers of all pods share: who carries out, probes, records, publishes and tells the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from minikubelet.api.types import Container, Pod, PodStatus
from minikubelet.lifecycle.admission import Rejection
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome
from minikubelet.lifecycle.status import PodEnd
from minikubelet.runtime.port import Runtime

# Ends pods for a cause of the node's, each with its grace in seconds; returns when all have ended.
EndPods = Callable[[Sequence[Pod], PodEnd, Callable[[Pod], float]], Awaitable[None]]


class Recorder(Protocol):
    """Records events about pods."""

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", init: bool = False) -> None:
        """Record one event; `kind` is Normal or Warning, `container` makes the involved object's field path."""
        ...


class Hooks(Protocol):
    """Runs lifecycle hooks."""

    async def post_start(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        """Run the postStart hook. Raises RuntimeFailure when it fails."""
        ...

    async def pre_stop(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        """Run the preStop hook. Raises RuntimeFailure when it fails."""
        ...


class Prober(Protocol):
    """Runs probes and holds their settled results."""

    def update(
        self, pod: Pod, latest: Mapping[str, ObservedContainer], *, terminating: bool, refresh: bool = False
    ) -> None:
        """Note the newest instances, so that probes start, stop and reset; with `refresh` a status was made of them."""
        ...

    def results(self, uid: PodUID) -> ProbeResults:
        """Return the settled outcomes of one pod."""
        ...

    def remove(self, uid: PodUID) -> None:
        """Stop all probes of one pod."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResults:
    """Settled outcomes by container id; absent means no result yet."""

    liveness: Mapping[ContainerID, ProbeOutcome]
    readiness: Mapping[ContainerID, ProbeOutcome]
    startup: Mapping[ContainerID, ProbeOutcome]


class Admission(Protocol):
    """Decides which pods may run here."""

    async def admit(self, pod: Pod) -> Rejection | None:
        """Decide on a pod; None when it may run, and then it counts until it is released."""
        ...

    def adopt(self, pod: Pod) -> None:
        """Count a pod that runs already."""
        ...

    def release(self, uid: PodUID) -> None:
        """Note that nothing of a pod runs any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerServices:
    """What all workers of a node share.

    `publish` shows a pod with its status to everybody, `previous_status` gives back what was shown last, also by an
    earlier daemon. `remember` keeps a pod for a daemon that comes when its manifest has gone. `message_of`
    reads the termination message of an instance that has ended. `afterwards` does something a moment later, in order.
    `worked` is told how long a worker took for one look at its pod (`create`, `update`, `sync`), for its end (`kill`)
    and for what was left of it (`terminated`).
    """

    runtime: Runtime
    recorder: Recorder
    hooks: Hooks
    prober: Prober
    publish: Callable[[Pod], None]
    previous_status: Callable[[Pod], PodStatus | None]
    remember: Callable[[Pod], None]
    admission: Admission
    host_ips: Callable[[], tuple[str, ...]]
    message_of: Callable[[Pod, Container, ObservedContainer], str]
    wanted_hash: Callable[[Container], str]
    wall_clock: Callable[[], float]
    boot_clock: Callable[[], float]
    max_back_off_s: float = 300.0
    afterwards: Callable[[Callable[[], None]], None] = lambda work: work()
    on_started: Callable[[Pod, ObservedContainer], None] = lambda pod, started: None
    worked: Callable[[str, float], None] = lambda operation, seconds: None
