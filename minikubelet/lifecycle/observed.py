"""What the runtime saw of one Pod: the plain values that every decision is made from.

The runtime fills these from what the pod's pause process reports; `lifecycle` only reads them. Two clocks appear:
`*_at` are seconds of Unix time, for people; `*_mono` are seconds of CLOCK_BOOTTIME, which all processes of one boot
share, and which every interval is measured on, so that a stepped wall clock disturbs no timer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

PodUID = NewType("PodUID", str)
ContainerID = NewType("ContainerID", str)


class RunState(Enum):
    """State of one container instance, in the words of the container runtime interface."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class ProbeOutcome(Enum):
    """Latest settled result of a probe; UNKNOWN until the first one (thresholds already applied)."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container instance ended.

    `exit_code` is 128 + n for death by signal n, as containerd reports it. `reason` is `Completed`, `Error`,
    `OOMKilled`, `StartError` (the command could not be executed; code 128), `ContainerStatusUnknown` or
    `RestartingAllContainers`. `memory_peak` is in bytes, for an OOM kill only, 0 where it is not known.
    """

    exit_code: int
    finished_at: float
    finished_mono: float
    reason: str
    message: str = ""
    signal: int = 0
    memory_peak: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who the processes of a container instance are."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedContainer:
    """One instance of a container. `exit` is set exactly when `state` is EXITED (or UNKNOWN with code 255)."""

    id: ContainerID
    name: str
    restart_count: int
    state: RunState
    created_at: float
    created_mono: float
    started_at: float | None = None
    started_mono: float | None = None
    exit: Exit | None = None
    # Hash of name + image (kubelet HashContainer): a running container is replaced when it differs.
    spec_hash: str = ""
    pid: int = 0
    sandbox_id: str = ""
    user: User | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSandbox:
    """One pause process, alive (`ready`) or gone."""

    id: str
    attempt: int
    created_at: float
    ready: bool
    host_network: bool = False
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """Why the latest attempt to create or start a container failed, for `state.waiting` (kubelet's reason cache)."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Crash-loop back-off of one container: `delay` seconds, last doubled at `updated_mono` (the last start)."""

    delay: float
    updated_mono: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPod:
    """Everything a decision about one Pod may depend on, besides the Pod itself and the time.

    `sandboxes` and each entry of `containers` are ordered newest first. At most one dead instance per container is kept
    beside the current one. Probe mappings hold a settled outcome per container id; absent means no result yet.
    """

    uid: PodUID
    sandboxes: tuple[ObservedSandbox, ...] = ()
    containers: Mapping[str, tuple[ObservedContainer, ...]] = field(default_factory=dict)
    liveness: Mapping[ContainerID, ProbeOutcome] = field(default_factory=dict)
    readiness: Mapping[ContainerID, ProbeOutcome] = field(default_factory=dict)
    startup: Mapping[ContainerID, ProbeOutcome] = field(default_factory=dict)
    start_failures: Mapping[str, StartFailure] = field(default_factory=dict)
    back_off: Mapping[str, BackOff] = field(default_factory=dict)
    # Hash of each container as it is wanted now, by name; a running container with another hash is replaced.
    wanted_hashes: Mapping[str, str] = field(default_factory=dict)

    def latest(self, name: str) -> ObservedContainer | None:
        """Return the newest instance of the named container, or None when it never ran."""
        instances = self.containers.get(name, ())
        return instances[0] if instances else None
