"""What a pod worker asks of the container runtime. The real one is `runtime.pods.PodRuntime`; tests bring a fake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.api.types import Container, Pod
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, ObservedSandbox, PodUID


class RuntimeFailure(Exception):
    """Something the runtime could not do; the base of the failures that become a reason in the Pod's status."""


class SandboxFailure(RuntimeFailure):
    """The sandbox could not be made: event `FailedCreatePodSandBox`, retried."""


class GroupFailure(RuntimeFailure):
    """The pod's control group could not be made: event `FailedCreatePodContainer`, retried."""


class VolumeFailure(RuntimeFailure):
    """One or more volumes could not be set up: event `FailedMount` for each message, retried."""

    def __init__(self, messages: tuple[str, ...]) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


class ContainerFailure(RuntimeFailure):
    """A container could not be made or started; `reason` is what the status shows, `CreateContainerConfigError` etc."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command run inside a container ended. `output` is stdout and then stderr, cut to the limit asked for."""

    exit_code: int
    output: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeView:
    """What is there of one pod, newest first; `responsive` is False when its pause lives but does not answer."""

    sandboxes: tuple[ObservedSandbox, ...] = ()
    containers: Mapping[str, tuple[ObservedContainer, ...]] = field(default_factory=dict)
    responsive: bool = True


class Runtime(Protocol):
    """Carries out one pod's actions. Each method may be called again after a failure or a crash: it finishes the
    job."""

    def view(self, uid: PodUID) -> RuntimeView:
        """Return what is there now; never blocks."""
        ...

    def next_restart_count(self, pod: Pod, container: str) -> int:
        """Return the restart count for a container of which no instance is known: by its logs, 0 without one."""
        ...

    def untold_starts(self, pod: Pod) -> tuple[ContainerID, ...]:
        """Return the instances that were started, also by an earlier daemon, without telling what came of it."""
        ...

    def note_told(self, pod: Pod, container_ids: Iterable[ContainerID]) -> None:
        """Note that what came of these starts is about to be told, so that no later daemon tells it again."""
        ...

    async def prepare(self, pod: Pod) -> None:
        """Make the pod's directories, control group and volumes. Raises VolumeFailure, GroupFailure or OSError."""
        ...

    async def create_sandbox(self, pod: Pod, attempt: int) -> None:
        """Make the pause process and connect its network. Raises SandboxFailure."""
        ...

    async def start_container(self, pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
        """Create and start one container. Raises ContainerFailure; a StartError also leaves an exited instance."""
        ...

    async def signal(self, pod: Pod, container_id: ContainerID, signal: int) -> None:
        """Send a signal to the container's main process; no error when it is already gone."""
        ...

    async def kill(self, pod: Pod, container_id: ContainerID) -> None:
        """Kill every process of the container at once."""
        ...

    async def exec(
        self, pod: Pod, container_id: ContainerID, command: tuple[str, ...], *, timeout_s: float | None, limit: int
    ) -> ExecResult:
        """Run a command in a running container and wait for it. Raises RuntimeFailure when it cannot be started."""
        ...

    async def remove_container(self, pod: Pod, container_id: ContainerID) -> None:
        """Forget a dead instance and its files, but not its log."""
        ...

    async def stop_sandbox(self, pod: Pod) -> None:
        """End the pause with all that is left in it, release the addresses."""
        ...

    async def clean_up(self, pod: Pod) -> None:
        """Remove volumes and control groups; records and logs stay."""
        ...

    async def forget(self, pod: Pod) -> None:
        """Remove records and logs: nothing of the pod is left."""
        ...
